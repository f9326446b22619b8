//! The protocol by which an engine that the daemon did not start joins it: the join file, the frames that open a
//! connection, and their limits (laws L9 and L10).
//!
//! The engine opens all connections, so that the machines that compute need no open port. Its first connection stays
//! open and carries [`DaemonWord`]s and beats. On it the daemon asks for lines. A line is another connection, which
//! after its [`Greeting`] carries the frames of one client as a Unix socket does. All connections are TLS. The engine
//! recognises the daemon by the hash of its certificate, and the daemon recognises the engine by the token.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bounded_file;
use crate::step_settings::Shard;

/// The most bytes of a join file.
pub const LONGEST_FILE: u64 = 4096;
/// The most bytes of a greeting and of any other frame on an engine's first connection.
pub const LONGEST_WORD: usize = 2048;
/// Time in which a peer must have finished TLS and sent its greeting.
pub const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// The most peers that have not greeted yet. A peer beyond them is disconnected at once.
pub const MOST_STRANGERS: usize = 32;
/// The most engines and worlds that wait for a run.
pub const MOST_WAITING: usize = 72;
/// The most lines that the daemon may wait for at a time, of one engine.
pub const MOST_LINES: usize = 64;
/// Time in which an engine must have dialled a line that the daemon asked for.
pub const LINE_LIMIT: Duration = Duration::from_secs(10);
/// Time between two beats on the first connection, in both directions.
pub const BEAT: Duration = Duration::from_secs(5);
/// Time without a beat after which the other side is taken to be lost.
pub const SILENCE: Duration = Duration::from_secs(30);
/// Time in which an engine tries to reach the daemon by default.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The number of bytes of a token, and of a certificate's hash.
pub const SECRET: usize = 32;

/// The content of the join file, which an engine needs to reach the daemon.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinFile {
    /// The version of the engine protocol.
    pub protocol: u32,
    /// The daemon's address.
    pub host: String,
    /// The daemon's port.
    pub port: u16,
    /// The token that opens a connection, in hexadecimal.
    pub token: String,
    /// The SHA-256 of the daemon's certificate in DER, in hexadecimal.
    pub certificate: String,
}

impl std::fmt::Debug for JoinFile {
    /// Leaves the token out, so that no log tells it.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "JoinFile({}:{})", self.host, self.port)
    }
}

impl JoinFile {
    /// Reads a join file.
    ///
    /// # Errors
    /// Any I/O error; `FileTooLarge` if it is longer than [`LONGEST_FILE`]; `InvalidData` if it is not a join file, or
    /// if its token or hash has the wrong length.
    pub fn read(path: &Path) -> Result<Self> {
        let file: Self = serde_json::from_slice(&bounded_file::read(path, LONGEST_FILE)?)
            .map_err(|error| invalid(&format!("this is not a join file: {error}")))?;
        for (name, text) in [("token", &file.token), ("certificate", &file.certificate)] {
            if bytes_of_hex(text).is_none() {
                return Err(invalid(&format!(
                    "the field {name} is not {SECRET} bytes in hexadecimal"
                )));
            }
        }
        Ok(file)
    }
}

/// The role of an engine that joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinRole {
    /// A world of ranks that trains; rank 0 speaks for it.
    Train,
    /// An engine that only samples.
    Sample,
}

impl std::fmt::Display for JoinRole {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Train => "train",
            Self::Sample => "sample",
        })
    }
}

/// The first frame of a connection.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Greeting {
    /// The token of the join file.
    pub token: String,
    /// The purpose of the connection.
    pub purpose: JoinPurpose,
}

/// The purpose of a connection of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinPurpose {
    /// The first connection.
    Join(JoiningEngine),
    /// A line that the daemon asked for.
    Line {
        /// The session, as the daemon said it in [`DaemonWord::Welcome`].
        session: u64,
        /// The number, as the daemon said it in [`DaemonWord::Dial`].
        line: u64,
    },
}

/// The description that a joining engine gives of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoiningEngine {
    /// The version of the engine protocol that it speaks.
    pub protocol: u32,
    /// The role of the engine.
    pub role: JoinRole,
    /// The number of ranks of its world; 1 for an engine that samples.
    pub ranks: usize,
    /// What is sharded among the ranks.
    pub shard: Shard,
    /// The dtype that it computes in: `f32` or `bf16`.
    pub dtype: String,
    /// The dtype that `auto` chooses on its device: `f32` or `bf16`.
    pub auto_dtype: String,
    /// The name of its machine.
    pub host: String,
    /// The engine's process id on that machine.
    pub pid: u32,
}

/// A message of the daemon on an engine's first connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonWord {
    /// The engine has joined and waits for a run.
    Welcome {
        /// The number of this session, which its lines name.
        session: u64,
    },
    /// Dial a line.
    Dial {
        /// The number of the line.
        line: u64,
    },
    /// The daemon is there.
    Beat,
    /// The engine should end.
    Leave {
        /// How.
        farewell: Farewell,
        /// Why, for the user.
        why: String,
    },
}

/// How an engine that joined should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Farewell {
    /// Its work is done.
    Done,
    /// It should be started again.
    Again,
    /// Starting it again as it is does not help.
    Refused,
}

/// What an engine says on its first connection after the greeting: that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineWord {
    /// The engine is there.
    Beat,
}

/// Returns bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the bytes of a token or a hash in hexadecimal, or `None` if it is none.
#[must_use]
pub fn bytes_of_hex(text: &str) -> Option<[u8; SECRET]> {
    if text.len() != 2 * SECRET || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; SECRET];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidData, message.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file() -> JoinFile {
        JoinFile {
            protocol: crate::PROTOCOL,
            host: "10.0.0.1".to_owned(),
            port: 7000,
            token: hex(&[0xa5; SECRET]),
            certificate: hex(&[7; SECRET]),
        }
    }

    fn read(text: &str) -> Result<JoinFile> {
        let path = std::env::temp_dir().join(format!("join-file-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let read = JoinFile::read(&path);
        std::fs::remove_file(&path).unwrap();
        read
    }

    #[tokio::test]
    async fn l9_a_greeting_is_read_up_to_its_limit() {
        let frame = |length: usize| {
            let head = u32::try_from(length).unwrap().to_le_bytes();
            [&head[..], &vec![b' '; length]].concat()
        };
        for (length, words) in [
            (LONGEST_WORD, "cannot be parsed"),
            (LONGEST_WORD + 1, "at most 2048"),
        ] {
            let read = crate::wire::read_within::<Greeting>(&mut &frame(length)[..], LONGEST_WORD).await;
            let error = read.err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn l9_a_join_file_is_read_as_it_was_written_and_nothing_else_is_one() {
        let text = serde_json::to_string(&file()).unwrap();
        assert_eq!(read(&text).unwrap(), file());
        assert_eq!(bytes_of_hex(&file().token), Some([0xa5; SECRET]));
        for (wrong, words) in [
            (text.replace("a5a5", "a5"), "the field token is not 32 bytes"),
            (
                text.replace("0707", "07é7"),
                "the field certificate is not 32 bytes",
            ),
            (text.replace("7000", "70000"), "not a join file"),
            (text.replace("host", "hose"), "not a join file"),
            (" ".repeat(5000), "longer than 4096 bytes"),
        ] {
            let error = read(&wrong).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(!format!("{:?}", file()).contains("a5"), "a log tells the token");
    }
}
