//! The Hugging Face Hub: a repository's files, pulled into the cache that Python's `huggingface_hub` keeps.
//!
//! A file that Python fetched is used, and the other way round. The facts (addresses, headers, the cache's layout, locks,
//! environment variables) follow `huggingface_hub`, `file_download.py` and `constants.py`; what it does not do is done
//! here: a broken download goes on where it broke, and every file's hash is checked before it gets its name.
//!
//! The protocol of Xet, the hub's chunk store, is not spoken. A file that lies there is fetched as any other large one: over
//! the plain HTTPS bridge that the hub redirects to, and checked against the length and the SHA-256 of that redirect
//! (`X-Linked-Size`, `X-Linked-Etag`), whatever the bridge calls it.
//!
//! - [`Repo`]: what is asked for; [`Settings`]: where, as whom, into which folder;
//! - [`Hub::pull`]: the whole of it; [`Watch`] is told how it goes, [`Pulled`] is what came;
//! - [`Pulled::lay_into`]: the files as plain files of a folder;
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
