//! The number of threads that libtorch's libraries use in calls from one of our threads.

#[cfg(fused)]
unsafe extern "C" {
    fn demask_meet_threads();
}

/// Initialises libtorch's libraries on the current thread, so that a number of threads that is set afterwards stays.
///
/// When a library is first used on a thread, it adopts the number that any thread set last. This call is that first
/// use.
pub(crate) fn meet_threads() {
    tch::get_num_threads();
    #[cfg(fused)]
    // SAFETY: the function takes nothing and initialises thread-local state.
    unsafe {
        demask_meet_threads();
    }
}
