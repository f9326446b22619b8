//! The dashboard: state, update, view. Knows `demask-storage` only.
//!
//! - `dashboard.rs`: the whole state; `model.rs`: what the daemon told; `message.rs`: what happens;
//! - `update.rs`: how events and keys change it, whichever screen is shown; `seen.rs`: what was counted already;
//! - `keys.rs`: the one table of keys, from which help and footer come;
//! - `palette.rs`: any of them by a few letters; `lineage.rs`: what is asked of the store when walking it;
//! - `view.rs`: the frame around the screens; `screens/`: one a file; `theme.rs`: colours; `pictures.rs`: pictures;
//! - `link.rs`: the daemon's socket; `app.rs`: the loop and the terminal; `signals.rs`: what ends or stops it from outside.

mod app;
mod dashboard;
mod keys;
mod lineage;
mod link;
mod message;
mod model;
mod palette;
mod pictures;
mod screens;
mod seen;
mod signals;
mod theme;
mod update;
mod view;

use std::path::PathBuf;

pub use app::attach;
pub use dashboard::Dashboard;
pub use message::{Effect, Msg};
pub use model::Model;
pub use update::update;
pub use view::render_to_string;

/// How pictures are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageMode {
    /// What the terminal says that it can; else half-blocks.
    Auto,
    /// Half-block characters, which every terminal with colours can.
    Halfblocks,
    /// Kitty's protocol, without asking.
    Kitty,
    /// Sixel, without asking.
    Sixel,
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
    /// The folder of the store's pictures.
    pub blobs: PathBuf,
}
