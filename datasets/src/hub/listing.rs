//! What a repository holds at one commit, and which of it is wanted.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::answer::{self, Asked};
use super::http::Http;
use super::patience::{Failure, Tries};
use super::repo::{is_commit, stays_inside};
use super::{HubError, Repo, Watch};

/// The longest listing that is read, in bytes.
const LONGEST: usize = 64 << 20;
/// The form of `trees/COMMIT.json`.
const FORMAT: u32 = 1;

/// A repository's files at one commit, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit: 40 hexadecimal digits.
    pub commit: String,
    /// What is known of each file.
    pub files: BTreeMap<String, Listed>,
}

/// What a listing says of a file. It may say nothing: what counts is what the file's own address says.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its length in bytes.
    pub size: Option<u64>,
    /// Its blob's SHA-1 in git; of a large file its pointer's.
    pub blob_id: Option<String>,
    /// The SHA-256 of a large file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_sha256: Option<String>,
    /// Its length again, as `huggingface_hub` keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lfs_size: Option<u64>,
}

impl Listed {
    /// What its blob will be called.
    #[must_use]
    pub fn etag(&self) -> Option<&str> {
        self.lfs_sha256.as_deref().or(self.blob_id.as_deref())
    }
}

/// `trees/COMMIT.json` of the cache, as `huggingface_hub` writes it: what a whole snapshot would hold.
#[derive(Deserialize, Serialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, Listed>,
}

/// `/api/models/OWNER/NAME/revision/REVISION?blobs=true`.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Asks the hub what the revision holds.
    ///
    /// # Errors
    /// Every refusal; an answer that is no listing; a path that would leave its folder.
    pub async fn ask(http: &Http, repo: &Repo, watch: &dyn Watch) -> Result<Self, HubError> {
        let asked = Asked { repo, file: None };
        let what = asked.words();
        let mut tries = Tries::new(&what, &http.patience, watch);
        let bytes = loop {
            match body(http, &asked).await {
                Ok(bytes) => break bytes,
                Err(failure) => tries.after(failure).await?,
            }
        };
        let info: Info = serde_json::from_slice(&bytes).map_err(|error| {
            answer::not_a_hub(
                &asked,
                &http.endpoint,
                format!("an answer that is no listing ({error})"),
            )
        })?;
        if !is_commit(&info.sha) {
            let why = format!("its commit is `{}`, expected 40 hexadecimal digits", info.sha);
            return Err(answer::not_a_hub(&asked, &http.endpoint, why));
        }
        Self::of(repo, info)
    }

    fn of(repo: &Repo, info: Info) -> Result<Self, HubError> {
        let outside = info.siblings.iter().find(|one| !stays_inside(&one.rfilename));
        if let Some(outside) = outside {
            return Err(HubError::Path {
                repo: repo.to_string(),
                path: outside.rfilename.clone(),
            });
        }
        let files = info
            .siblings
            .into_iter()
            .map(|one| (one.rfilename.clone(), one.into()));
        Ok(Self {
            commit: info.sha,
            files: files.collect(),
        })
    }

    /// The paths that are wanted: all, or those that are named or fit a pattern with `*` and `?`.
    ///
    /// # Errors
    /// [`HubError::NoFile`]: nothing fits one of them.
    pub fn select(&self, repo: &Repo, wanted: &[String]) -> Result<Vec<String>, HubError> {
        let mut chosen: Vec<String> = Vec::new();
        if wanted.is_empty() {
            chosen.extend(self.files.keys().cloned());
        }
        for one in wanted {
            let before = chosen.len();
            chosen.extend(self.files.keys().filter(|path| fits(one, path)).cloned());
            if chosen.len() == before {
                return Err(self.lacks(repo, one));
            }
        }
        chosen.sort();
        chosen.dedup();
        Ok(chosen)
    }

    fn lacks(&self, repo: &Repo, file: &str) -> HubError {
        let some: Vec<&str> = self.files.keys().map(String::as_str).take(12).collect();
        let more = match self.files.len() - some.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        HubError::NoFile {
            repo: repo.to_string(),
            file: file.to_owned(),
            there: format!("there are {}{more}", some.join(", ")),
        }
    }

    /// Reads what a snapshot should hold, if that was ever kept.
    #[must_use]
    pub fn kept(path: &Path, commit: &str) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let tree: Tree = serde_json::from_slice(&bytes).ok()?;
        let sound = tree.format_version == FORMAT && tree.files.keys().all(|path| stays_inside(path));
        sound.then(|| Self {
            commit: commit.to_owned(),
            files: tree.files,
        })
    }

    /// What to keep of it; nothing where the hub did not say every file's length and blob.
    #[must_use]
    pub fn to_keep(&self) -> Option<Vec<u8>> {
        let known = |one: &Listed| one.size.is_some() && one.blob_id.is_some();
        let files = self.files.clone();
        let format_version = FORMAT;
        files.values().all(known).then(|| {
            serde_json::to_vec_pretty(&Tree {
                format_version,
                files,
            })
            .ok()
        })?
    }
}

impl From<Sibling> for Listed {
    fn from(one: Sibling) -> Self {
        let (lfs_sha256, lfs_size) = one.lfs.map(|large| (large.sha256, large.size)).unzip();
        Self {
            size: one.size.or(lfs_size),
            blob_id: one.blob_id,
            lfs_sha256,
            lfs_size,
        }
    }
}

/// Whether a path is the one that is named, or fits the pattern; `*` goes across `/`.
#[must_use]
pub fn fits(wanted: &str, path: &str) -> bool {
    wanted == path || glob::Pattern::new(wanted).is_ok_and(|pattern| pattern.matches(path))
}

async fn body(http: &Http, asked: &Asked<'_>) -> Result<Vec<u8>, Failure> {
    let (repo, kind) = (asked.repo, asked.repo.kind.plural());
    let parts = ["api", kind].into_iter().chain(repo.id.split('/'));
    let mut url = http.address(parts.chain(["revision", &repo.revision]));
    url.set_query(Some("blobs=true"));
    let mut response = http.bytes(asked, url, 0).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Failure::of_client)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LONGEST {
            return Err(answer::not_a_hub(
                asked,
                &http.endpoint,
                format!("a listing of more than {LONGEST} bytes"),
            )
            .into());
        }
    }
    Ok(bytes)
}
