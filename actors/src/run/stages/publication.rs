//! Publication of weights to the sampling engines: a folder of them for each policy step, and one that lasts as long as
//! a request about the present weights.
//!
//! The groups of step i are drawn with the weights that step i - staleness began with. A step therefore needs as many
//! older folders as the staleness, and so does a life that begins again at the last checkpoint (law L1): at most twice
//! the staleness, and one. Each has the size of a checkpoint without its optimizer.
//!
//! A folder's name is used once, because a step that is done again may begin with other weights. A sampling engine that
//! was asked for the earlier folder thus never seems to hold the later one (law L7).

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use demask_api::{Answer, Request};
use demask_storage::Level;

use super::state::StageRun;
use crate::engine::process::unexpected;
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::{DrawingPolicy, PublishedPolicy};
use crate::profile::RolloutMode;
use crate::run::checkpoints;
use crate::runtime::disk::on_disk;
use crate::runtime::ids;

/// Name of the folder of published weights, beside the checkpoints.
const POLICIES: &str = "policies";
/// Beginning of the name of weights that are published for a step.
const OF_STEP: &str = "step-";
/// Beginning of the name of weights that are published for one request.
const LENT: &str = "present-";

/// The weights that a step begins with, and the weights that draw its groups.
pub(crate) struct StepPolicies {
    pub(super) newest: PublishedPolicy,
    pub(super) drawing: DrawingPolicy,
    /// Seconds that publishing took.
    pub(super) seconds: f64,
}

