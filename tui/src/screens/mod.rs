//! The eight screens, one a file.

pub(crate) mod actors;
pub(crate) mod benchmarks;
pub(crate) mod data;
pub(crate) mod denoise;
pub(crate) mod log;
pub(crate) mod overview;
pub(crate) mod query;
pub(crate) mod rollouts;
