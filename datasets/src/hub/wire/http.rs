//! HTTP requests to the hub.
//!
//! Redirects are followed here and not by the client library, for two reasons. The token is sent only to the endpoint's
//! own host, and never again after a redirect has led away from it. And the hub's metadata of a file is on the redirect
//! itself.

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, ETAG, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};

use crate::hub::wire::answer::{self, AnswerSubject, HubEndpoint, below};
use crate::hub::wire::headers::{COMMIT, LINKED_ETAG, next_page, text};
use crate::hub::wire::patience::{Failure, RetryPolicy};
use crate::hub::{AccessToken, HubError, Settings};

/// The most redirects that are followed.
const REDIRECTS: usize = 10;
/// The most bytes of an answer that is read into memory.
const LONGEST: usize = 64 << 20;

/// A page of a paginated answer.
#[derive(Debug)]
pub struct Page {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The address of the next page, if there is one.
    pub next: Option<Url>,
}

/// The HTTP client of one hub.
#[derive(Debug)]
pub struct Http {
    client: Client,
    /// The hub's address.
    pub endpoint: Url,
    token: Option<AccessToken>,
    /// The retry policy and timeouts.
    pub patience: RetryPolicy,
}

impl Http {
    /// Makes the client of the hub in the settings.
    ///
    /// # Errors
    /// [`HubError::Setting`] if the system's TLS or proxy settings cannot be used.
    pub fn new(settings: &Settings, patience: RetryPolicy) -> Result<Self, HubError> {
        let client = Client::builder()
            .user_agent(concat!("demask/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(patience.silence)
            .read_timeout(patience.silence)
            .build();
        let client = client.map_err(|error| HubError::Setting {
            name: "the network's settings (HTTPS_PROXY, certificates)".to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self {
            client,
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
            patience,
        })
    }

    /// Returns the address of path segments below the endpoint, each escaped.
    #[must_use]
    pub fn address<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        below(&self.endpoint, parts)
    }

    /// Returns the endpoint and the token's origin.
    fn place(&self) -> HubEndpoint<'_> {
        HubEndpoint {
            endpoint: &self.endpoint,
            token: self.token.as_ref().map(|token| token.origin.as_str()),
        }
    }

    /// Requests the bytes at an address from `start` on, following redirects. Status 200 has all of them, 206 the rest,
    /// 416 none.
    ///
    /// # Errors
    /// Every status from 400 on except 416; any connection error.
    pub async fn bytes(&self, asked: &AnswerSubject<'_>, url: Url, start: u64) -> Result<Response, Failure> {
        let start = (start > 0).then_some(start);
        let (response, _) = self.follow(asked, Method::GET, url, start).await?;
        Ok(response)
    }

    /// Reads a whole answer of at most [`LONGEST`] bytes.
    ///
    /// # Errors
    /// Every status from 400 on; a longer answer; any connection error.
    pub async fn page(&self, asked: &AnswerSubject<'_>, url: Url) -> Result<Page, Failure> {
        let mut response = self.bytes(asked, url, 0).await?;
        let next = next_page(response.headers()).and_then(|next| response.url().join(next).ok());
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Failure::of_client)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > LONGEST {
                let why = format!("the listing has more than {LONGEST} bytes");
                return Err(answer::not_a_hub(asked, &self.endpoint, why).into());
            }
        }
        Ok(Page { bytes, next })
    }

    /// Requests the headers of a file: those of the redirect that leads to it, or of the file itself, and the commit
    /// seen on the way.
    ///
    /// # Errors
    /// Every status from 400 on; any connection error.
    pub async fn head(
        &self,
        asked: &AnswerSubject<'_>,
        url: Url,
    ) -> Result<(Response, Option<String>), Failure> {
        self.follow(asked, Method::HEAD, url, None).await
    }

    async fn follow(
        &self,
        asked: &AnswerSubject<'_>,
        method: Method,
        mut url: Url,
        start: Option<u64>,
    ) -> Result<(Response, Option<String>), Failure> {
        let (mut at_home, mut commit) = (true, None);
        for _ in 0..=REDIRECTS {
            at_home &= url.origin() == self.endpoint.origin();
            let response = self.send(&method, &url, at_home, start).await?;
            commit = text(response.headers(), COMMIT).map(ToOwned::to_owned).or(commit);
            let Some(next) = redirect(&response) else {
                let response = answer::checked(asked, self.place(), response).await?;
                return Ok((response, commit));
            };
            if method == Method::HEAD && says_it_all(&response, &next) {
                return Ok((response, commit));
            }
            url = next;
        }
        let why = format!("the server redirects more than {REDIRECTS} times");
        Err(answer::not_a_hub(asked, &self.endpoint, why).into())
    }

    async fn send(
        &self,
        method: &Method,
        url: &Url,
        at_home: bool,
        start: Option<u64>,
    ) -> Result<Response, Failure> {
        // Requests uncompressed bodies, so that `Content-Length` is the file's own length.
        let mut request = self
            .client
            .request(method.clone(), url.clone())
            .header(ACCEPT_ENCODING, "identity");
        if let Some(token) = self.token.as_ref().filter(|_| at_home) {
            request = request.header(AUTHORIZATION, token.header.clone());
        }
        if let Some(start) = start {
            request = request.header(RANGE, format!("bytes={start}-"));
        }
        request.send().await.map_err(Failure::of_client)
    }
}

/// Returns the target of a redirect.
fn redirect(response: &Response) -> Option<Url> {
    let code = response.status().as_u16();
    if !matches!(code, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    response.url().join(location).ok()
}

/// Whether a redirect carries the file's metadata, so that it need not be followed. One that leads to a storage host
/// should not be followed.
fn says_it_all(response: &Response, next: &Url) -> bool {
    let headers = response.headers();
    let leaves = next.origin() != response.url().origin();
    headers.contains_key(COMMIT)
        && (headers.contains_key(LINKED_ETAG) || (leaves && headers.contains_key(ETAG)))
}
