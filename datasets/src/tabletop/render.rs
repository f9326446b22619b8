//! The renderer of tables: 32×32 pixels, a flat top, one exact bitmap per shape and size.
//!
//! The top is seen from above and slightly from its lower right corner. Cell (r, c) is the 8×8 box at pixel (8 c, 8 r);
//! the eight pixels at the right and at the bottom show the table's edge and the floor. An image tokenizer whose codes
//! cover 8×8 pixels therefore gives each cell exactly one code.

use demask_api::Picture;

use crate::scene::table::{CELLS, Object, Scene, Shape, Size, row_column};

/// The side of a picture in pixels.
pub const PIXELS: usize = 32;
/// The side of a cell's box in pixels.
pub const BOX: usize = 8;
/// The side of the table top in pixels.
const TOP: usize = 3 * BOX;
/// The width of the visible edge in pixels.
const EDGE: usize = 3;
/// The colour of the table top.
pub const BACKGROUND: [u8; 3] = [244, 244, 238];
/// The colour of the table's edge.
const EDGE_COLOUR: [u8; 3] = [222, 210, 186];
/// The floor's colour.
const FLOOR: [u8; 3] = [232, 230, 222];

/// The pixels of one cell's box, row by row.
pub type CellPicture = [[u8; 3]; BOX * BOX];

/// Draws the scene.
#[must_use]
pub fn render(scene: &Scene) -> Picture {
    let mut picture = bare();
    for (cell, object) in scene.objects() {
        for (i, colour) in cell_picture(Some(object)).into_iter().enumerate() {
            let (x, y) = pixel(cell, i);
            picture.set(x, y, colour);
        }
    }
    picture
}

/// Draws one cell's box with this content, which is the detector's template.
#[must_use]
pub fn cell_picture(object: Option<Object>) -> CellPicture {
    let mut pixels = [BACKGROUND; BOX * BOX];
    if let Some(object) = object {
        let bitmap = bitmap(object.shape, object.size);
        for (i, pixel) in pixels.iter_mut().enumerate() {
            if bitmap[i / BOX] & (0x80 >> (i % BOX)) != 0 {
                *pixel = object.colour.rgb();
            }
        }
    }
    pixels
}

/// Cuts one cell's box out of a picture; pixels beyond a small picture are black.
#[must_use]
pub fn cut(picture: &Picture, cell: usize) -> CellPicture {
    std::array::from_fn(|i| {
        let (x, y) = pixel(cell, i);
        picture.at(x, y)
    })
}

/// Draws the empty table.
fn bare() -> Picture {
    let mut picture = Picture::filled(PIXELS, PIXELS, FLOOR);
    for (side, colour) in [(TOP + EDGE, EDGE_COLOUR), (TOP, BACKGROUND)] {
        for at in 0..side * side {
            picture.set(at % side, at / side, colour);
        }
    }
    picture
}

fn pixel(cell: usize, i: usize) -> (usize, usize) {
    let (row, column) = row_column(cell.min(CELLS - 1));
    (column * BOX + i % BOX, row * BOX + i / BOX)
}

