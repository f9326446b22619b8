//! The file of an engine's standard error, and the last words in it of an engine that has died.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use demask_api::{bounded_file, exit};

use super::liveness::Urgency;
use crate::home::open_log;
use crate::runtime::disk::on_disk;

/// Last lines of a dead engine's output that an error message repeats.
const LAST_WORDS: usize = 5;
/// Bytes at the end of the file in which they are looked for (law L9).
const LAST_BYTES: u64 = 1 << 20;
/// Longest wait for them.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(5);
/// The same when the user wants the run to end.
const LAST_WORDS_URGENT: Duration = Duration::from_millis(500);

/// The file of an engine's standard error, if there is one.
#[derive(Debug)]
pub(super) struct ErrorLog {
    path: Option<PathBuf>,
    /// Size of the file in bytes when this engine started.
    before: u64,
}

impl ErrorLog {
    /// No file.
    pub fn none() -> Self {
        Self {
            path: None,
            before: 0,
        }
    }

    /// Opens the file to append to it; without a path, standard error is inherited. Also returns the standard error of
    /// the engine's process.
    ///
    /// # Errors
    /// Any error of the system, with the file's path.
    pub fn begin(path: Option<&Path>) -> Result<(Self, Stdio), (String, std::io::Error)> {
        let Some(path) = path else {
            return Ok((Self::none(), Stdio::inherit()));
        };
        let named = |error| (path.display().to_string(), error);
        let file = append(path).map_err(named)?;
        let before = file.metadata().map_err(named)?.len();
        let path = Some(path.to_owned());
        Ok((Self { path, before }, file.into()))
    }

    /// Returns the last lines of this engine for an error message. L10: who stops the run does not wait for the disk to say
    /// why its engine died, so there are none if they cannot be read in time.
    pub async fn tail(&self, urgency: &Urgency) -> String {
        let Some(path) = self.path.clone() else {
            return String::new();
        };
        let before = self.before;
        let own = tokio::select! {
            biased;
            own = on_disk(move || written_since(&path, before).ok()) => own.ok().flatten(),
            () = urgency.limit(LAST_WORDS_LIMIT, LAST_WORDS_URGENT) => None,
        };
        let own = own.unwrap_or_default();
        let own = String::from_utf8_lossy(&own);
        let lines = last_words(&own);
        if lines.is_empty() {
            return String::new();
        }
        format!("; its last output: {}", lines.join(" | "))
    }
}

/// Returns the last lines of the output of all ranks of a world. Those of ranks that lost a peer are left out if there
/// are others: every rank but the one that failed writes such a line, they come last, and would hide why the peer ended.
fn last_words(output: &str) -> Vec<&str> {
    let lost_peer = exit::words(exit::PEER_LOST);
    let of_others: Vec<&str> = output.lines().filter(|line| !line.contains(&lost_peer)).collect();
    let mut lines: Vec<&str> = match of_others.is_empty() {
        true => output.lines().collect(),
        false => of_others,
    };
    lines.split_off(lines.len().saturating_sub(LAST_WORDS))
}

/// Returns what was written to a file after its first `before` bytes, at most its last [`LAST_BYTES`].
fn written_since(path: &Path, before: u64) -> std::io::Result<Vec<u8>> {
    let mut file = bounded_file::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(before.max(end.saturating_sub(LAST_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn append(path: &Path) -> std::io::Result<std::fs::File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    open_log(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_last_words_are_those_of_the_rank_that_failed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("engine.log");
        std::fs::write(&path, "of an engine before\n").unwrap();
        let (log, _) = ErrorLog::begin(Some(&path)).unwrap();
        assert_eq!(log.tail(&Urgency::default()).await, "");
        let lost_peer = exit::words(exit::PEER_LOST);
        let lost = |rank: usize| format!("ERROR {lost_peer}: the ranks failed: rank {rank} heard nothing\n");
        let all_lost: String = (0..7).map(lost).collect();
        let write = |text: &str| std::fs::write(&path, format!("of an engine before\n{text}")).unwrap();
        write(&all_lost);
        assert_eq!(
            log.tail(&Urgency::default()).await.matches(&lost_peer).count(),
            LAST_WORDS
        );
        write(&format!("1\n2\n3\n4\nCUDA error\nits cause\n{all_lost}"));
        assert_eq!(
            log.tail(&Urgency::default()).await,
            "; its last output: 2 | 3 | 4 | CUDA error | its cause"
        );
    }
}
