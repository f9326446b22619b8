//! The hub's metadata of a file, requested before its bytes.

use reqwest::Url;
use reqwest::header::{CONTENT_LENGTH, ETAG};

use crate::hub::wire::answer::{self, AnswerSubject};
use crate::hub::wire::etag::Etag;
use crate::hub::wire::headers::{LINKED_ETAG, LINKED_SIZE, XET_HASH, text};
use crate::hub::wire::http::Http;
use crate::hub::wire::patience::{Failure, Tries};
use crate::hub::{HubError, Watch};

/// A file of the hub at one commit.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The file's address; a large file is redirected from there.
    pub url: Url,
    /// The etag of its content.
    pub etag: Etag,
    /// The file's length in bytes, if the hub gives it.
    pub size: Option<u64>,
}

impl Remote {
    /// Returns what of the file can be verified: the kind of hash, else `size`.
    #[must_use]
    pub fn check(&self) -> Option<&'static str> {
        self.etag.check().or_else(|| self.size.map(|_| "size"))
    }

    /// Requests `HEAD /OWNER/NAME/resolve/COMMIT/FILE`.
    ///
    /// # Errors
    /// Every refusal of the hub; [`HubError::NotAHub`] if the answer is for another commit or has no etag.
    pub async fn ask(
        http: &Http,
        asked: &AnswerSubject<'_>,
        commit: &str,
        file: &str,
        watch: &dyn Watch,
    ) -> Result<Self, HubError> {
        let parts = asked.repo.address().into_iter().chain(["resolve", commit]);
        let url = http.address(parts.chain(file.split('/')));
        let what = asked.words();
        let mut tries = Tries::new(&what, &http.patience, watch);
        loop {
            match once(http, asked, commit, &url).await {
                Ok(remote) => return Ok(remote),
                Err(failure) => tries.after(failure).await?,
            }
        }
    }
}

async fn once(http: &Http, asked: &AnswerSubject<'_>, commit: &str, url: &Url) -> Result<Remote, Failure> {
    let (response, seen) = http.head(asked, url.clone()).await?;
    let not_a_hub = |why: String| answer::not_a_hub(asked, &http.endpoint, why);
    match seen {
        Some(seen) if seen == commit => {}
        Some(seen) => {
            return Err(not_a_hub(format!(
                "asked for commit {commit}, but the answer is for commit {seen}"
            ))
            .into());
        }
        None => return Err(not_a_hub("the answer has no header X-Repo-Commit".to_owned()).into()),
    }
    let headers = response.headers();
    let linked = text(headers, LINKED_ETAG);
    // With a Xet header, the plain `ETag` is the chunk store's hash: as long as a SHA-256, but not of the file's bytes.
    let plain = || text(headers, ETAG.as_str()).filter(|_| !headers.contains_key(XET_HASH));
    let named = linked.or_else(plain);
    let etag = named
        .and_then(Etag::parse)
        .ok_or_else(|| not_a_hub(format!("its ETag is {named:?}, expected the hash of the content")))?;
    let own = || (!response.status().is_redirection()).then(|| text(headers, CONTENT_LENGTH.as_str()))?;
    let size = text(headers, LINKED_SIZE).or_else(own);
    Ok(Remote {
        url: url.clone(),
        etag,
        size: size.and_then(|size| size.trim().parse().ok()),
    })
}
