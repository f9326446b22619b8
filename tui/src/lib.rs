//! The dashboard, built as state, update and view. It depends on `demask-storage` only.
//!
//! - `dashboard.rs`: the whole state; `model/`: what the daemon sent, messages and effects, deduplication;
//! - `update/`: how events and keys change the state, whichever screen is shown;
//! - `keys.rs`: the table of keys, from which help and footer are made;
//! - `palette.rs`: finding an action by a few letters; `lineage.rs`: the queries of the lineage;
//! - `chart/`: charts of curves, on a screen or as text;
//! - `view.rs`: the frame around the screens; `screens/`: one per file; `theme.rs`: colours; `pictures.rs`: pictures;
//! - `terminal/`: the main loop, the daemon's socket, and signals.

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
    /// With the best protocol that the terminal reports; else half-blocks.
    Auto,
    /// With half-block characters, which every colour terminal supports.
    Halfblocks,
    /// With Kitty's protocol, without asking the terminal.
    Kitty,
    /// With Sixel, without asking the terminal.
    Sixel,
    /// No pictures.
    Off,
}

/// The options of the dashboard.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// The daemon's control socket.
    pub socket: PathBuf,
    /// The user name and client, for the audit row.
    pub by: String,
    /// Whether to draw without colours.
    pub no_color: bool,
    /// How pictures are drawn.
    pub images: ImageMode,
    /// The folder of the store's picture blobs.
    pub blobs: PathBuf,
}
