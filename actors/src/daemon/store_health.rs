//! Whether a home's store has what its other folders speak of (law L1): a damaged store loses runs whose checkpoints are there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use demask_api::Manifest;
use demask_api::checkpoint::MANIFEST;
use demask_storage::store::damage::{self, Damage};
use demask_storage::{StoreError, journal, query, store};

use crate::home::Home;
use crate::run::checkpoints::folder_name;

/// How long a daemon's start may look through the store's pages.
const START_LIMIT: Duration = Duration::from_secs(1);

/// A whole checkpoint as it lies in a home.
#[derive(Clone, Debug)]
pub struct FoundCheckpoint {
    /// The run's step.
    pub step: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
}

/// The runs that have a folder of checkpoints in a home.
#[must_use]
pub fn runs_on_disk(home: &Home) -> Vec<String> {
    let folders = folders(&home.checkpoints(""));
    let names = folders.iter().filter_map(|folder| folder.file_name()?.to_str());
    let mut runs: Vec<String> = names.map(str::to_owned).collect();
    runs.sort();
    runs
}

/// The whole checkpoints of a run, oldest first: those whose files have the sizes that their manifests say.
#[must_use]
pub fn checkpoints_on_disk(home: &Home, run: &str) -> Vec<FoundCheckpoint> {
    let folders = folders(&home.checkpoints(run));
    let mut found: Vec<FoundCheckpoint> = folders.into_iter().filter_map(found_at).collect();
    found.sort_by_key(|one| one.step);
    found
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn found_at(folder: PathBuf) -> Option<FoundCheckpoint> {
    let name = folder.file_name()?.to_str()?;
    let step = name.strip_prefix("step-")?.parse().ok()?;
    let text = std::fs::read_to_string(folder.join(MANIFEST)).ok()?;
    let manifest: Manifest = serde_json::from_str(&text).ok()?;
    let is_whole = folder_name(step) == name
        && manifest.files.iter().all(|file| {
            let found = folder.join(&file.name).metadata();
            found.is_ok_and(|found| found.len() == file.bytes)
        });
    is_whole.then_some(FoundCheckpoint {
        step,
        folder,
        manifest,
    })
}

/// Runs that have checkpoints and no row, all of them where there is no store.
///
/// # Errors
/// The store's.
pub fn without_rows(home: &Home) -> Result<Vec<String>, StoreError> {
    let connection = match store::open_read_only(&home.database()) {
        Err(StoreError::Missing { .. }) => None,
        opened => Some(opened?),
    };
    let mut without = Vec::new();
    for run in runs_on_disk(home) {
        let has_row = match &connection {
            Some(connection) => journal::has_run(connection, &run)?,
            None => false,
        };
        if !has_row && !checkpoints_on_disk(home, &run).is_empty() {
            without.push(run);
        }
    }
    Ok(without)
}

/// Whether rows speak of pictures and the folder of pictures is gone.
#[must_use]
pub fn pictures_are_gone(home: &Home) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM v_rollout WHERE picture IS NOT NULL)
        OR EXISTS (SELECT 1 FROM v_item WHERE drawn IS NOT NULL OR picture IS NOT NULL)";
    !home.blobs().is_dir()
        && query::query(&home.database(), sql, 1)
            .is_ok_and(|answer| answer.rows.first().is_some_and(|row| row[0].as_u64() > Some(0)))
}

/// What a daemon finds at its start that a person must know of; it goes on all the same.
///
/// # Errors
/// A store that is damaged, or empty though runs have checkpoints: going on would lose them.
pub(super) fn at_start(home: &Home) -> anyhow::Result<Vec<String>> {
    let path = home.database();
    let damage = damage::of_store(&path, START_LIMIT)?;
    if let Some(damage) = damage.clone().filter(|damage| *damage != Damage::Empty) {
        return Err(StoreError::Damaged { path, damage }.into());
    }
    let lost = without_rows(home)?;
    // An empty file is what a crash before the first table leaves, and what somebody emptied.
    if let Some(damage) = damage.filter(|_| !lost.is_empty()) {
        return Err(StoreError::Damaged { path, damage }.into());
    }
    let mut told = Vec::new();
    if !lost.is_empty() {
        told.push(format!("the store has no row of {}", runs_without_rows(&lost)));
    }
    if pictures_are_gone(home) {
        told.push(format!(
            "the pictures that rows speak of are gone: {} is not there; runs go on, and what was drawn before cannot be shown",
            home.blobs().display()
        ));
    }
    Ok(told)
}

/// Runs whose rows are lost, and what brings them back.
#[must_use]
pub fn runs_without_rows(runs: &[String]) -> String {
    format!(
        "{} run{} with checkpoints ({}): `demask daemon stop; demask doctor --repair` rebuilds what the checkpoints say",
        runs.len(),
        if runs.len() == 1 { "" } else { "s" },
        runs.iter()
            .take(3)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
    )
}
