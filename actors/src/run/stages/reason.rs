//! The `reason` stage: one round of proposing, verifying, deduplicating and keeping traces. Every verdict is a row.

use std::sync::Arc;

use demask_datasets::example::{Example, Kind};
use demask_rewards::verifiers::thought;
use demask_rewards::verifiers::trace::TraceFlaw;
use demask_storage::{Gate, GateVerdict, Record};

use super::state::{After, StageRun};
use crate::pipeline::curation::curator::{Take, TraceOutcome};
use crate::pipeline::curation::mixture::{Accepted, REASONER};
use crate::pipeline::curation::training_example::TrainingExample;
use crate::pipeline::reasoner::{Proposal, Propose};
use crate::pipeline::run_error::RunError;
use crate::profile::{Profile, Stage, StageKind};
use crate::run::lineage;

/// Examples that are drawn per wanted problem, because not every example is a problem.
const DRAWN: usize = 4;

impl StageRun {
    /// Takes one step of a `reason` stage: the model proposes traces for some problems, and the sound ones enter the
    /// pool. The verdict of every gate on every trace is recorded in the order of the funnel, so that each rejection
    /// has a row with its reason.
    pub(super) async fn reason_step(&mut self, stage: &Stage, _done: u64) -> Result<After, RunError> {
        let round = round(&self.context.profile, self.cursor.step);
        let problems = self.problems(stage).await?;
        let count = problems.len() * stage.group;
        self.doing(&format!("round {round}: {count} traces, to be verified"));
        // A teacher that writes all traces needs no engine.
        let is_own = self
            .context
            .profile
            .teacher
            .as_ref()
            .is_none_or(|teacher| teacher.share < 1.0);
        let lent = match is_own {
            true => self.lend().await?,
            false => None,
        };
        let propose = Propose {
            step: self.cursor.step,
            round,
            weights: self.weights,
            policy: lent.clone(),
            inference: self.inference.clone(),
            problems: Arc::new(problems),
            group: stage.group,
            samplers: self.samplers(Some(self.temperature())),
            control: Arc::clone(&self.context.control),
        };
        let proposals = self.addresses.reasoner.ask(propose).await;
        self.take_back(lent).await?;
        let proposals = proposals??;
        let (sound, flawed): (Vec<&Proposal>, Vec<&Proposal>) =
            proposals.iter().partition(|one| one.flaw.is_none());
        for proposal in flawed {
            let why = proposal.flaw.as_ref().map_or("", flaw_word);
            self.verdict(round, proposal, Gate::Verify, false, why).await?;
        }
        let take = Take {
            step: self.cursor.step,
            after: self.cursor.traces.len(),
            candidates: sound.iter().map(|one| accepted(one)).collect(),
        };
        let taken = self.addresses.curator.ask(take).await??;
        for (proposal, outcome) in sound.iter().zip(&taken.outcomes) {
            self.verdict(round, proposal, Gate::Verify, true, "").await?;
            if let TraceOutcome::Overlaps(why) = outcome {
                self.verdict(round, proposal, Gate::Decontaminate, false, why)
                    .await?;
                continue;
            }
            self.verdict(round, proposal, Gate::Decontaminate, true, "")
                .await?;
            if *outcome == TraceOutcome::Known {
                let why = "the same trace was accepted before";
                self.verdict(round, proposal, Gate::Dedup, false, why).await?;
                continue;
            }
            self.verdict(round, proposal, Gate::Dedup, true, "").await?;
            self.verdict(round, proposal, Gate::Accept, true, "").await?;
        }
        self.cursor.traces = taken.pool;
        let fresh = taken
            .outcomes
            .iter()
            .filter(|&outcome| *outcome == TraceOutcome::Fresh)
            .count();
        self.metric(
            self.cursor.step,
            vec![
                ("reason/proposed".into(), proposals.len() as f64),
                ("reason/accepted".into(), fresh as f64),
                ("reason/pool".into(), self.cursor.traces.len() as f64),
            ],
        );
        Ok(After::Next)
    }

    /// Draws problems that have an answer, so that their traces can be verified.
    async fn problems(&mut self, stage: &Stage) -> Result<Vec<Example>, RunError> {
        let demand = self.demand(stage, DRAWN * stage.batch, 0.0);
        let batch = self.batch(demand, false).await?;
        self.turned_away(stage, &batch).await?;
        let is_problem = |picked: &TrainingExample| {
            picked.example.kind == Kind::WordProblem && picked.example.answer.is_some()
        };
        let problems: Vec<TrainingExample> = batch
            .used
            .into_iter()
            .filter(is_problem)
            .take(stage.batch)
            .collect();
        lineage::known(&self.context, &self.pictures, &problems).await?;
        Ok(problems.into_iter().map(|picked| picked.example).collect())
    }

    async fn verdict(
        &self,
        round: u64,
        proposal: &Proposal,
        gate: Gate,
        passed: bool,
        reason: &str,
    ) -> Result<(), RunError> {
        let verdict = GateVerdict {
            subject: proposal.id.clone(),
            run: self.context.run.clone(),
            round,
            gate,
            passed,
            reason: reason.to_owned(),
            source: REASONER.to_owned(),
            count: 1,
        };
        Ok(self.context.recorder.record(Record::Verdict(verdict)).await?)
    }
}

/// Returns the number of a round, from 1, over all `reason` stages of the run.
fn round(profile: &Profile, step: u64) -> u64 {
    let mut left = step + 1;
    let mut round = 0;
    for stage in &profile.stages {
        let here = left.min(stage.steps);
        left -= here;
        if stage.kind == StageKind::Reason {
            round += here;
        }
    }
    round
}

/// Returns the training example of a sound trace.
fn accepted(proposal: &Proposal) -> Accepted {
    let reasoning = thought::split(&proposal.text).reasoning.unwrap_or_default();
    let example = Example {
        reasoning: Some(reasoning.to_owned()),
        source: REASONER.into(),
        ..proposal.example.clone()
    };
    Accepted {
        example: example.with_id(),
        generator: proposal.generator.clone(),
        trace: proposal.id.clone(),
    }
}

fn flaw_word(flaw: &TraceFlaw) -> &'static str {
    match flaw {
        TraceFlaw::Format => "the trace is not in the reasoning format",
        TraceFlaw::Step(_) => "a step of the trace is not true",
        TraceFlaw::Answer { .. } => "the result of the trace is wrong",
    }
}
