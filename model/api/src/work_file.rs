//! A file or folder until it is whole: beside its place, under a name that says who writes it, so that what a killed process left
//! is known and swept by the next one that writes there.

use std::path::{Path, PathBuf};

/// What such names end in.
const ENDING: &str = ".part";

/// Where this process writes what is to have a place: `.NAME.PROCESS.part` beside it.
#[must_use]
pub fn beside(place: &Path) -> PathBuf {
    let (mut name, ending) = around(place);
    name.pop();
    place.with_file_name(name + ending)
}

/// What such a name begins with, `.NAME.PROCESS.`, and ends in, for whoever puts something of their own in between.
#[must_use]
pub fn around(place: &Path) -> (String, &'static str) {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    (format!(".{name}.{}.", std::process::id()), ENDING)
}

/// Removes what processes left beside a place that were killed while they wrote what was to have it.
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

/// Whether no process has this number; where the system does not say, all are taken to be there.
fn is_gone(process: u32) -> bool {
    Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{process}")).exists()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

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
