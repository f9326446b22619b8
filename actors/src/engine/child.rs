//! The trait of the process behind an engine's socket, as far as whoever gives it up needs it. Production starts a
//! process of this machine; a simulation scripts one.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::ExitStatus;

use tokio::process::Child;

/// A pending end of a process.
pub type Ending<'a> = Pin<Box<dyn Future<Output = io::Result<ExitStatus>> + Send + 'a>>;

/// A process that serves an engine's socket. It is killed when it is dropped.
pub trait EngineChild: fmt::Debug + Send {
    /// Has the system kill the process, without waiting for its end.
    ///
    /// # Errors
    /// Any error of the system; an error if the process is known to have ended.
    fn begin_kill(&mut self) -> io::Result<()>;

    /// Waits until the process has ended.
    fn end(&mut self) -> Ending<'_>;
}

impl EngineChild for Child {
    fn begin_kill(&mut self) -> io::Result<()> {
        self.start_kill()
    }

    fn end(&mut self) -> Ending<'_> {
        Box::pin(self.wait())
    }
}
