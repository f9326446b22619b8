//! The area of a chart's lines in pixels, and the reduction of its points to those that are visible.

/// The rectangle of a chart's lines.
#[derive(Clone, Copy)]
pub(super) struct PlotArea {
    /// Left edge, in pixels from the left.
    pub(super) left: i32,
    /// Upper edge, in pixels from the top.
    pub(super) top: i32,
    /// Right edge, in pixels from the left.
    pub(super) right: i32,
    /// Lower edge, in pixels from the top.
    pub(super) bottom: i32,
}

impl PlotArea {
    /// Returns the column of pixels at this share of the width.
    pub(super) fn x(&self, share: f64) -> i32 {
        self.left + pixels(share * f64::from(self.right - self.left))
    }

    /// Returns the row of pixels at this share of the height, from below.
    pub(super) fn y(&self, share: f64) -> i32 {
        self.bottom - pixels(share * f64::from(self.bottom - self.top))
    }
}

#[allow(clippy::cast_possible_truncation)]
fn pixels(way: f64) -> i32 {
    way.round() as i32
}

/// Keeps the first, lowest, highest and last point of each column of pixels, which are all that would be visible.
pub(super) fn thinned(points: impl Iterator<Item = (i32, i32)>) -> Vec<(i32, i32)> {
    let mut kept: Vec<(i32, i32)> = Vec::new();
    let mut column: Vec<(i32, i32)> = Vec::new();
    let close = |column: &mut Vec<(i32, i32)>, kept: &mut Vec<(i32, i32)>| {
        let ends = [
            column.first(),
            column.iter().min_by_key(|p| p.1),
            column.iter().max_by_key(|p| p.1),
            column.last(),
        ];
        kept.extend(ends.into_iter().flatten());
        column.clear();
    };
    for point in points {
        if column.first().is_some_and(|first| first.0 != point.0) {
            close(&mut column, &mut kept);
        }
        column.push(point);
    }
    close(&mut column, &mut kept);
    kept.dedup();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_pixels_keeps_its_ends_and_extremes() {
        let many = [(1, 5), (1, 9), (1, 2), (1, 6), (2, 3), (2, 3)];
        assert_eq!(
            thinned(many.into_iter()),
            [(1, 5), (1, 2), (1, 9), (1, 6), (2, 3)]
        );
        assert_eq!(thinned([].into_iter()), []);
    }
}
