//! Requests to reward networks, and how their scores are used.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use demask_api::{Picture, PictureScore};
use demask_datasets::example::{Kind, Split};
use demask_datasets::tabletop::Tabletop;
use demask_rewards::judge::Completion;
use demask_rewards::networks::{means, pair, push};
use demask_rewards::rewards::{Needs, REWARDS};
use demask_rewards::scored::Scored;
use proptest::prelude::*;

fn weights() -> BTreeMap<String, f64> {
    let networks = REWARDS
        .iter()
        .filter(|reward| reward.needs() != Needs::Completion);
    networks
        .map(|reward| (reward.name().to_owned(), reward.default_weight()))
        .collect()
}

fn worth(score: PictureScore, drawn: bool, weights: &BTreeMap<String, f64>) -> Scored {
    let mut scored = Scored::default();
    push(&mut scored, &score, drawn, weights);
    scored
}

/// Reward networks get a drawing with its prompt, or a given picture with the caption without its reasoning.
/// Other tasks and empty captions give no pair.
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

fn of(cosine: Option<f64>, image_reward: Option<f64>) -> PictureScore {
    PictureScore { cosine, image_reward }
}

#[test]
fn the_mean_over_drawings_is_on_the_scale_of_the_reward_with_its_interval() {
    let said = [
        of(Some(0.30), Some(-1.0)),
        of(Some(0.32), Some(2.0)),
        of(Some(-0.1), Some(f64::NAN)),
    ];
    let means = means(&said);
    let clip = means["clip"];
    // The scores 30, 32 and 0 have the mean 62 / 3 and the standard deviation 17.926, with two degrees of
    // freedom.
    assert!((clip.value - 20.6667).abs() < 1e-3 && clip.n == 3, "{clip:?}");
    let half = 1.959_964 * (964.0 / 3.0_f64).sqrt() / 3.0_f64.sqrt();
    assert!((clip.high.unwrap() - clip.value - half).abs() < 1e-3, "{clip:?}");
    assert!((clip.value - clip.low.unwrap() - half).abs() < 1e-3, "{clip:?}");
    let liked = means["image_reward"];
    assert!(
        (liked.value - 1.0 / 3.0).abs() < 1e-9 && liked.low < Some(0.0),
        "{liked:?}"
    );
}

#[test]
fn a_network_that_said_nothing_has_no_mean_and_one_number_has_no_interval() {
    assert!(means(&[]).is_empty() && means(&[of(None, None)]).is_empty());
    let one = means(&[of(Some(0.25), None)]);
    assert_eq!(one.len(), 1);
    let clip = one["clip"];
    assert_eq!((clip.value, clip.low, clip.high, clip.n), (25.0, None, None, 1));
}

proptest! {
    #[test]
    fn a_mean_lies_in_its_interval_and_that_shrinks_with_more_of_the_same(
        numbers in proptest::collection::vec(-3.0..3.0f64, 2..20)
    ) {
        let said = |times: usize| {
            let all: Vec<_> = numbers.iter().map(|&one| of(None, Some(one))).collect();
            means(&all.repeat(times))["image_reward"]
        };
        let (once, often) = (said(1), said(9));
        let width = |mean: demask_rewards::statistics::Mean| mean.high.unwrap() - mean.low.unwrap();
        prop_assert!(once.low.unwrap() <= once.value && once.value <= once.high.unwrap());
        prop_assert!(width(often) <= width(once) + 1e-9);
    }

    #[test]
    fn no_number_that_a_network_can_say_spoils_a_sum(cosine in proptest::num::f64::ANY, reward in proptest::num::f64::ANY) {
        let scored = worth(PictureScore { cosine: Some(cosine), image_reward: Some(reward) }, true, &weights());
        prop_assert!(scored.parts.iter().all(|part| part.value.is_finite()));
        prop_assert!(scored.parts[0].value >= 0.0);
    }
}
