//! Fault injection for tests: once, at a chosen request, the engine fails as if its device had failed, or hangs.
//!
//! `DEMASK_ENGINE_FAULT` names a file. If the file says `device N`, the engine's N-th request to train or to
//! sample, counted from 1, fails with CUDA's message for an illegal memory access. If it says `hang N`, that
//! request never ends. If it says `save N`, the N-th request to save a checkpoint never ends, as on a disk that does
//! not answer. The file is removed when the fault occurs, so that the next engine computes normally.
//! Only tests of the laws L1 and L10 set the variable.

use std::path::PathBuf;

use demask_api::Request;
use tch::TchError;

use crate::error::{ModelError, Result};

/// The environment variable that names the fault's file.
pub const FAULT: &str = "DEMASK_ENGINE_FAULT";

/// The fault to inject, if any.
#[derive(Debug, Default)]
pub struct Fault {
    file: PathBuf,
    /// The number of requests up to and including the one that fails; 0: none fails.
    left: u32,
    /// Whether the request hangs instead of failing.
    hangs: bool,
    /// Whether requests to save are counted, instead of those to train or to sample.
    counts_saves: bool,
}

impl Fault {
    /// Reads the fault that the environment asks for; there is none if the variable is not set or its file is
    /// gone.
    ///
    /// # Errors
    /// Refuses a file with other contents.
    pub fn from_environment() -> Result<Self> {
        let Some(file) = std::env::var_os(FAULT).map(PathBuf::from) else {
            return Ok(Self::default());
        };
        let Ok(text) = std::fs::read_to_string(&file) else {
            return Ok(Self::default());
        };
        let said = text.trim().split_once(' ');
        match said.map(|(what, left)| (what, left.parse())) {
            Some((what @ ("device" | "hang" | "save"), Ok(left))) => Ok(Self {
                file,
                left,
                hangs: what != "device",
                counts_saves: what == "save",
            }),
            _ => Err(ModelError::Refused(format!(
                "{FAULT}: expected a file that says `device N`, `hang N` or `save N`, found '{}'",
                text.trim()
            ))),
        }
    }

    /// Injects the fault if it is this request's turn.
    ///
    /// # Errors
    /// Returns the injected device fault.
    pub fn strike(&mut self, request: &Request) -> Result<()> {
        let counts = match self.counts_saves {
            true => matches!(request, Request::Save { .. }),
            false => matches!(
                request,
                Request::Train { .. } | Request::Policy { .. } | Request::Sample { .. }
            ),
        };
        if self.left == 0 || !counts {
            return Ok(());
        }
        self.left -= 1;
        if self.left > 0 {
            return Ok(());
        }
        std::fs::remove_file(&self.file).ok();
        if self.hangs {
            loop {
                std::thread::park();
            }
        }
        let words = format!("CUDA error: an illegal memory access was encountered ({FAULT} asked for it)");
        Err(TchError::Torch(words).into())
    }
}
