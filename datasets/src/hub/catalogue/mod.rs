//! What a commit holds, page by page, and what of it is wanted. No file is fetched here.

pub(in crate::hub) mod listed;
pub(in crate::hub) mod listing;
pub(in crate::hub) mod tree;
pub(in crate::hub) mod wanted;
