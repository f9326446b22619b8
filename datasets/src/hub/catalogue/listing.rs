//! The files of a repository at one commit, and the selection of the wanted ones.
//!
//! The hub's answer with the commit also lists the files, but truncates long lists silently. A list that may be
//! truncated is requested again page by page (`tree.rs`).

use std::collections::BTreeMap;
use std::path::Path;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::tree;
use crate::hub::catalogue::listed::Listed;
use crate::hub::repo::{is_commit, stays_inside};
use crate::hub::wire::answer::{self, AnswerSubject};
use crate::hub::wire::http::Http;
use crate::hub::wire::patience::Tries;
use crate::hub::{HubError, Repo, Watch};

/// A list of this many files or more may be truncated; `huggingface_hub`'s `_snapshot_download.py` distrusts it too. An
/// empty list is distrusted as well.
const MISTRUSTED: usize = 1000;
/// The format version of `trees/COMMIT.json`.
const FORMAT: u32 = 1;

/// The files of a repository at one commit, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit: 40 hexadecimal digits.
    pub commit: String,
    /// The metadata of each file.
    pub files: BTreeMap<String, Listed>,
}

/// The contents of the cache's `trees/COMMIT.json`, as `huggingface_hub` writes it: the files of a complete snapshot.
#[derive(Deserialize, Serialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, Listed>,
}

/// The answer of `/api/models/OWNER/NAME/revision/REVISION?blobs=true`.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
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
    /// Asks the hub for the complete list of a revision's files.
    ///
    /// # Errors
    /// Every refusal of the hub; an error if the answer is not a listing, or if a path would leave its folder.
    pub async fn ask(http: &Http, repo: &Repo, watch: &dyn Watch) -> Result<Self, HubError> {
        let asked = AnswerSubject { repo, file: None };
        let what = asked.words();
        let mut tries = Tries::new(&what, &http.patience, watch);
        let page = loop {
            match http.page(&asked, address(http, repo)).await {
                Ok(page) => break page,
                Err(failure) => tries.after(failure).await?,
            }
        };
        let info: Info = serde_json::from_slice(&page.bytes).map_err(|error| {
            answer::not_a_hub(
                &asked,
                &http.endpoint,
                format!("the answer is not a listing ({error})"),
            )
        })?;
        if !is_commit(&info.sha) {
            let why = format!("its commit is `{}`, expected 40 hexadecimal digits", info.sha);
            return Err(answer::not_a_hub(&asked, &http.endpoint, why));
        }
        let files = if (1..MISTRUSTED).contains(&info.siblings.len()) {
            let named = info.siblings.into_iter();
            named.map(|one| (one.rfilename.clone(), one.into())).collect()
        } else {
            tree::ask(http, &asked, &info.sha, watch).await?
        };
        Self::of(repo, info.sha, files)
    }

    fn of(repo: &Repo, commit: String, files: BTreeMap<String, Listed>) -> Result<Self, HubError> {
        let outside = files.keys().find(|path| !stays_inside(path));
        if let Some(outside) = outside {
            return Err(HubError::Path {
                repo: repo.to_string(),
                path: outside.clone(),
            });
        }
        Ok(Self { commit, files })
    }

    /// Returns the wanted paths: all of them if `wanted` is empty, else those that are named or match a pattern of `*`
    /// and `?`.
    ///
    /// # Errors
    /// [`HubError::NoFile`] if nothing matches one of `wanted`.
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
            there: format!("its files are {}{more}", some.join(", ")),
        }
    }

    /// Reads the stored listing of a commit; `None` if there is none or it is not valid.
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

    /// Serialises the listing for the cache; `None` unless the hub gave every file's length and blob.
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
            xet_hash: None,
        }
    }
}

fn address(http: &Http, repo: &Repo) -> Url {
    let parts = ["api", repo.kind.plural()].into_iter().chain(repo.id.split('/'));
    let mut url = http.address(parts.chain(["revision", &repo.revision]));
    url.set_query(Some("blobs=true"));
    url
}

/// Whether a path equals `wanted` or matches it as a pattern; `*` also matches `/`.
#[must_use]
pub fn fits(wanted: &str, path: &str) -> bool {
    wanted == path || glob::Pattern::new(wanted).is_ok_and(|pattern| pattern.matches(path))
}
