//! The Hugging Face hub: a repository's files, pulled into the cache that Python's `huggingface_hub` uses.
//!
//! Files fetched by Python are used, and Python uses those fetched here. Addresses, headers, the cache's layout, locks
//! and environment variables follow `huggingface_hub` (`file_download.py`, `constants.py`). Two things go beyond it: a
//! broken download resumes where it stopped, and every file's hash is verified before the file gets its name.
//!
//! The protocol of Xet, the hub's chunk store, is not implemented. A file stored there is fetched like any large file:
//! over the plain HTTPS bridge that the hub redirects to. It is verified against the length and the SHA-256 of that
//! redirect (`X-Linked-Size`, `X-Linked-Etag`), whatever headers the bridge sends.
//!
//! - [`Repo`]: the requested repository; [`Settings`]: endpoint, token and cache folder;
//! - [`Hub::pull`]: the whole pull; [`Watch`] observes its progress, [`Pulled`] is its result;
//! - [`Pulled::lay_into`]: copies of the files in a plain folder;
//! - [`checkpoint_folder`]: the folder that `--checkpoint OWNER/NAME` means.

mod catalogue;
mod error;
mod local;
mod pull;
mod pulled;
mod repo;
mod settings;
mod watch;
mod wire;

pub use error::HubError;
pub use local::cache::Cache;
pub use local::checkpoint::checkpoint_folder;
pub use local::folder::Laid;
pub use pull::Hub;
pub use pulled::{PullOrigin, Pulled, PulledFile};
pub use repo::{Repo, RepoKind};
pub use settings::{AccessToken, Settings};
pub use watch::{PullEvent, Watch};
pub use wire::patience::RetryPolicy;
