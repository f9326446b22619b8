//! The dashboard: state, update, view. Knows `demask-storage` only.
//!
//! - `model.rs`: what is on the screen; `update.rs`: how events and keys change it;
//! - `keys.rs`: the one table of keys, from which help and footer come;
//! - `view.rs`: the screens; `link.rs`: the daemon's socket; `app.rs`: the loop and the terminal.

mod app;
mod keys;
mod link;
mod model;
mod update;
mod view;

use std::path::PathBuf;

pub use app::attach;
pub use model::Model;
pub use update::{Effect, Msg, update};
pub use view::render_to_string;

/// How pictures are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageMode {
    /// Half-block characters, which every terminal with colours can.
    Auto,
    /// The same, asked for.
    Halfblocks,
    /// Not at all.
    Off,
}

/// What the dashboard is opened on.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// The daemon's control socket.
    pub socket: PathBuf,
    /// Who commands, for the audit row.
    pub by: String,
    /// Draw without colours.
    pub no_color: bool,
    /// How pictures are drawn.
    pub images: ImageMode,
}
