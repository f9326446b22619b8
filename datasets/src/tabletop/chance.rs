//! Random choices of the tabletop: colour–shape pairs, held-out ones apart, and free cells.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::scene::request::{Relation, SceneRequest, Want};
use crate::scene::table::{CELLS, Colour, Object, Scene, Shape, Size};

/// The pairs that are held out of training and validation, in words and in pictures, to test composition.
pub const HELD_OUT: [(Shape, Colour); 3] = [
    (Shape::Circle, Colour::Purple),
    (Shape::Square, Colour::Yellow),
    (Shape::Triangle, Colour::Green),
];

/// Whether a pair is held out of training.
#[must_use]
pub fn is_held_out(shape: Shape, colour: Colour) -> bool {
    HELD_OUT.contains(&(shape, colour))
}

/// Draws one of the items. `items` must not be empty.
pub(super) fn pick<T: Copy>(rng: &mut ChaCha8Rng, items: &[T]) -> T {
    *items.choose(rng).unwrap_or(&items[0])
}

/// Draws a shape.
pub(super) fn shape(rng: &mut ChaCha8Rng) -> Shape {
    pick(rng, &Shape::ALL)
}

/// Draws two different shapes.
pub(super) fn two_shapes(rng: &mut ChaCha8Rng) -> [Shape; 2] {
    let mut shapes = Shape::ALL;
    shapes.shuffle(rng);
    [shapes[0], shapes[1]]
}

/// Draws a colour that is allowed for this shape in training.
pub(super) fn colour_for(rng: &mut ChaCha8Rng, shape: Shape) -> Colour {
    loop {
        let colour = pick(rng, &Colour::ALL);
        if !is_held_out(shape, colour) {
            return colour;
        }
    }
}

/// Draws the pair that an example is about: a held-out pair, or one that is allowed in training.
pub(super) fn featured(rng: &mut ChaCha8Rng, held_out: bool) -> (Shape, Colour) {
    if held_out {
        return pick(rng, &HELD_OUT);
    }
    let shape = shape(rng);
    (shape, colour_for(rng, shape))
}

/// Draws a size.
pub(super) fn size(rng: &mut ChaCha8Rng) -> Size {
    pick(rng, &Size::ALL)
}

/// Draws a size to name, a third of the time.
pub(super) fn maybe_size(rng: &mut ChaCha8Rng) -> Option<Size> {
    rng.random_ratio(1, 3).then(|| size(rng))
}

/// Draws an object that matches `want`; open attributes are drawn from those allowed in training.
pub(super) fn fitting(rng: &mut ChaCha8Rng, want: &Want) -> Object {
    let colour = want.colour.unwrap_or_else(|| colour_for(rng, want.shape));
    Object {
        shape: want.shape,
        colour,
        size: want.size.unwrap_or_else(|| size(rng)),
    }
}

/// Puts the objects into different random cells; those beyond nine are dropped.
pub(super) fn place(rng: &mut ChaCha8Rng, objects: &[Object]) -> Scene {
    let mut cells: [usize; CELLS] = std::array::from_fn(|cell| cell);
    cells.shuffle(rng);
    let mut scene = Scene::default();
    for (&cell, &object) in cells.iter().zip(objects) {
        scene.cells[cell] = Some(object);
    }
    scene
}

/// Draws a table that shows exactly what is requested.
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

/// Draws a relation.
pub(super) fn relation(rng: &mut ChaCha8Rng) -> Relation {
    pick(rng, &Relation::ALL)
}
