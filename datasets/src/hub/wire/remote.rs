//! What the hub says of a file before a byte of it is fetched.

use reqwest::Url;
use reqwest::header::{CONTENT_LENGTH, ETAG};

use crate::hub::wire::answer::{self, AnswerSubject};
use crate::hub::wire::etag::Etag;
use crate::hub::wire::headers::{LINKED_ETAG, LINKED_SIZE, XET_HASH, text};
use crate::hub::wire::http::Http;
use crate::hub::wire::patience::{Failure, Tries};
use crate::hub::{HubError, Watch};

/// A file as the hub has it at one commit.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Where it is asked for; a large one is redirected from there.
    pub url: Url,
    /// What its content is called.
    pub etag: Etag,
    /// Its length in bytes, where the hub says it.
    pub size: Option<u64>,
}

impl Remote {
    /// What of the file can be compared with what the hub says.
    #[must_use]
    pub fn check(&self) -> Option<&'static str> {
        self.etag.check().or_else(|| self.size.map(|_| "size"))
    }

    /// Asks `HEAD /OWNER/NAME/resolve/COMMIT/FILE`.
    ///
    /// # Errors
    /// Every refusal; [`HubError::NotAHub`] where the answer is not of that commit or does not name the content.
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
            return Err(not_a_hub(format!("asked for commit {commit}, answered with {seen}")).into());
        }
        None => return Err(not_a_hub("an answer without X-Repo-Commit".to_owned()).into()),
    }
    let headers = response.headers();
    let linked = text(headers, LINKED_ETAG);
    // The chunk store's own word for a file is a hash too, and of the same length, but not of its bytes.
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
