//! Why a teacher gave no answer.

/// The reason why the teacher gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// The HTTP client could not be made.
    #[error("teacher {url}: {message}")]
    Setup {
        /// The address.
        url: String,
        /// The reason.
        message: String,
    },
    /// The request would exceed the cap.
    #[error(
        "the teacher's limit of {cap} tokens is reached: {spent} are used or reserved, {wanted} more were requested; raise teacher.token_cap to continue"
    )]
    Cap {
        /// The cap in tokens.
        cap: u64,
        /// Tokens that are spent or reserved.
        spent: u64,
        /// Tokens that this request needs.
        wanted: u64,
    },
    /// The teacher refused the request; another try would not help.
    #[error("the teacher refused the request with HTTP status {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The beginning of the answer.
        body: String,
    },
    /// Every try failed.
    #[error("the teacher failed {tries} times; the last failure: {last}")]
    Failed {
        /// Number of tries.
        tries: u32,
        /// The last failure.
        last: String,
    },
}
