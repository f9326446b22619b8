//! The `evaluate` stage: benchmarks within a run, and their decision to promote, to hold, or to return to the promoted
//! weights.

use std::sync::Arc;

use demask_api::PictureSize;
use demask_datasets::example::Mode;
use demask_rewards::benchmarks::SuiteResult;
use demask_storage::{Eval, Record};

use super::state::{After, StageRun};
use crate::pipeline::evaluation::Judges;
use crate::pipeline::evaluation::evaluator::{BATCH, Evaluate, SuiteRun};
use crate::pipeline::evaluation::item_result::ItemResult;
use crate::pipeline::evaluation::trial::{LikelihoodWay, Trial};
use crate::pipeline::reward_networks::{Networks, in_profile};
use crate::pipeline::run_error::RunError;
use crate::profile::Stage;
use crate::run::checkpoints::{self, folder_name};
use crate::run::promotion::{self, Decision, Promoted, Results};
use crate::runtime::actor::offload;

impl StageRun {
    pub(super) async fn evaluate_step(&mut self, stage: &Stage) -> Result<After, RunError> {
        // The decision holds once this step is done, so its checkpoint is that of the next step.
        self.cursor.step += 1;
        let decided = self.judge_weights(&stage.suites, stage.limit).await;
        self.cursor.step -= 1;
        Ok(match decided? {
            None => After::Again,
            Some(Decision::Hold) => After::Next,
            Some(Decision::Baseline | Decision::Promote | Decision::RollBack) => After::Checkpoint,
        })
    }

    /// Evaluates the present weights and carries out the gate's decision. The caller must save a checkpoint afterwards.
    /// `None` when the daemon is ending and there is no result.
    pub(super) async fn judge_weights(
        &mut self,
        suites: &[String],
        limit: usize,
    ) -> Result<Option<Decision>, RunError> {
        let step = self.cursor.step;
        self.doing(&format!("{} benchmarks", suites.len()));
        self.watch_benchmarks(suites, limit).await?;
        let trial = self.trial(limit)?;
        let control = Arc::clone(&self.context.control);
        let unknown =
            |name: &String| RunError::Failed(format!("there is no suite {name}; see `demask eval --list`"));
        let found = suites
            .iter()
            .map(|name| self.suites.find(name).ok_or_else(|| unknown(name)));
        let found = found.collect::<Result<_, _>>()?;
        let lent = self.lend().await?;
        let request = Evaluate::new(step, self.inference.clone(), found, trial, lent.clone(), control);
        let results = self.addresses.evaluator.evaluate(request).await;
        self.take_back(lent).await?;
        let Some(results) = results? else {
            return Ok(None);
        };
        let now = promotion::results(&results);
        let gains = promotion::gains(self.cursor.best.as_ref(), &now);
        let profile = Arc::clone(&self.context.profile);
        let decision = (profile.gate.enabled && !now.is_empty())
            .then(|| promotion::decide(&profile.gate, self.cursor.best.as_ref(), &gains));
        for SuiteRun { result, items } in results {
            self.metric(step, metrics(&result));
            self.record_items(step, &result.suite, items).await?;
            let gain = gains
                .get(&result.suite)
                .map(|gain| [gain.value, gain.low, gain.high]);
            let eval = Eval {
                run: self.context.run.clone(),
                step,
                checkpoint: format!("weights:{}", self.weights),
                suite: result.suite,
                metric: result.metric,
                value: result.value,
                low: result.low,
                high: result.high,
                n: result.n as u64,
                parts: result.parts.into_iter().collect(),
                decision,
                gain,
            };
            self.context.recorder.record(Record::Eval(eval)).await?;
        }
        let decision = decision.unwrap_or(Decision::Hold);
        match decision {
            Decision::Baseline | Decision::Promote => self.promote(now),
            Decision::RollBack => self.roll_back().await?,
            Decision::Hold => {}
        }
        Ok(Some(decision))
    }

    /// Returns how the suites are run.
    fn trial(&self, limit: usize) -> Result<Trial, RunError> {
        Ok(Trial {
            limit: Some(limit),
            samples: 1,
            mode: Mode::Think,
            samplers: self.samplers(None),
            seed: 0,
            networks: Networks::of(&self.context.profile.reward_networks, in_profile)?,
            // The evaluator has the external rewards.
            external: None,
            judges: Judges::default(),
            size: Some(PictureSize::square(self.context.profile.side())),
            cuts: false,
            likelihood: LikelihoodWay::default(),
            shard: None,
            batch: BATCH,
        })
    }

    /// Notes that the present weights are the promoted ones. Results of suites that were not measured this time remain.
    fn promote(&mut self, now: Results) {
        let before = self.cursor.best.take().map(|best| best.results);
        let mut results = before.unwrap_or_default();
        results.extend(now);
        let step = self.cursor.step;
        self.cursor.best = Some(Promoted {
            checkpoint: folder_name(step),
            step,
            weights: self.weights,
            results,
        });
    }

    /// Records every item of a suite as a row, and stores its pictures.
    async fn record_items(&self, step: u64, suite: &str, items: Vec<ItemResult>) -> Result<(), RunError> {
        let (blobs, run, suite) = (self.blobs.clone(), self.context.run.clone(), suite.to_owned());
        let rows = offload(move || {
            let row = |item: &ItemResult| item.row((&run, step, &suite), &blobs);
            items.iter().map(row).collect::<Result<Vec<_>, _>>()
        });
        for row in rows.await?? {
            self.context.recorder.record(Record::Item(row)).await?;
        }
        Ok(())
    }

    /// Returns to the promoted weights. The step, the traces and the schedule continue.
    async fn roll_back(&mut self) -> Result<(), RunError> {
        if let Some(best) = &self.cursor.best {
            let dir = checkpoints::folder(&self.context, best.step);
            let loaded = checkpoints::load_checkpoint(&self.context, &dir).await?;
            (self.inference, self.weights) = (loaded.inference, loaded.weights);
            self.forget();
        }
        Ok(())
    }
}

/// Returns the metrics of a suite: its value, and the mean score of each reward network over its drawings with the ends
/// of its interval.
fn metrics(result: &SuiteResult) -> Vec<(String, f64)> {
    let name = format!("eval/{}", result.suite);
    let mut metrics = vec![(name.clone(), result.value)];
    for (network, mean) in &result.networks {
        let ends = [("/low", mean.low), ("/high", mean.high)];
        metrics.push((format!("{name}/{network}"), mean.value));
        metrics.extend(
            ends.into_iter()
                .filter_map(|(end, value)| Some((format!("{name}/{network}{end}"), value?))),
        );
    }
    metrics
}
