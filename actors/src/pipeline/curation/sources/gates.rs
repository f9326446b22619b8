//! The gates that an example passes before it may be trained on: duplicates, and overlaps with benchmarks.

use std::io;

use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::curation::dedup::{Dedup, Novelty};
use demask_datasets::example::{Check, Example, Mode};
use demask_storage::Gate;

use super::Report;
use super::forbidden::checked;
use crate::pipeline::curation::training_example::location;

/// The gates of one source, with how many examples were checked.
pub(super) struct Gates<'a> {
    source: &'a str,
    dedup: Dedup,
    forbidden: &'a Forbidden,
    overlaps: Vec<u64>,
    checked: u64,
}

impl<'a> Gates<'a> {
    /// Makes the gates of a source, of which nothing was read yet.
    pub(super) fn new(source: &'a str, dedup: Dedup, forbidden: &'a Forbidden) -> Self {
        Self {
            source,
            dedup,
            forbidden,
            overlaps: vec![0; forbidden.benchmarks().len()],
            checked: 0,
        }
    }

    /// Returns whether an example may be trained on, and reports it otherwise. An example of a conversation that was
    /// compared as a `whole` is not compared again.
    pub(super) fn pass(
        &mut self,
        example: &Example,
        whole: bool,
        report: &mut dyn FnMut(Report),
    ) -> io::Result<bool> {
        let copy = if whole { None } else { self.duplicate(example)? };
        let turned_away = copy.or_else(|| self.overlapping(example));
        if let Some((gate, reason)) = turned_away {
            report(Report::Rejected {
                source: self.source.to_owned(),
                subject: location(example),
                gate,
                reason,
            });
            return Ok(false);
        }
        Ok(true)
    }

    /// Returns whether a conversation is a copy of an earlier one, and reports it. The conversation is compared as a
    /// whole: its examples repeat one another's turns and would count as near duplicates of each other.
    pub(super) fn is_copy(
        &mut self,
        examples: &[Example],
        report: &mut dyn FnMut(Report),
    ) -> io::Result<bool> {
        let copy = examples.last().map(|last| self.duplicate(last)).transpose()?;
        let Some((gate, reason)) = copy.flatten() else {
            return Ok(false);
        };
        for example in examples {
            report(Report::Rejected {
                source: self.source.to_owned(),
                subject: location(example),
                gate,
                reason: reason.clone(),
            });
        }
        Ok(true)
    }

    /// Returns why an example is a duplicate, if it is. A labelled picture is identified by its pixels and its
    /// question; near duplicates are searched in text only.
    fn duplicate(&mut self, example: &Example) -> io::Result<Option<(Gate, String)>> {
        let text = match (&example.picture, &example.check) {
            (Some(_), _) | (_, Check::Class { .. }) => example.id.clone(),
            (None, _) => {
                let earlier = example.turns.iter().rev().skip(1).rev();
                let mut text: String = earlier.map(|turn| format!("{} ", turn.content)).collect();
                text.push_str(&format!("{} {}", example.prompt, example.completion(Mode::Think)));
                text
            }
        };
        Ok(match self.dedup.admit(&text)? {
            Novelty::New => None,
            Novelty::Exact(number) => Some((
                Gate::ExactDedup,
                format!("equal to row {} of the kept rows", number + 1),
            )),
            Novelty::Near(number) => Some((
                Gate::NearDedup,
                format!("nearly equal to row {} of the kept rows", number + 1),
            )),
        })
    }

    fn overlapping(&mut self, example: &Example) -> Option<(Gate, String)> {
        self.checked += 1;
        let overlap = self.forbidden.overlap(example)?;
        let number = self
            .forbidden
            .benchmarks()
            .iter()
            .position(|name| *name == overlap.benchmark)?;
        self.overlaps[number] += 1;
        Some((
            Gate::Decontaminate,
            format!("overlaps {} ({})", overlap.benchmark, overlap.rule),
        ))
    }

    /// Reports the checks against the benchmarks, and the search for near duplicates if it was not complete.
    pub(super) fn finish(self, report: &mut dyn FnMut(Report)) {
        if self.dedup.capped() > 0 {
            report(Report::Capped {
                source: self.source.to_owned(),
                rows: self.dedup.capped(),
            });
        }
        checked(self.source, self.forbidden, self.checked, &self.overlaps)
            .into_iter()
            .for_each(report);
    }
}
