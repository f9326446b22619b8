//! Which answers are right and what rewards are worth, by the interfaces through which a model is trained.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use demask_api::Picture;
use demask_datasets::example::{Check, Example, Kind, Mode, Split};
use demask_datasets::tabletop::Tabletop;
use demask_datasets::tabletop::render::render;
use demask_rewards::judge::{Completion, Judge};
use demask_rewards::rewards::length::length;
use demask_rewards::rewards::{REWARDS, default_weights};
use demask_rewards::verifiers::answer::same;
use demask_rewards::verifiers::thought::{format_reward, split};
use demask_rewards::verifiers::trace::{TraceFlaw, verify};
use proptest::prelude::*;

/// Answers are compared as numbers, fractions or words. An empty or malformed answer equals nothing.
#[test]
fn numbers_and_fractions_are_equal_when_they_are_the_same_number() {
    for (found, expected) in [
        ("1/2", "0.5"),
        ("-1/2", "-0.5"),
        ("1 1/2", "1.5"),
        ("-2 1/4", "-2.25"),
        ("\\frac{3}{4}", "0.75"),
        ("-\\dfrac{3}{4}", "-0.75"),
        ("\\boxed{\\frac{1}{2}}", "0.5"),
        ("so it is \\boxed{42}.", "42"),
        ("1,000", "1000"),
        ("$18.00", "18"),
        ("-$5", "-5"),
        ("−3", "-3"),
        ("$12$", "12"),
        ("7 apples", "7"),
        ("50%", "50"),
        ("Red.", "red"),
        ("the  Blue Square", "the blue square"),
    ] {
        assert!(same(found, expected), "{found} and {expected}");
    }
    for (found, expected) in [
        ("8", "7"),
        ("", "7"),
        ("seven", "8"),
        ("red", "blue"),
        ("", ""),
        ("1/0", "0"),
        ("\\boxed{", "1"),
        ("\\frac{1}{}", "1"),
        ("1.2.3", "1.2"),
        ("-7", "7"),
        ("1 3/2", "2.5"),
    ] {
        assert!(!same(found, expected), "{found} and {expected}");
    }
}

#[test]
fn a_true_trace_passes() {
    for (trace, answer, sums) in [
        ("3 + 4 = 7. 7 - 2 = 5.", "5", 2),
        ("48/2=24, 48+24=72", "72", 2),
        ("3.5 + 1 = 4.5. 4.5 * 2 = 9.", "9", 2),
        ("1,000 + 5 = 1,005", "1005", 1),
        ("2 + 3 * 4 = 14", "14", 1),
        ("10 / 3 = 3.33", "3.33", 1),
        ("20% * 50 = 10", "10", 1),
        ("She pays $4 x 3 = $12", "12", 1),
        ("5 - 8 = -3; -3 + 4 = 1", "1", 2),
        ("x = 3 + 4 = 7", "7", 1),
        ("6 / 8 = 3/4, 2 + 3 = 4 + 1 = 5", "5", 2),
        ("1 + 1/2 = 1 1/2", "1", 0),
        // These are parts of larger expressions, not sums of their own, so none is checked.
        ("half of 6 + 4 = 7, (2 + 3) * 4 = 20, x = 7", "7", 0),
    ] {
        let text = format!("<think>{trace}</think>{answer}");
        assert_eq!(verify(&text, answer), Ok(sums), "{text}");
    }
}

/// A trace is rejected for its format, for the first false step, which is quoted, or for its answer.
#[test]
fn each_flaw_of_a_trace_is_named() {
    assert_eq!(verify("5", "5"), Err(TraceFlaw::Format));
    assert_eq!(verify("<think></think>5", "5"), Err(TraceFlaw::Format));
    for (trace, step) in [
        ("3 + 4 = 8. 8 - 3 = 5.", "3 + 4 = 8"),
        ("2+3=5, 2 + 3 * 4 = 20", "2 + 3 * 4 = 20"),
        ("0.5 + 0.5 = 1.1", "0.5 + 0.5 = 1.1"),
        ("10 / 3 = 3", "10 / 3 = 3"),
        ("10 / 3 = 3.34", "10 / 3 = 3.34"),
        ("2 + 3 = 5 + 1 = 7", "2 + 3 = 5 + 1 = 7"),
        ("x = 3 + 4 = 8", "x = 3 + 4 = 8"),
        ("2 + 3 = 5 = 6", "2 + 3 = 5 = 6"),
    ] {
        assert_eq!(
            verify(&format!("<think>{trace}</think>5"), "5"),
            Err(TraceFlaw::Step(step.into()))
        );
    }
    let (found, expected) = ("8".to_owned(), "7".to_owned());
    assert_eq!(
        verify("<think>3 + 4 = 7.</think>8", "7"),
        Err(TraceFlaw::Answer { found, expected })
    );
}

#[test]
fn the_format_is_reasoning_and_then_a_result() {
    assert_eq!(format_reward("<think>a</think>b"), 1.0);
    for broken in [
        "",
        "b",
        "<think>a</think>",
        "<think></think>b",
        "<think>a",
        "a</think>b",
        "x<think>a</think>b",
        "<think>a</think>b</think>c",
        "<think>a</think><think>b</think>c",
    ] {
        assert_eq!(format_reward(broken), 0.0, "{broken}");
    }
    // An answer is read from a malformed completion too.
    assert_eq!(split("a</think>b").result, "b");
}

