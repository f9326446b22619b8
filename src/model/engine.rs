//! An engine and a runtime for one command.

use std::path::{Path, PathBuf};

use demask_actors::engine::process::{EngineOptions, EngineProcess};
use demask_actors::home::Home;
use tokio::runtime::Runtime;

/// A runtime for one command.
///
/// # Errors
/// The system's.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Starts an engine for one command that writes nothing.
///
/// # Errors
/// No engine program, or one that does not start.
pub async fn start_engine(home: &Home, device: &str, dtype: &str) -> anyhow::Result<EngineProcess> {
    start_writer(home, device, dtype, Vec::new()).await
}

/// Starts an engine for one command, which may write below these folders.
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
