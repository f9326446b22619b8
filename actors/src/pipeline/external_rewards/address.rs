//! The HTTP transport of an external reward: a batch is posted as JSON, and its values come back as JSON.

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;

use super::process::LONGEST_ANSWER;
use super::values::beginning;
use crate::profile::ExternalReward;
use crate::runtime::http::{in_words, text_within};

/// A client that posts batches to an address.
#[derive(Debug)]
pub(super) struct RewardAddress {
    http: Client,
    url: String,
    key: Option<String>,
}

impl RewardAddress {
    /// Makes the client of a reward's address. The key is read from the environment at once.
    ///
    /// # Errors
    /// A message if the variable of the key is not set, or if the HTTP client cannot be made.
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

    /// Posts a batch and returns the body of the response.
    ///
    /// # Errors
    /// A message if the address cannot be reached, answers with an error status, or returns too long a body.
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
        let text = text_within(response, LONGEST_ANSWER).await?;
        match status.is_success() {
            true => Ok(text),
            false => Err(format!("{} answered {status}: {}", self.url, beginning(&text))),
        }
    }
}
