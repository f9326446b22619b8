//! The tabletop data: an index always gives the same example (L8), splits share nothing (L6), held-out pairs
//! are not in the training split, pictures show what is asked for, and texts fit their budgets.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use demask_api::sequence::Task;
use demask_datasets::prompts::sequences::{Budgets, SequenceBuilder, SequenceError};
use demask_datasets::prompts::text_tokenizer::TextTokenizer;
use demask_datasets::tabletop::chance::is_held_out;
use demask_datasets::tabletop::{Category, Colour, Scene, Shape, Tabletop};
use demask_datasets::{Check, Example, Kind, Mode, Split};
use proptest::prelude::*;

const TABLETOP: Tabletop = Tabletop::new(7);

static BUILDER: LazyLock<SequenceBuilder> = LazyLock::new(|| {
    let tokenizer = TextTokenizer::train(&Tabletop::new(0).corpus(300), 512).unwrap();
    SequenceBuilder::new(tokenizer, Budgets::default())
});

fn some(split: Split, count: u64) -> impl Iterator<Item = (Example, Option<Scene>)> {
    Tabletop::KINDS
        .into_iter()
        .flat_map(move |kind| (0..count).map(move |i| TABLETOP.with_scene(kind, split, i)))
}

fn names_held_out(text: &str) -> bool {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphabetic()).collect();
    words.windows(2).any(
        |pair| match (Colour::from_word(pair[0]), Shape::from_word(pair[1])) {
            (Some(colour), Some(shape)) => is_held_out(shape, colour),
            _ => false,
        },
    )
}

#[test]
fn l6_splits_share_no_picture_and_no_sum() {
    let mut seen: HashMap<String, Split> = HashMap::new();
    for split in Split::ALL {
        for (example, scene) in some(split, 300) {
            let content = match (scene, &example.reasoning) {
                (Some(scene), _) => scene.to_string(),
                (None, reasoning) => reasoning.clone().unwrap(),
            };
            let first = *seen.entry(content.clone()).or_insert(split);
            assert_eq!(first, split, "{content}");
        }
    }
}

#[test]
fn l6_test_prompts_are_new_where_there_are_many() {
    let many =
        |e: &Example| ["two_object", "position", "color_attr", "as_many_as"].contains(&e.category.as_str());
    let trained: HashSet<String> = some(Split::Train, 600)
        .filter(|(e, _)| many(e))
        .map(|(e, _)| e.prompt)
        .collect();
    for (example, _) in some(Split::Test, 200).filter(|(e, _)| many(e)) {
        assert!(!trained.contains(&example.prompt), "{}", example.prompt);
    }
}

#[test]
fn held_out_pairs_are_in_the_test_split_alone() {
    for split in Split::ALL {
        let mut flagged = 0;
        for (example, scene) in some(split, 400) {
            let texts = [
                Some(&example.prompt),
                example.reasoning.as_ref(),
                example.answer.as_ref(),
            ];
            let named = texts.into_iter().flatten().any(|text| names_held_out(text));
            let drawn = scene.is_some_and(|s| s.objects().any(|(_, o)| is_held_out(o.shape, o.colour)));
            assert_eq!(named || drawn, example.held_out, "{split:?} {example:?}");
            flagged += usize::from(example.held_out);
        }
        assert_eq!(flagged > 0, split == Split::Test);
    }
}

#[test]
fn pictures_show_exactly_what_is_asked_for() {
    for split in Split::ALL {
        for (example, scene) in some(split, 200) {
            if let Check::Scene { request } = &example.check {
                let scene = scene.unwrap();
                assert!(request.holds(&scene), "{} {scene}", example.prompt);
                assert!((request.score(&scene) - 1.0).abs() < 1e-12);
                assert!(!request.holds(&Scene::default()));
                assert!(request.score(&Scene::default()) < 0.6);
            }
        }
    }
}

#[test]
fn categories_and_answers_are_balanced() {
    let mut parts: HashMap<String, usize> = HashMap::new();
    let (mut yes, mut asked) = (0, 0);
    for index in 0..1200 {
        *parts
            .entry(TABLETOP.example(Kind::TextToImage, Split::Train, index).category)
            .or_default() += 1;
        let question = TABLETOP.example(Kind::Question, Split::Train, index);
        if question.category == "is_there" {
            asked += 1;
            yes += usize::from(question.answer.as_deref() == Some("yes"));
        }
    }
    for category in Category::ALL {
        assert_eq!(parts[category.name()], 200);
    }
    assert!(
        (yes as f64 / f64::from(asked) - 0.5).abs() < 0.1,
        "{yes} of {asked}"
    );
}

