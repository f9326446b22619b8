//! The stamps by which an evaluation knows the files of a model: name, size, time and fingerprint. Reuse on one machine
//! wants all of them equal; parts of several machines, whose copies may have other times, all but the time.

use std::ffi::OsStr;
use std::path::Path;
use std::time::UNIX_EPOCH;

use demask_actors::pipeline::evaluation::fingerprint::fingerprint;

/// The endings of the files by which a model in a folder is recognized: weights, configurations, tokenizers and chat
/// templates.
const OF_A_MODEL: [&str; 3] = ["safetensors", "json", "jinja"];

/// Returns the stamps of a model's files, so that another model in the same folder is recognized.
pub fn stamps(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut stamps: Vec<String> = files
        .map(|file| file.path())
        .filter(|path| {
            let ending = path.extension().and_then(OsStr::to_str);
            ending.is_some_and(|ending| OF_A_MODEL.contains(&ending))
        })
        .filter_map(|path| stamp(&path))
        .collect();
    stamps.sort();
    stamps
}

/// Returns the stamp of a file, or of the file that a link leads to.
pub fn stamp(path: &Path) -> Option<String> {
    let about = std::fs::metadata(path).ok()?;
    let changed = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let (name, print) = (path.file_name()?.to_string_lossy(), fingerprint(path).ok()?);
    Some(format!("{name} {} {} {print}", about.len(), changed.as_micros()))
}

/// Returns a stamp without its time.
pub fn without_time(stamp: &str) -> String {
    let mut parts = stamp.rsplitn(3, ' ');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(print), Some(_), Some(name_and_size)) => format!("{name_and_size} {print}"),
        _ => stamp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_copy_has_the_stamp_of_its_file_but_for_the_time() {
        let root = std::env::temp_dir().join(format!("demask-stamps-{}", std::process::id()));
        let path = |folder: &str| root.join(folder).join("my weights.safetensors");
        let written = |folder: &str, text: &str| {
            std::fs::create_dir_all(root.join(folder)).unwrap();
            std::fs::write(path(folder), text).unwrap();
            let early = UNIX_EPOCH + std::time::Duration::from_secs(folder.len() as u64);
            let file = std::fs::File::options().write(true).open(path(folder)).unwrap();
            file.set_modified(early).unwrap();
            stamps(&root.join(folder)).pop().unwrap()
        };
        let (one, copy, other) = (written("a", "one"), written("bb", "one"), written("ccc", "two"));
        std::fs::remove_dir_all(&root).unwrap();
        assert!(one.starts_with("my weights.safetensors 3 1000000 "), "{one}");
        assert_ne!(one, copy);
        assert_eq!(without_time(&one), without_time(&copy));
        assert_ne!(without_time(&one), without_time(&other));
    }
}
