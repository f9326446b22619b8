//! The rows of a run: its lives, its orders and its end.

use std::path::Path;
use std::time::Duration;

use demask_api::machine::host_name;
use demask_storage::{Record, Run, RunEnd, RunRequest, RunState, Steer, journal, store};

use crate::profile::{Profile, ProfileError};
use crate::runtime::recorder::{NotRecorded, Recorded, Recorder};

/// Longest wait for rows to reach the disk; after it the waiting client gets an error.
pub(super) const RECORDED: Duration = Duration::from_secs(10);

/// Why a request is refused whose rows are not on the disk in time. The rows that take back what came nevertheless have it
/// as their reason.
pub(super) const LATE: &str = "the store did not record it in time: is the disk full?";

/// What is said of a request if a commit of its rows is under way and does not end.
pub(super) const UNCONFIRMED: &str = "the disk has not answered, so it is not known whether it is recorded: if it is, the \
     daemon takes it back, unless it dies before it can; `demask runs list` and `demask queue list` show it";

/// Records the end of a run. The row is on disk when this returns.
pub(super) async fn end_run(
    recorder: &Recorder,
    run: &str,
    status: RunState,
    reason: &str,
) -> Result<(), NotRecorded> {
    let end = Record::RunEnd(run_end(run, status, reason));
    recorder.record_together(vec![end]).await
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
pub(super) async fn record_run(recorder: &Recorder, run: &Run) -> Result<(), NotRecorded> {
    recorder.record_together(vec![Record::Run(run.clone())]).await
}

/// Records rows whose client waits, but for no longer than [`RECORDED`] unless a commit of them is under way. They are
/// committed together. If they are not on the disk in time, they are withdrawn, so that whoever is told that nothing was
/// done is told the truth, also after the death of the daemon. A commit that is under way cannot be withdrawn: if it
/// succeeds, `taken_back` follows.
pub(super) async fn recorded_in_time(
    recorder: &Recorder,
    rows: Vec<Record>,
    taken_back: Option<Record>,
) -> Result<Recorded, NotRecorded> {
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
    async fn l10_l1_rows_that_are_late_or_find_no_room_never_come_and_those_after_them_do() {
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
            let late = recorded_in_time(&recorder, vec![end("late"), end("too")], Some(end("taken back")));
            assert_eq!(late.await, Ok(Recorded::Never));
            recorder.record(end("after the refusal")).await.unwrap();
            while recorder.queue().0 < recorder.queue().1 {
                crowd(&recorder);
            }
            let crowded = recorded_in_time(&recorder, vec![end("no room")], Some(end("taken back")));
            assert_eq!(crowded.await, Ok(Recorded::Never));
            recorder.flush().await.unwrap();
            recorder.record_together(vec![end("alone")]).await.unwrap();
        };
        tokio::task::LocalSet::new().run_until(in_time).await;
        let events = events_since(&store::open_read_only(&path).unwrap(), 0, 100).unwrap();
        let reasons = events.into_iter().filter_map(|event| match event.record {
            Record::RunEnd(end) => Some(end.reason),
            _ => None,
        });
        assert_eq!(reasons.collect::<Vec<_>>(), ["after the refusal", "alone"]);
    }
}
