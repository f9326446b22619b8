//! How a rank ends on its own account: its exit codes, by which the process that started it knows what to do.
//! Code 1 means that another start would be refused in the same way.

/// The exit code of a rank that lost a peer; the world should be started again. Any other code than 0 is a
/// fault of the rank itself.
pub const PEER_LOST: i32 = 75;
/// The exit code of an engine whose device failed, and of a rank with another fault of its own that the other
/// ranks do not know of. It may be started again.
pub const FAULT: i32 = 70;

/// Exits this process at once, without destructors. The closed sockets notify the peers, whereas closing a
/// group with a hanging call would wait for that call. Cleaning up on a failed device may throw or never return.
pub fn leave(code: i32, why: &dyn std::fmt::Display) -> ! {
    tracing::error!("this rank exits with code {code}: {why}");
    // SAFETY: `_exit` takes a number and does not return.
    unsafe { libc::_exit(code) }
}
