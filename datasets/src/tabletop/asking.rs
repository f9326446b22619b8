//! Captions of tables, and questions about them with balanced answers.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::chance::{colour_for, featured, pick, place, shape, size};
use super::draft::Draft;
use crate::example::{CAPTION_PROMPT, Check};
use crate::scene::table::{Colour, Object, Scene, Shape, place_word};

/// The most objects of a scene that a question is about.
const MOST: usize = 5;

/// Drafts a scene of one to three objects with its canonical description.
pub(super) fn caption(rng: &mut ChaCha8Rng, held_out: bool) -> Draft {
    let count = rng.random_range(1..=3);
    described(rng, held_out, count, "caption")
}

/// Drafts a scene of one to six objects with its canonical description.
pub(super) fn scene(rng: &mut ChaCha8Rng, held_out: bool) -> Draft {
    let count = rng.random_range(1..=6);
    described(rng, held_out, count, "scene")
}

fn described(rng: &mut ChaCha8Rng, held_out: bool, count: usize, category: &'static str) -> Draft {
    let first = featured(rng, held_out);
    let mut objects = vec![sized(rng, first)];
    while objects.len() < count {
        let pair = featured(rng, false);
        objects.push(sized(rng, pair));
    }
    let scene = place(rng, &objects);
    Draft {
        category,
        prompt: CAPTION_PROMPT.to_owned(),
        scene: Some(scene),
        reasoning: None,
        answer: Some(scene.to_string()),
        check: Check::Exact {
            answer: scene.to_string(),
        },
        keys: vec![],
    }
}

/// Drafts a question; `index` selects its form.
pub(super) fn question(rng: &mut ChaCha8Rng, index: u64, held_out: bool) -> Draft {
    let (category, prompt, objects, answer) = match index % 4 {
        0 => is_there(rng, held_out),
        1 => how_many(rng, held_out),
        2 => which_colour(rng, held_out),
        _ => return where_is(rng, held_out),
    };
    let scene = place(rng, &objects);
    draft(category, prompt, scene, answer)
}

type Asked = (&'static str, String, Vec<Object>, String);

fn is_there(rng: &mut ChaCha8Rng, held_out: bool) -> Asked {
    let pair = featured(rng, held_out);
    let yes = rng.random_bool(0.5);
    let mut objects: Vec<Object> = yes.then(|| sized(rng, pair)).into_iter().collect();
    let more = rng.random_range(usize::from(!yes)..=3);
    add_others(rng, &mut objects, more, |o| (o.shape, o.colour) != pair);
    let article = if pair.1 == Colour::Orange { "an" } else { "a" };
    let prompt = format!("is there {article} {} {}?", pair.1.word(), pair.0.word());
    (
        "is_there",
        prompt,
        objects,
        if yes { "yes" } else { "no" }.to_owned(),
    )
}

fn how_many(rng: &mut ChaCha8Rng, held_out: bool) -> Asked {
    let count = rng.random_range(0..MOST);
    let (shape, colour) = featured(rng, held_out);
    let colour = (held_out || rng.random_bool(0.5)).then_some(colour);
    let mut objects = Vec::new();
    for _ in 0..count {
        let colour = colour.unwrap_or_else(|| colour_for(rng, shape));
        objects.push(sized(rng, (shape, colour)));
    }
    let more = rng.random_range(usize::from(count == 0)..=(MOST - count).min(3));
    add_others(rng, &mut objects, more, |o| {
        o.shape != shape || colour.is_some_and(|colour| colour != o.colour)
    });
    let colour = colour
        .map(|colour| format!("{} ", colour.word()))
        .unwrap_or_default();
    (
        "how_many",
        format!("how many {colour}{}?", shape.plural()),
        objects,
        count.to_string(),
    )
}

fn which_colour(rng: &mut ChaCha8Rng, held_out: bool) -> Asked {
    let (shape, colour) = featured(rng, held_out);
    let mut objects = vec![sized(rng, (shape, colour))];
    let more = rng.random_range(0..=3);
    add_others(rng, &mut objects, more, |o| o.shape != shape);
    (
        "which_colour",
        format!("what colour is the {}?", shape.word()),
        objects,
        colour.word().to_owned(),
    )
}

fn where_is(rng: &mut ChaCha8Rng, held_out: bool) -> Draft {
    let pair = featured(rng, held_out);
    let mut objects = vec![sized(rng, pair)];
    let more = rng.random_range(0..=3);
    add_others(rng, &mut objects, more, |o| (o.shape, o.colour) != pair);
    let scene = place(rng, &objects);
    let cell = scene
        .objects()
        .find(|(_, o)| (o.shape, o.colour) == pair)
        .map_or(0, |(cell, _)| cell);
    let prompt = format!("where is the {} {}?", pair.1.word(), pair.0.word());
    draft("where", prompt, scene, place_word(cell).to_owned())
}

fn draft(category: &'static str, prompt: String, scene: Scene, answer: String) -> Draft {
    Draft {
        category,
        prompt,
        scene: Some(scene),
        reasoning: Some(listing(&scene)),
        answer: Some(answer.clone()),
        check: Check::Exact { answer },
        keys: vec![],
    }
}

/// Lists the objects without their sizes, as the reasoning of an answer.
fn listing(scene: &Scene) -> String {
    let items: Vec<String> = scene
        .objects()
        .map(|(cell, o)| format!("{} {} {}", o.colour.word(), o.shape.word(), place_word(cell)))
        .collect();
    items.join(", ") + "."
}

fn sized(rng: &mut ChaCha8Rng, (shape, colour): (Shape, Colour)) -> Object {
    Object {
        shape,
        colour,
        size: size(rng),
    }
}

/// Adds `more` objects that are allowed in training and pass the filter.
fn add_others(rng: &mut ChaCha8Rng, objects: &mut Vec<Object>, more: usize, keep: impl Fn(&Object) -> bool) {
    let until = objects.len() + more;
    while objects.len() < until {
        let shape = shape(rng);
        let colour = colour_for(rng, shape);
        let object = Object {
            shape,
            colour,
            size: pick(rng, &crate::scene::table::Size::ALL),
        };
        if keep(&object) {
            objects.push(object);
        }
    }
}
