//! Duplicates and overlaps with benchmarks.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::curation::dedup::{Dedup, Novelty};
use demask_datasets::example::{Example, Kind, Split};
use demask_datasets::tabletop::Tabletop;
use proptest::prelude::*;

const LONG: &str = "Natalia sold clips to forty eight of her friends in April and then she sold half as many clips in May so how many clips did Natalia sell altogether in April and May when all of them had been counted by her mother";

#[test]
fn equal_and_nearly_equal_texts_are_found() {
    let mut dedup = Dedup::new(0.7);
    assert_eq!(dedup.admit(LONG), Novelty::New);
    assert_eq!(
        dedup.admit(&LONG.to_uppercase().replace(' ', "  ")),
        Novelty::Exact(0)
    );
    assert_eq!(dedup.admit(&LONG.replace("mother", "father")), Novelty::Near(0));
    assert_eq!(
        dedup.admit("Something else altogether, with other words in it."),
        Novelty::New
    );
    assert_eq!(dedup.len(), 2);
    let mut exact = Dedup::new(2.0);
    exact.admit(LONG);
    assert_eq!(exact.admit(&LONG.replace("mother", "father")), Novelty::New);
}

fn problem(prompt: &str) -> Example {
    Example {
        prompt: prompt.into(),
        ..Tabletop::new(1).example(Kind::WordProblem, Split::Train, 0)
    }
}

#[test]
fn l6_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not() {
    let mut forbidden = Forbidden::default();
    forbidden.register(
        "bench",
        &[
            problem(LONG),
            problem("how many red circles are there"),
            problem("why?"),
        ],
    );
    let words: Vec<&str> = LONG.split(' ').collect();
    let around = |count: usize| format!("before {} after", words[5..5 + count].join(" "));
    assert_eq!(forbidden.overlap(&problem(&around(13))).unwrap().rule, "13-gram");
    assert!(forbidden.overlap(&problem(&around(12))).is_none());
    let inside = problem("tell me, how many red circles ARE there? now");
    assert_eq!(forbidden.overlap(&inside).unwrap().rule, "whole");
    assert_eq!(forbidden.overlap(&problem("Why")).unwrap().benchmark, "bench");
    assert!(forbidden.overlap(&problem("why not")).is_none());
}

#[test]
fn l6_reasoning_and_what_is_said_of_a_picture_are_looked_through_and_its_pixels_are_enough() {
    let world = Tabletop::new(3);
    let item = world.example(Kind::Question, Split::Test, 0);
    let mut forbidden = Forbidden::default();
    forbidden.register("text", &[problem(LONG)]);
    forbidden.register("pictures", std::slice::from_ref(&item));
    let worked = Example {
        reasoning: Some(format!("As it says: {LONG}")),
        ..problem("something else")
    };
    assert_eq!(forbidden.overlap(&worked).unwrap().benchmark, "text");
    let asked = Example {
        prompt: format!("So: {LONG}"),
        ..world.example(Kind::Question, Split::Train, 0)
    };
    assert_eq!(forbidden.overlap(&asked).unwrap().rule, "13-gram");
    let captioned = Example {
        prompt: "say what this is".into(),
        ..item
    };
    assert_eq!(forbidden.overlap(&captioned).unwrap().rule, "picture");
}

#[test]
fn l6_the_tabletop_does_not_train_on_its_tests() {
    let world = Tabletop::new(7);
    let mut forbidden = Forbidden::default();
    for kind in Tabletop::KINDS {
        let items: Vec<Example> = (0..600).map(|at| world.example(kind, Split::Test, at)).collect();
        assert!(items.iter().all(|item| item.split == Split::Test));
        forbidden.register(kind.name(), &items);
        assert!(items.iter().all(|item| forbidden.overlap(item).is_some()));
    }
    for kind in Tabletop::KINDS {
        for at in 0..1000 {
            let example = world.example(kind, Split::Train, at);
            assert_eq!(forbidden.overlap(&example), None, "{example:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the text, it is its own duplicate, and nothing is remembered twice.
    #[test]
    fn a_text_is_its_own_duplicate(texts in proptest::collection::vec("[a-z0-9 ,.]{0,80}", 1..12)) {
        let mut dedup = Dedup::new(0.8);
        let new = texts.iter().filter(|text| dedup.admit(text) == Novelty::New).count();
        prop_assert_eq!(dedup.len(), new);
        for text in &texts {
            prop_assert_ne!(dedup.admit(text), Novelty::New);
        }
        prop_assert_eq!(dedup.len(), new);
    }
}
