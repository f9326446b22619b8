//! Chance on the tabletop: which colour–shape pairs may be drawn, and free cells to put them in.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::scene::request::{Relation, SceneRequest, Want};
use crate::scene::table::{CELLS, Colour, Object, Scene, Shape, Size};

/// The pairs that are kept out of training and validation, in words and in pictures: composition is tested on them.
pub const HELD_OUT: [(Shape, Colour); 3] = [
    (Shape::Circle, Colour::Purple),
    (Shape::Square, Colour::Yellow),
    (Shape::Triangle, Colour::Green),
];

/// Whether this pair is kept out of training.
#[must_use]
pub fn is_held_out(shape: Shape, colour: Colour) -> bool {
    HELD_OUT.contains(&(shape, colour))
}

/// One of the items; the first item's copy if there is only one. `items` is never empty here.
pub(super) fn pick<T: Copy>(rng: &mut ChaCha8Rng, items: &[T]) -> T {
    *items.choose(rng).unwrap_or(&items[0])
}

/// A shape.
pub(super) fn shape(rng: &mut ChaCha8Rng) -> Shape {
    pick(rng, &Shape::ALL)
}

/// Two different shapes.
pub(super) fn two_shapes(rng: &mut ChaCha8Rng) -> [Shape; 2] {
    let mut shapes = Shape::ALL;
    shapes.shuffle(rng);
    [shapes[0], shapes[1]]
}

/// A colour that this shape may have in training.
pub(super) fn colour_for(rng: &mut ChaCha8Rng, shape: Shape) -> Colour {
    loop {
        let colour = pick(rng, &Colour::ALL);
        if !is_held_out(shape, colour) {
            return colour;
        }
    }
}

/// The pair that an example is about: a held-out one, or one that may be trained on.
pub(super) fn featured(rng: &mut ChaCha8Rng, held_out: bool) -> (Shape, Colour) {
    if held_out {
        return pick(rng, &HELD_OUT);
    }
    let shape = shape(rng);
    (shape, colour_for(rng, shape))
}

/// A size.
pub(super) fn size(rng: &mut ChaCha8Rng) -> Size {
    pick(rng, &Size::ALL)
}

/// A size to name, a third of the time.
pub(super) fn maybe_size(rng: &mut ChaCha8Rng) -> Option<Size> {
    rng.random_ratio(1, 3).then(|| size(rng))
}

/// An object that the want describes; what it leaves open is drawn from what may be trained on.
pub(super) fn fitting(rng: &mut ChaCha8Rng, want: &Want) -> Object {
    let colour = want.colour.unwrap_or_else(|| colour_for(rng, want.shape));
    Object {
        shape: want.shape,
        colour,
        size: want.size.unwrap_or_else(|| size(rng)),
    }
}

/// Puts the objects into different random cells; what exceeds nine is left off.
pub(super) fn place(rng: &mut ChaCha8Rng, objects: &[Object]) -> Scene {
    let mut cells: [usize; CELLS] = std::array::from_fn(|cell| cell);
    cells.shuffle(rng);
    let mut scene = Scene::default();
    for (&cell, &object) in cells.iter().zip(objects) {
        scene.cells[cell] = Some(object);
    }
    scene
}

/// Draws a table that the request holds on, with nothing else on it.
pub(super) fn scene_for(rng: &mut ChaCha8Rng, request: &SceneRequest) -> Scene {
    let objects: Vec<Object> = request
        .wants
        .iter()
        .flat_map(|want| std::iter::repeat_n(want, want.count))
        .map(|want| fitting(rng, want))
        .collect();
    loop {
        let scene = place(rng, &objects);
        if request.holds(&scene) {
            return scene;
        }
    }
}

/// A relation.
pub(super) fn relation(rng: &mut ChaCha8Rng) -> Relation {
    pick(rng, &Relation::ALL)
}
