//! The number of threads that libtorch's libraries use on a thread of ours.

#[cfg(fused)]
unsafe extern "C" {
    fn demask_meet_threads();
}

/// Makes the number of threads that is set on this thread from now on stay. Each of the libraries takes over whatever any
/// thread set last when it is first used on a thread; this call is that first use.
pub(crate) fn meet_threads() {
    tch::get_num_threads();
    #[cfg(fused)]
    // SAFETY: takes nothing, and initialises what is this thread's own.
    unsafe {
        demask_meet_threads();
    }
}
