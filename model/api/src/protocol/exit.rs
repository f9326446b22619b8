//! How an engine exits on its own account: the codes by which the process that started it knows what to do, and the words
//! with which it leaves. Code 1 means that another start would be refused in the same way.

/// The exit code of a rank that lost a peer; the world should be started again. Any other code than 0 is a
/// fault of the rank itself.
pub const PEER_LOST: i32 = 75;
/// The exit code of an engine whose device failed, and of a rank with another fault of its own that the other
/// ranks do not know of. It may be started again.
pub const FAULT: i32 = 70;

/// Returns the first words of the line that an engine logs when it leaves with this code. The reason follows them.
#[must_use]
pub fn words(code: i32) -> String {
    format!("this rank exits with code {code}")
}
