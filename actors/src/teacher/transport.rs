//! The traits of a transport to a teacher and of its opener. Production posts over HTTP; a simulation scripts the
//! responses.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use serde_json::Value;

use super::{Patience, TeacherError};
use crate::profile::Teacher;
use crate::runtime::http::{in_words, text_within};

/// A response of a teacher, which is trusted in nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// The `Retry-After` header, if there is one.
    pub retry_after: Option<String>,
    /// Body of the response.
    pub body: String,
}

/// A pending response.
pub type ChatAnswering<'a> = Pin<Box<dyn Future<Output = Result<ChatResponse, String>> + Send + 'a>>;

/// A transport to one teacher.
pub trait ChatTransport: Debug + Send + Sync {
    /// Sends the body of a chat completion and returns the response, or a message if there is none. The caller limits
    /// the time.
    fn post<'a>(&'a self, body: &'a Value) -> ChatAnswering<'a>;
}

/// An opener of transports.
pub trait ChatOpener: Debug + Send + Sync {
    /// Opens the transport to a teacher.
    ///
    /// # Errors
    /// [`TeacherError::Setup`].
    fn open(&self, teacher: &Teacher, patience: &Patience) -> Result<Box<dyn ChatTransport>, TeacherError>;
}

/// The opener of HTTP clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpChat;

/// An HTTP client of a teacher.
#[derive(Debug)]
struct ChatAddress {
    http: reqwest::Client,
    url: String,
    key: Option<String>,
    longest_body: usize,
}

impl ChatOpener for HttpChat {
    /// The key is read from the environment variable that the profile names.
    fn open(&self, teacher: &Teacher, patience: &Patience) -> Result<Box<dyn ChatTransport>, TeacherError> {
        let http = reqwest::Client::builder()
            .build()
            .map_err(|error| TeacherError::Setup {
                url: teacher.url.clone(),
                message: error.to_string(),
            })?;
        let key = std::env::var(&teacher.key_variable)
            .ok()
            .filter(|key| !key.is_empty());
        Ok(Box::new(ChatAddress {
            http,
            url: format!("{}/chat/completions", teacher.url.trim_end_matches('/')),
            key,
            longest_body: patience.longest_body,
        }))
    }
}

impl ChatTransport for ChatAddress {
    fn post<'a>(&'a self, body: &'a Value) -> ChatAnswering<'a> {
        Box::pin(async move {
            let mut request = self.http.post(&self.url).json(body);
            if let Some(key) = &self.key {
                request = request.bearer_auth(key);
            }
            let response = request.send().await.map_err(|error| in_words(&error))?;
            let status = response.status();
            let retry_after = response.headers().get(RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok());
            let retry_after = retry_after.map(ToOwned::to_owned);
            let body = text_within(response, self.longest_body).await?;
            Ok(ChatResponse {
                status,
                retry_after,
                body,
            })
        })
    }
}
