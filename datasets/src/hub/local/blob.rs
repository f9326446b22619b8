//! Fetches one blob: into `ETAG.incomplete`, resumed where an earlier try ended, verified, then renamed.

use std::io;
use std::path::{Path, PathBuf};

use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use reqwest::{Response, StatusCode};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncWriteExt as _, BufWriter};

use crate::hub::local::cache::length;
use crate::hub::wire::answer::{self, AnswerSubject};
use crate::hub::wire::headers::{content_range, text};
use crate::hub::wire::http::Http;
use crate::hub::wire::patience::{Failure, Tries};
use crate::hub::wire::remote::Remote;
use crate::hub::{HubError, PullEvent, Watch};

/// Bytes that are buffered before they are written.
const BUFFER: usize = 1 << 20;

/// The fetch of one file.
pub struct Fetch<'a> {
    /// The client.
    pub http: &'a Http,
    /// The file, for messages.
    pub asked: AnswerSubject<'a>,
    /// The hub's metadata of the file.
    pub remote: &'a Remote,
    /// The file's path in the repository.
    pub file: &'a str,
    /// The path of the file until it is complete and verified.
    pub incomplete: &'a Path,
    /// The final path of the blob.
    pub blob: &'a Path,
    /// The observer of progress.
    pub watch: &'a dyn Watch,
}