fn weights() -> BTreeMap<String, f64> {
    default_weights(REWARDS)
}

fn word_problem() -> Example {
    Tabletop::new(1).example(Kind::WordProblem, Split::Train, 0)
}

/// The generator's own answers and pictures are right, and score more than empty ones.
#[test]
fn the_tabletop_s_own_answers_are_right_and_their_pictures_too() {
    let (judge, tabletop) = (Judge::default(), Tabletop::new(3));
    for (kind, index) in [
        Kind::WordProblem,
        Kind::Question,
        Kind::TextToImage,
        Kind::ThinkThenDraw,
    ]
    .into_iter()
    .flat_map(|kind| (0..60).map(move |index| (kind, index)))
    {
        let (example, scene) = tabletop.with_scene(kind, Split::Test, index);
        let reasoning = example.reasoning.clone().unwrap_or_default();
        let answer = example.answer.clone().unwrap_or_default();
        let completion = Completion {
            text: format!("<think>{reasoning}</think>{answer}"),
            picture: scene.as_ref().map(render),
            tokens: 9,
        };
        assert!(judge.right(&example, &completion), "{example:?}");
        let full = judge.score(&example, Mode::Think, &completion, &weights(), 36);
        if kind == Kind::WordProblem {
            assert!(verify(&completion.text, &answer).is_ok(), "{example:?}");
        }
        // Nothing scores higher than a right answer, and an empty picture or answer is not right.
        let empty = Completion {
            picture: scene.map(|_| Picture::filled(32, 32, [255; 3])),
            ..Completion::default()
        };
        assert!(!judge.right(&example, &empty), "{example:?}");
        assert!(judge.score(&example, Mode::Think, &empty, &weights(), 36).total() < full.total());
    }
}

#[test]
fn what_cannot_be_checked_is_never_right() {
    let example = Example {
        check: Check::None,
        ..word_problem()
    };
    let completion = Completion {
        text: "<think>a</think>7".into(),
        ..Completion::default()
    };
    assert!(!Judge::default().right(&example, &completion));
}

proptest! {
    #[test]
    fn a_number_is_itself_however_it_is_written(value in -9_999_999i64..9_999_999, cents in 0i64..100) {
        let written = format!("{value}.{cents:02}");
        let digits = value.abs().to_string();
        let grouped: Vec<&str> = (0..digits.len())
            .rev().step_by(3)
            .map(|last| &digits[last.saturating_sub(2)..=last])
            .collect();
        let grouped: Vec<&str> = grouped.into_iter().rev().collect();
        let sign = if value < 0 { "-" } else { "" };
        let separated = format!("{sign}{}.{cents:02}", grouped.join(","));
        prop_assert!(same(&written, &separated));
        let everything = format!("The answer is {separated}.");
        prop_assert!(same(&everything, &written));
        let hundredths = value * 100 + if value < 0 { -cents } else { cents };
        let fraction = format!("{hundredths}/100");
        if value != 0 {
            prop_assert!(same(&fraction, &written), "{} and {}", fraction, written);
        }
        let other = format!("{}.{cents:02}", value + 1);
        prop_assert!(!same(&other, &written));
    }

    #[test]
    fn a_written_sum_is_true_exactly_when_it_is(a in 0i64..999, b in 0i64..999, off in -2i64..3, spaced in any::<bool>()) {
        for (sign, right) in [('+', a + b), ('-', a - b), ('*', a * b)] {
            let gap = if spaced { " " } else { "" };
            let step = format!("{a}{gap}{sign}{gap}{b}{gap}={gap}{}", right + off);
            let found = verify(&format!("<think>{step}.</think>1"), "1");
            prop_assert_eq!(found.is_ok(), off == 0, "{}: {:?}", step, found);
        }
    }

    /// Whatever a model writes, every reward is in 0..=1 and nothing panics.
    #[test]
    fn every_reward_lies_between_0_and_1(text in "\\PC{0,60}", tokens in 0usize..200, budget in 0usize..100) {
        let completion = Completion { text: text.clone(), picture: None, tokens };
        for mode in [Mode::Think, Mode::Direct] {
            let scored = Judge::default().score(&word_problem(), mode, &completion, &weights(), budget);
            for part in scored.parts {
                prop_assert!((0.0..=1.0).contains(&part.value), "{part:?}");
            }
        }
        let _ = verify(&text, "1");
        let _ = verify(&format!("<think>{text}</think>1"), "1");
        let longer = length(tokens + 1, budget / 2, budget);
        prop_assert!(longer <= length(tokens, budget / 2, budget));
    }

    #[test]
    fn sums_of_signs_and_digits_never_panic(text in "[-0-9.,x×÷*/+=%$€ −of()]{0,40}") {
        let _ = verify(&format!("<think>{text}</think>1"), "1");
        let _ = same(&text, "1");
    }
}
