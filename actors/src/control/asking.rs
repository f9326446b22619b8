//! Asking a run for an order: from the request to the row that the disk has confirmed.

use demask_storage::{Command, Record, Steer};
use tokio::sync::watch;

use super::state::{AskedOrder, StopRow};
use super::{Control, OrderError};
use crate::runtime::recorder::{Recorder, RecorderGone};

impl Control {
    /// Accepts an order. Its row is committed to the store before this returns (L4). The same id is accepted once. A stop
    /// is in effect before this waits for anything (L10); one that finds another in effect waits for the row of that one
    /// ([`Self::shares_stop`]).
    ///
    /// # Errors
    /// [`OrderError`] if the knob is unknown, the value is out of range, or the recorder has ended.
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
            AskedOrder::Repeated => recorder.flush().await?,
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
    async fn stop(&self, recorder: &Recorder, steer: Steer) -> Result<(), RecorderGone> {
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

    /// Writes the row of a new order. If that fails, the same order may be asked for again.
    async fn write(&self, recorder: &Recorder, steer: &Steer) -> Result<(), RecorderGone> {
        let written = async {
            recorder.record(Record::Steer(steer.clone())).await?;
            recorder.flush().await
        };
        let written = written.await;
        if written.is_err() {
            self.lock().known.remove(&steer.id);
        }
        written
    }
}

/// Waits until the disk has the row of a stop that somebody else asked for.
async fn confirmed(mut row: watch::Receiver<StopRow>) -> Result<(), RecorderGone> {
    let said = row.wait_for(|&row| row != StopRow::OnItsWay).await;
    let is_recorded = said.is_ok_and(|row| *row == StopRow::Recorded);
    is_recorded.then_some(()).ok_or(RecorderGone)
}