/// Every generated example of every split fits its budget in both modes, and its prompt and training
/// sequence agree.
#[test]
fn every_example_fits_its_budget_in_both_modes() {
    let codes = [0; 64];
    for split in Split::ALL {
        for (example, _) in some(split, 150) {
            for mode in [Mode::Think, Mode::Direct] {
                let task = example.task(mode);
                let codes = if task == Task::Text { &[][..] } else { &codes };
                let sequence = BUILDER
                    .train(&example, mode, codes, false)
                    .unwrap_or_else(|e| panic!("{e}: {example:?}"));
                let mut prompt = BUILDER.prompt(&example, mode, codes).unwrap();
                assert_eq!(sequence.ids.len(), prompt.ids.len());
                assert_eq!(prompt.left_pad, sequence.left_pad);
                assert!(
                    prompt
                        .unconditional
                        .iter()
                        .all(|ids| ids.len() == prompt.ids.len())
                );
                // L7: filling the masks of the prompt gives the training sequence.
                for span in &sequence.answer {
                    prompt.ids[span.start..span.end].copy_from_slice(&sequence.ids[span.start..span.end]);
                }
                assert_eq!(prompt.ids, sequence.ids);
                assert_eq!(BUILDER.completed(&example.id, &prompt, &prompt.ids), sequence);
                if task != Task::TextToImage {
                    assert_eq!(
                        BUILDER.text(&sequence.ids, prompt.target).unwrap(),
                        example.completion(mode)
                    );
                }
            }
        }
    }
}

#[test]
fn think_then_draw_goes_in_two_phases() {
    let example = TABLETOP.example(Kind::ThinkThenDraw, Split::Train, 0);
    let mask = BUILDER.tokenizer().specials().mask;
    let trained = BUILDER.train(&example, Mode::Think, &[3; 64], false).unwrap();
    let first = BUILDER.prompt(&example, Mode::Think, &[]).unwrap();
    let mut ids = first.ids.clone();
    ids[first.target.start..first.target.end]
        .copy_from_slice(&trained.ids[first.target.start..first.target.end]);
    let second = BUILDER.then_draw(&first, &ids).unwrap();
    assert_eq!(second.target.len(), 64);
    assert!(
        second.ids[second.target.start..second.target.end]
            .iter()
            .all(|&id| id == mask)
    );
    assert_eq!(second.ids.iter().filter(|&&id| id == mask).count(), 64);
    assert!(BUILDER.then_draw(&second, &ids).is_none());
    let dropped = BUILDER.train(&example, Mode::Think, &[3; 64], true).unwrap();
    assert_eq!(dropped.left_pad, second.unconditional_left_pad);
    assert_eq!(dropped.answer, vec![second.target]);
}

#[test]
fn a_prompt_that_is_too_long_is_refused_with_both_numbers() {
    let long = "a red circle and ".repeat(20);
    for kind in Tabletop::KINDS {
        let example = Example {
            prompt: long.clone(),
            ..TABLETOP.example(kind, Split::Train, 0)
        };
        let error = BUILDER.prompt(&example, Mode::Think, &[0; 64]).unwrap_err();
        let limit = BUILDER.budgets().of(kind.task(Mode::Think)).prompt;
        assert!(
            matches!(error, SequenceError::PromptTooLong { limit: l, found } if l == limit && found > limit)
        );
        assert!(error.to_string().contains(&limit.to_string()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn l8_an_example_is_a_pure_function(seed: u64, kind in 0..5usize, split in 0..3usize, index in 0..1_000_000u64) {
        let (kind, split) = (Tabletop::KINDS[kind], Split::ALL[split]);
        let example = Tabletop::new(seed).example(kind, split, index);
        prop_assert_eq!(&example, &Tabletop::new(seed).example(kind, split, index));
        let json = serde_json::to_string(&example).unwrap();
        prop_assert_eq!(serde_json::from_str::<Example>(&json).unwrap(), example);
    }

    #[test]
    fn l6_splits_are_disjoint_across_seeds(a: u64, b: u64, kind in 0..5usize, index in 0..10_000u64) {
        let kind = Tabletop::KINDS[kind];
        let train = Tabletop::new(a).example(kind, Split::Train, index);
        let test = Tabletop::new(b).example(kind, Split::Test, index);
        prop_assert_ne!(&train.id, &test.id);
        prop_assert!(train.picture.is_none() || train.picture != test.picture);
    }
}