impl Fetch<'_> {
    /// Fetches the missing bytes, verifies the whole file, renames it and returns its length. The caller must hold the
    /// blob's lock.
    ///
    /// # Errors
    /// Every refusal of the hub. After a wrong length or hash nothing is kept. After a full disk or too many failures
    /// in a row, the received bytes are kept for the next pull.
    pub async fn run(&self) -> Result<u64, HubError> {
        let mut left_over = self.left_over()? > 0;
        loop {
            self.complete().await?;
            self.watch.saw(PullEvent::Checking { file: self.file });
            let Err(wrong) = self.check().await? else {
                break;
            };
            self.forget()?;
            // The first bytes came from an earlier pull and may be the wrong ones: fetch once more from the start.
            if !std::mem::take(&mut left_over) {
                return Err(wrong);
            }
        }
        std::fs::rename(self.incomplete, self.blob).map_err(HubError::at(self.blob))?;
        Ok(length(self.blob).unwrap_or_default())
    }

    /// Returns the number of bytes left by an earlier pull; a file longer than the metadata says is deleted.
    fn left_over(&self) -> Result<u64, HubError> {
        let there = length(self.incomplete).unwrap_or_default();
        if self.remote.size.is_some_and(|size| there > size) {
            self.forget()?;
            return Ok(0);
        }
        Ok(there)
    }

    fn forget(&self) -> Result<(), HubError> {
        match std::fs::remove_file(self.incomplete) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HubError::at(self.incomplete)(error))
            }
            _ => Ok(()),
        }
    }

    /// Retries until all bytes have arrived.
    async fn complete(&self) -> Result<(), HubError> {
        let what = self.asked.words();
        let mut tries = Tries::new(&what, &self.http.patience, self.watch);
        let mut most = self.left_over()?;
        let (file, size) = (self.file, self.remote.size);
        self.watch.saw(PullEvent::Begun { file, size });
        loop {
            let outcome = self.once().await;
            let here = length(self.incomplete).unwrap_or_default();
            self.watch.saw(PullEvent::Here { file, bytes: here });
            let Err(failure) = outcome else {
                return Ok(());
            };
            if here > most {
                most = here;
                tries.progressed();
            }
            tries.after(failure).await?;
        }
    }

    /// Uses one connection: from the end of the partial file to the end of what the server sends.
    async fn once(&self) -> Result<(), Failure> {
        let mut part = IncompleteFile::open(self.incomplete)
            .await
            .map_err(|error| self.io(error))?;
        if self.remote.size == Some(part.bytes) {
            return Ok(());
        }
        let response = self
            .http
            .bytes(&self.asked, self.remote.url.clone(), part.bytes)
            .await?;
        self.agree(&response, &mut part).await?;
        let came = self.copy(response, &mut part).await;
        // The received bytes are kept even if the connection broke.
        part.file.flush().await.map_err(|error| self.io(error))?;
        came?;
        match self.remote.size {
            Some(size) if part.bytes < size => Err(Failure::passing(format!(
                "the connection ended at byte {} of {size}",
                part.bytes
            ))),
            _ => Ok(()),
        }
    }

    /// Checks that the answer continues where the file ends and that the total length is as expected. A server without
    /// range requests sends the whole file; the partial file is then restarted.
    async fn agree(&self, response: &Response, part: &mut IncompleteFile) -> Result<(), Failure> {
        let headers = response.headers();
        if let Some(how) = text(headers, CONTENT_ENCODING.as_str()).filter(|&how| how != "identity") {
            let why = format!(
                "the server sends the file compressed ({how}), although it was requested uncompressed"
            );
            return Err(answer::not_a_hub(&self.asked, &self.http.endpoint, why).into());
        }
        let whole = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = content_range(headers);
                if range.map(|(first, _)| first) != Some(part.bytes) {
                    part.empty().await.map_err(|error| self.io(error))?;
                    return Err(Failure::passing(format!(
                        "the server sent another range than the requested one: {range:?}"
                    )));
                }
                range.and_then(|(_, whole)| whole)
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                part.empty().await.map_err(|error| self.io(error))?;
                return Err(Failure::passing(
                    "the server has no bytes after the received ones; starting again from the first byte",
                ));
            }
            _ => text(headers, CONTENT_LENGTH.as_str()).and_then(|length| length.trim().parse().ok()),
        };
        match (self.remote.size, whole) {
            (Some(expected), Some(found)) if expected != found => Err(self.wrong_size(expected, found, part)),
            _ if response.status() == StatusCode::PARTIAL_CONTENT => Ok(()),
            _ => part.empty().await.map_err(|error| self.io(error)),
        }
    }

    async fn copy(&self, mut response: Response, part: &mut IncompleteFile) -> Result<(), Failure> {
        while let Some(chunk) = response.chunk().await.map_err(Failure::of_client)? {
            let bytes = part.bytes + chunk.len() as u64;
            if let Some(size) = self.remote.size.filter(|&size| bytes > size) {
                part.empty().await.map_err(|error| self.io(error))?;
                return Err(self.wrong_size(size, bytes, part));
            }
            part.file
                .write_all(&chunk)
                .await
                .map_err(|error| self.io(error))?;
            part.bytes = bytes;
            let file = self.file;
            self.watch.saw(PullEvent::Here { file, bytes });
        }
        Ok(())
    }

    /// Verifies the hash of the bytes on disk, not of those read from the network.
    async fn check(&self) -> Result<Result<(), HubError>, HubError> {
        let (etag, path) = (self.remote.etag.clone(), self.incomplete.to_owned());
        let found = tokio::task::spawn_blocking(move || synced(&path).and_then(|()| etag.of_file(&path)));
        let found = found.await.map_err(io::Error::other).flatten();
        let found = found.map_err(HubError::at(self.incomplete))?;
        let expected = self.remote.etag.as_str();
        Ok(match found {
            Some(found) if found != expected => Err(HubError::WrongHash {
                file: self.file.to_owned(),
                check: self.remote.etag.check().unwrap_or_default(),
                expected: expected.to_owned(),
                found,
            }),
            _ => Ok(()),
        })
    }

    /// Makes the error of a wrong length. Received bytes of the right file are kept; an empty file is deleted.
    fn wrong_size(&self, expected: u64, found: u64, part: &IncompleteFile) -> Failure {
        if part.bytes == 0
            && let Err(error) = self.forget()
        {
            return error.into();
        }
        let file = self.file.to_owned();
        HubError::WrongSize {
            file,
            expected,
            found,
        }
        .into()
    }

    fn io(&self, source: io::Error) -> Failure {
        let path = self.incomplete.to_owned();
        if source.kind() != io::ErrorKind::StorageFull {
            return HubError::Io { path, source }.into();
        }
        let here = length(&path).unwrap_or_default();
        HubError::DiskFull {
            needed: self.remote.size.unwrap_or_default().saturating_sub(here),
            free: path.parent().and_then(free).unwrap_or_default(),
            path,
        }
        .into()
    }
}

/// The partial file.
struct IncompleteFile {
    file: BufWriter<File>,
    bytes: u64,
}

impl IncompleteFile {
    async fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).await?;
        let bytes = file.metadata().await?.len();
        Ok(Self {
            file: BufWriter::with_capacity(BUFFER, file),
            bytes,
        })
    }

    async fn empty(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.bytes) > 0 {
            self.file.get_ref().set_len(0).await?;
        }
        Ok(())
    }
}

/// Syncs the content before the rename: after a power cut, a name must not exist without its content.
fn synced(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// Returns the free bytes of the file system of `folder`, or of its nearest existing ancestor.
#[must_use]
pub fn free(folder: &Path) -> Option<u64> {
    let there: PathBuf = folder.ancestors().find(|folder| folder.is_dir())?.to_owned();
    let stat = rustix::fs::statvfs(&there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
