//! The rows of a run: its lives, its orders and its end.

use std::path::Path;
use std::time::Duration;

use demask_api::machine::host_name;
use demask_storage::{Record, Run, RunEnd, RunRequest, RunState, Steer, journal, store};

use crate::profile::{Profile, ProfileError};
use crate::runtime::recorder::{Recorder, RecorderGone};

/// Longest wait for rows to reach the disk; after it the waiting client gets an error.
pub(super) const RECORDED: Duration = Duration::from_secs(10);

/// Records the end of a run. The row is on disk when this returns.
pub(super) async fn end_run(
    recorder: &Recorder,
    run: &str,
    status: RunState,
    reason: &str,
) -> Result<(), RecorderGone> {
    recorder
        .record(Record::RunEnd(run_end(run, status, reason)))
        .await?;
    recorder.flush().await
}

/// Makes the record of a run's end.
pub(super) fn run_end(run: &str, status: RunState, reason: &str) -> RunEnd {
    RunEnd {
        run: run.to_owned(),
        status,
        reason: reason.to_owned(),
    }
}

/// Records a life of a run with its whole configuration. The row is on disk when this returns.
pub(super) async fn record_run(recorder: &Recorder, run: &Run) -> Result<(), RecorderGone> {
    recorder.record(Record::Run(run.clone())).await?;
    recorder.flush().await
}

/// Records rows whose client waits. Returns whether they are on the disk within [`RECORDED`]. If they are not, either
/// none of them is ever written, or they still come and `taken_back` is certain to follow them.
pub(super) async fn recorded_in_time(
    recorder: &Recorder,
    rows: Vec<Record>,
    taken_back: Record,
) -> Result<bool, RecorderGone> {
    recorder.record_within(RECORDED, rows, taken_back).await
}

/// Makes the row of the first life of a requested run, under this id, and its profile.
pub(super) fn first_life(id: &str, request: &RunRequest) -> Result<(Run, Profile), ProfileError> {
    let (profile, configuration) = Profile::of_request(request)?;
    let run = Run {
        id: id.to_owned(),
        parent: request.parent.as_ref().map(|parent| parent.run.clone()),
        parent_step: request.parent.as_ref().map(|parent| parent.step),
        profile: profile.name.clone(),
        config_hash: configuration.hash,
        config: configuration.value,
        seed: profile.seed,
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: 0,
        labels: request.labels.clone(),
    };
    Ok((run, profile))
}

/// Reads the orders of a run so far, oldest first.
pub(super) fn steers(database: &Path, run: &str) -> anyhow::Result<Vec<Steer>> {
    Ok(journal::steers(&store::open_read_only(database)?, run)?)
}

/// Reads the step of a run's newest checkpoint, where its next life begins; 0 where it has none.
pub(super) fn newest_step(database: &Path, run: &str) -> anyhow::Result<u64> {
    let kept = journal::checkpoints(&store::open_read_only(database)?, run)?;
    Ok(kept.first().map_or(0, |saved| saved.step))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::runtime::recorder::SimulatedDisk;
    use demask_storage::{Metric, events::events_since};

    fn end(reason: &str) -> Record {
        Record::RunEnd(run_end("r", RunState::Failed, reason))
    }

    #[tokio::test(start_paused = true)]
    async fn l10_l2_a_refused_run_is_taken_back_and_one_that_found_too_little_room_leaves_no_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.db");
        let disk = SimulatedDisk {
            delay: Some(Box::new(|| 6 * RECORDED)),
            ..SimulatedDisk::default()
        };
        let crowd = |recorder: &Recorder| {
            recorder.offer(Record::Metric(Metric {
                run: "r".into(),
                step: 1,
                values: vec![("a/b".into(), 1.0)],
            }));
        };
        let in_time = async {
            let recorder = Recorder::start_here(&path, disk).unwrap();
            let late = recorded_in_time(&recorder, vec![end("late")], end("late, taken back"));
            assert_eq!(late.await, Ok(false));
            // The row that takes back is queued before the refusal, so whatever is recorded now comes behind it.
            recorder.record(end("after the refusal")).await.unwrap();
            while recorder.queue().0 + 1 < recorder.queue().1 {
                crowd(&recorder);
            }
            // One of the two rows would find room.
            let rows = vec![end("half"), end("the other half")];
            let half = recorded_in_time(&recorder, rows, end("half, taken back"));
            assert_eq!(half.await, Ok(false));
            crowd(&recorder);
            assert_eq!(recorder.dropped(), 0, "the refused rows hold room in the queue");
            crowd(&recorder);
            assert_eq!(recorder.dropped(), 1, "the queue has no end");
            let crowded = recorded_in_time(&recorder, vec![end("no room")], end("no room, taken back"));
            assert_eq!(crowded.await, Ok(false));
            recorder.flush().await.unwrap();
        };
        tokio::task::LocalSet::new().run_until(in_time).await;
        let events = events_since(&store::open_read_only(&path).unwrap(), 0, 100).unwrap();
        let reasons = events.into_iter().filter_map(|event| match event.record {
            Record::RunEnd(end) => Some(end.reason),
            _ => None,
        });
        assert_eq!(
            reasons.collect::<Vec<_>>(),
            ["late", "late, taken back", "after the refusal"]
        );
    }
}
