//! A run's row: its configuration written and read back, its orders, its end.

use std::path::Path;

use demask_storage::{Record, Run, RunEnd, RunState, Steer, journal, store};

use crate::home::host_name;
use crate::profile::Profile;
use crate::runtime::recorder::{Recorder, RecorderGone};

/// Records the end of a run; it is on disk when this returns.
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

/// A run's end as a record.
pub(super) fn run_end(run: &str, status: RunState, reason: &str) -> RunEnd {
    RunEnd {
        run: run.to_owned(),
        status,
        reason: reason.to_owned(),
    }
}

/// Records a life of a run with its whole configuration; it is on disk when this returns.
pub(super) async fn record_run(
    recorder: &Recorder,
    run: &str,
    profile: &Profile,
    from_scratch: bool,
    generation: u64,
) -> anyhow::Result<()> {
    let mut config = serde_json::to_value(profile)?;
    config["from_scratch"] = from_scratch.into();
    let record = Run {
        id: run.to_owned(),
        parent: None,
        profile: profile.name.clone(),
        config_hash: blake3::hash(config.to_string().as_bytes()).to_hex().to_string(),
        config,
        seed: profile.seed,
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation,
    };
    recorder.record(Record::Run(record)).await?;
    Ok(recorder.flush().await?)
}

/// The profile and `from_scratch` of a run's stored configuration.
pub(super) fn stored(config: &str) -> anyhow::Result<(Profile, bool)> {
    let mut config: serde_json::Value = serde_json::from_str(config)?;
    let from_scratch = config.as_object_mut().and_then(|map| map.remove("from_scratch"));
    Ok((serde_json::from_value(config)?, from_scratch == Some(true.into())))
}

/// A run's orders so far, oldest first.
pub(super) fn steers(database: &Path, run: &str) -> anyhow::Result<Vec<Steer>> {
    Ok(journal::steers(&store::open_read_only(database)?, run)?)
}
