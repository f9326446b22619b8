//! Answers of servers: read within a limit (law L9), their errors in words.

use reqwest::{Error, Response};

/// The text of an answer, at most so many bytes.
///
/// # Errors
/// In words: it is longer, no UTF-8, or broke off.
pub(crate) async fn text_within(mut response: Response, longest: usize) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| in_words(&error))? {
        if bytes.len() + chunk.len() > longest {
            return Err(format!("an answer of more than {longest} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| "an answer that is not UTF-8".into())
}

/// An error with what is behind it.
pub(crate) fn in_words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}