/// Returns the bitmap: one byte a row, the leftmost pixel in the highest bit; the last row and column stay empty. Any
/// two bitmaps differ in at least 8 pixels.
const fn bitmap(shape: Shape, size: Size) -> [u8; BOX] {
    match (shape, size) {
        (Shape::Circle, Size::Large) => [
            0b0011_1000, //
            0b0111_1100,
            0b1111_1110,
            0b1111_1110,
            0b1111_1110,
            0b0111_1100,
            0b0011_1000,
            0b0000_0000,
        ],
        (Shape::Circle, Size::Small) => [
            0b0000_0000, //
            0b0001_0000,
            0b0011_1000,
            0b0111_1100,
            0b0011_1000,
            0b0001_0000,
            0b0000_0000,
            0b0000_0000,
        ],
        (Shape::Square, Size::Large) => [
            0b1111_1110, //
            0b1111_1110,
            0b1111_1110,
            0b1111_1110,
            0b1111_1110,
            0b1111_1110,
            0b1111_1110,
            0b0000_0000,
        ],
        (Shape::Square, Size::Small) => [
            0b0000_0000, //
            0b0111_1100,
            0b0111_1100,
            0b0111_1100,
            0b0111_1100,
            0b0111_1100,
            0b0000_0000,
            0b0000_0000,
        ],
        (Shape::Triangle, Size::Large) => [
            0b0001_0000, //
            0b0001_0000,
            0b0011_1000,
            0b0011_1000,
            0b0111_1100,
            0b0111_1100,
            0b1111_1110,
            0b0000_0000,
        ],
        (Shape::Triangle, Size::Small) => [
            0b0000_0000, //
            0b0001_0000,
            0b0001_0000,
            0b0011_1000,
            0b0011_1000,
            0b0111_1100,
            0b0000_0000,
            0b0000_0000,
        ],
        (Shape::Cross, Size::Large) => [
            0b1100_0110, //
            0b1110_1110,
            0b0111_1100,
            0b0011_1000,
            0b0111_1100,
            0b1110_1110,
            0b1100_0110,
            0b0000_0000,
        ],
        (Shape::Cross, Size::Small) => [
            0b0000_0000, //
            0b0110_1100,
            0b0011_1000,
            0b0001_0000,
            0b0011_1000,
            0b0110_1100,
            0b0000_0000,
            0b0000_0000,
        ],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;
    use crate::scene::table::Colour;

    fn letters(picture: &Picture) -> String {
        let letter = |rgb| match Colour::ALL.into_iter().find(|colour| colour.rgb() == rgb) {
            Some(colour) => colour.word().chars().next().unwrap(),
            None if rgb == BACKGROUND => '.',
            None if rgb == EDGE_COLOUR => '-',
            None if rgb == FLOOR => ' ',
            None => '?',
        };
        (0..PIXELS)
            .map(|y| (0..PIXELS).map(|x| letter(picture.at(x, y))).collect::<String>() + "\n")
            .collect()
    }

    #[test]
    fn every_shape_and_size_is_drawn_as_designed() {
        let mut scene = Scene::default();
        for (i, shape) in Shape::ALL.into_iter().enumerate() {
            scene.cells[2 * i] = Some(Object {
                shape,
                colour: Colour::ALL[i],
                size: Size::Large,
            });
            scene.cells[2 * i + 1] = Some(Object {
                shape,
                colour: Colour::ALL[i + 2],
                size: Size::Small,
            });
        }
        insta::assert_snapshot!(letters(&render(&scene)));
    }

    #[test]
    fn templates_differ_and_are_cut_out_as_drawn() {
        let objects: Vec<_> = Object::all().collect();
        assert_eq!(objects.len(), 48);
        for (i, &a) in objects.iter().enumerate() {
            let mut scene = Scene::default();
            scene.cells[i % CELLS] = Some(a);
            let picture = render(&scene);
            assert_eq!(cut(&picture, i % CELLS), cell_picture(Some(a)));
            assert_eq!(cut(&picture, (i + 1) % CELLS), cell_picture(None));
            for &b in &objects[..i] {
                let (a, b) = (cell_picture(Some(a)), cell_picture(Some(b)));
                assert!((0..BOX * BOX).filter(|&p| a[p] != b[p]).count() >= 8);
            }
        }
    }

    #[test]
    fn colours_are_well_separated() {
        let mut palette: Vec<_> = Colour::ALL.into_iter().map(Colour::rgb).collect();
        palette.push(BACKGROUND);
        for (i, a) in palette.iter().enumerate() {
            for b in &palette[..i] {
                let square: i32 = a
                    .iter()
                    .zip(b)
                    .map(|(&a, &b)| (i32::from(a) - i32::from(b)).pow(2))
                    .sum();
                assert!(square >= 110 * 110, "{a:?} {b:?} {square}");
            }
        }
    }
}
