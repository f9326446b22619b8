//! The C functions of `csrc/world.cpp`, and the conversion of their errors.

use std::ffi::{CString, c_int};

use crate::error::{ModelError, Result};

/// A pointer to a store, a group or pending calls of the C++ side.
pub(super) type Object = *mut std::ffi::c_void;

/// The return code of a wait that timed out.
#[cfg(fused)]
const TIMED_OUT: c_int = 2;

/// Calls a C function; `Ok(false)` means that a wait timed out. A build without the C++ kernels refuses.
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        #[cfg(fused)]
        {
            // SAFETY: handles are live for the call, pointers lead to buffers of the given lengths, and
            // strings end with NUL.
            crate::world::ffi::told(stringify!($name), unsafe { crate::world::ffi::names::$name($($argument),*) })
        }
        #[cfg(not(fused))]
        {
            $(let _ = $argument;)*
            crate::world::ffi::absent()
        }
    }};
}
pub(super) use call;

#[cfg(fused)]
pub(super) mod names {
    use std::ffi::{c_char, c_int};

    use super::Object;
    use crate::device::kernels::ffi::Handle;

    unsafe extern "C" {
        pub fn demask_store_of_file(path: *const c_char, size: i64, to: *mut Object) -> c_int;
        pub fn demask_store_of_tcp(
            host: *const c_char,
            port: i64,
            listening: i64,
            ms: i64,
            to: *mut Object,
        ) -> c_int;
        pub fn demask_store_below(store: Object, prefix: *const c_char, ms: i64, to: *mut Object) -> c_int;
        pub fn demask_store_add(store: Object, key: *const c_char, by: i64, sum: *mut i64) -> c_int;
        pub fn demask_store_set(store: Object, key: *const c_char, value: *const c_char) -> c_int;
        pub fn demask_store_get(
            store: Object,
            key: *const c_char,
            to: *mut u8,
            room: i64,
            length: *mut i64,
        ) -> c_int;
        pub fn demask_store_wait(store: Object, key: *const c_char, ms: i64) -> c_int;
        pub fn demask_store_drop(store: Object);
        pub fn demask_group_open(
            store: Object,
            rank: i64,
            size: i64,
            ms: i64,
            over_nccl: c_int,
            to: *mut Object,
        ) -> c_int;
        pub fn demask_group_drop(group: Object);
        pub fn demask_group_limit(group: Object, ms: i64) -> c_int;
        pub fn demask_group_watch(group: Object, ms: i64, to: *mut Object) -> c_int;
        pub fn demask_watch_first(watch: Object, number: *mut i64, ms: *mut i64);
        pub fn demask_watch_look(watch: Object) -> c_int;
        pub fn demask_watch_drop(watch: Object);
        pub fn demask_group_meet(group: Object, one: Handle) -> c_int;
        pub fn demask_group_broadcast(group: Object, tensor: Handle, from: i64) -> c_int;
        pub fn demask_group_all_reduce(group: Object, tensor: Handle, how: i64) -> c_int;
        pub fn demask_group_all_to_all(group: Object, to: Handle, from: Handle) -> c_int;
        pub fn demask_group_all_gather(group: Object, pieces: *mut Handle, count: i64) -> c_int;
        pub fn demask_group_begin_gather(
            group: Object,
            pieces: *mut Handle,
            roots: *const i64,
            count: i64,
            to: *mut Object,
        ) -> c_int;
        pub fn demask_group_begin_exchange(
            group: Object,
            to: Handle,
            from: Handle,
            to_lengths: *const i64,
            from_lengths: *const i64,
            size: i64,
            out: *mut Object,
        ) -> c_int;
        pub fn demask_calls_wait(calls: Object, times: *mut f64) -> c_int;
        pub fn demask_calls_drop(calls: Object);
        pub fn demask_group_barrier(group: Object) -> c_int;
        pub fn demask_chunk_squares(flat: Handle, chunk: i64, sums: Handle) -> c_int;
    }
}

#[cfg(fused)]
pub(super) fn told(call: &str, code: c_int) -> Result<bool> {
    match code {
        0 => Ok(true),
        TIMED_OUT => Ok(false),
        other => {
            let words = match crate::device::kernels::ffi::check(other) {
                Err(ModelError::Torch(error)) => error.to_string(),
                _ => String::new(),
            };
            let call = call.trim_start_matches("demask_").replace('_', " ");
            // NCCL's messages have several lines, and the last one tells most.
            let lines: Vec<&str> = words.lines().map(str::trim).collect();
            let words = lines.join(" ");
            Err(ModelError::World(format!("{call}: {words}")))
        }
    }
}

#[cfg(not(fused))]
pub(super) fn absent() -> Result<bool> {
    Err(ModelError::Refused(
        "this build has no C++ code, so it cannot train on several ranks".into(),
    ))
}

/// Converts a string to a C string.
///
/// # Errors
/// Refuses a string that contains NUL.
pub(super) fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| ModelError::Refused(format!("{text:?}: a NUL inside")))
}
