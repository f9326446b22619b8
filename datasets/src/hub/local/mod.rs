//! The local side of a pull: the cache and its locks, partial blobs, copies in a plain folder, and the folder of a
//! checkpoint.

pub(in crate::hub) mod blob;
pub(in crate::hub) mod cache;
pub(in crate::hub) mod checkpoint;
pub(in crate::hub) mod folder;
pub(in crate::hub) mod lock;
