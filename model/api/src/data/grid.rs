//! How a picture's codes lie: so many rows of so many columns, row by row from the top.

use serde::{Deserialize, Serialize};

use crate::data::picture::PictureSize;

/// A grid of picture codes, row-major. Where a message names none, it is square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Codes down.
    pub rows: usize,
    /// Codes across.
    pub columns: usize,
}

impl Grid {
    /// The square of so many codes; none where that many make no square.
    #[must_use]
    pub fn square(codes: usize) -> Option<Self> {
        let side = codes.isqrt();
        (side > 0 && side * side == codes).then_some(Self {
            rows: side,
            columns: side,
        })
    }

    /// The grid of so many codes that a picture of this size has, a code standing for a square of whole pixels; none where
    /// that many do not cover it.
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

    /// How many codes it has.
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