impl StageRun {
    /// Publishes the present weights to the sampling engines and finds the weights that draw this step's groups. `None`
    /// where the training engine draws the groups itself.
    pub(super) async fn publish(&mut self, done: u64) -> Result<Option<StepPolicies>, RunError> {
        if self.context.samplers.is_empty() {
            return Ok(None);
        }
        let (began, step) = (Instant::now(), self.cursor.step);
        self.sweep_policies(step).await?;
        let newest = self.save_policy(OF_STEP).await?;
        self.addresses.samplers.publish(&newest);
        let drawing = match self.drawing_policy(step - done, step).await? {
            Some(drawing) => drawing,
            None => {
                let source = self.source_of(step - done, step);
                let message = format!(
                    "the weights of the start of step {source} are missing; newer weights draw this step's groups"
                );
                self.alert(Level::Warn, "policy_gone", message).await?;
                DrawingPolicy::Fixed(newest.clone())
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        Ok(Some(StepPolicies {
            newest,
            drawing,
            seconds,
        }))
    }

    /// Returns the weights that draw the groups of a step of the stage that began at step `start`; `None` if they are
    /// not there.
    pub(super) async fn drawing_policy(
        &self,
        start: u64,
        step: u64,
    ) -> Result<Option<DrawingPolicy>, RunError> {
        if self.context.profile.rollouts.mode == RolloutMode::Freshest {
            return Ok(Some(DrawingPolicy::Newest));
        }
        let (policies, source) = (self.policies(), self.source_of(start, step));
        let found = on_disk(move || published(&policies, source)).await?;
        Ok(found.map(DrawingPolicy::Fixed))
    }

    /// Returns the step whose first weights draw the groups of a step.
    fn source_of(&self, start: u64, step: u64) -> u64 {
        start.max(step.saturating_sub(self.context.profile.rollouts.staleness))
    }

    /// Publishes the present weights until [`Self::take_back`], so that the sampling engines answer requests about
    /// them. `None` where there are none, or no room on the disk: the training engine gives the same answers.
    pub(super) async fn lend(&mut self) -> Result<Option<PublishedPolicy>, RunError> {
        if self.context.samplers.is_empty() {
            return Ok(None);
        }
        // An earlier life may have been killed before it took its own back.
        self.remove_policies(|name| name.starts_with(LENT)).await?;
        match self.save_policy(LENT).await {
            Ok(lent) => Ok(Some(lent)),
            Err(error) => match checkpoints::disk_full(&error) {
                Some(why) => {
                    tracing::warn!("the disk is full ({why}); only the training engine answers requests");
                    Ok(None)
                }
                None => Err(error),
            },
        }
    }

    /// Removes weights that were published by [`Self::lend`].
    pub(super) async fn take_back(&self, lent: Option<PublishedPolicy>) -> Result<(), RunError> {
        if let Some(lent) = lent {
            on_disk(move || fs::remove_dir_all(lent.dir).ok()).await?;
        }
        Ok(())
    }

    /// Removes all published weights, when no step needs them any more.
    pub(super) async fn forget_policies(&self) -> Result<(), RunError> {
        let policies = self.policies();
        on_disk(move || fs::remove_dir_all(policies).ok()).await?;
        Ok(())
    }

    /// Saves the present weights, without the optimizer, in a new folder whose name begins like this.
    async fn save_policy(&self, beginning: &str) -> Result<PublishedPolicy, RunError> {
        let name = unused(beginning, self.cursor.step, self.weights);
        let policy = PublishedPolicy {
            dir: self.policies().join(name),
            weights: self.weights,
            step: self.cursor.step,
        };
        let policies = self.policies();
        let made = on_disk(move || fs::create_dir_all(policies)).await?;
        made.map_err(|error| RunError::about(policy.dir.display(), error))?;
        let request = Request::Save {
            dir: policy.dir.clone(),
            attach: BTreeMap::new(),
            optimizer: false,
        };
        match self.context.engine.ask(request, None).await? {
            Answer::Saved { .. } => Ok(policy),
            other => Err(unexpected("saved", &other).into()),
        }
    }

    fn policies(&self) -> PathBuf {
        self.context.home.checkpoints(&self.context.run).join(POLICIES)
    }

    /// Removes published weights that neither this step nor a life from the last checkpoint needs for drawing, folders
    /// that were written in part, and weights that an earlier life published for this step.
    async fn sweep_policies(&self, step: u64) -> Result<(), RunError> {
        let staleness = self.context.profile.rollouts.staleness;
        let before = |step: u64| -> Range<u64> { step.saturating_sub(staleness)..step };
        let kept = [before(step), before(self.last_checkpoint().unwrap_or(0))];
        self.remove_policies(move |name| {
            let of = parsed(name).map(|(step, _)| step);
            of.is_none_or(|of| !kept.iter().any(|steps| steps.contains(&of)))
        })
        .await
    }

    /// Removes published weights by the names of their folders.
    async fn remove_policies(
        &self,
        is_removed: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), RunError> {
        let policies = self.policies();
        let remove = move || {
            for entry in fs::read_dir(policies).into_iter().flatten().flatten() {
                if is_removed(&entry.file_name().to_string_lossy()) {
                    fs::remove_dir_all(entry.path()).ok();
                }
            }
        };
        Ok(on_disk(remove).await?)
    }
}

/// Returns the published weights that a step began with.
fn published(policies: &Path, step: u64) -> Option<PublishedPolicy> {
    let entries = fs::read_dir(policies).ok()?;
    let of_step = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let (of, weights) = parsed(name.to_str()?)?;
        (of == step).then(|| PublishedPolicy {
            dir: entry.path(),
            weights,
            step,
        })
    });
    // An earlier one is left only if it could not be removed.
    of_step.max_by(|one, other| one.dir.cmp(&other.dir))
}

/// Returns a folder's name for the weights of a step. No folder had it before, and names of a step sort by their time.
fn unused(beginning: &str, step: u64, weights: u64) -> String {
    let id = ids::new_id().simple();
    format!("{beginning}{step:08}-{id}-{weights}")
}

/// Parses the step and the weights version from the name of a step's folder.
fn parsed(name: &str) -> Option<(u64, u64)> {
    let (step, rest) = name.strip_prefix(OF_STEP)?.split_once('-')?;
    let weights = rest.rsplit('-').next()?;
    Some((step.parse().ok()?, weights.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l7_a_step_that_is_published_again_has_another_name() {
        let (one, other) = (unused(OF_STEP, 7, 21), unused(OF_STEP, 7, 21));
        assert!(one < other, "{one}, {other}");
        assert_eq!([parsed(&one), parsed(&other)], [Some((7, 21)); 2]);
        // These are removed: a folder that was written in part, and what was lent.
        assert_eq!(parsed(&format!(".{one}.1.demask-saving")), None);
        assert_eq!(parsed(&unused(LENT, 7, 21)), None);
    }
}
