//! What can lie on the table: coloured shapes of two sizes in the nine cells of a 3×3 grid.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of rows, and of columns, of the table.
pub const SIDE: usize = 3;
/// The number of cells of the table.
pub const CELLS: usize = SIDE * SIDE;

/// A colour of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the colours are what they say
pub enum Colour {
    Red,
    Green,
    Blue,
    Yellow,
    Purple,
    Orange,
}

impl Colour {
    /// Every colour, in canonical order.
    pub const ALL: [Self; 6] = [
        Self::Red,
        Self::Green,
        Self::Blue,
        Self::Yellow,
        Self::Purple,
        Self::Orange,
    ];

    /// Returns its English word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Purple => "purple",
            Self::Orange => "orange",
        }
    }

    /// Returns the exact drawn colour; any two differ by at least 110 (Euclidean distance, of 441).
    #[must_use]
    pub const fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [200, 0, 40],
            Self::Green => [20, 150, 60],
            Self::Blue => [30, 90, 230],
            Self::Yellow => [250, 225, 60],
            Self::Purple => [120, 30, 160],
            Self::Orange => [250, 120, 20],
        }
    }

    /// Returns the colour of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|colour| colour.word() == word)
    }
}

/// A shape of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the shapes are what they say
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Cross,
}

impl Shape {
    /// Every shape, in canonical order.
    pub const ALL: [Self; 4] = [Self::Circle, Self::Square, Self::Triangle, Self::Cross];

    /// Returns its English word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Cross => "cross",
        }
    }

    /// Returns the plural of its word.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Circle => "circles",
            Self::Square => "squares",
            Self::Triangle => "triangles",
            Self::Cross => "crosses",
        }
    }

    /// Returns the shape of a word, singular or plural.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|shape| shape.word() == word || shape.plural() == word)
    }
}

/// A size of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the sizes are what they say
pub enum Size {
    Small,
    Large,
}

impl Size {
    /// Both sizes.
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// Returns its English word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

/// One object on the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    /// The object's shape.
    pub shape: Shape,
    /// The object's colour.
    pub colour: Colour,
    /// The object's size.
    pub size: Size,
}

impl Object {
    /// Returns all 48 objects, in canonical order.
    pub fn all() -> impl Iterator<Item = Self> {
        Shape::ALL.into_iter().flat_map(|shape| {
            Colour::ALL
                .into_iter()
                .flat_map(move |colour| Size::ALL.map(|size| Self { shape, colour, size }))
        })
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.size.word(),
            self.colour.word(),
            self.shape.word()
        )
    }
}

/// A table: its nine cells row by row from the top left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scene {
    /// The content of each cell, row-major.
    pub cells: [Option<Object>; CELLS],
}

impl Scene {
    /// Returns the occupied cells with their objects, in reading order.
    pub fn objects(&self) -> impl Iterator<Item = (usize, Object)> + '_ {
        self.cells
            .iter()
            .enumerate()
            .filter_map(|(cell, object)| object.map(|object| (cell, object)))
    }

    /// Returns the number of objects on the table.
    #[must_use]
    pub fn count(&self) -> usize {
        self.objects().count()
    }
}

/// Returns the row and column of a cell.
#[must_use]
pub const fn row_column(cell: usize) -> (usize, usize) {
    (cell / SIDE, cell % SIDE)
}

/// Names a cell, from "top left" over "middle" to "bottom right"; "nowhere" above 8.
#[must_use]
pub fn place_word(cell: usize) -> &'static str {
    const WORDS: [&str; CELLS] = [
        "top left",
        "top",
        "top right",
        "left",
        "middle",
        "right",
        "bottom left",
        "bottom",
        "bottom right",
    ];
    WORDS.get(cell).copied().unwrap_or("nowhere")
}

impl fmt::Display for Scene {
    /// Writes "large red circle top left, small blue cross middle"; "nothing" for an empty table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (cell, object) in self.objects() {
            write!(f, "{separator}{object} {}", place_word(cell))?;
            separator = ", ";
        }
        if separator.is_empty() {
            f.write_str("nothing")
        } else {
            Ok(())
        }
    }
}
