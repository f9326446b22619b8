//! A guard around the `parquet` crate.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` of the `parquet` crate and turns its panics into errors: the crate panics on some malformed files, and
/// such a file must not stop the process (law L9).
pub(in crate::formats) fn survived<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|cause| {
        let words = cause
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(cause.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        format!("the Parquet reader failed: {words}")
    })
}
