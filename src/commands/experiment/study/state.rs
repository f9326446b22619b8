//! The states of a study's runs: done, running, waiting or yet to be run. A run is identified by its configuration and
//! the study's tag.

use std::collections::BTreeMap;

use demask_actors::home::Home;
use demask_storage::runs::queue;
use demask_storage::{RunRequest, StoreError, query, store};
use serde::Serialize;

use super::plan::{StudyPlan, StudyRun};

/// The state of a run of a study. If several runs have one configuration, the greatest state counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StudyRunState {
    /// No such run exists.
    Missing,
    /// The run failed.
    Failed,
    /// A person stopped the run.
    Stopped,
    /// The run waits in the queue.
    Waiting,
    /// The run is under way, or the next daemon will continue it.
    Running,
    /// All stages are done.
    Done,
}

impl StudyRunState {
    /// Returns the state as a word.
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
    /// Reads the states. Without a store, all runs are missing.
    ///
    /// # Errors
    /// Any error of the store.
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
            let is_of_study = |request: RunRequest| request.labels.tags.contains(&tag);
            if one.request.is_ok_and(is_of_study) {
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

    /// Notes the state of a run, if it is at least the known state of the configuration.
    fn note(&mut self, hash: String, state: StudyRunState, run: String) {
        let known = self.known.get(&hash);
        if known.is_none_or(|(before, _)| *before <= state) {
            self.known.insert(hash, (state, run));
        }
    }

    /// Returns the state of a run.
    pub fn of(&self, run: &StudyRun) -> StudyRunState {
        self.known
            .get(&run.hash)
            .map_or(StudyRunState::Missing, |(state, _)| *state)
    }

    /// Returns the id of a run, if it exists.
    pub fn id(&self, run: &StudyRun) -> Option<&str> {
        self.known.get(&run.hash).map(|(_, run)| run.as_str())
    }

    /// Returns the study's run with this id.
    pub fn study_run<'a>(&self, plan: &'a StudyPlan, id: &str) -> Option<&'a StudyRun> {
        plan.runs.iter().find(|run| self.id(run) == Some(id))
    }
}
