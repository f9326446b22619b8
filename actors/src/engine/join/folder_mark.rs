//! A mark in a folder, by which engines that join show that they see the same folder as the daemon.
//!
//! Ranks of other machines load checkpoints that rank 0 has saved. If one of them sees another folder at the same path,
//! a run that goes on would find no checkpoint and start again. Engines that only sample load the weights that rank 0
//! publishes there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use demask_api::{Answer, EngineError, Request};

use crate::engine::address::EngineAddress;
use crate::engine::process::{EngineFailure, unexpected};
use crate::runtime::disk::on_disk;
use crate::runtime::ids;

/// Has an engine show that it sees a folder, with all ranks of its world. On a full disk nothing is checked: a run
/// waits for room when it saves.
///
/// # Errors
/// [`EngineError::Refused`] with the machine and the folder if an engine does not see it; [`EngineError::Io`] if the
/// mark cannot be written; any other failure of the engine.
pub async fn check_folder(engine: &EngineAddress, folder: &Path) -> Result<(), EngineFailure> {
    let path = folder.to_owned();
    let written = on_disk(move || FolderMark::write(&path)).await;
    let mark = match written.unwrap_or_else(|cancelled| Err(std::io::Error::other(cancelled))) {
        Ok(mark) => mark,
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            return Ok(());
        }
        Err(error) => {
            let (path, message) = (folder.display().to_string(), error.to_string());
            let full = false;
            return Err(EngineError::Io { path, message, full }.into());
        }
    };
    match engine.ask(mark.request(), None).await? {
        Answer::Done => Ok(()),
        other => Err(unexpected("done", &other)),
    }
}

/// A file with a random token in a folder. It is removed when this value is dropped.
#[derive(Debug)]
struct FolderMark {
    path: PathBuf,
    token: String,
}

impl FolderMark {
    /// Writes the file. The folder is created if it does not exist.
    ///
    /// # Errors
    /// Any error of the file system.
    fn write(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let token = ids::new_id().simple().to_string();
        // The daemon sweeps hidden files of a run's folder, so a mark that a killed daemon left is removed too.
        let path = folder.join(format!(".mark-{token}"));
        let mark = Self { path, token };
        std::fs::write(&mark.path, &mark.token)?;
        Ok(mark)
    }

    /// Returns the request by which all ranks are asked whether they read the token.
    fn request(&self) -> Request {
        Request::ReadMark {
            path: self.path.clone(),
            token: self.token.clone(),
        }
    }
}

impl Drop for FolderMark {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
        if let Some(folder) = self.path.parent() {
            // A folder with anything else in it stays.
            std::fs::remove_dir(folder).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_mark_is_there_while_it_is_held_and_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("run");
        let mark = FolderMark::write(&folder).unwrap();
        let Request::ReadMark { path, token } = mark.request() else {
            panic!("another request")
        };
        assert_eq!(std::fs::read_to_string(&path).unwrap(), token);
        assert_eq!(path.parent(), Some(folder.as_path()));
        drop(mark);
        assert!(!folder.exists());

        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("run.json"), "{}").unwrap();
        drop(FolderMark::write(&folder).unwrap());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }
}
