//! The dashboard: state, update, view. Knows `demask-storage` only.
//!
//! - `dashboard.rs`: the whole state; `model/`: what the daemon told, what happens, what was counted already;
//! - `update/`: how events and keys change it, whichever screen is shown;
//! - `keys.rs`: the one table of keys, from which help and footer come;
//! - `palette.rs`: any of them by a few letters; `lineage.rs`: what is asked of the store when walking it;
//! - `chart/`: curves laid over each other, on a screen or as text;
//! - `view.rs`: the frame around the screens; `screens/`: one a file; `theme.rs`: colours; `pictures.rs`: pictures;
//! - `terminal/`: the loop, the daemon's socket, the signals that end or stop it from outside.

pub mod chart;
mod dashboard;
mod keys;
mod lineage;
mod model;
mod palette;
mod pictures;
mod screens;
mod terminal;
mod theme;
mod update;
mod view;

use std::path::PathBuf;

pub use dashboard::Dashboard;
pub use model::Model;
pub use model::message::{Effect, Msg};
pub use terminal::app::attach;
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
