//! The structure of the code base: the allowed dependencies between crates, no cycle between the modules of a crate, a
//! limit of entries per folder, unique type names, and no test file that is not compiled.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each crate's folder, and the crates on which it may depend.
const ARROWS: [(&str, &[&str]); 8] = [
    (".", &["actors", "api", "datasets", "rewards", "storage", "tui"]),
    ("actors", &["api", "datasets", "rewards", "storage"]),
    ("rewards", &["api", "datasets"]),
    ("datasets", &["api"]),
    ("model", &["api"]),
    ("model/api", &[]),
    ("tui", &["storage"]),
    ("storage", &[]),
];

/// The most entries of a folder, not counting the file that opens it.
const ENTRIES: usize = 12;

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let opens = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        ["mod.rs", "lib.rs", "main.rs", "README.md"].contains(&name.as_str())
    };
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !opens(path))
        .collect();
    entries.sort();
    entries
}

/// Returns all folders below one, including itself.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let below = entries(folder).into_iter().filter(|path| path.is_dir());
    let mut all: Vec<PathBuf> = below.flat_map(|path| folders(&path)).collect();
    all.push(folder.into());
    all
}

/// Returns the Rust files of a top-level module, which is a file or a folder.
fn files(room: &Path) -> Vec<PathBuf> {
    if room.is_file() {
        return vec![room.into()];
    }
    let all = std::fs::read_dir(room)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    all.flat_map(|path| files(&path)).collect()
}

#[test]
fn crates_use_what_the_readme_says() {
    for (folder, expected) in ARROWS {
        let manifest = std::fs::read_to_string(house().join(folder).join("Cargo.toml")).unwrap();
        let (_, behind) = manifest.split_once("\n[dependencies]\n").unwrap();
        let uses: BTreeSet<&str> = behind
            .lines()
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.strip_prefix("demask-"))
            .map(|line| line.split(['.', ' ', '=']).next().unwrap())
            .collect();
        assert_eq!(uses, expected.iter().copied().collect(), "{folder}/Cargo.toml");
    }
}

#[test]
fn no_folder_is_too_full() {
    for (krate, _) in ARROWS {
        for folder in folders(&house().join(krate).join("src")) {
            let name = folder.strip_prefix(house()).unwrap().display().to_string();
            let name = name.trim_start_matches("./");
            let count = entries(&folder).len();
            assert!(
                count <= ENTRIES,
                "{name}: {count} entries, expected at most {ENTRIES}"
            );
        }
    }
}

/// The `use crate::` lines of every crate form no cycle between its top-level modules. Paths that are
/// written out in the code are not seen.
#[test]
fn no_circle_goes_through_the_rooms_of_a_crate() {
    for (krate, _) in ARROWS {
        let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for room in entries(&house().join(krate).join("src")) {
            let name = room.file_stem().unwrap().to_string_lossy().into_owned();
            let of = uses.entry(name.clone()).or_default();
            for file in files(&room)
                .iter()
                .filter(|file| file.extension().is_some_and(|ext| ext == "rs"))
            {
                let text = std::fs::read_to_string(file).unwrap();
                let arrows = text
                    .lines()
                    .take_while(|line| !line.starts_with("#[cfg(test)]"))
                    .filter_map(|line| line.trim_start().split_once("use crate::"))
                    .filter(|(before, _)| before.is_empty() || before.starts_with("pub"))
                    .map(|(_, path)| path.split([':', ';', ' ']).next().unwrap().to_owned());
                of.extend(arrows.filter(|other| *other != name));
            }
        }
        assert!(!uses.is_empty(), "{krate}/src has no rooms");
        // Repeatedly removes a module that uses none of the others, until none is left or all are in cycles.
        while let Some(free) = uses
            .iter()
            .find(|(_, others)| others.iter().all(|other| !uses.contains_key(other)))
            .map(|(name, _)| name.clone())
        {
            uses.remove(&free);
        }
        assert!(uses.is_empty(), "{krate}/src: a circle through {:?}", uses.keys());
    }
}

/// A type name is defined once in all crates.
#[test]
fn a_type_name_is_defined_once() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in ARROWS
        .iter()
        .flat_map(|(krate, _)| files(&house().join(krate).join("src")))
    {
        if file.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&file).unwrap();
            for name in types_of(&text) {
                defined
                    .entry(name.into())
                    .or_default()
                    .push(file.display().to_string());
            }
        }
    }
    assert!(
        defined.contains_key("Backbone"),
        "the types of the house were not found"
    );
    defined.retain(|_, places| places.len() > 1);
    assert!(
        defined.is_empty(),
        "names that are defined more than once: {defined:#?}\nExpected: one type of a name; the other is called what it is in its room"
    );
}

/// Returns the names of the types that a file defines outside of its tests.
fn types_of(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let tests_begin = line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.ends_with('{'));
        if tests_begin {
            lines.by_ref().find(|line| *line == "}");
        }
        names.extend(type_of(line));
    }
    names
}

/// Returns the name of the type that a line defines.
fn type_of(line: &str) -> Option<&str> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| word.starts_with("pub") || word.ends_with(')'));
    let is_type = words
        .next()
        .is_some_and(|word| ["struct", "enum", "trait", "union"].contains(&word));
    let name = words.next()?.split(['<', '(', ';', ':', '{']).next()?;
    (is_type && name.starts_with(char::is_uppercase)).then_some(name)
}

/// A file that its `main.rs` does not name is not compiled, so its tests would silently not run.
#[test]
fn every_file_of_a_test_program_is_one_of_its_modules() {
    let crates = ARROWS.iter().map(|(krate, _)| *krate).chain(["tests"]);
    let mut seen = 0;
    for program in crates.flat_map(|krate| folders_of_programs(&house().join(krate).join("tests"))) {
        let main = std::fs::read_to_string(program.join("main.rs")).unwrap();
        for file in files(&program) {
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            let is_module = file.extension().is_some_and(|extension| extension == "rs") && stem != "main";
            if is_module {
                let named = main.lines().any(|line| line.trim() == format!("mod {stem};"));
                assert!(named, "{}: main.rs does not name it", file.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no program of tests was found");
}

/// Returns the folders of tests that are linked as one program.
fn folders_of_programs(tests: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(tests).into_iter().flatten();
    found
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("main.rs").is_file())
        .collect()
}
