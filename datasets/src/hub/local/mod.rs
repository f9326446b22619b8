//! What lies on this machine: the cache and its locks, one file's bytes as they come, plain files of a folder, a checkpoint's folder.

pub(in crate::hub) mod blob;
pub(in crate::hub) mod cache;
pub(in crate::hub) mod checkpoint;
pub(in crate::hub) mod folder;
pub(in crate::hub) mod lock;
