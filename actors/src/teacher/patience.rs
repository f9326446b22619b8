//! The limits on retries, waits and sizes of requests to a teacher.

use std::time::Duration;

/// The limits on retries, waits and sizes.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Tries in all.
    pub tries: u32,
    /// Wait after the first failure; doubled after each further one.
    pub first_wait: Duration,
    /// Longest wait, even if `Retry-After` asks for more.
    pub longest_wait: Duration,
    /// Time limit of one request, connection and body included.
    pub limit: Duration,
    /// Longest answer in bytes.
    pub longest_body: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            limit: Duration::from_secs(120),
            longest_body: 4 << 20,
        }
    }
}

/// Returns the wait after a failure: doubled after each one, or longer if the server asks for it, up to the longest.
pub(super) fn wait_before(patience: &Patience, number: u32, asked: Option<Duration>) -> Duration {
    let doubled = patience.first_wait.saturating_mul(2_u32.saturating_pow(number));
    asked.unwrap_or_default().max(doubled).min(patience.longest_wait)
}

/// Reads the seconds of a `Retry-After` header; `None` for a date.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    text.trim()
        .parse::<f64>()
        .ok()
        .and_then(|value| Duration::try_from_secs_f64(value).ok())
}
