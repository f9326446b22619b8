//! How a rank ends on its own account.

pub use demask_api::exit::{FAULT, PEER_LOST};

/// Exits this process at once, without destructors. The closed sockets notify the peers, whereas closing a
/// group with a hanging call would wait for that call. Cleaning up on a failed device may throw or never return.
pub fn leave(code: i32, why: &dyn std::fmt::Display) -> ! {
    tracing::error!("{}: {why}", demask_api::exit::words(code));
    // SAFETY: `_exit` takes a number and does not return.
    unsafe { libc::_exit(code) }
}
