//! The response headers of the hub.

use reqwest::header::{CONTENT_RANGE, HeaderMap, LINK};

/// The commit that an answer refers to.
pub const COMMIT: &str = "x-repo-commit";
/// The etag of the file behind a redirect.
pub const LINKED_ETAG: &str = "x-linked-etag";
/// The length of the file behind a redirect.
pub const LINKED_SIZE: &str = "x-linked-size";
/// The file's hash in the Xet chunk store.
pub const XET_HASH: &str = "x-xet-hash";

/// Returns a header as text.
#[must_use]
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Parses `Content-Range: bytes FIRST-LAST/LENGTH` into the first byte and, if known, the whole length.
#[must_use]
pub fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text(headers, CONTENT_RANGE.as_str())?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    Some((first, whole.trim().parse().ok()))
}

/// Returns the address of the next page: `Link: <ADDRESS>; rel="next"`.
#[must_use]
pub fn next_page(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(LINK).iter().filter_map(|line| line.to_str().ok());
    let mut links = lines.flat_map(|line| line.split('<').skip(1));
    links.find_map(|link| {
        let (address, about) = link.split_once('>')?;
        let next = |one: &str| matches!(one.trim(), "rel=\"next\"" | "rel=next");
        about.split([';', ',']).any(next).then_some(address)
    })
}
