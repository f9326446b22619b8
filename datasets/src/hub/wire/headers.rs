//! The headers that the hub answers with.

use reqwest::header::{CONTENT_RANGE, HeaderMap, LINK};

/// The commit that an answer is about.
pub const COMMIT: &str = "x-repo-commit";
/// The tag of the file that a redirect leads to.
pub const LINKED_ETAG: &str = "x-linked-etag";
/// Its length.
pub const LINKED_SIZE: &str = "x-linked-size";
/// What the chunk store calls a file that it holds.
pub const XET_HASH: &str = "x-xet-hash";

/// A header as text.
#[must_use]
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The first byte and the whole length that a `Content-Range: bytes FIRST-LAST/LENGTH` names.
#[must_use]
pub fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text(headers, CONTENT_RANGE.as_str())?
        .strip_prefix("bytes ")?
        .split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    Some((first, whole.trim().parse().ok()))
}

/// The address of the page after this one: `Link: <ADDRESS>; rel="next"`.
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
