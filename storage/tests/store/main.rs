//! The store through its public interfaces, as one program that is linked once; each file is a module.
#![allow(clippy::unwrap_used, missing_docs)]

mod blobs;
mod damaged;
mod opening;
mod queries;
mod rows;
mod runs;
mod writing;
