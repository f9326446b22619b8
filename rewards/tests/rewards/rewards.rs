//! The list of rewards: one new file and one line add a reward, which then counts.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::Path;

use demask_datasets::example::{Kind, Mode, Split};
use demask_datasets::tabletop::Tabletop;
use demask_rewards::judge::{Completion, Judge};
use demask_rewards::rewards::{Evidence, Needs, REWARDS, Reward, default_weights, find};

/// The reward of the new file.
struct Brevity;

impl Reward for Brevity {
    fn name(&self) -> &'static str {
        "brevity"
    }

    fn about(&self) -> &'static str {
        "1 for an empty text, falling with its length"
    }

    fn default_weight(&self) -> f64 {
        0.25
    }

    fn score(&self, evidence: &Evidence) -> Option<f64> {
        Some(1.0 / (1.0 + evidence.case()?.completion.tokens as f64))
    }
}

#[test]
fn a_reward_that_is_added_counts_with_its_default_weight() {
    let with: Vec<&'static dyn Reward> = REWARDS.iter().copied().chain([&Brevity as &dyn Reward]).collect();
    let example = Tabletop::new(1).example(Kind::WordProblem, Split::Train, 0);
    let completion = Completion {
        tokens: 3,
        ..Completion::default()
    };
    let weights = default_weights(&with);
    let scored = Judge::with_rewards(with).score(&example, Mode::Think, &completion, &weights, 36);
    let part = scored.parts.iter().find(|part| part.name == "brevity").unwrap();
    assert_eq!((part.value, part.weight), (0.25, 0.25));
    let before = Judge::default().score(&example, Mode::Think, &completion, &weights, 36);
    assert!((scored.total() - before.total() - 0.0625).abs() < 1e-12);
}

#[test]
fn names_are_distinct_and_found_and_every_file_is_in_the_list() {
    let names: BTreeSet<_> = REWARDS.iter().map(|reward| reward.name()).collect();
    assert_eq!(names.len(), REWARDS.len());
    assert!(names.iter().all(|name| find(name).is_some()) && find("beauty").is_none());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rewards");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, REWARDS.len() + 1, "a file a reward, and mod.rs");
}

#[test]
fn the_published_weights_are_the_defaults() {
    let weights: Vec<_> = REWARDS
        .iter()
        .map(|reward| (reward.name(), reward.default_weight()))
        .collect();
    let expected = [
        ("correct", 2.0),
        ("format", 0.5),
        ("draw", 2.0),
        ("length", 0.1),
        ("repetition", 0.1),
        ("clip", 0.1),
        ("image_reward", 0.1),
    ];
    assert_eq!(weights, expected);
    let networks = REWARDS
        .iter()
        .filter(|reward| reward.needs() != Needs::Completion);
    assert_eq!(default_weights(REWARDS).len(), REWARDS.len() - networks.count());
}

#[test]
fn the_readme_names_every_reward_with_its_weight() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for reward in REWARDS {
        let row = format!(
            "| `{}` | {} | {} |",
            reward.name(),
            reward.default_weight(),
            reward.about()
        );
        assert!(readme.contains(&row), "{row}");
    }
}
