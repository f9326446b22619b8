//! Where the lines of a chart are on paper, in pixels, and which of their points would be seen.

/// Where a chart's lines are: left, top, right, bottom.
#[derive(Clone, Copy)]
pub(super) struct PlotArea {
    /// Pixels from the left.
    pub(super) left: i32,
    /// Pixels from above.
    pub(super) top: i32,
    /// Pixels from the left.
    pub(super) right: i32,
    /// Pixels from above.
    pub(super) bottom: i32,
}

impl PlotArea {
    /// The column of a share of the way across.
    pub(super) fn x(&self, share: f64) -> i32 {
        self.left + pixels(share * f64::from(self.right - self.left))
    }

    /// The row of a share of the way up.
    pub(super) fn y(&self, share: f64) -> i32 {
        self.bottom - pixels(share * f64::from(self.bottom - self.top))
    }
}

#[allow(clippy::cast_possible_truncation)]
fn pixels(way: f64) -> i32 {
    way.round() as i32
}

/// Of the points of one column of pixels the first, the lowest, the highest and the last: what would be seen of them.
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
