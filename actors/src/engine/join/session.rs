//! The connection to one engine that has joined: its first connection, on which both sides show that they are there,
//! and the lines that the daemon asks for.

use std::collections::HashMap;
use std::io::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use demask_api::join::{
    BEAT, DaemonWord, EngineWord, Farewell, JoiningEngine, LINE_LIMIT, LONGEST_WORD, MOST_LINES, SILENCE,
};
use demask_api::wire;
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::server::TlsStream;

/// A connection of an engine to this daemon.
pub type JoinConnection = TlsStream<TcpStream>;

/// The lines of a session that were asked for and have not come.
#[derive(Debug, Default)]
pub(super) struct AwaitedLines {
    last: AtomicU64,
    awaited: Mutex<HashMap<u64, oneshot::Sender<JoinConnection>>>,
}

impl AwaitedLines {
    fn awaited(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<JoinConnection>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a line that has come to who waits for it; any other is closed.
    pub(super) fn come(&self, line: u64, connection: JoinConnection) {
        if let Some(waits) = self.awaited().remove(&line) {
            waits.send(connection).ok();
        }
    }
}

/// An engine that has joined. When this value is dropped, the engine is told to leave and to be started again.
#[derive(Debug)]
pub struct EngineSession {
    /// The engine's description of itself.
    pub engine: JoiningEngine,
    words: mpsc::Sender<DaemonWord>,
    over: watch::Receiver<Option<String>>,
    pub(super) lines: Arc<AwaitedLines>,
}

impl EngineSession {
    /// Welcomes an engine that has greeted, and keeps its first connection from now on.
    #[must_use]
    pub fn begin(number: u64, engine: JoiningEngine, connection: JoinConnection) -> Self {
        let (words, said) = mpsc::channel(MOST_LINES);
        let (say, over) = watch::channel(None);
        tokio::spawn(async move {
            let why = attend(number, connection, said).await;
            say.send_replace(Some(why.to_string()));
        });
        Self {
            engine,
            words,
            over,
            lines: Arc::default(),
        }
    }

    /// Waits until the connection has ended, and returns why.
    pub async fn over(&self) -> String {
        let mut over = self.over.clone();
        match over.wait_for(Option::is_some).await.map(|why| why.clone()) {
            Ok(why) => why.unwrap_or_default(),
            Err(_) => "the daemon is ending".to_owned(),
        }
    }

    /// Returns whether the connection has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }

    /// Tells the engine to end.
    pub fn dismiss(&self, farewell: Farewell, why: &str) {
        let why = why.chars().take(400).collect();
        // If there is no room the engine reads nothing, and its session ends with this value.
        self.words.try_send(DaemonWord::Leave { farewell, why }).ok();
    }

    /// Asks for a line and waits for it.
    ///
    /// # Errors
    /// An error if it does not come within [`LINE_LIMIT`], if too many are awaited already, or if the session is over.
    pub async fn line(&self) -> Result<JoinConnection> {
        let line = self.lines.last.fetch_add(1, Relaxed);
        let (come, waits) = oneshot::channel();
        {
            let mut awaited = self.lines.awaited();
            if awaited.len() >= MOST_LINES {
                return Err(Error::other(format!(
                    "{MOST_LINES} connections are already awaited"
                )));
            }
            awaited.insert(line, come);
        }
        let asked = async {
            self.words
                .send(DaemonWord::Dial { line })
                .await
                .map_err(Error::other)?;
            waits.await.map_err(Error::other)
        };
        let limit = LINE_LIMIT.as_secs();
        let late = || Error::other(format!("the engine did not open the connection within {limit} s"));
        let come = timeout(LINE_LIMIT, asked).await.unwrap_or_else(|_| Err(late()));
        self.lines.awaited().remove(&line);
        come
    }
}

/// Keeps an engine's first connection until one side ends it, and returns why.
async fn attend(number: u64, connection: JoinConnection, said: mpsc::Receiver<DaemonWord>) -> Error {
    let (input, mut output) = split(connection);
    let (beats, heard) = mpsc::channel(1);
    let mut hearing = JoinSet::new();
    hearing.spawn(hear(input, beats));
    let session = DaemonWord::Welcome { session: number };
    let ended = match say(&mut output, &session).await {
        Ok(()) => converse(&mut output, said, heard).await,
        broken => broken,
    };
    ended
        .err()
        .unwrap_or_else(|| Error::other("the daemon told it to leave"))
}

/// Says what is to be said, and beats. Returns once the engine was told to leave.
async fn converse(
    output: &mut WriteHalf<JoinConnection>,
    mut said: mpsc::Receiver<DaemonWord>,
    mut heard: mpsc::Receiver<Result<EngineWord>>,
) -> Result<()> {
    let (mut beat, mut last) = (interval(BEAT), Instant::now());
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            beat = heard.recv() => {
                beat.unwrap_or_else(|| Err(Error::other("its connection closed")))?;
                last = Instant::now();
            }
            _ = beat.tick() => {
                if last.elapsed() > SILENCE {
                    return Err(Error::other(format!("it has been silent for {} s", SILENCE.as_secs())));
                }
                say(output, &DaemonWord::Beat).await?;
            }
            word = said.recv() => {
                let word = word.unwrap_or_else(|| DaemonWord::Leave {
                    farewell: Farewell::Again,
                    why: "it was abandoned".to_owned(),
                });
                say(output, &word).await?;
                if matches!(word, DaemonWord::Leave { .. }) {
                    timeout(BEAT, output.shutdown()).await.ok();
                    // The engine closes its end once it has read the word.
                    timeout(BEAT, async { while matches!(heard.recv().await, Some(Ok(_))) {} }).await.ok();
                    return Ok(());
                }
            }
        }
    }
}

async fn say(output: &mut WriteHalf<JoinConnection>, word: &DaemonWord) -> Result<()> {
    let late = || {
        Error::other(format!(
            "it has not read from its connection for {} s",
            SILENCE.as_secs()
        ))
    };
    let said = timeout(SILENCE, wire::write_async(output, word)).await;
    said.unwrap_or_else(|_| Err(late()))
}

/// Reads an engine's beats until the connection ends.
async fn hear(mut input: ReadHalf<JoinConnection>, beats: mpsc::Sender<Result<EngineWord>>) {
    while let Some(beat) = wire::read_within(&mut input, LONGEST_WORD).await.transpose() {
        let is_over = beat.is_err();
        if beats.send(beat).await.is_err() || is_over {
            return;
        }
    }
}
