//! What reward networks are asked, and what their numbers are worth.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use demask_api::{Picture, PictureScore};
use demask_datasets::example::{Kind, Split};
use demask_datasets::tabletop::Tabletop;
use demask_rewards::combine::Scored;
use demask_rewards::judge::Completion;
use demask_rewards::networks::{WEIGHTS, pair, push};
use proptest::prelude::*;

fn weights() -> BTreeMap<String, f64> {
    WEIGHTS.map(|(name, weight)| (name.to_owned(), weight)).into()
}

fn worth(score: PictureScore, drawn: bool, weights: &BTreeMap<String, f64>) -> Scored {
    let mut scored = Scored::default();
    push(&mut scored, &score, drawn, weights);
    scored
}

#[test]
fn a_drawing_goes_with_its_prompt_and_a_given_picture_with_its_caption() {
    let tabletop = Tabletop::new(2);
    let drawing = Completion {
        picture: Some(Picture::filled(4, 4, [9; 3])),
        ..Completion::default()
    };
    for kind in [Kind::TextToImage, Kind::ThinkThenDraw] {
        let example = tabletop.example(kind, Split::Train, 1);
        let asked = pair(&example, &drawing).unwrap();
        assert_eq!(
            (asked.text, asked.picture, asked.drawn),
            (example.prompt, Picture::filled(4, 4, [9; 3]), true)
        );
    }
    let caption = tabletop.example(Kind::Caption, Split::Train, 1);
    let said = |text: &str| Completion {
        text: text.to_owned(),
        ..Completion::default()
    };
    let asked = pair(&caption, &said("<think>look</think> a red circle")).unwrap();
    assert_eq!(
        (asked.text.as_str(), Some(asked.picture), asked.drawn),
        ("a red circle", caption.picture.clone(), false)
    );
    assert_eq!(pair(&caption, &said(" ")), None);
    for kind in [Kind::Question, Kind::WordProblem] {
        assert_eq!(
            pair(&tabletop.example(kind, Split::Train, 1), &said("3")),
            None,
            "{kind:?}"
        );
    }
}

#[test]
fn numbers_are_on_the_published_scales_with_the_published_weights() {
    let score = PictureScore {
        cosine: Some(0.3246),
        image_reward: Some(1.15),
    };
    let drawn = worth(score, true, &weights());
    let values: Vec<_> = drawn
        .parts
        .iter()
        .map(|part| (part.name.as_str(), part.value))
        .collect();
    assert_eq!(values, [("clip", 32.46), ("image_reward", 1.15)]);
    assert!((drawn.total() - (3.246 + 0.115)).abs() < 1e-9);
    let names: Vec<_> = worth(score, false, &weights())
        .parts
        .into_iter()
        .map(|part| part.name)
        .collect();
    assert_eq!(names, ["clip"]);
    assert_eq!(worth(PictureScore::default(), true, &weights()).parts, []);
    assert_eq!(worth(score, true, &BTreeMap::new()).total(), 0.0);
}

proptest! {
    #[test]
    fn no_number_that_a_network_can_say_spoils_a_sum(cosine in proptest::num::f64::ANY, reward in proptest::num::f64::ANY) {
        let scored = worth(PictureScore { cosine: Some(cosine), image_reward: Some(reward) }, true, &weights());
        prop_assert!(scored.parts.iter().all(|part| part.value.is_finite()));
        prop_assert!(scored.parts[0].value >= 0.0);
    }
}
