//! The lines of an engine that has joined, behind a Unix socket. Every client that connects to the socket has its own
//! line to the engine. Requests and the watchdog therefore reach the engine in the same way as one of this machine.

use std::path::Path;
use std::sync::Arc;

use demask_api::join::Farewell;
use tokio::io::{AsyncWriteExt as _, copy, split};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::session::EngineSession;

/// An engine that has joined, with its lines behind a socket. The engine is told to leave when this value is dropped.
#[derive(Debug)]
pub struct JoinedEngine {
    session: Arc<EngineSession>,
    task: JoinHandle<()>,
}

impl JoinedEngine {
    /// Serves the engine's lines at a socket.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn open(session: EngineSession, socket: &Path) -> std::io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let session = Arc::new(session);
        let task = tokio::spawn(serve(listener, Arc::clone(&session)));
        Ok(Self { session, task })
    }

    /// Returns the session.
    #[must_use]
    pub fn session(&self) -> &EngineSession {
        &self.session
    }

    /// Tells the engine to end, because it does not answer as it should.
    pub fn give_up(&self, why: &str) {
        self.session.dismiss(Farewell::Again, why);
    }
}

impl Drop for JoinedEngine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: UnixListener, session: Arc<EngineSession>) {
    let mut lines = JoinSet::new();
    loop {
        tokio::select! {
            come = listener.accept() => match come {
                Ok((client, _)) => {
                    lines.spawn(carry(client, Arc::clone(&session)));
                }
                Err(error) => {
                    tracing::warn!("a connection to an engine failed: {error}");
                    return;
                }
            },
            Some(_) = lines.join_next() => {}
            _ = session.over() => return,
        }
    }
}

/// Carries what goes between a client and the engine, until the engine closes its end.
async fn carry(client: UnixStream, session: Arc<EngineSession>) {
    let line = match session.line().await {
        Ok(line) => line,
        Err(error) => {
            return tracing::warn!(
                "a connection to the engine on {} failed: {error}",
                session.engine.host
            );
        }
    };
    let (mut from_engine, mut to_engine) = split(line);
    let (mut from_client, mut to_client) = client.into_split();
    let requests = async {
        copy(&mut from_client, &mut to_engine).await.ok();
        to_engine.shutdown().await.ok();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = copy(&mut from_engine, &mut to_client) => {}
        () = requests => {}
    }
}
