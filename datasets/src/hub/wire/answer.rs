//! The meaning of a hub's answer: a missing repository, revision or file, or a licence to accept.

use reqwest::{Response, StatusCode, Url};

use crate::hub::repo::is_unseen;
use crate::hub::wire::headers::text;
use crate::hub::wire::patience::{Failure, asked_wait, may_pass};
use crate::hub::{HubError, Repo};

/// The repository or file that a request is about.
#[derive(Clone, Copy, Debug)]
pub struct AnswerSubject<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The file, if the request is about one.
    pub file: Option<&'a str>,
}

impl AnswerSubject<'_> {
    /// Describes the subject: `OWNER/NAME@REVISION: FILE`.
    #[must_use]
    pub fn words(&self) -> String {
        match self.file {
            Some(file) => format!("{}: {file}", self.repo),
            None => self.repo.to_string(),
        }
    }
}

/// The endpoint that answers, with the origin of the token.
#[derive(Clone, Copy, Debug)]
pub struct HubEndpoint<'a> {
    /// The hub's address.
    pub endpoint: &'a Url,
    /// Where the token that is sent was found.
    pub token: Option<&'a str>,
}

/// Returns the address of path segments below an endpoint, each escaped: a `/` inside a segment becomes `%2F`.
#[must_use]
pub fn below<'a>(endpoint: &Url, parts: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = endpoint.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
    url
}

/// Passes usable answers. Status 416 is one: it says that nothing follows the requested byte.
///
/// # Errors
/// The meaning of every other status from 300 on.
pub async fn checked(
    asked: &AnswerSubject<'_>,
    place: HubEndpoint<'_>,
    response: Response,
) -> Result<Response, Failure> {
    let status = response.status();
    if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
        return Ok(response);
    }
    let (code, wait) = (word(&response, "x-error-code"), asked_wait(response.headers()));
    let message = word(&response, "x-error-message");
    let is_hub = response.url().origin() == place.endpoint.origin() || asked.file.is_none();
    if !is_hub && code.is_empty() && message.is_empty() && !may_pass(status) {
        return Err(refused_by_storage(&response));
    }
    let said = match message {
        said if said.is_empty() => beginning(response).await,
        said => said,
    };
    let said = said.replace(is_unseen, " ");
    let said = if said.is_empty() {
        said
    } else {
        format!(" ({said})")
    };
    if may_pass(status) {
        let why = format!("the hub answered {status}{said}");
        return Err(Failure::Passing { why, wait });
    }
    Err(meaning(asked, place, status, &code, said).into())
}

/// Makes the failure of a refusal by the host to which the hub redirects for the bytes of a file. That host knows neither
/// tokens nor licences. It refuses an address whose signature has run out, and every try gets a new address. What the
/// host says is left out, because it may contain the signature.
fn refused_by_storage(response: &Response) -> Failure {
    let host = response.url().host_str().unwrap_or("the storage host");
    Failure::passing(format!(
        "{host}, where the hub keeps the bytes, answered {}",
        response.status()
    ))
}

/// Makes the error of an answer that a hub would not give.
#[must_use]
pub fn not_a_hub(asked: &AnswerSubject<'_>, endpoint: &Url, why: String) -> HubError {
    HubError::NotAHub {
        what: asked.words(),
        why: why.replace(is_unseen, " "),
        endpoint: endpoint.to_string(),
    }
}

fn meaning(
    asked: &AnswerSubject<'_>,
    place: HubEndpoint<'_>,
    status: StatusCode,
    code: &str,
    said: String,
) -> HubError {
    let repo = asked.repo;
    let (id, page) = (repo.id.clone(), below(place.endpoint, repo.address()).to_string());
    let (what, file) = (asked.words(), asked.file.unwrap_or_default().to_owned());
    match (status.as_u16(), code) {
        (status @ (401 | 403), _) => {
            let advice = advice(code, &page, place.token);
            HubError::Refused {
                what,
                status,
                said,
                advice,
            }
        }
        (404, "RepoNotFound") => HubError::NoRepository { id, page, said },
        (404, "RevisionNotFound") => HubError::NoRevision {
            id,
            revision: repo.revision.clone(),
            page,
            said,
        },
        (404, _) if asked.file.is_some() => HubError::NoFile {
            repo: repo.to_string(),
            file,
            there: format!("the hub answered 404{said}"),
        },
        (404, _) => HubError::Nothing { what, said },
        (status, _) => HubError::Status { what, status, said },
    }
}

/// Says what to do about a refusal. The hub also answers 401 for a repository that does not exist.
fn advice(code: &str, page: &str, token: Option<&str>) -> String {
    let licence = format!("accept the licence at {page}");
    match (code == "GatedRepo", token) {
        (true, None) => {
            format!("the repository is gated: {licence}, then set HF_TOKEN to a token of that account")
        }
        (true, Some(origin)) => {
            format!("the repository is gated: {licence} with the account of the token in {origin}")
        }
        (false, None) => {
            format!("check the name; if the repository is private or gated, set HF_TOKEN and {licence}")
        }
        (false, Some(origin)) => {
            format!(
                "check the name, and that the token in {origin} is valid and may read the repository; if it is gated, {licence}"
            )
        }
    }
}

fn word(response: &Response, header: &str) -> String {
    text(response.headers(), header).unwrap_or_default().to_owned()
}

/// Reads the first words of an answer's body; of JSON, its field `error`.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > 4096 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let json: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let error = json.and_then(|json| json.get("error")?.as_str().map(ToOwned::to_owned));
    let words = error.unwrap_or(text);
    words
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(200)
        .collect()
}
