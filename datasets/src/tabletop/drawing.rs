//! Requests to draw in GenEval's six categories, each with a picture that shows exactly what is requested.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::chance::{colour_for, featured, maybe_size, pick, relation, scene_for, shape, two_shapes};
use super::draft::Draft;
use crate::example::Check;
use crate::scene::request::{Category, SceneRequest, Want};
use crate::scene::table::{Colour, Shape};

/// The categories that can name a held-out pair.
const COLOURED: [Category; 3] = [Category::Colours, Category::Position, Category::ColourAttribution];

/// Drafts a request with its picture; `index` selects the category.
pub(super) fn draft(rng: &mut ChaCha8Rng, index: u64, held_out: bool) -> Draft {
    let categories: &[Category] = if held_out { &COLOURED } else { &Category::ALL };
    let category = categories[index as usize % categories.len()];
    let request = request(rng, category, held_out);
    let scene = scene_for(rng, &request);
    let prompt = request.words();
    let mut keys = vec![];
    if matches!(
        category,
        Category::TwoObject | Category::Position | Category::ColourAttribution
    ) {
        keys.push(format!("draw {prompt}"));
    }
    Draft {
        category: category.name(),
        prompt,
        scene: Some(scene),
        reasoning: None,
        answer: None,
        check: Check::Scene { request },
        keys,
    }
}

/// Draws the wanted objects of a category, and their relation if the category has one. A request that is held out names
/// a held-out pair of shape and colour.
fn request(rng: &mut ChaCha8Rng, category: Category, held_out: bool) -> SceneRequest {
    let one = |shape, colour, size| Want {
        count: 1,
        shape,
        colour,
        size,
    };
    let mut asked_relation = None;
    let wants = match category {
        Category::SingleObject => vec![one(shape(rng), None, maybe_size(rng))],
        Category::TwoObject => two_shapes(rng)
            .into_iter()
            .map(|shape| one(shape, None, maybe_size(rng)))
            .collect(),
        Category::Counting => {
            vec![Want {
                count: rng.random_range(2..=4),
                shape: shape(rng),
                colour: None,
                size: maybe_size(rng),
            }]
        }
        Category::Colours => {
            let (shape, colour) = featured(rng, held_out);
            vec![one(shape, Some(colour), maybe_size(rng))]
        }
        Category::Position => {
            asked_relation = Some(relation(rng));
            if held_out || rng.random_bool(0.5) {
                coloured_pair(rng, held_out)
            } else {
                two_shapes(rng)
                    .into_iter()
                    .map(|shape| one(shape, None, None))
                    .collect()
            }
        }
        Category::ColourAttribution => coloured_pair(rng, held_out),
    };
    SceneRequest {
        category,
        wants,
        relation: asked_relation,
    }
}

/// Draws two wanted objects of different shapes and colours; the first is the featured pair.
fn coloured_pair(rng: &mut ChaCha8Rng, held_out: bool) -> Vec<Want> {
    let (first, colour) = featured(rng, held_out);
    let others: Vec<Shape> = Shape::ALL.into_iter().filter(|&shape| shape != first).collect();
    let second = pick(rng, &others);
    let other = different_colour(rng, second, colour);
    let want = |shape, colour| Want {
        count: 1,
        shape,
        colour: Some(colour),
        size: None,
    };
    vec![want(first, colour), want(second, other)]
}

fn different_colour(rng: &mut ChaCha8Rng, shape: Shape, not: Colour) -> Colour {
    loop {
        let colour = colour_for(rng, shape);
        if colour != not {
            return colour;
        }
    }
}
