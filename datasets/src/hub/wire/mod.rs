//! What crosses the wire: addresses and redirects, what headers and answers mean, which failures may pass, what the hub says of
//! a file. Nothing is written to disk here.

pub(in crate::hub) mod answer;
pub(in crate::hub) mod etag;
pub(in crate::hub) mod headers;
pub(in crate::hub) mod http;
pub(in crate::hub) mod patience;
pub(in crate::hub) mod remote;
