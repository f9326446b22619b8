//! Where the clients of an engine's server come from: a Unix socket, or lines that another thread hands over.

use std::io::{self, Error, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, Sender, channel};

/// The source of a server's clients.
#[derive(Debug)]
pub enum Clients {
    /// Whoever connects to a socket.
    Socket(UnixListener),
    /// Whoever is handed over.
    Handed(HandedClients),
}

impl Clients {
    /// Returns a descriptor that is readable when a client has come.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(listener) => listener.as_fd(),
            Self::Handed(handed) => handed.woken.as_fd(),
        }
    }

    /// Waits for the next client.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn next(&self) -> io::Result<UnixStream> {
        match self {
            Self::Socket(listener) => Ok(listener.accept()?.0),
            Self::Handed(handed) => handed.next(),
        }
    }
}

/// The receiving end of clients that are handed over.
#[derive(Debug)]
pub struct HandedClients {
    /// Carries a byte for each client, so that a server can poll for them.
    woken: UnixStream,
    given: Receiver<UnixStream>,
}

impl HandedClients {
    fn next(&self) -> io::Result<UnixStream> {
        (&self.woken).read_exact(&mut [0])?;
        self.given
            .recv()
            .map_err(|_| Error::new(ErrorKind::BrokenPipe, "the relay that accepts clients has ended"))
    }
}

/// The giving end.
#[derive(Debug)]
pub struct ClientGiver {
    wake: UnixStream,
    give: Sender<UnixStream>,
}

impl ClientGiver {
    /// Returns both ends.
    ///
    /// # Errors
    /// Any error of the system.
    pub fn open() -> io::Result<(Self, HandedClients)> {
        let (woken, wake) = UnixStream::pair()?;
        let (give, given) = channel();
        Ok((Self { wake, give }, HandedClients { woken, given }))
    }

    /// Hands one end of a new pair of connected sockets to the server as a client, and returns the other.
    ///
    /// # Errors
    /// Any error of the system, also if the server has ended.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (own, served) = UnixStream::pair()?;
        self.give
            .send(served)
            .map_err(|_| Error::new(ErrorKind::BrokenPipe, "the server has ended"))?;
        (&self.wake).write_all(&[0])?;
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_client_writes_the_server_reads() {
        let (giver, handed) = ClientGiver::open().unwrap();
        let clients = Clients::Handed(handed);
        let (mut one, mut two) = (giver.connect().unwrap(), giver.connect().unwrap());
        one.write_all(b"1").unwrap();
        two.write_all(b"2").unwrap();
        for expected in *b"12" {
            let mut byte = [0];
            clients.next().unwrap().read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], expected);
        }
        drop(giver);
        assert!(clients.next().is_err());
    }
}
