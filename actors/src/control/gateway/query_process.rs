//! A client's query in a process of its own (laws L9, L10), so that its use of time and memory cannot harm the daemon.

use std::path::PathBuf;
use std::process::Stdio;

use demask_storage::query::{self, PROCESS_LIMIT, Rows};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use crate::home::Home;

/// Most bytes that the process may print: a result, with as much again for JSON's overhead.
const LONGEST_ANSWER: u64 = 2 * query::LARGEST_SENT as u64;
/// Most bytes of its complaint that are kept.
const LONGEST_COMPLAINT: u64 = 1 << 16;

/// Returns the rows of one SELECT, at most `limit`.
///
/// # Errors
/// A message for the person who asked.
pub(super) async fn rows(home: &Home, sql: String, limit: u64) -> Result<Rows, String> {
    let Some(program) = program() else {
        // In a test this process is not the `demask` program, so the query runs here.
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
    asked.unwrap_or_else(|_| {
        Err(format!(
            "a query may run for at most {} s",
            PROCESS_LIMIT.as_secs()
        ))
    })
}

async fn answer(command: &mut Command) -> Result<Rows, String> {
    let words = |error: std::io::Error| format!("the query process could not be started: {error}");
    let mut child = command.spawn().map_err(words)?;
    let (said, complaint) = (child.stdout.take(), child.stderr.take());
    // Both are read at the same time: a process that fills the one that nobody reads would wait for ever.
    let both = tokio::try_join!(
        first_bytes(said, LONGEST_ANSWER),
        first_bytes(complaint, LONGEST_COMPLAINT)
    );
    let (said, complaint) = both.map_err(words)?;
    let status = child.wait().await.map_err(words)?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&complaint);
        let complaint = complaint.trim();
        return Err(complaint.strip_prefix("demask: ").unwrap_or(complaint).to_owned());
    }
    if said.len() as u64 >= LONGEST_ANSWER {
        return Err(format!(
            "the result is larger than {} MiB as JSON; ask for fewer rows or columns, or shorter ones with substr",
            LONGEST_ANSWER >> 20
        ));
    }
    serde_json::from_slice(&said)
        .map_err(|error| format!("the query process returned an invalid answer: {error}"))
}

/// Reads a stream to its end and returns its first `most` bytes. A process whose output is left unread would wait until
/// its time is over.
async fn first_bytes(from: Option<impl AsyncRead + Unpin>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(most).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(bytes)
}

/// Returns the path of the `demask` program if this process runs it; `None` in a test.
fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    // The system appends " (deleted)" to the path of a program that was replaced while it ran.
    let name = own.file_name()?.to_str()?.trim_end_matches(" (deleted)");
    (name == "demask").then(|| own.with_file_name("demask"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// More than a pipe holds, and more than is kept of a complaint.
    #[tokio::test]
    async fn l10_a_process_that_complains_at_length_is_read_to_its_end() {
        let script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo '[]'; exit 1";
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let asked = tokio::time::timeout(PROCESS_LIMIT, answer(command.kill_on_drop(true)));
        let complaint = asked.await.unwrap().unwrap_err();
        assert_eq!(complaint.len() as u64, LONGEST_COMPLAINT);
        assert!(complaint.bytes().all(|byte| byte == b'x'));
    }

    /// Control characters are six times as long in JSON.
    #[tokio::test]
    async fn l9_an_answer_that_is_too_long_is_refused_and_not_held() {
        let mut command = Command::new("head");
        command
            .args(["-c", &(LONGEST_ANSWER + 1).to_string(), "/dev/zero"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let refused = answer(&mut command).await.unwrap_err();
        assert!(refused.contains("larger than 64 MiB as JSON"), "{refused}");
    }
}
