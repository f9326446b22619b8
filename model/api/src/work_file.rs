//! Temporary files: a file or folder is written under a temporary name beside its final place, until it is complete and
//! the caller renames it.
//!
//! The temporary name contains the id of the process that writes it. The next process that writes to the same place can
//! therefore recognise and remove what a killed process left behind.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// The suffix of temporary names.
const ENDING: &str = ".part";

/// Returns the temporary path for a final place, beside it: `.NAME.PROCESS.part`.
#[must_use]
pub fn beside(place: &Path) -> PathBuf {
    let (mut name, ending) = around(place);
    name.pop();
    place.with_file_name(name + ending)
}

/// Returns the prefix `.NAME.PROCESS.` and the suffix of a temporary name, for callers that insert something in
/// between.
#[must_use]
pub fn around(place: &Path) -> (String, &'static str) {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    (format!(".{name}.{}.", std::process::id()), ENDING)
}

/// Checks that there is nothing or a regular file at a place, so that a file may be written there (law L9). A link is
/// not followed.
///
/// # Errors
/// `InvalidInput` for a link, a device, a pipe or a folder.
pub fn is_free(place: &Path) -> Result<()> {
    match place.symlink_metadata() {
        Ok(found) if !found.is_file() => Err(Error::new(
            ErrorKind::InvalidInput,
            "exists and is not a regular file (a link, a device); only regular files are written",
        )),
        _ => Ok(()),
    }
}

/// Creates a temporary file. What a killed process of the same id left under its name is removed, and no link is
/// followed.
///
/// # Errors
/// Any I/O error.
pub fn create(work: &Path) -> Result<File> {
    std::fs::remove_file(work).ok();
    File::create_new(work)
}

/// Renames a complete temporary file to its final place.
///
/// # Errors
/// Those of [`is_free`], and any I/O error.
pub fn settle(work: &Path, place: &Path) -> Result<()> {
    is_free(place)?;
    std::fs::rename(work, place)
}

/// Removes the temporary files and folders for a place whose processes no longer exist.
pub fn sweep(place: &Path) {
    let Some(folder) = place.parent() else { return };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let begins = format!(".{}.", place.file_name().unwrap_or_default().to_string_lossy());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let inner = name
            .strip_prefix(&begins)
            .and_then(|rest| rest.strip_suffix(ENDING));
        let writer = inner.and_then(|inner| inner.split('.').next()?.parse::<u32>().ok());
        if !writer.is_some_and(is_gone) {
            continue;
        }
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(path).ok(),
            _ => std::fs::remove_file(path).ok(),
        };
    }
}

/// Returns whether no process has this id. On a system without `/proc` it is always false.
fn is_gone(process: u32) -> bool {
    Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{process}")).exists()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    #[test]
    fn l9_a_file_takes_the_place_of_a_regular_one_and_never_of_a_link() {
        let folder = std::env::temp_dir().join(format!("demask-settle-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [work, place, link] = ["work", "place", "link"].map(|name| folder.join(name));
        for there in ["nothing", "a regular file"] {
            std::os::unix::fs::symlink("/nowhere", &work).unwrap();
            create(&work).unwrap().write_all(there.as_bytes()).unwrap();
            settle(&work, &place).unwrap();
            assert_eq!(std::fs::read_to_string(&place).unwrap(), there);
        }
        std::os::unix::fs::symlink(&place, &link).unwrap();
        std::fs::write(&work, "lost").unwrap();
        let refused = settle(&work, &link).unwrap_err();
        assert!(refused.to_string().contains("not a regular file"), "{refused}");
        let left = (link.is_symlink(), std::fs::read_to_string(&place).unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(left, (true, "a regular file".to_owned()));
    }

    #[test]
    fn l9_what_a_killed_process_left_is_swept_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("demask-work-file-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let place = folder.join("model.safetensors");
        let gone = u32::MAX;
        let left = [
            format!(".model.safetensors.{gone}.part"),
            format!(".model.safetensors.{gone}.Ab3x.part"),
        ];
        let own = beside(&place);
        let kept = [
            ".model.safetensors.part",
            ".other.4294967295.part",
            "model.safetensors",
        ];
        for name in left.iter().map(String::as_str).chain(kept) {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        std::fs::create_dir(folder.join(format!(".model.safetensors.{gone}.folder.part"))).unwrap();
        std::fs::write(&own, "x").unwrap();
        sweep(&place);
        let there: std::collections::BTreeSet<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        std::fs::remove_dir_all(&folder).unwrap();
        let own = own.file_name().unwrap().to_string_lossy().into_owned();
        let expected = kept.iter().map(|&name| name.to_owned()).chain([own]);
        assert_eq!(there, expected.collect());
    }
}
