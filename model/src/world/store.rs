//! The stores of c10d, over TCP or in a file: keys and values by which the ranks find one another.
//!
//! A rank that cannot join says so here, where the others wait for it. Each of them counts that it knows, and the one that
//! serves the store ends last.

use std::net::TcpListener;
use std::os::fd::IntoRawFd as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use demask_api::machine::host_name;

use super::environment::{Membership, Rendezvous, StoreRole};
use super::ffi::{Object, call, text};
use crate::error::{ModelError, Result};

/// The most bytes of a value that are read (law L9).
const LONGEST_VALUE: usize = 4096;

/// The key of the message of a rank that cannot join.
const FAILURE: &str = "failure";
/// The key of the number of ranks that cannot join.
const FAILED: &str = "failed";
/// The key of the number of ranks that know of it.
const KNOWING: &str = "knowing";
/// How long a rank that cannot join tries to reach the store, which may not be served yet.
const REACHED: Duration = Duration::from_secs(10);
/// How long the rank that serves the store waits until the others know.
const KNOWN: Duration = Duration::from_secs(5);
/// Time between two looks whether they do.
const LOOK: Duration = Duration::from_millis(20);

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

    /// Returns the value of a key that is set, as text, but no more than 4,096 bytes of it.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the key is not set within the store's time limit, or if the store is gone.
    pub fn get(&self, key: &str) -> Result<String> {
        let (key, mut value, mut length) = (text(key)?, vec![0_u8; LONGEST_VALUE], 0_i64);
        call!(demask_store_get(
            self.object,
            key.as_ptr(),
            value.as_mut_ptr(),
            LONGEST_VALUE as i64,
            &mut length
        ))?;
        value.truncate(usize::try_from(length).unwrap_or(0));
        Ok(String::from_utf8_lossy(&value).into_owned())
    }

    /// Waits until a key is set. Returns false if it is not set within the `limit`.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the store is gone.
    pub fn wait(&self, key: &str, limit: Duration) -> Result<bool> {
        let key = text(key)?;
        call!(demask_store_wait(self.object, key.as_ptr(), millis(limit)))
    }

    /// Looks whether a rank of this world has said that it cannot join.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] with that rank and its reason, or if the store is gone.
    pub(super) fn all_can_join(&self, member: &Membership) -> Result<()> {
        if self.add(FAILED, 0)? == 0 {
            return Ok(());
        }
        let words = self.get(FAILURE)?;
        self.know(member)?;
        Err(ModelError::World(words))
    }

    /// Counts this rank among those that know that the world does not come about. The rank that serves the store waits for
    /// the others, because the store ends with it.
    fn know(&self, member: &Membership) -> Result<()> {
        let serves = matches!(&member.rendezvous, Rendezvous::Tcp { role, .. } if *role != StoreRole::Client);
        let (began, size) = (Instant::now(), member.size as i64);
        let mut knowing = self.add(KNOWING, 1)?;
        while serves && knowing < size && began.elapsed() < KNOWN {
            sleep(LOOK);
            knowing = self.add(KNOWING, 0)?;
        }
        Ok(())
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

/// Tells the other ranks that this one cannot join their world, and why, so that they do not wait for it. Call it once,
/// before this process ends. What keeps them from being told is only logged.
pub fn cannot_join(member: &Membership, why: &ModelError) {
    let tell = || -> Result<()> {
        let store = Store::open(member, REACHED)?;
        let words = format!("rank {} on {} cannot join: {why}", member.rank, host_name());
        store.set(FAILURE, &words.replace('\0', " "))?;
        store.add(FAILED, 1)?;
        store.know(member)
    };
    if let Err(error) = tell() {
        tracing::warn!("the other ranks are not told that this one cannot join: {error}");
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
