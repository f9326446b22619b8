//! The hub's catalogue: the files of a commit, page by page, and which of them are wanted. No file is fetched here.

pub(in crate::hub) mod listed;
pub(in crate::hub) mod listing;
pub(in crate::hub) mod tree;
pub(in crate::hub) mod wanted;
