//! The dashboard of the running daemon.

use std::process::ExitCode;

use demask_actors::control::client::who;
use demask_actors::home::Home;

use crate::args::Images;

/// Opens the dashboard.
///
/// # Errors
/// Any error of the terminal.
pub fn open(home: &Home, images: Images) -> anyhow::Result<ExitCode> {
    let images = match images {
        Images::Auto => demask_tui::ImageMode::Auto,
        Images::Halfblocks => demask_tui::ImageMode::Halfblocks,
        Images::Kitty => demask_tui::ImageMode::Kitty,
        Images::Sixel => demask_tui::ImageMode::Sixel,
        Images::Off => demask_tui::ImageMode::Off,
    };
    demask_tui::attach(demask_tui::AttachOptions {
        socket: home.socket()?,
        by: who("dashboard"),
        // An empty value counts as none (no-color.org).
        no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        images,
        blobs: home.blobs(),
    })?;
    Ok(ExitCode::SUCCESS)
}
