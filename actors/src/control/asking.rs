//! Asking a run for an order: from the request to the row that the disk has confirmed.

use demask_storage::{Command, Record, Steer};
use tokio::sync::watch;

use super::state::{AskedOrder, StopRow};
use super::{Control, OrderError};
use crate::runtime::recorder::{NotRecorded, Recorder};

impl Control {
    /// Accepts an order. Its row is committed to the store before this returns (L4). The same id is accepted once. A stop
    /// is in effect before this waits for anything (L10); one that finds another in effect waits for the row of that one
    /// ([`Self::shares_stop`]).
    ///
    /// # Errors
    /// [`OrderError`] if the knob is unknown, the value is out of range, the id is that of another order, or the row cannot
    /// be written.
    pub async fn ask(
        &self,
        recorder: &Recorder,
        id: &str,
        by: &str,
        order: Command,
    ) -> Result<u64, OrderError> {
        let (step, asked) = {
            let mut state = self.lock();
            (state.step, state.ask(id, by, &order)?)
        };
        match asked {
            AskedOrder::New(steer) if order == Command::Stop => self.stop(recorder, steer).await?,
            AskedOrder::New(steer) => {
                self.write(recorder, &steer).await?;
                self.take(steer, order);
            }
            AskedOrder::Repeated => self.confirm(recorder, id).await?,
            AskedOrder::Shared(row) => confirmed(row).await?,
        }
        Ok(step)
    }

    /// Returns whether a stop that is asked for now changes nothing, because another one waits or has taken effect.
    #[must_use]
    pub fn shares_stop(&self) -> bool {
        self.lock().shares_stop()
    }

    /// Has a stop wait for the next boundary, then writes its row. The row may come after the one that says where the stop
    /// took effect; the store keeps the step.
    async fn stop(&self, recorder: &Recorder, steer: Steer) -> Result<(), NotRecorded> {
        let (said, row) = watch::channel(StopRow::OnItsWay);
        self.lock().stop_row = row;
        self.take(steer.clone(), Command::Stop);
        let written = self.write(recorder, &steer).await;
        said.send_replace(match written {
            Ok(()) => StopRow::Recorded,
            Err(_) => StopRow::Failed,
        });
        written
    }

    /// Waits until the row of an order that was asked for before is on the disk.
    async fn confirm(&self, recorder: &Recorder, id: &str) -> Result<(), NotRecorded> {
        recorder.settle().await?;
        // Whoever asked for it first forgets it if its row could not be written.
        let is_known = self.lock().known.contains_key(id);
        is_known.then_some(()).ok_or_else(no_row)
    }

    /// Writes the row of a new order. If that fails, the same order may be asked for again. What becomes of other rows does
    /// not matter to it.
    async fn write(&self, recorder: &Recorder, steer: &Steer) -> Result<(), NotRecorded> {
        let written = recorder.record_together(vec![Record::Steer(steer.clone())]).await;
        if written.is_err() {
            self.lock().known.remove(&steer.id);
        }
        written
    }
}

/// Waits until the disk has the row of a stop that somebody else asked for.
async fn confirmed(mut row: watch::Receiver<StopRow>) -> Result<(), NotRecorded> {
    let said = row.wait_for(|&row| row != StopRow::OnItsWay).await;
    let is_recorded = said.is_ok_and(|row| *row == StopRow::Recorded);
    is_recorded.then_some(()).ok_or_else(no_row)
}

fn no_row() -> NotRecorded {
    NotRecorded::Impossible("the row of the order that was asked for before could not be written".to_owned())
}
