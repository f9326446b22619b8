//! Requests for a drawn table in GenEval's six categories, and how well a table meets them.

use serde::{Deserialize, Serialize};

use super::table::{Colour, Object, Scene, Shape, Size, row_column};

/// GenEval's categories (arXiv 2310.11513).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Category {
    /// "a circle"
    #[serde(rename = "single_object")]
    SingleObject,
    /// "a circle and a square"
    #[serde(rename = "two_object")]
    TwoObject,
    /// "three circles"
    #[serde(rename = "counting")]
    Counting,
    /// "a blue square"
    #[serde(rename = "colors")]
    Colours,
    /// "a circle left of a square"
    #[serde(rename = "position")]
    Position,
    /// "a red circle and a blue square"
    #[serde(rename = "color_attr")]
    ColourAttribution,
}

impl Category {
    /// Every category, in GenEval's order.
    pub const ALL: [Self; 6] = [
        Self::SingleObject,
        Self::TwoObject,
        Self::Counting,
        Self::Colours,
        Self::Position,
        Self::ColourAttribution,
    ];

    /// Returns GenEval's name of the category.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SingleObject => "single_object",
            Self::TwoObject => "two_object",
            Self::Counting => "counting",
            Self::Colours => "colors",
            Self::Position => "position",
            Self::ColourAttribution => "color_attr",
        }
    }
}

/// A group of wanted objects; unnamed attributes are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Want {
    /// The number of objects.
    pub count: usize,
    /// The shape.
    pub shape: Shape,
    /// The colour, if it is named.
    pub colour: Option<Colour>,
    /// The size, if it is named.
    pub size: Option<Size>,
}

impl Want {
    /// Whether an object belongs to the group.
    #[must_use]
    pub fn fits(&self, object: Object) -> bool {
        self.shape == object.shape
            && self.colour.is_none_or(|colour| colour == object.colour)
            && self.size.is_none_or(|size| size == object.size)
    }

    /// Describes the group: "a small red circle", "three crosses".
    #[must_use]
    pub fn words(&self) -> String {
        let (count, noun) = match self.count {
            1 => ("a", self.shape.word()),
            n => (number_word(n), self.shape.plural()),
        };
        let size = self
            .size
            .map(|size| format!("{} ", size.word()))
            .unwrap_or_default();
        let colour = self
            .colour
            .map(|colour| format!("{} ", colour.word()))
            .unwrap_or_default();
        let article = if count == "a" && size.is_empty() && colour.starts_with('o') {
            "an"
        } else {
            count
        };
        format!("{article} {size}{colour}{noun}")
    }
}

/// Returns the word of a small number; "many" above nine.
#[must_use]
pub fn number_word(n: usize) -> &'static str {
    const WORDS: [&str; 10] = [
        "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    ];
    WORDS.get(n).copied().unwrap_or("many")
}

/// The position of the first wanted object relative to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the relations are what they say
pub enum Relation {
    LeftOf,
    RightOf,
    Above,
    Below,
}

impl Relation {
    /// Every relation.
    pub const ALL: [Self; 4] = [Self::LeftOf, Self::RightOf, Self::Above, Self::Below];

    /// Returns the relation's English words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::LeftOf => "left of",
            Self::RightOf => "right of",
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// Whether cell `a` has this relation to cell `b`. A diagonal counts for both of its directions.
    #[must_use]
    pub const fn holds(self, a: usize, b: usize) -> bool {
        let ((row_a, column_a), (row_b, column_b)) = (row_column(a), row_column(b));
        match self {
            Self::LeftOf => column_a < column_b,
            Self::RightOf => column_a > column_b,
            Self::Above => row_a < row_b,
            Self::Below => row_a > row_b,
        }
    }
}

/// A request: exactly the wanted objects and no others, with the first in the named relation to the second.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SceneRequest {
    /// The GenEval category.
    pub category: Category,
    /// The wanted objects; their shapes differ.
    pub wants: Vec<Want>,
    /// The position of the first relative to the second, if it is named.
    pub relation: Option<Relation>,
}

/// The score of one part of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// `count`, `colour`, `size` (each with the shape's word), `relation` or `nothing_else`.
    pub name: String,
    /// The score, 0 to 1.
    pub score: f64,
}

impl SceneRequest {
    /// Returns the prompt in words.
    #[must_use]
    pub fn words(&self) -> String {
        let joint = self
            .relation
            .map_or(" and ".to_owned(), |relation| format!(" {} ", relation.words()));
        self.wants
            .iter()
            .map(Want::words)
            .collect::<Vec<_>>()
            .join(&joint)
    }

    /// Whether the table shows exactly what is requested.
    #[must_use]
    pub fn holds(&self, scene: &Scene) -> bool {
        let wanted: usize = self.wants.iter().map(|want| want.count).sum();
        scene.count() == wanted
            && self
                .wants
                .iter()
                .all(|want| fitting(want, scene).count() == want.count)
            && self.relation.is_none_or(|relation| self.related(relation, scene))
    }

    /// Scores the parts of the request separately, for partial credit.
    #[must_use]
    pub fn pieces(&self, scene: &Scene) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for want in &self.wants {
            want_pieces(want, scene, &mut pieces);
        }
        if let Some(relation) = self.relation {
            pieces.push(piece(
                "relation",
                f64::from(u8::from(self.related(relation, scene))),
            ));
        }
        let extra = scene
            .objects()
            .filter(|(_, o)| self.wants.iter().all(|want| want.shape != o.shape))
            .count();
        pieces.push(piece("nothing_else", 1.0 - ratio(extra, scene.count().max(1))));
        pieces
    }

    /// Returns the mean score of the parts; it is 1 exactly when the request holds.
    #[must_use]
    pub fn score(&self, scene: &Scene) -> f64 {
        let pieces = self.pieces(scene);
        pieces.iter().map(|piece| piece.score).sum::<f64>() / pieces.len().max(1) as f64
    }

    fn related(&self, relation: Relation, scene: &Scene) -> bool {
        let [first, second, ..] = self.wants.as_slice() else {
            return false;
        };
        fitting(first, scene).any(|a| fitting(second, scene).any(|b| relation.holds(a, b)))
    }
}

fn fitting<'a>(want: &'a Want, scene: &'a Scene) -> impl Iterator<Item = usize> + 'a {
    scene
        .objects()
        .filter(|&(_, object)| want.fits(object))
        .map(|(cell, _)| cell)
}

fn want_pieces(want: &Want, scene: &Scene, pieces: &mut Vec<Piece>) {
    let word = want.shape.word();
    let found: Vec<Object> = scene
        .objects()
        .map(|(_, o)| o)
        .filter(|o| o.shape == want.shape)
        .collect();
    let (low, high) = (found.len().min(want.count), found.len().max(want.count));
    pieces.push(piece(&format!("count {word}"), ratio(low, high.max(1))));
    let share =
        |fits: &dyn Fn(&Object) -> bool| ratio(found.iter().filter(|o| fits(o)).count(), found.len().max(1));
    if let Some(colour) = want.colour {
        pieces.push(piece(&format!("colour {word}"), share(&|o| o.colour == colour)));
    }
    if let Some(size) = want.size {
        pieces.push(piece(&format!("size {word}"), share(&|o| o.size == size)));
    }
}

fn piece(name: &str, score: f64) -> Piece {
    Piece {
        name: name.to_owned(),
        score,
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
