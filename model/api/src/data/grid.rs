//! The grid of a picture's codes: rows and columns, row by row from the top.

use serde::{Deserialize, Serialize};

use crate::data::picture::PictureSize;

/// A grid of picture codes, in row-major order. If a message has none, the grid is square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub columns: usize,
}

impl Grid {
    /// Returns the square grid of this many codes, or `None` if they make no square.
    #[must_use]
    pub fn square(codes: usize) -> Option<Self> {
        let side = codes.isqrt();
        (side > 0 && side * side == codes).then_some(Self {
            rows: side,
            columns: side,
        })
    }

    /// Returns the grid of this many codes for a picture of this size, where each code covers a square of whole pixels.
    /// Returns `None` if no such grid covers the picture.
    #[must_use]
    pub fn under(size: PictureSize, codes: usize) -> Option<Self> {
        let area = size.width.checked_mul(size.height)?;
        let pixels = area.checked_div(codes)?.isqrt();
        let grid = Self {
            rows: size.height.checked_div(pixels)?,
            columns: size.width.checked_div(pixels)?,
        };
        let covers = (grid.columns * pixels, grid.rows * pixels) == (size.width, size.height);
        (covers && grid.codes() == codes).then_some(grid)
    }

    /// Returns the number of codes.
    #[must_use]
    pub const fn codes(self) -> usize {
        self.rows.saturating_mul(self.columns)
    }
}

impl std::fmt::Display for Grid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = if self.rows == 1 { "row" } else { "rows" };
        write!(f, "{} {rows} of {}", self.rows, self.columns)
    }
}
