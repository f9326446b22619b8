//! Rows whose client waits for a limited time, and the row that takes them back if they are not on the disk by then.

use std::time::Duration;

use demask_storage::Record;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::{Recorder, RecorderGone, RecorderMessage};

impl Recorder {
    /// Records durable rows and waits until they are committed, but no longer than `limit`. Returns whether they were
    /// committed within it. If they were not, either none of them is ever written, or they still come and `taken_back`
    /// follows them.
    ///
    /// L10: `taken_back` is in the queue when this returns, because its room is reserved together with that of the rows.
    /// L2: there is room for all of them or none is queued, so no row is left without the others.
    ///
    /// # Errors
    /// [`RecorderGone`] when the recorder has ended, or when it could not write the rows with those beside them. In the
    /// second case some of them may be written, and `taken_back` follows them too.
    pub async fn record_within(
        &self,
        limit: Duration,
        rows: Vec<Record>,
        taken_back: Record,
    ) -> Result<bool, RecorderGone> {
        let deadline = Instant::now() + limit;
        // The rows, the flush behind them, and `taken_back`.
        let Ok(reserved) = timeout_at(deadline, self.queue.reserve_many(rows.len() + 2)).await else {
            return Ok(false);
        };
        let mut room = reserved.map_err(|_| RecorderGone)?;
        let (done, committed) = oneshot::channel();
        let rows = rows.into_iter().map(|row| RecorderMessage::Record(Box::new(row)));
        for message in rows.chain([RecorderMessage::Flush(done)]) {
            if let Some(place) = room.next() {
                place.send(message);
            }
        }
        let answer = match timeout_at(deadline, committed).await {
            Ok(Ok(())) => return Ok(true),
            Ok(Err(_)) => Err(RecorderGone),
            Err(_) => Ok(false),
        };
        if let Some(place) = room.next() {
            place.send(RecorderMessage::Record(Box::new(taken_back)));
        }
        answer
    }
}
