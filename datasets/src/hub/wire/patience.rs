//! Retries: which failures may pass, how long to wait, when to give up.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use crate::hub::wire::headers::text;
use crate::hub::{HubError, PullEvent, Watch};

/// Limits of retries and waits.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// The most tries in a row without progress.
    pub tries: u32,
    /// The wait after the first failure; it doubles after each further one.
    pub first_wait: Duration,
    /// The longest wait that doubling reaches.
    pub longest_wait: Duration,
    /// The longest wait that the hub may ask for (`Retry-After`, `RateLimit`); its rate windows are five minutes.
    pub longest_asked: Duration,
    /// The timeout of connecting, and of each read.
    pub silence: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(8),
            longest_asked: Duration::from_secs(300),
            silence: Duration::from_secs(30),
        }
    }
}

/// Why one try failed.
#[derive(Debug)]
pub enum Failure {
    /// Another try may succeed.
    Passing {
        /// The reason.
        why: String,
        /// The wait that the hub asks for.
        wait: Option<Duration>,
    },
    /// No further try can succeed.
    Final(HubError),
}

impl Failure {
    /// Makes a failure that may pass.
    pub fn passing(why: impl Into<String>) -> Self {
        Self::Passing {
            why: why.into(),
            wait: None,
        }
    }

    /// Makes the failure of a connection that could not be opened, broke or timed out.
    #[must_use]
    pub fn of_client(error: reqwest::Error) -> Self {
        // The message names the host only: a storage host's address contains a signature.
        let host = error
            .url()
            .and_then(Url::host_str)
            .unwrap_or("the hub")
            .to_owned();
        let error = error.without_url();
        let mut words = format!("{host}: {error}");
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            words = format!("{words}: {inner}");
            cause = inner.source();
        }
        Self::passing(words)
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

/// Returns the wait that an answer asks for: the seconds of `Retry-After`, or the rest of a `RateLimit` window that is
/// used up.
#[must_use]
pub fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let retry_after = text(headers, RETRY_AFTER.as_str()).and_then(|value| value.trim().parse().ok());
    let window = || {
        let limit = text(headers, "ratelimit")?.replace(' ', "");
        let part = |key: &str| {
            limit
                .split(';')
                .find_map(|part| part.strip_prefix(key)?.parse().ok())
        };
        (part("r=") == Some(0)).then(|| part("t="))?
    };
    retry_after.or_else(window).map(Duration::from_secs)
}

/// Whether a status may change on another try.
#[must_use]
pub fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

/// The tries of one request.
pub struct Tries<'a> {
    what: &'a str,
    patience: &'a RetryPolicy,
    watch: &'a dyn Watch,
    failed: u32,
}

impl<'a> Tries<'a> {
    /// Starts with no failed try.
    #[must_use]
    pub fn new(what: &'a str, patience: &'a RetryPolicy, watch: &'a dyn Watch) -> Self {
        Self {
            what,
            patience,
            watch,
            failed: 0,
        }
    }

    /// Resets the count of failures after progress.
    pub fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// A final failure; too many failures in a row; a wait that is too long.
    pub async fn after(&mut self, failure: Failure) -> Result<(), HubError> {
        let (why, asked) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { why, wait } => (why, wait),
        };
        self.failed += 1;
        let (what, patience) = (self.what.to_owned(), self.patience);
        if self.failed >= patience.tries {
            let (tries, last) = (self.failed, why);
            return Err(HubError::GaveUp { what, tries, last });
        }
        if let Some(wait) = asked.filter(|&wait| wait > patience.longest_asked) {
            return Err(HubError::TooBusy { what, why, wait });
        }
        let doubled = patience.first_wait.saturating_mul(1 << (self.failed - 1).min(16));
        let wait = asked.unwrap_or(doubled.min(patience.longest_wait));
        self.watch.saw(PullEvent::Waiting {
            what: &what,
            why: &why,
            wait,
        });
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
