//! Rows that are committed together and apart from all others: who records them learns what became of them, whatever
//! becomes of other rows, and may withdraw them as long as no commit of them is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use demask_storage::Record;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};

use super::{NotRecorded, Recorder, RecorderMessage};

/// How long a commit that is under way when the rows are withdrawn may still take. A commit that finds the database locked
/// ends within 5 s.
const UNDER_WAY: Duration = Duration::from_secs(6);

/// What became of rows whose recording was waited for during a limited time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// All of them are committed.
    Yes,
    /// None of them is there, and none ever will be.
    Never,
    /// Their commit is under way and does not end. If it succeeds, the row that takes them back follows.
    Unknown,
}

/// What is known of the commit of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommitState {
    /// None is under way.
    Waiting,
    /// One is under way.
    UnderWay,
    /// One is under way, and it is the last.
    Last,
    /// One is under way, it is the last, and nobody waits for it any more.
    GivenUp,
    /// There is none any more.
    Over,
}

/// Rows that are committed together, or not at all.
#[derive(Debug)]
pub(super) struct RowGroup {
    pub(super) rows: Vec<Record>,
    /// Row that follows if the rows were given up and came nevertheless.
    pub(super) taken_back: Option<Record>,
    state: Mutex<CommitState>,
}

impl RowGroup {
    fn new(rows: Vec<Record>, taken_back: Option<Record>) -> Self {
        Self {
            rows,
            taken_back,
            state: Mutex::new(CommitState::Waiting),
        }
    }

    fn state(&self) -> MutexGuard<'_, CommitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a commit begins, unless the rows were withdrawn. Returns whether it may.
    pub(super) fn begins(&self) -> bool {
        let mut state = self.state();
        let may = *state == CommitState::Waiting;
        if may {
            *state = CommitState::UnderWay;
        }
        may
    }

    /// Notes that a commit has failed in a way that another may not. Returns whether there may be another.
    pub(super) fn may_try_again(&self) -> bool {
        let mut state = self.state();
        let may = *state == CommitState::UnderWay;
        if may {
            *state = CommitState::Waiting;
        }
        may
    }

    /// Notes that there is no commit any more. Returns whether somebody still waits for the outcome.
    pub(super) fn ends(&self) -> bool {
        std::mem::replace(&mut *self.state(), CommitState::Over) != CommitState::GivenUp
    }

    /// Withdraws the rows. Returns false if a commit of them is under way, which is then the last, or has ended.
    fn withdraw(&self) -> bool {
        let mut state = self.state();
        let (next, is_withdrawn) = match *state {
            CommitState::Waiting => (CommitState::Over, true),
            CommitState::UnderWay => (CommitState::Last, false),
            other => (other, false),
        };
        *state = next;
        is_withdrawn
    }

    /// Waits no more for the outcome. Returns false if there is one.
    fn give_up(&self) -> bool {
        let mut state = self.state();
        let is_under_way = *state != CommitState::Over;
        if is_under_way {
            *state = CommitState::GivenUp;
        }
        is_under_way
    }
}

/// What the writer says of a group: whether its rows are committed or were withdrawn.
pub(super) type GroupAnswer = Result<bool, NotRecorded>;

impl Recorder {
    /// Records rows and waits until they are committed, all or none.
    ///
    /// # Errors
    /// [`NotRecorded`]; none of the rows is there, then.
    pub async fn record_together(&self, rows: Vec<Record>) -> Result<(), NotRecorded> {
        let (done, committed) = oneshot::channel();
        let group = Arc::new(RowGroup::new(rows, None));
        self.send(RecorderMessage::Together(group, done)).await?;
        // Nobody withdraws them.
        committed.await.map_err(|_| NotRecorded::Gone)?.map(|_| ())
    }

