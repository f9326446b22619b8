//! A client's query in a process of its own (laws L9, L10): whatever it does to time and memory, the daemon goes on.

use std::path::PathBuf;
use std::process::Stdio;

use demask_storage::query::{self, PROCESS_LIMIT, Rows};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::home::Home;

/// Bytes that the process may print: a result, once more for what JSON adds to it.
const LONGEST_ANSWER: u64 = 256 << 20;

/// The rows of one SELECT, at most so many.
///
/// # Errors
/// Words for the person who asked.
pub(super) async fn rows(home: &Home, sql: String, limit: u64) -> Result<Rows, String> {
    let Some(program) = program() else {
        // Not the program but a test has this daemon.
        let path = home.database();
        let asked = tokio::task::spawn_blocking(move || query::query(&path, &sql, limit)).await;
        return asked
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string());
    };
    let mut command = Command::new(program);
    command.arg("--home").arg(home.root());
    command.args(["query", "--rows", "--limit", &limit.to_string(), "--", &sql]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let asked = tokio::time::timeout(PROCESS_LIMIT, answer(command.kill_on_drop(true))).await;
    asked.unwrap_or_else(|_| Err(format!("a query may take {} s", PROCESS_LIMIT.as_secs())))
}

async fn answer(command: &mut Command) -> Result<Rows, String> {
    let words = |error: std::io::Error| format!("the query could not be run: {error}");
    let mut child = command.spawn().map_err(words)?;
    let (mut said, mut complaint) = (Vec::new(), String::new());
    if let Some(out) = child.stdout.take() {
        out.take(LONGEST_ANSWER)
            .read_to_end(&mut said)
            .await
            .map_err(words)?;
    }
    if let Some(errors) = child.stderr.take() {
        errors
            .take(1 << 16)
            .read_to_string(&mut complaint)
            .await
            .map_err(words)?;
    }
    let status = child.wait().await.map_err(words)?;
    if !status.success() {
        let complaint = complaint.trim();
        return Err(complaint.strip_prefix("demask: ").unwrap_or(complaint).to_owned());
    }
    serde_json::from_slice(&said).map_err(|error| format!("the query's answer was not understood: {error}"))
}

/// The command that this daemon is; none in a test.
fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    // A program that was replaced while it ran is found under its old name.
    let name = own.file_name()?.to_str()?.trim_end_matches(" (deleted)");
    (name == "demask").then(|| own.with_file_name("demask"))
}
