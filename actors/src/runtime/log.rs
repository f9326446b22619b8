//! The daemon's log, written by a thread of its own: a line must not make the event loop wait for the disk (law L10).
//!
//! The queue of lines is bounded (law L2). Lines that find no room are dropped, and the log says how many.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::fault_injection::wait_for_disk;

/// Lines that fit into the queue.
const QUEUE: usize = 4096;
/// Longest wait for the last lines when the program ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The writer of this process, for [`flush`].
static LOG: OnceLock<LogWriter> = OnceLock::new();

#[derive(Debug)]
enum LogMessage {
    Line(Vec<u8>),
    /// A request that is answered once every earlier line is written.
    Flush(SyncSender<()>),
}

/// The queue of lines. Clones are cheap, and none ever waits. One `write` is one line.
#[derive(Clone, Debug)]
pub struct LogWriter {
    lines: SyncSender<LogMessage>,
    dropped: Arc<AtomicU64>,
}

impl LogWriter {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// An error if the system cannot start a thread.
    pub fn begin(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, queued) = sync_channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&dropped);
        let writing = move || write_all(out, &queued, &counted);
        std::thread::Builder::new().name("log".into()).spawn(writing)?;
        Ok(Self { lines, dropped })
    }

    /// Makes this the writer whose last lines [`flush`] waits for. The first call counts.
    #[must_use]
    pub fn of_process(self) -> Self {
        LOG.get_or_init(|| self).clone()
    }

    /// Waits until every earlier line is written, but no longer than a moment. Lines that fill the queue wait for the
    /// disk and are not waited for.
    pub fn flush_lines(&self) {
        let (done, wait) = sync_channel(1);
        if self.lines.try_send(LogMessage::Flush(done)).is_ok() {
            wait.recv_timeout(LAST_LINES).ok();
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(LogMessage::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for the last lines of this process's log, before it ends.
pub fn flush() {
    if let Some(writer) = LOG.get() {
        writer.flush_lines();
    }
}

/// Writes lines until the last sender is gone. What cannot be written, as on a full disk, is lost.
fn write_all(mut out: impl Write, queued: &Receiver<LogMessage>, dropped: &AtomicU64) {
    while let Ok(message) = queued.recv() {
        wait_for_disk();
        let lost = dropped.swap(0, Relaxed);
        if lost > 0 {
            writeln!(
                out,
                "{lost} lines of the log are missing: the disk was too slow for them"
            )
            .ok();
        }
        match message {
            LogMessage::Line(line) => {
                out.write_all(&line).ok();
            }
            LogMessage::Flush(done) => {
                out.flush().ok();
                done.send(()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::{Mutex, mpsc};

    /// A disk that tells of each write and answers none before it is let.
    struct SlowFile {
        begun: mpsc::Sender<()>,
        lets: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for SlowFile {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.begun.send(()).ok();
            // Without a sender it answers at once.
            self.lets.recv().ok();
            self.written.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn l10_a_line_does_not_wait_for_the_disk_and_the_log_says_how_many_are_missing() {
        let (letting, lets) = mpsc::channel();
        let (begun, begins) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let out = SlowFile {
            begun,
            lets,
            written: Arc::clone(&written),
        };
        let mut log = LogWriter::begin(out).unwrap();
        log.write_all(b"line 0\n").unwrap();
        begins.recv().unwrap();
        // The thread waits with the first line, and the queue holds the next ones.
        for line in 1..=QUEUE + 7 {
            log.write_all(format!("line {line}\n").as_bytes()).unwrap();
        }
        assert_eq!(log.dropped.load(Relaxed), 7);
        assert!(written.lock().unwrap().is_empty(), "the disk has not answered");
        // The disk answers again.
        drop(letting);
        let last = format!("line {QUEUE}\n");
        loop {
            log.flush_lines();
            let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
            if text.ends_with(&last) {
                assert!(
                    text.starts_with("line 0\n7 lines of the log are missing"),
                    "{text}"
                );
                return;
            }
        }
    }
}
