//! The stores of c10d, over TCP or in a file: keys and values by which the ranks find one another.

use std::net::TcpListener;
use std::os::fd::IntoRawFd as _;
use std::time::Duration;

use super::environment::{Membership, Rendezvous, StoreRole};
use super::ffi::{Object, call, text};
use crate::error::{ModelError, Result};

/// A key-value store that all ranks of a world see.
#[derive(Debug)]
pub struct Store {
    object: Object,
}

// SAFETY: c10d's stores lock themselves, and only this value drops the counted pointer.
unsafe impl Send for Store {}

impl Store {
    /// Opens a member's store; the world's prefix is put before every key. A store that this process serves
    /// listens on the master's address only, whereas c10d by default listens on all addresses.
    ///
    /// # Errors
    /// Returns an error if the address cannot be listened on, or if nobody serves the store within the
    /// `limit`.
    pub fn open(member: &Membership, limit: Duration) -> Result<Self> {
        let mut whole = std::ptr::null_mut();
        match &member.rendezvous {
            Rendezvous::File(path) => {
                let path = text(&path.to_string_lossy())?;
                call!(demask_store_of_file(
                    path.as_ptr(),
                    member.size as i64,
                    &mut whole
                ))?;
            }
            Rendezvous::Tcp { host, port, role } => {
                let listening = listening(host, *port, *role)?;
                let name = text(host)?;
                let (port, ms) = (i64::from(*port), millis(limit));
                call!(demask_store_of_tcp(
                    name.as_ptr(),
                    port,
                    listening,
                    ms,
                    &mut whole
                ))?;
            }
        }
        let whole = Self { object: whole };
        whole.below(&member.prefix(), limit)
    }

    /// Returns a view of the store that puts a prefix before every key.
    ///
    /// # Errors
    /// Refuses a prefix that contains NUL.
    pub fn below(&self, prefix: &str, limit: Duration) -> Result<Self> {
        let (prefix, mut object) = (text(prefix)?, std::ptr::null_mut());
        call!(demask_store_below(
            self.object,
            prefix.as_ptr(),
            millis(limit),
            &mut object
        ))?;
        Ok(Self { object })
    }

    /// Adds to a counter and returns its new value.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the store is gone.
    pub fn add(&self, key: &str, by: i64) -> Result<i64> {
        let (key, mut sum) = (text(key)?, 0);
        call!(demask_store_add(self.object, key.as_ptr(), by, &mut sum))?;
        Ok(sum)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the store is gone.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (text(key)?, text(value)?);
        call!(demask_store_set(self.object, key.as_ptr(), value.as_ptr()))?;
        Ok(())
    }

    /// Waits until a key is set. Returns false if it is not set within the `limit`.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the store is gone.
    pub fn wait(&self, key: &str, limit: Duration) -> Result<bool> {
        let key = text(key)?;
        call!(demask_store_wait(self.object, key.as_ptr(), millis(limit)))
    }

    pub(super) fn object(&self) -> Object {
        self.object
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        #[cfg(fused)]
        // SAFETY: this value owns the handle, which is not used again.
        unsafe {
            super::ffi::names::demask_store_drop(self.object);
        }
    }
}

/// Returns the descriptor of the socket that this process serves the store on, or -1.
fn listening(host: &str, port: u16, role: StoreRole) -> Result<i64> {
    match role {
        StoreRole::Client => Ok(-1),
        StoreRole::Inherited(socket) => Ok(i64::from(socket)),
        StoreRole::Server => {
            let listener = TcpListener::bind((host, port))
                .map_err(|source| ModelError::io(format!("{host}:{port}").as_ref(), source))?;
            Ok(i64::from(listener.into_raw_fd()))
        }
    }
}

pub(super) fn millis(limit: Duration) -> i64 {
    i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)
}
