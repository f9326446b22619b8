//! HTTP helpers: response bodies read within a size limit (law L9), and errors as text with their causes.

use reqwest::{Error, Response};

/// Reads the body of a response as text of at most `longest` bytes.
///
/// # Errors
/// A message if the body is longer, is not UTF-8, or breaks off.
pub(crate) async fn text_within(mut response: Response, longest: usize) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| in_words(&error))? {
        if bytes.len() + chunk.len() > longest {
            return Err(format!("the answer has more than {longest} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| "the answer is not UTF-8".into())
}

/// Formats an error together with the chain of its causes.
pub(crate) fn in_words(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}
