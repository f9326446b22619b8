//! Saving and restoring within a life of a run: checkpoints, the promotion marker, and the wait on a full disk.

use std::time::{Duration, Instant};

use demask_storage::{Level, RunState};

use super::state::{After, StageRun};
use crate::pipeline::curation::curator::Restore;
use crate::pipeline::run_error::RunError;
use crate::run::checkpoints;

/// Wait before a write to a full disk is tried again.
const DISK_RETRY: Duration = Duration::from_secs(2);

impl StageRun {
    /// Returns the step of the last checkpoint, if there is one.
    pub(crate) fn last_checkpoint(&self) -> Option<u64> {
        self.context.control.overview().last_checkpoint
    }

    /// Saves a checkpoint of the present step. It waits while the disk is full, unless the run must end: then it ends
    /// without this checkpoint, goes on from the one before later and does the same steps again (laws L1, L8, L10).
    /// Returns whether the checkpoint was saved.
    ///
    /// # Errors
    /// An error if the engine dies, or if the folder cannot be written.
    pub async fn checkpoint(&mut self, reason: &str) -> Result<bool, RunError> {
        loop {
            let saved = checkpoints::save(&self.context, &self.inference, &self.cursor, self.weights, reason);
            match saved.await {
                Ok(()) => break,
                Err(error) => {
                    if !self.wait_for_disk(&full_disk(error)?).await? {
                        return Ok(false);
                    }
                }
            }
        }
        // Whoever reads the marker finds the checkpoint that it names.
        if self.mark_promoted().await? {
            self.prune().await?;
        }
        Ok(true)
    }

    /// Says that the run ends without a checkpoint of the present step, because the disk is full.
    pub(crate) async fn tell_of_no_checkpoint(&self) -> Result<(), RunError> {
        let before = match self.last_checkpoint() {
            Some(step) => format!("the checkpoint of step {step}"),
            None => "its start".to_owned(),
        };
        let (step, folder) = (self.cursor.step, self.context.home.checkpoints(&self.context.run));
        let message = format!(
            "the disk of {} is full, so the run ends without a checkpoint of step {step}; resumed, it goes on from {before} \
             and does the same steps again",
            folder.display()
        );
        self.doing(&message);
        self.alert(Level::Error, "disk_full", message).await
    }

    /// Removes the checkpoints that nothing needs any more. One that cannot be removed is kept and told of.
    async fn prune(&mut self) -> Result<(), RunError> {
        for (step, why) in checkpoints::prune(&self.context, &self.cursor).await? {
            if self.unremoved.insert(step) {
                let message = format!(
                    "the checkpoint of step {step} is not needed any more and cannot be removed ({why}); it is tried again \
                     after each checkpoint"
                );
                self.alert(Level::Warn, "not_removed", message).await?;
            }
        }
        Ok(())
    }

    /// Writes the marker of the promoted checkpoint. It waits while the disk is full, unless the run must end: then its
    /// next life writes the marker. Returns whether it is written.
    pub(super) async fn mark_promoted(&mut self) -> Result<bool, RunError> {
        let Some(best) = self.cursor.best.clone() else {
            return Ok(true);
        };
        loop {
            match checkpoints::mark_promoted(&self.context, &best).await {
                Ok(()) => return Ok(true),
                Err(error) => {
                    if !self.wait_for_disk(&full_disk(error)?).await? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Returns to the last checkpoint with the learning rate halved, at most `limits.not_finite` times.
    pub(super) async fn not_finite(&mut self, what: &str) -> Result<After, RunError> {
        let limit = self.context.profile.limits.not_finite;
        if self.cursor.halvings >= limit {
            let message = format!("the {what} was still not finite after {limit} returns to a checkpoint");
            self.alert(Level::Error, "not_finite", message.clone()).await?;
            return Err(RunError::Failed(message));
        }
        let halvings = self.cursor.halvings + 1;
        let message = format!(
            "the {what} was not finite at step {}; the run returns to the last checkpoint and halves the learning rate",
            self.cursor.step
        );
        self.alert(Level::Warn, "not_finite", message).await?;
        let loaded = checkpoints::load(&self.context, &self.addresses.curator).await?;
        self.take_over(loaded);
        self.context.control.go_back();
        self.cursor.halvings = halvings;
        self.addresses
            .curator
            .ask(Restore(self.cursor.traces.clone()))
            .await??;
        Ok(After::Again)
    }

    /// Reports the full disk, with one alert per wait, and waits for a while. Returns whether what failed is worth another
    /// try: it is not if the run must end (law L10), which may stand at this step's boundary then.
    pub(super) async fn wait_for_disk(&mut self, why: &str) -> Result<bool, RunError> {
        if !self.context.control.must_end() {
            let message =
                format!("the disk is full ({why}); the run waits for free space, and nothing is lost");
            let waits = self.context.control.overview().state == RunState::WaitingDisk;
            self.overview(&message, RunState::WaitingDisk);
            if !waits {
                self.alert(Level::Error, "disk_full", message).await?;
            }
        }
        let began = Instant::now();
        let goes_on = tokio::select! {
            biased;
            () = self.context.control.ends() => false,
            () = tokio::time::sleep(DISK_RETRY) => true,
        };
        self.waited += began.elapsed();
        Ok(goes_on)
    }
}

/// Returns the words for a full disk.
///
/// # Errors
/// The error itself if it is another one.
pub(super) fn full_disk(error: RunError) -> Result<String, RunError> {
    checkpoints::disk_full(&error).ok_or(error)
}
