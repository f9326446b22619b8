//! Repair of a damaged store (law L1). The damaged files are copied aside, the rows that can be read are brought over,
//! and runs whose rows are lost are rebuilt from what their checkpoints say. A repair never loses data: the copy keeps
//! everything.

use std::path::{Path, PathBuf};
use std::time::Duration;

use demask_api::checkpoint::{MANIFEST, STATE};
use demask_api::machine::host_name;
use demask_storage::store::damage;
use demask_storage::store::{log, salvage};
use demask_storage::{Alert, Checkpoint, Level, Record, Run, RunEnd, RunState, Writer, journal, store};

use super::store_health::{FoundCheckpoint, checkpoints_on_disk, runs_on_disk};
use crate::home::Home;
use crate::profile::Profile;
use crate::run::checkpoints::{Cursor, RUN};
use crate::runtime::recorder::now_us;

/// Longest time for a check of a store's pages.
pub const LOOK_LIMIT: Duration = Duration::from_secs(60);
/// The reason recorded for a rebuilt run that can be resumed.
const REBUILT: &str = "the rows of the run were lost and were rebuilt from its checkpoints, with the times of the repair; `demask resume` continues it";
/// The reason recorded for a rebuilt run that had no step left.
const DONE: &str = "the rows of the run were lost and were rebuilt from its checkpoints, with the times of the repair; it was done";
/// The reason recorded for a rebuilt run whose configuration this version cannot read.
const UNREADABLE: &str = "the rows of the run were lost and were rebuilt from its checkpoints, with the times of the repair; this version of demask cannot read its configuration";
/// The reason recorded for a rebuilt run that cannot be resumed.
const UNKNOWN: &str = "the rows and the configuration of the run were lost, and its times are those of the repair; `demask run PROFILE --from` starts another run from its weights";

/// A report of a repair.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Repair {
    /// Description of the damage; `None` where only rows were missing.
    pub damage: Option<String>,
    /// Folder that holds the copy of the damaged files.
    pub aside: Option<PathBuf>,
    /// Number of transactions that were saved from a broken log.
    pub transactions: u64,
    /// Number of rows that were read out of a damaged database.
    pub rows: u64,
    /// Runs whose row was rebuilt.
    pub runs: Vec<String>,
    /// Number of checkpoints whose row was rebuilt.
    pub checkpoints: usize,
}

impl Repair {
    /// Returns whether there was anything to repair.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.damage.is_some() || !self.runs.is_empty() || self.checkpoints > 0
    }
}

/// Repairs a home's store.
///
/// # Errors
/// An error if a daemon holds the home's lock, or if a file cannot be read or written. The store is then as it was, or
/// its copy lies in the folder beside it.
pub fn repair(home: &Home) -> anyhow::Result<Repair> {
    let _lock = home.lock()?;
    let database = home.database();
    let mut repair = Repair::default();
    let damage = damage::of_store(&database, LOOK_LIMIT)?;
    if let Some(damage) = &damage {
        let aside = set_aside(home)?;
        make_whole(&database, &aside, &mut repair)?;
        (repair.damage, repair.aside) = (Some(damage.to_string()), Some(aside));
    }
    add_rows(home, damage.is_some(), &mut repair)?;
    Ok(repair)
}

/// Copies the store into a new folder.
fn set_aside(home: &Home) -> anyhow::Result<PathBuf> {
    let aside = home.root().join(format!("damaged-{}", now_us() / 1_000_000));
    std::fs::create_dir_all(&aside)?;
    let database = home.database();
    for file in [damage::log_of(&database), damage::index_of(&database), database] {
        let (Some(name), true) = (file.file_name(), file.is_file()) else {
            continue;
        };
        let copy = aside.join(name);
        std::fs::copy(&file, &copy)?;
        std::fs::File::open(&copy)?.sync_all()?;
    }
    Ok(aside)
}

