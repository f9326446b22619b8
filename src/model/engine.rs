//! An engine and a runtime for one command.

use std::path::{Path, PathBuf};

use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::process::EngineProcess;
use demask_actors::home::Home;
use tokio::runtime::Runtime;

/// Makes a runtime for one command.
///
/// # Errors
/// Any error of the system.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Starts an engine for one command. The engine may write no files.
///
/// # Errors
/// An error if the engine's program is missing or does not start.
pub async fn start_engine(home: &Home, device: &str, dtype: &str) -> anyhow::Result<EngineProcess> {
    start_writer(home, device, dtype, Vec::new()).await
}

/// Starts an engine for one command. The engine may write below these folders.
///
/// # Errors
/// As [`start_engine`].
pub async fn start_writer(
    home: &Home,
    device: &str,
    dtype: &str,
    writes: Vec<PathBuf>,
) -> anyhow::Result<EngineProcess> {
    let socket = home.socket()?;
    let socket_dir = socket.parent().unwrap_or(Path::new("/tmp")).to_owned();
    let options = EngineOptions {
        socket_dir,
        device: device.to_owned(),
        dtype: dtype.to_owned(),
        writes: Some(writes),
        ..EngineOptions::default()
    };
    Ok(EngineProcess::start(&options).await?)
}
