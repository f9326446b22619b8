//! The paginated file tree of a commit, by which a repository of thousands of files is listed completely.

use std::collections::{BTreeMap, HashSet};

use reqwest::Url;
use serde::Deserialize;

use crate::hub::catalogue::listed::Listed;
use crate::hub::wire::answer::{self, AnswerSubject};
use crate::hub::wire::http::{Http, Page};
use crate::hub::wire::patience::Tries;
use crate::hub::{HubError, Watch};

/// The most pages that are read; the hub puts a thousand files on one.
const PAGES: usize = 500;

/// An entry of the answer of `/api/models/OWNER/NAME/tree/COMMIT?recursive=true`.
#[derive(Deserialize)]
struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    size: Option<u64>,
    oid: Option<String>,
    lfs: Option<Pointer>,
    #[serde(rename = "xetHash")]
    xet_hash: Option<String>,
}

#[derive(Deserialize)]
struct Pointer {
    oid: String,
    size: u64,
}

/// Lists every file of a commit. Each page links to the next; a page on another host is requested without the token.
///
/// # Errors
/// Every refusal of the hub; an error if an answer is not a page, if the pages form a cycle, or if there are more than
/// [`PAGES`].
pub async fn ask(
    http: &Http,
    asked: &AnswerSubject<'_>,
    commit: &str,
    watch: &dyn Watch,
) -> Result<BTreeMap<String, Listed>, HubError> {
    let not_a_hub = |why: String| answer::not_a_hub(asked, &http.endpoint, why);
    let (mut files, mut read) = (BTreeMap::new(), HashSet::new());
    let mut next = Some(address(http, asked, commit));
    while let Some(url) = next {
        if read.len() == PAGES {
            return Err(not_a_hub(format!("the listing has more than {PAGES} pages")));
        }
        if !read.insert(url.clone()) {
            return Err(not_a_hub(
                "a page of the listing links back to an earlier page".to_owned(),
            ));
        }
        let page = page(http, asked, url, watch).await?;
        let entries: Vec<TreeEntry> = serde_json::from_slice(&page.bytes)
            .map_err(|error| not_a_hub(format!("the answer is not a page of a listing ({error})")))?;
        let here = entries.into_iter().filter(|entry| entry.kind == "file");
        files.extend(here.map(|entry| (entry.path.clone(), entry.into())));
        next = page.next;
    }
    Ok(files)
}

async fn page(http: &Http, asked: &AnswerSubject<'_>, url: Url, watch: &dyn Watch) -> Result<Page, HubError> {
    let what = asked.words();
    let mut tries = Tries::new(&what, &http.patience, watch);
    loop {
        match http.page(asked, url.clone()).await {
            Ok(page) => return Ok(page),
            Err(failure) => tries.after(failure).await?,
        }
    }
}

fn address(http: &Http, asked: &AnswerSubject<'_>, commit: &str) -> Url {
    let repo = asked.repo;
    let parts = ["api", repo.kind.plural()].into_iter().chain(repo.id.split('/'));
    let mut url = http.address(parts.chain(["tree", commit]));
    url.set_query(Some("recursive=true"));
    url
}

impl From<TreeEntry> for Listed {
    fn from(one: TreeEntry) -> Self {
        let (lfs_sha256, lfs_size) = one.lfs.map(|large| (large.oid, large.size)).unzip();
        Self {
            size: one.size.or(lfs_size),
            blob_id: one.oid,
            lfs_sha256,
            lfs_size,
            xet_hash: one.xet_hash,
        }
    }
}
