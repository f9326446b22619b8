//! The port on which engines join. A peer that has not finished TLS and sent the right token in time is disconnected
//! without a word, so that a stranger learns nothing but that a port is open (law L9).

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use demask_api::join::{GREETING_LIMIT, Greeting, JoinPurpose, LONGEST_WORD, MOST_STRANGERS};
use demask_api::wire;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::listen::JoinDoor;
use super::lobby::Lobby;
use super::secrets::Secrets;
use super::session::JoinConnection;

/// Time between two attempts to accept a connection after an error.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The least time between two lines of the log about refused peers.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Time in which those who wait learn that the daemon ends.
const GOODBYE: Duration = Duration::from_millis(200);

/// An open door. Its file is removed when it is closed.
#[derive(Debug)]
pub struct OpenDoor {
    task: JoinHandle<()>,
    file: PathBuf,
    lobby: Arc<Lobby>,
}

impl OpenDoor {
    /// Listens, and writes the join file.
    ///
    /// # Errors
    /// An error if the address cannot be listened on, or if the file cannot be written.
    pub async fn open(door: &JoinDoor, lobby: Arc<Lobby>) -> anyhow::Result<Self> {
        let wanted = door.address.0;
        let listener = TcpListener::bind(wanted).await;
        let listener = listener.with_context(|| format!("--listen {wanted}"))?;
        let address = listener.local_addr()?;
        let secrets = Secrets::new()?;
        secrets.write(&door.file, address)?;
        let file = door.file.clone();
        tracing::info!(
            "engines can join at {address} with the join file {}",
            file.display()
        );
        let desk = Arc::new(DoorDesk {
            secrets,
            lobby: Arc::clone(&lobby),
            turned: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, desk));
        Ok(Self { task, file, lobby })
    }

    /// Removes the join file, sends away who waits, and listens no more.
    pub async fn close(self) {
        std::fs::remove_file(&self.file).ok();
        self.task.abort();
        self.lobby.close();
        sleep(GOODBYE).await;
    }
}

/// The state that all incoming connections share.
struct DoorDesk {
    secrets: Secrets,
    lobby: Arc<Lobby>,
    turned: Mutex<TurnedAway>,
}

/// The peers that were refused.
#[derive(Default)]
struct TurnedAway {
    count: u64,
    told: Option<Instant>,
}

async fn accept(listener: TcpListener, desk: Arc<DoorDesk>) {
    let strangers = Arc::new(Semaphore::new(MOST_STRANGERS));
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(come) => come,
            Err(error) => {
                tracing::warn!("an engine could not be accepted: {error}");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(room) = Arc::clone(&strangers).try_acquire_owned() else {
            desk.turn_away(
                from,
                &format!("{MOST_STRANGERS} connections have not sent their greeting yet"),
            );
            continue;
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let greeted = timeout(GREETING_LIMIT, desk.greeted(stream)).await;
            drop(room);
            let seconds = GREETING_LIMIT.as_secs();
            let late = || {
                Err(Error::other(format!(
                    "the peer sent no greeting within {seconds} s"
                )))
            };
            match greeted.unwrap_or_else(|_| late()) {
                Ok((connection, JoinPurpose::Join(engine))) => desk.lobby.arrive(engine, connection),
                Ok((connection, JoinPurpose::Line { session, line })) => {
                    desk.lobby.line(session, line, connection);
                }
                Err(error) => desk.turn_away(from, &error.to_string()),
            }
        });
    }
}

impl DoorDesk {
    /// Finishes TLS and reads the greeting.
    async fn greeted(&self, stream: TcpStream) -> Result<(JoinConnection, JoinPurpose)> {
        stream.set_nodelay(true)?;
        let mut connection = self.secrets.acceptor.accept(stream).await?;
        let greeting = wire::read_within::<Greeting>(&mut connection, LONGEST_WORD).await?;
        let greeting =
            greeting.ok_or_else(|| Error::other("the peer closed the connection without a greeting"))?;
        if !self.secrets.opens(&greeting.token) {
            return Err(Error::other("the peer's token is not the one in the join file"));
        }
        Ok((connection, greeting.purpose))
    }

    /// Counts a refused peer. Of many in a short time, only the first gets a line in the log.
    fn turn_away(&self, from: SocketAddr, why: &str) {
        let mut turned = self.turned.lock().unwrap_or_else(PoisonError::into_inner);
        turned.count += 1;
        if turned.told.is_none_or(|told| told.elapsed() >= LOG_EVERY) {
            turned.told = Some(Instant::now());
            let count = turned.count;
            tracing::warn!("refused a connection from {from} ({count} refused so far): {why}");
        }
    }
}
