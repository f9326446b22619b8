//! Output files of commands: the name is checked, the file is written atomically, and an existing file is overwritten
//! only on request.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use demask_api::{PictureSize, work_file};
use demask_tui::chart::Chart;

use super::paper;
use crate::exit::UsageError;

/// Checks the output file that a flag names, before anything is made. Returns its ending.
///
/// # Errors
/// An error if the name is a folder, a link or a device, or has another ending than these, if the file exists and may
/// not be overwritten, or if its folder does not exist.
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
        return refuse("the file exists already; name another one, or overwrite it with --force".to_owned());
    }
    if let Err(error) = work_file::is_free(path) {
        return refuse(error.to_string());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(missing) = folder.filter(|folder| !folder.is_dir()) {
        bail!("{}: there is no such folder to write to", missing.display());
    }
    Ok(ending)
}

/// Most charts of one file, each of which has its own area.
pub const MOST_CHARTS: usize = 24;

/// Writes charts in the format of the file's ending, each with this size in pixels.
///
/// # Errors
/// As [`write`]; also an error if the charts cannot be drawn.
pub fn write_charts(path: &Path, ending: &str, charts: &[Chart], size: PictureSize) -> anyhow::Result<()> {
    match ending {
        "png" => write(path, &paper::png(charts, size)?),
        _ => write(path, paper::svg(charts, size)?.as_bytes()),
    }
}

/// Writes a file through a work file beside it.
///
/// # Errors
/// An error with the file's name if it cannot be written. Then no file is left behind.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    work_file::sweep(path);
    let work = work_file::beside(path);
    let written = work_file::create(&work)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| work_file::settle(&work, path));
    if written.is_err() {
        std::fs::remove_file(&work).ok();
    }
    written.with_context(|| path.display().to_string())
}
