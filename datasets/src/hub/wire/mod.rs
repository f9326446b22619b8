//! The network side of a pull: requests and redirects, the meaning of headers and answers, retries, and the metadata of
//! a file. Nothing is written to disk here.

pub(in crate::hub) mod answer;
pub(in crate::hub) mod etag;
pub(in crate::hub) mod headers;
pub(in crate::hub) mod http;
pub(in crate::hub) mod patience;
pub(in crate::hub) mod remote;
