//! Saving and restoring within a life of a run: checkpoints, the promotion marker, and the wait on a full disk.

use std::time::Duration;

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

    /// Saves a checkpoint of the present step. It waits while the disk is full, unless the daemon is ending; the run
    /// then continues from the checkpoint before and does the same steps again (laws L1, L8). Returns whether the
    /// checkpoint was saved.
    ///
    /// # Errors
    /// An error if the engine dies, or if the folder cannot be written.
    pub async fn checkpoint(&mut self, reason: &str) -> Result<bool, RunError> {
        loop {
            let saved = checkpoints::save(&self.context, &self.inference, &self.cursor, self.weights, reason);
            match saved.await {
                Ok(()) => break,
                Err(error) => match checkpoints::disk_full(&error) {
                    Some(_) if self.context.control.is_halting() => return Ok(false),
                    Some(why) => self.wait_for_disk(&why).await?,
                    None => return Err(error),
                },
            }
        }
        self.mark_promoted().await?;
        checkpoints::prune(&self.context, &self.cursor).await?;
        Ok(true)
    }

    /// Writes the marker of the promoted checkpoint. Waits while the disk is full.
    pub(super) async fn mark_promoted(&mut self) -> Result<(), RunError> {
        while let Some(best) = self
            .cursor
            .best
            .clone()
            .filter(|_| !self.context.control.is_halting())
        {
            match checkpoints::mark_promoted(&self.context, &best).await {
                Ok(()) => break,
                Err(error) => match checkpoints::disk_full(&error) {
                    Some(why) => self.wait_for_disk(&why).await?,
                    None => return Err(error),
                },
            }
        }
        Ok(())
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
        self.cursor.halvings = halvings;
        self.addresses
            .curator
            .ask(Restore(self.cursor.traces.clone()))
            .await??;
        Ok(After::Again)
    }

    /// Reports the full disk, with one alert per wait, and sleeps for a while.
    pub(super) async fn wait_for_disk(&mut self, why: &str) -> Result<(), RunError> {
        let message = format!("the disk is full ({why}); the run waits for free space, and nothing is lost");
        let waits = self.context.control.overview().state == RunState::WaitingDisk;
        self.overview(&message, RunState::WaitingDisk);
        if !waits {
            self.alert(Level::Error, "disk_full", message).await?;
        }
        tokio::time::sleep(DISK_RETRY).await;
        self.waited += DISK_RETRY;
        Ok(())
    }
}
