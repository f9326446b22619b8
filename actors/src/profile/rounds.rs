//! Rounds: consecutive stages that are repeated as often as `[[rounds]]` says.
//!
//! A run stores the stages of all rounds in one list, each under a name of its own. Its steps, its checkpoints and the
//! place where it continues after a crash are therefore those of a profile with all rounds written out (laws L1, L8).

use super::wrong::{Wrong, wrong};
use super::{Profile, Rounds, Stage};

impl Profile {
    /// Returns the profile with the stages of all rounds written out, `reason` as `reason-1`, `reason-2`, and without
    /// `[[rounds]]`.
    #[must_use]
    pub fn unrolled(mut self) -> Self {
        for rounds in std::mem::take(&mut self.rounds) {
            let Some((first, count)) = place(&self.stages, &rounds) else {
                continue;
            };
            let once: Vec<Stage> = self.stages.drain(first..first + count).collect();
            let round = |number: u64| {
                let named = |stage: &Stage| Stage {
                    name: name(&stage.name, number, &rounds),
                    ..stage.clone()
                };
                once.iter().map(named).collect::<Vec<_>>()
            };
            let all: Vec<Stage> = (1..=rounds.repeat).flat_map(round).collect();
            self.stages.splice(first..first, all);
        }
        self
    }

    /// Checks that every `[[rounds]]` names existing, consecutive stages, and that no stage belongs to two of them.
    pub(super) fn check_rounds(&self) -> Result<(), Wrong> {
        let mut before: Vec<&str> = Vec::new();
        for (number, rounds) in self.rounds.iter().enumerate() {
            let path = format!("rounds.{number}.stages");
            if place(&self.stages, rounds).is_none() {
                let all: Vec<&str> = self.stages.iter().map(|stage| stage.name.as_str()).collect();
                let message = format!(
                    "of [[rounds]] is {:?}; expected the names of consecutive stages, out of {}",
                    rounds.stages,
                    all.join(", ")
                );
                return wrong(&path, &message);
            }
            if let Some(twice) = rounds.stages.iter().find(|name| before.contains(&name.as_str())) {
                return wrong(
                    &path,
                    &format!("of [[rounds]] names {twice}, which another [[rounds]] has too"),
                );
            }
            before.extend(rounds.stages.iter().map(String::as_str));
        }
        Ok(())
    }
}

/// Returns the index of the first repeated stage, and the number of repeated stages.
fn place(stages: &[Stage], rounds: &Rounds) -> Option<(usize, usize)> {
    let first = stages
        .iter()
        .position(|stage| Some(&stage.name) == rounds.stages.first())?;
    let count = rounds.stages.len();
    let there = stages.get(first..first + count)?;
    let same = there
        .iter()
        .zip(&rounds.stages)
        .all(|(stage, name)| stage.name == *name);
    same.then_some((first, count))
}

/// Returns the name of a stage in a round.
fn name(stage: &str, round: u64, rounds: &Rounds) -> String {
    match rounds.repeat {
        1 => stage.to_owned(),
        _ => format!("{stage}-{round}"),
    }
}
