//! Checks that a home's store has the rows that the home's other folders imply (law L1). A damaged store may have lost
//! runs whose checkpoints are still there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use demask_api::Manifest;
use demask_api::checkpoint::MANIFEST;
use demask_storage::store::damage::{self, Damage};
use demask_storage::{StoreError, journal, query, store};

use crate::home::Home;
use crate::run::checkpoints::folder_name;

/// Longest time that a starting daemon checks the store's pages.
const START_LIMIT: Duration = Duration::from_secs(1);

/// A complete checkpoint in a home.
#[derive(Clone, Debug)]
pub struct FoundCheckpoint {
    /// Step of the run.
    pub step: u64,
    /// Folder of the checkpoint.
    pub folder: PathBuf,
    /// Manifest of its files.
    pub manifest: Manifest,
}

/// Lists the runs that have a folder of checkpoints in a home.
#[must_use]
pub fn runs_on_disk(home: &Home) -> Vec<String> {
    let folders = folders(&home.checkpoints(""));
    let names = folders.iter().filter_map(|folder| folder.file_name()?.to_str());
    let mut runs: Vec<String> = names.map(str::to_owned).collect();
    runs.sort();
    runs
}

/// Lists the complete checkpoints of a run, oldest first. A checkpoint is complete if its files have the sizes that its
/// manifest says.
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

/// Lists the runs that have checkpoints and no row. Without a store, these are all runs with checkpoints.
///
/// # Errors
/// Any error of the store.
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

/// Returns whether rows name pictures although the folder of pictures is gone.
#[must_use]
pub fn pictures_are_gone(home: &Home) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM v_rollout WHERE picture IS NOT NULL)
        OR EXISTS (SELECT 1 FROM v_item WHERE drawn IS NOT NULL OR picture IS NOT NULL)";
    !home.blobs().is_dir()
        && query::query(&home.database(), sql, 1)
            .is_ok_and(|answer| answer.rows.first().is_some_and(|row| row[0].as_u64() > Some(0)))
}

/// Checks the store when a daemon starts. Returns messages for the user about problems with which the daemon can go on.
///
/// # Errors
/// An error if the store is damaged, or if it is empty although runs have checkpoints. Going on would lose those runs.
pub(super) fn at_start(home: &Home) -> anyhow::Result<Vec<String>> {
    let path = home.database();
    let damage = damage::of_store(&path, START_LIMIT)?;
    if let Some(damage) = damage.clone().filter(|damage| *damage != Damage::Empty) {
        return Err(StoreError::Damaged { path, damage }.into());
    }
    let lost = without_rows(home)?;
    // An empty store may come from a crash before the first table was made, so it is an error only if runs
    // would be lost.
    if let Some(damage) = damage.filter(|_| !lost.is_empty()) {
        return Err(StoreError::Damaged { path, damage }.into());
    }
    let mut told = Vec::new();
    if !lost.is_empty() {
        told.push(format!("the store has no row of {}", runs_without_rows(&lost)));
    }
    if pictures_are_gone(home) {
        told.push(format!(
            "{} does not exist, so pictures that the store refers to are lost; runs continue, but earlier pictures cannot be shown",
            home.blobs().display()
        ));
    }
    Ok(told)
}

/// Describes runs whose rows are lost, and names the command that rebuilds them.
#[must_use]
pub fn runs_without_rows(runs: &[String]) -> String {
    format!(
        "{} run{} with checkpoints ({}): `demask daemon stop; demask doctor --repair` rebuilds the rows from the checkpoints",
        runs.len(),
        if runs.len() == 1 { "" } else { "s" },
        runs.iter()
            .take(3)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", "),
    )
}
