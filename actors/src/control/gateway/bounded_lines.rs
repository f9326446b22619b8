//! The lines of a connection. The reader has a limit on line length (law L9), so that a client that sends an endless line
//! cannot fill the memory. The writer is a task of its own with a bounded queue (law L2), so that several tasks may send
//! lines and none of them has the connection for itself.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::sync::mpsc;

/// Longest line in bytes; a command may carry a whole profile.
const LONGEST: usize = 4 << 20;
/// Lines that wait while one is written. One may be the result of a query, and large.
const OUT: usize = 1;

/// A writer of lines. Clones are cheap. The connection is closed when all of them are dropped and every line is written.
#[derive(Clone, Debug)]
pub(super) struct LineWriter(mpsc::Sender<String>);

impl LineWriter {
    /// Starts the task that writes.
    pub(super) fn begin(mut out: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        let (lines, mut queued) = mpsc::channel::<String>(OUT);
        tokio::spawn(async move {
            while let Some(line) = queued.recv().await {
                if let Err(error) = out.write_all(line.as_bytes()).await {
                    tracing::debug!("client: {error}");
                    return;
                }
            }
        });
        Self(lines)
    }

    /// Sends a line, with its end, and waits for room in the queue.
    ///
    /// # Errors
    /// `BrokenPipe` when the connection is gone.
    pub(super) async fn send(&self, line: String) -> Result<()> {
        self.0.send(line).await.map_err(|_| ErrorKind::BrokenPipe.into())
    }
}

/// A reader that returns a stream line by line.
pub(super) struct BoundedLines<R> {
    input: BufReader<R>,
    /// The bytes of the unfinished line. They are kept when a pending read is dropped.
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> BoundedLines<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input: BufReader::new(input),
            line: Vec::new(),
        }
    }

    /// Returns the next line without its end, or `None` at the end of the stream. A pending call may be dropped and
    /// repeated.
    ///
    /// # Errors
    /// Any error of the stream; `InvalidData` for a line that is too long or is not UTF-8.
    pub(super) async fn next_line(&mut self) -> Result<Option<String>> {
        loop {
            let come = self.input.fill_buf().await?;
            let end = come.iter().position(|&byte| byte == b'\n');
            let take = end.unwrap_or(come.len());
            if self.line.len() + take > LONGEST {
                return Err(Error::new(
                    ErrorKind::InvalidData,
                    format!(
                        "expected a line of at most {} MiB, found a longer one",
                        LONGEST >> 20
                    ),
                ));
            }
            let ended = come.is_empty();
            self.line.extend_from_slice(&come[..take]);
            self.input.consume(take + usize::from(end.is_some()));
            if end.is_some() || (ended && !self.line.is_empty()) {
                let line = std::mem::take(&mut self.line);
                return String::from_utf8(line)
                    .map(Some)
                    .map_err(|error| Error::new(ErrorKind::InvalidData, error));
            }
            if ended {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn l2_lines_of_several_senders_are_written_whole_and_one_to_a_client_that_is_gone_is_an_error() {
        let (mut client, daemon) = tokio::io::duplex(16);
        let writer = LineWriter::begin(daemon);
        let other = writer.clone();
        let long = "x".repeat(100) + "\n";
        let sent = long.clone();
        let sending = tokio::spawn(async move { other.send(sent).await });
        sending.await.unwrap().unwrap();
        writer.send("y\n".into()).await.unwrap();
        let mut lines = BoundedLines::new(&mut client);
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(long.trim_end()));
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("y"));
        drop(lines);
        drop(client);
        while writer.send("z\n".into()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn lines_come_one_by_one_and_one_that_is_too_long_is_an_error() {
        let mut lines = BoundedLines::new(&b"a\n\nlast"[..]);
        let next = async |lines: &mut BoundedLines<&[u8]>| lines.next_line().await.unwrap();
        assert_eq!(next(&mut lines).await.as_deref(), Some("a"));
        assert_eq!(next(&mut lines).await.as_deref(), Some(""));
        assert_eq!(next(&mut lines).await.as_deref(), Some("last"));
        assert_eq!(next(&mut lines).await, None);
        let mut endless = BoundedLines::new(tokio::io::repeat(b'x'));
        let error = endless.next_line().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected a line of at most 4 MiB, found a longer one"
        );
    }
}
