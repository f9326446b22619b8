//! Where each run of a study is: done, on its way, or yet to be run. A run is known by its configuration and the study's tag.

use std::collections::BTreeMap;

use demask_actors::home::Home;
use demask_storage::runs::queue;
use demask_storage::{StoreError, query, store};
use serde::Serialize;

use super::plan::{StudyPlan, StudyRun};

/// Where a run of a study is. In the order in which one counts before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StudyRunState {
    /// It is not there.
    Missing,
    /// It failed.
    Failed,
    /// A person stopped it.
    Stopped,
    /// It waits for its turn.
    Waiting,
    /// It is under way, or the next daemon goes on with it.
    Running,
    /// All stages are done.
    Done,
}

impl StudyRunState {
    /// In a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
        }
    }
}

/// The states of a study's runs, by the hash of their configurations.
pub struct StudyRunStates {
    known: BTreeMap<String, (StudyRunState, String)>,
}

impl StudyRunStates {
    /// Reads them; without a store all are missing.
    ///
    /// # Errors
    /// The store's.
    pub fn read(home: &Home, plan: &StudyPlan) -> anyhow::Result<Self> {
        let mut states = Self {
            known: BTreeMap::new(),
        };
        let tag = plan.tag();
        let connection = match store::open_read_only(&home.database()) {
            Ok(connection) => connection,
            Err(StoreError::Missing { .. }) => return Ok(states),
            Err(error) => return Err(error.into()),
        };
        for one in queue::waiting(&connection)? {
            if one.request.labels.tags.contains(&tag) {
                states.note(one.config_hash, StudyRunState::Waiting, one.run);
            }
        }
        let sql = format!(
            "SELECT config_hash, status, run FROM v_run, json_each(v_run.tags) WHERE json_each.value = '{}' ORDER BY started_us",
            tag.replace('\'', "''")
        );
        for row in query::query(&home.database(), &sql, 0)?.rows {
            let word = |at: usize| row[at].as_str().unwrap_or_default();
            let state = match word(1) {
                "done" => StudyRunState::Done,
                "failed" => StudyRunState::Failed,
                "stopped" => StudyRunState::Stopped,
                _ => StudyRunState::Running,
            };
            states.note(word(0).to_owned(), state, word(2).to_owned());
        }
        Ok(states)
    }

    /// One that counts more, or as much and is newer, takes the place of another.
    fn note(&mut self, hash: String, state: StudyRunState, run: String) {
        let known = self.known.get(&hash);
        if known.is_none_or(|(before, _)| *before <= state) {
            self.known.insert(hash, (state, run));
        }
    }

    /// Where a run is.
    pub fn of(&self, run: &StudyRun) -> StudyRunState {
        self.known
            .get(&run.hash)
            .map_or(StudyRunState::Missing, |(state, _)| *state)
    }

    /// The id of a run, if it is there.
    pub fn id(&self, run: &StudyRun) -> Option<&str> {
        self.known.get(&run.hash).map(|(_, run)| run.as_str())
    }

    /// What a run is of the study.
    pub fn study_run<'a>(&self, plan: &'a StudyPlan, id: &str) -> Option<&'a StudyRun> {
        plan.runs.iter().find(|run| self.id(run) == Some(id))
    }
}
