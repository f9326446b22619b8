//! Duplicates and overlaps with benchmarks.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::curation::dedup::{Dedup, MOST_OF_A_BAND, Novelty};
use demask_datasets::example::{Example, Kind, Split};
use demask_datasets::tabletop::Tabletop;
use proptest::prelude::*;

const LONG: &str = "Natalia sold clips to forty eight of her friends in April and then she sold half as many clips in May so how many clips did Natalia sell altogether in April and May when all of them had been counted by her mother";

fn in_memory(threshold: f64) -> Dedup {
    Dedup::new(threshold, &std::env::temp_dir())
}

/// Exact duplicates are found despite case and spaces, near duplicates by the threshold. A threshold above 1
/// turns near duplicates off.
#[test]
fn equal_and_nearly_equal_texts_are_found() {
    let mut dedup = in_memory(0.7);
    assert_eq!(dedup.admit(LONG).unwrap(), Novelty::New);
    assert_eq!(
        dedup.admit(&LONG.to_uppercase().replace(' ', "  ")).unwrap(),
        Novelty::Exact(0)
    );
    assert_eq!(
        dedup.admit(&LONG.replace("mother", "father")).unwrap(),
        Novelty::Near(0)
    );
    assert_eq!(
        dedup
            .admit("Something else altogether, with other words in it.")
            .unwrap(),
        Novelty::New
    );
    assert_eq!(dedup.len(), 2);
    let mut exact = in_memory(2.0);
    exact.admit(LONG).unwrap();
    assert_eq!(
        exact.admit(&LONG.replace("mother", "father")).unwrap(),
        Novelty::New
    );
}

/// Records that were admitted in memory are still known when the index moves to disk. The limit of one
/// megabyte holds about two thousand records.
#[test]
fn what_was_admitted_in_memory_is_known_when_the_index_goes_to_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut dedup = Dedup::with_memory(0.7, folder.path(), 1 << 20);
    assert_eq!(dedup.admit(LONG).unwrap(), Novelty::New);
    for number in 0..4000 {
        let text = format!("{number} {} {} {}", number * 7, number * 31, number * 101);
        assert_eq!(dedup.admit(&text).unwrap(), Novelty::New, "{text}");
    }
    assert_eq!(dedup.admit(LONG).unwrap(), Novelty::Exact(0));
    assert_eq!(
        dedup.admit(&LONG.replace("mother", "father")).unwrap(),
        Novelty::Near(0)
    );
}

/// Texts of one template share bands without being near duplicates. Each is compared with a bounded number of them, and
/// the index tells how many were not compared with all. Equal texts are found however many there are.
#[test]
fn l9_a_text_of_a_template_is_compared_with_a_bounded_number_of_others() {
    let text = |number: usize| format!("{LONG} {number}");
    let mut dedup = in_memory(1.0);
    for number in 0..MOST_OF_A_BAND {
        dedup.admit(&text(number)).unwrap();
        assert_eq!(dedup.capped(), 0, "{number}");
    }
    for number in MOST_OF_A_BAND..3 * MOST_OF_A_BAND {
        dedup.admit(&text(number)).unwrap();
    }
    let (admitted, capped) = (dedup.len() as u64, dedup.capped());
    assert!(capped > 0 && capped < admitted, "{capped} of {admitted}");
    assert_eq!(dedup.admit(&text(0)).unwrap(), Novelty::Exact(0));
    // What is equal to an earlier text was not compared.
    assert_eq!((dedup.len() as u64, dedup.capped()), (admitted, capped));
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

    /// Every text is a duplicate of itself, and no text is stored twice.
    #[test]
    fn a_text_is_its_own_duplicate(texts in proptest::collection::vec("[a-z0-9 ,.]{0,80}", 1..12)) {
        let mut dedup = in_memory(0.8);
        let new = texts.iter().filter(|text| dedup.admit(text).unwrap() == Novelty::New).count();
        prop_assert_eq!(dedup.len(), new);
        for text in &texts {
            prop_assert_ne!(dedup.admit(text).unwrap(), Novelty::New);
        }
        prop_assert_eq!(dedup.len(), new);
    }

    /// An index on disk gives the same verdicts as one in memory. Texts of few words have many duplicates of
    /// both kinds, and two thousand of them make the table grow while it is on disk.
    #[test]
    fn an_index_on_disk_gives_the_same_verdicts(
        texts in proptest::collection::vec(proptest::collection::vec(0_u8..4, 3..12), 200..2000)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut on_disk = Dedup::with_memory(0.7, folder.path(), 0);
        let mut dedup = in_memory(0.7);
        for text in &texts {
            let text = text.iter().map(|word| format!("word{word} ")).collect::<String>();
            prop_assert_eq!(on_disk.admit(&text).unwrap(), dedup.admit(&text).unwrap());
        }
        // The files are unlinked, so a kill leaves none behind.
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