    /// Records rows as [`Self::record_together`] does, but waits no longer than `limit`, and then withdraws them.
    ///
    /// L10: only if a commit of them is under way then, it waits for some seconds more. If that commit succeeds later,
    /// `taken_back` follows; a daemon that dies in between leaves the rows without it.
    ///
    /// # Errors
    /// [`NotRecorded`]; none of the rows is there, then.
    pub async fn record_within(
        &self,
        limit: Duration,
        rows: Vec<Record>,
        taken_back: Option<Record>,
    ) -> Result<Recorded, NotRecorded> {
        let deadline = Instant::now() + limit;
        let (done, mut committed) = oneshot::channel();
        let group = Arc::new(RowGroup::new(rows, taken_back));
        let message = RecorderMessage::Together(Arc::clone(&group), done);
        match timeout_at(deadline, self.send(message)).await {
            Ok(sent) => sent?,
            Err(_) => return Ok(Recorded::Never),
        }
        if let Ok(said) = timeout_at(deadline, &mut committed).await {
            return outcome(said);
        }
        if group.withdraw() {
            return Ok(Recorded::Never);
        }
        if let Ok(said) = timeout(UNDER_WAY, &mut committed).await {
            return outcome(said);
        }
        match group.give_up() {
            true => Ok(Recorded::Unknown),
            false => outcome(committed.await),
        }
    }
}

fn outcome(said: Result<GroupAnswer, oneshot::error::RecvError>) -> Result<Recorded, NotRecorded> {
    match said.map_err(|_| NotRecorded::Gone)?? {
        true => Ok(Recorded::Yes),
        false => Ok(Recorded::Never),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::runtime::recorder::tests::used;
    use demask_storage::{Alert, Level, store};

    /// A record that the store does not take once [`REFUSES`] is in it.
    fn bad() -> Record {
        Record::Alert(Alert {
            run: "r".into(),
            step: 1,
            level: Level::Warn,
            kind: "k".into(),
            message: "m".into(),
        })
    }

    const REFUSES: &str =
        "CREATE TRIGGER refuses BEFORE INSERT ON alert BEGIN SELECT RAISE(ABORT, 'no alerts'); END";

    #[tokio::test]
    async fn l4_a_record_that_the_store_does_not_take_harms_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.db");
        let (recorder, _thread) = Recorder::start(&path).unwrap();
        let other = store::open(&path).unwrap();
        other.execute_batch(REFUSES).unwrap();
        for step in 0..8 {
            recorder.record(used(2 * step)).await.unwrap();
            recorder.record(bad()).await.unwrap();
            recorder.record_together(vec![used(2 * step + 1)]).await.unwrap();
        }
        let both = recorder.record_together(vec![used(99), bad()]).await;
        let is_told = matches!(&both, Err(NotRecorded::Impossible(why)) if why.contains("no alerts"));
        assert!(is_told, "{both:?}");
        recorder.settle().await.unwrap();
        let steps = "SELECT count(*) * 1000 + max(step) FROM train_use";
        let steps: i64 = other.query_row(steps, [], |row| row.get(0)).unwrap();
        assert_eq!(
            steps, 16_015,
            "all of the others, and none of those that came with it"
        );
    }

    /// Another program locks the store, so that commits are tried again and again.
    #[tokio::test]
    async fn l1_l10_rows_that_are_withdrawn_between_two_commits_never_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.db");
        let (recorder, _thread) = Recorder::start(&path).unwrap();
        let other = store::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let late = recorder.record_within(Duration::ZERO, vec![used(1)], Some(used(2)));
        assert_eq!(late.await, Ok(Recorded::Never));
        other.execute_batch("ROLLBACK").unwrap();
        recorder.record_together(vec![used(3)]).await.unwrap();
        let steps: Vec<i64> = {
            let mut query = other.prepare("SELECT step FROM train_use").unwrap();
            let steps = query.query_map([], |row| row.get(0)).unwrap();
            steps.map(Result::unwrap).collect()
        };
        assert_eq!(steps, [3]);
    }

    #[test]
    fn l1_rows_are_withdrawn_or_their_fate_is_waited_for() {
        let group = || RowGroup::new(Vec::new(), None);
        let waiting = group();
        assert!(waiting.withdraw() && !waiting.begins());
        // Withdrawn during a commit, which fails and is the last, or succeeds.
        let under_way = group();
        assert!(under_way.begins() && !under_way.withdraw());
        assert!(!under_way.may_try_again() && under_way.ends());
        assert!(!under_way.give_up(), "there is an outcome");
        // Tried again, and given up in the second commit.
        let again = group();
        assert!(again.begins() && again.may_try_again() && again.begins());
        assert!(!again.withdraw() && again.give_up());
        assert!(!again.ends(), "nobody waits");
    }
}
