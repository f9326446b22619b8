//! The address of an external reward: a batch is posted as JSON, its values come back as JSON.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response};

use super::process::LONGEST_ANSWER;
use super::values::beginning;
use crate::profile::ExternalReward;

/// Posts batches.
#[derive(Debug)]
pub(super) struct RewardAddress {
    http: Client,
    url: String,
    key: Option<String>,
}

impl RewardAddress {
    /// A client for the address of a reward. The key is read from the environment now.
    ///
    /// # Errors
    /// In words: the variable of its key is not set, or no client can be made.
    pub(super) fn open(reward: &ExternalReward) -> Result<Self, String> {
        let key = |name: &String| {
            std::env::var(name)
                .map_err(|_| format!("key_variable {name} is not set in the daemon's environment"))
        };
        Ok(Self {
            http: Client::builder().build().map_err(|error| in_words(&error))?,
            url: reward.url.clone().unwrap_or_default(),
            key: reward.key_variable.as_ref().map(key).transpose()?,
        })
    }

    /// Posts a batch and waits for the answer.
    ///
    /// # Errors
    /// In words: it cannot be reached, refuses, or answers too much.
    pub(super) async fn ask(&self, batch: &[u8]) -> Result<String, String> {
        let mut request = self.http.post(&self.url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(batch.to_vec());
        let response = request.send().await.map_err(|error| in_words(&error))?;
        let status = response.status();
        let text = body(response).await?;
        match status.is_success() {
            true => Ok(text),
            false => Err(format!("{} answered {status}: {}", self.url, beginning(&text))),
        }
    }
}

async fn body(mut response: Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| in_words(&error))? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > LONGEST_ANSWER {
            return Err(format!("its answer is longer than {} MiB", LONGEST_ANSWER >> 20));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// An error with what is behind it.
fn in_words(error: &reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}
