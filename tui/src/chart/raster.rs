//! Draws lines in characters: with eight Braille dots per character if colours distinguish the lines, else with a sign
//! for each line.

/// The signs of lines without colours.
const SIGNS: [char; 8] = ['•', '×', '+', 'o', '▪', '◆', '~', '#'];
/// The dots of a character, by row and column (Unicode's Braille patterns).
const DOTS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// A grid of characters; each holds the number of the line that was drawn there last.
pub(super) struct Raster {
    width: usize,
    height: usize,
    signs: bool,
    cells: Vec<(u32, usize)>,
}

impl Raster {
    pub(super) fn new(width: usize, height: usize, signs: bool) -> Self {
        Self {
            width,
            height,
            signs,
            cells: vec![(0, 0); width * height],
        }
    }

    /// Returns the dots per character, horizontally and vertically.
    fn fine(&self) -> (usize, usize) {
        if self.signs { (1, 1) } else { (2, 4) }
    }

    /// Draws a line through points with coordinates between 0 and 1.
    pub(super) fn line(&mut self, number: usize, points: impl Iterator<Item = (f64, f64)>) {
        let (across, up) = self.fine();
        let (width, height) = (self.width * across, self.height * up);
        if width == 0 || height == 0 {
            return;
        }
        #[allow(clippy::cast_possible_truncation)]
        let dot = |(x, y): (f64, f64)| {
            let x = (x * (width - 1) as f64).round() as i64;
            let y = ((1.0 - y) * (height - 1) as f64).round() as i64;
            (x, y)
        };
        let mut before: Option<(i64, i64)> = None;
        for to in points.map(dot) {
            let from = before.replace(to).unwrap_or(to);
            let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1);
            for at in 0..=steps {
                self.set(
                    number,
                    from.0 + (to.0 - from.0) * at / steps,
                    from.1 + (to.1 - from.1) * at / steps,
                );
            }
        }
    }

    fn set(&mut self, number: usize, x: i64, y: i64) {
        let (across, up) = self.fine();
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else {
            return;
        };
        let (column, row) = (x / across, y / up);
        if column >= self.width || row >= self.height {
            return;
        }
        let (dots, owner) = &mut self.cells[row * self.width + column];
        let dot = if self.signs { 1 } else { DOTS[y % up][x % across] };
        (*dots, *owner) = (*dots | dot, number);
    }

    /// Returns the drawn characters: column, row, sign and the number of the line.
    pub(super) fn drawn(&self) -> impl Iterator<Item = (usize, usize, char, usize)> {
        let width = self.width.max(1);
        self.cells
            .iter()
            .enumerate()
            .filter(|(_, (dots, _))| *dots > 0)
            .map(move |(at, &(dots, number))| (at % width, at / width, self.sign(dots, number), number))
    }

    fn sign(&self, dots: u32, number: usize) -> char {
        match self.signs {
            true => sign(number),
            false => char::from_u32(0x2800 + dots).unwrap_or('·'),
        }
    }
}

/// Returns the sign of a line without colours.
pub(super) fn sign(number: usize) -> char {
    SIGNS[number % SIGNS.len()]
}
