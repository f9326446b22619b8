//! A fault that a test asks for: once, at a request of its choice, the engine fails as if its device had.
//!
//! `DEMASK_ENGINE_FAULT` names a file that says `device N`: an engine's N-th request to train or to sample, counted from 1,
//! fails with CUDA's words for an illegal access, and the file is removed, so that the next engine computes. Or it says
//! `hang N`: that request never ends. Nobody sets it but tests of the laws L1 and L10.

use std::path::PathBuf;

use demask_api::Request;
use tch::TchError;

use crate::error::{ModelError, Result};

/// Names the file.
pub const FAULT: &str = "DEMASK_ENGINE_FAULT";

/// When to fail, if at all.
#[derive(Debug, Default)]
pub struct Fault {
    file: PathBuf,
    /// Requests to train or to sample until then; 0: never.
    left: u32,
    /// It hangs in place of failing.
    hangs: bool,
}

impl Fault {
    /// What the environment asks for; nothing where the variable is not set or its file is gone.
    ///
    /// # Errors
    /// A file that says something else.
    pub fn from_environment() -> Result<Self> {
        let Some(file) = std::env::var_os(FAULT).map(PathBuf::from) else {
            return Ok(Self::default());
        };
        let Ok(text) = std::fs::read_to_string(&file) else {
            return Ok(Self::default());
        };
        let said = text.trim().split_once(' ');
        match said.map(|(what, left)| (what, left.parse())) {
            Some((what @ ("device" | "hang"), Ok(left))) => Ok(Self {
                file,
                left,
                hangs: what == "hang",
            }),
            _ => Err(ModelError::Refused(format!(
                "{FAULT}: expected a file that says `device N` or `hang N`, found '{}'",
                text.trim()
            ))),
        }
    }

    /// Fails if it is this request's turn.
    ///
    /// # Errors
    /// That is what it is for.
    pub fn strike(&mut self, request: &Request) -> Result<()> {
        let counts = matches!(
            request,
            Request::Train { .. } | Request::Policy { .. } | Request::Sample { .. }
        );
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
