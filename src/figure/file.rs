//! A file that a command writes for a person: named rightly, whole or not at all, never over another unasked.

use std::path::Path;

use anyhow::{Context as _, bail};
use demask_api::{PictureSize, work_file};
use demask_tui::chart::Chart;

use super::paper;
use crate::exit::UsageError;

/// What is wrong with a name to write to, which a flag gives, told before anything is made; its ending.
///
/// # Errors
/// A folder, another ending than these; a file that is there, unless it may be written over; a folder that is missing.
pub fn check_output(flag: &str, path: &Path, endings: &[&str], force: bool) -> anyhow::Result<String> {
    let refuse = |why: String| Err(UsageError(format!("{flag} {}: {why}", path.display())).into());
    let expected = endings
        .iter()
        .map(|ending| format!(".{ending}"))
        .collect::<Vec<_>>()
        .join(" or ");
    if path.is_dir() || path.file_name().is_none() {
        return refuse(format!(
            "is a folder; expected the name of a file that ends in {expected}"
        ));
    }
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    let Some(ending) = ending.filter(|ending| endings.contains(&ending.as_str())) else {
        return refuse(format!("expected a name that ends in {expected}"));
    };
    if !force && path.symlink_metadata().is_ok() {
        return refuse("it is there already; name another file, or write over it with --force".to_owned());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(missing) = folder.filter(|folder| !folder.is_dir()) {
        bail!("{}: no such folder to write to", missing.display());
    }
    Ok(ending)
}

/// Charts of one file, at most: each has its own room.
pub const MOST_CHARTS: usize = 24;

/// Writes charts in the form that the file's ending says, so many pixels each.
///
/// # Errors
/// As [`write`]; charts that cannot be drawn.
pub fn write_charts(path: &Path, ending: &str, charts: &[Chart], size: PictureSize) -> anyhow::Result<()> {
    match ending {
        "png" => write(path, &paper::png(charts, size)?),
        _ => write(path, paper::svg(charts, size)?.as_bytes()),
    }
}

/// Writes a file, beside its place first.
///
/// # Errors
/// The system's, with the file's name; then nothing is left behind.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    work_file::sweep(path);
    let work = work_file::beside(path);
    let written = std::fs::write(&work, bytes).and_then(|()| std::fs::rename(&work, path));
    if written.is_err() {
        std::fs::remove_file(&work).ok();
    }
    written.with_context(|| path.display().to_string())
}