/// Replaces the damaged store, of which `aside` holds a copy, with a whole one. It tries three in turn: the database
/// with the transactions that its log had committed, the database without them, and a new database with every row that
/// can be read.
fn make_whole(database: &Path, aside: &Path, repair: &mut Repair) -> anyhow::Result<()> {
    let copy = |name: &Path| aside.join(name.file_name().unwrap_or_default());
    let (work, log) = (
        database.with_extension("rebuilt.db"),
        copy(&damage::log_of(database)),
    );
    let is_whole = || -> std::io::Result<bool> { Ok(damage::of_store(&work, LOOK_LIMIT)?.is_none()) };
    clear(&work);
    std::fs::copy(copy(database), &work)?;
    if log.is_file() {
        repair.transactions = log::fold_in(&work, &log)?;
        if !is_whole()? {
            repair.transactions = 0;
            clear(&work);
            std::fs::copy(copy(database), &work)?;
        }
    }
    if !is_whole()? {
        clear(&work);
        repair.rows = salvaged(&copy(database), &log, &work)?;
    }
    std::fs::File::open(&work)?.sync_all()?;
    // The old log and index must not be taken for the new database's. The copy keeps them.
    for file in [damage::log_of(database), damage::index_of(database)] {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    std::fs::rename(&work, database)?;
    clear(&work);
    Ok(())
}

/// Makes a new store with the rows that can be read from a damaged one, and returns their number.
fn salvaged(database: &Path, log: &Path, work: &Path) -> anyhow::Result<u64> {
    let mut whole = store::open(work)?;
    // SQLite writes beside the database that it reads, so a work copy is read and the kept copy stays as it is.
    let read = work.with_extension("damaged.db");
    clear(&read);
    std::fs::copy(database, &read)?;
    std::fs::copy(log, damage::log_of(&read)).ok();
    let rows = salvage::salvage(&read, &mut whole)?;
    whole.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    drop(whole);
    clear(&read);
    Ok(rows)
}

/// Removes a work file and the files that SQLite puts beside it.
fn clear(work: &Path) {
    for file in [damage::log_of(work), damage::index_of(work), work.to_owned()] {
        std::fs::remove_file(file).ok();
    }
}

/// Adds the rows that the checkpoints on disk imply and the store lacks. A checkpoint without a row, in a run that has
/// a row, was never acknowledged; it gets a row only if rows were lost.
fn add_rows(home: &Home, were_lost: bool, repair: &mut Repair) -> anyhow::Result<()> {
    let runs = runs_on_disk(home);
    if runs.is_empty() && !were_lost {
        return Ok(());
    }
    let mut writer = Writer::open(&home.database())?;
    let mut records = Vec::new();
    for run in runs {
        let is_known = journal::has_run(writer.connection(), &run)?;
        if is_known && !were_lost {
            continue;
        }
        let found = checkpoints_on_disk(home, &run);
        let Some(newest) = found.last() else { continue };
        if !is_known {
            let row = described(home, &run);
            let (status, reason) = state(row.as_ref(), newest);
            let end = RunEnd {
                run: run.clone(),
                status,
                reason: reason.to_owned(),
            };
            records.push(Record::Run(row.unwrap_or_else(|| nameless(&run))));
            records.push(Record::RunEnd(end));
            repair.runs.push(run.clone());
        }
        let rows = journal::checkpoints(writer.connection(), &run)?;
        for one in found
            .iter()
            .filter(|one| rows.iter().all(|row| row.step != one.step))
        {
            records.push(Record::Checkpoint(checkpoint(&run, one)?));
            repair.checkpoints += 1;
        }
    }
    if repair.has_changes() {
        records.push(alert(repair));
        writer.append(&records, now_us())?;
    }
    Ok(writer.finish()?)
}

/// Reads the run from the file beside its checkpoints.
fn described(home: &Home, run: &str) -> Option<Run> {
    let text = std::fs::read_to_string(home.checkpoints(run).join(RUN)).ok()?;
    let described: Run = serde_json::from_str(&text).ok()?;
    (described.id == run).then_some(described)
}

/// Makes the row of a run of which only checkpoints are known.
fn nameless(run: &str) -> Run {
    Run {
        id: run.to_owned(),
        parent: None,
        profile: "lost".to_owned(),
        config: serde_json::json!({}),
        config_hash: String::new(),
        seed: 0,
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: 0,
        parent_step: None,
        labels: demask_storage::Labels::default(),
    }
}

/// Returns the state of a rebuilt run, and the reason that says what can be done with it.
fn state(run: Option<&Run>, newest: &FoundCheckpoint) -> (RunState, &'static str) {
    let Some(run) = run else {
        return (RunState::Failed, UNKNOWN);
    };
    let text = std::fs::read_to_string(newest.folder.join(STATE)).unwrap_or_default();
    let cursor: Cursor = serde_json::from_str(&text).unwrap_or_default();
    match Profile::of_configuration(run.config.clone()) {
        Ok((profile, _)) if cursor.step >= profile.total_steps() && !cursor.unjudged => {
            (RunState::Done, DONE)
        }
        Ok(_) => (RunState::Stopped, REBUILT),
        Err(_) => (RunState::Failed, UNREADABLE),
    }
}

fn checkpoint(run: &str, found: &FoundCheckpoint) -> std::io::Result<Checkpoint> {
    let manifest = std::fs::read(found.folder.join(MANIFEST))?;
    let name = found.folder.file_name().unwrap_or_default().to_string_lossy();
    Ok(Checkpoint {
        hash: blake3::hash(&manifest).to_hex().to_string(),
        run: run.to_owned(),
        step: found.step,
        weights: found.manifest.step,
        path: format!("checkpoints/{run}/{name}"),
        reason: "rebuilt".to_owned(),
        bytes: found.manifest.files.iter().map(|file| file.bytes).sum(),
        kept: true,
    })
}

fn alert(repair: &Repair) -> Record {
    let message = format!(
        "the store was repaired: {}; {} transactions of its log and {} rows were saved, {} runs and {} checkpoints rebuilt",
        repair.damage.as_deref().unwrap_or("rows were missing"),
        repair.transactions,
        repair.rows,
        repair.runs.len(),
        repair.checkpoints
    );
    Record::Alert(Alert {
        run: String::new(),
        step: 0,
        level: Level::Warn,
        kind: "store_repaired".to_owned(),
        message,
    })
}
