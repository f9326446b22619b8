//! The address of an external reward: a batch is posted as JSON, its values come back as JSON.

use reqwest::Client;
use reqwest::header::CONTENT_TYPE;

use super::process::LONGEST_ANSWER;
use super::values::beginning;
use crate::profile::ExternalReward;
use crate::runtime::http::{in_words, text_within};

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
        let text = text_within(response, LONGEST_ANSWER).await?;
        match status.is_success() {
            true => Ok(text),
            false => Err(format!("{} answered {status}: {}", self.url, beginning(&text))),
        }
    }
}
