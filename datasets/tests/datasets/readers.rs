//! The list of readers: one new file and one line add a format, whose name is a kind of source.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::Path;

use demask_datasets::example::{Kind, Split};
use demask_datasets::formats::row::{KeptColumns, Origin, ReadError};
use demask_datasets::formats::{Encoded, Fields, READERS, Reader, Rows, StoredPicture, reader_of};
use demask_datasets::source_kind::{NAMES, SourceKind, TABLETOP};
use demask_datasets::tabletop::Tabletop;
use proptest::prelude::*;
use serde_json::Value;

/// The reader of the new file: every line is a problem.
struct Problems;

impl Reader for Problems {
    fn name(&self) -> &'static str {
        "problems"
    }

    fn about(&self) -> &'static str {
        "a word problem for every line"
    }

    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError> {
        let text = std::fs::read_to_string(path).map_err(|source| ReadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let prompts: Vec<String> = text.lines().map(str::to_owned).collect();
        Ok(Box::new(prompts.into_iter().map(move |prompt| {
            let mut example = Tabletop::new(1).example(Kind::WordProblem, origin.split, 0);
            (example.prompt, example.source) = (prompt, origin.source.clone());
            Ok(vec![example])
        })))
    }
}

#[test]
fn a_reader_that_is_added_is_a_kind_of_source_and_gives_its_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows");
    std::fs::write(&path, "one and one?\ntwo and two?\n").unwrap();
    let kind = SourceKind::Read(&Problems);
    assert_eq!(kind.name(), "problems");
    let reader = kind.reader().unwrap();
    let origin = Origin {
        source: "given".into(),
        licence: String::new(),
        split: Split::Train,
        pixels: 32,
        columns: std::collections::BTreeMap::new(),
        keep: KeptColumns::Nothing,
    };
    let rows: Vec<_> = reader.open(&path, origin).unwrap().collect();
    let prompts: Vec<_> = rows
        .iter()
        .flat_map(|row| row.as_ref().unwrap())
        .map(|one| &one.prompt)
        .collect();
    assert_eq!(prompts, ["one and one?", "two and two?"]);
}

#[test]
fn every_kind_of_source_is_written_and_read_by_its_name() {
    assert_eq!(NAMES.len(), TABLETOP.len() + READERS.len());
    assert_eq!(NAMES.iter().collect::<BTreeSet<_>>().len(), NAMES.len());
    for name in NAMES.iter() {
        let json = format!("\"{name}\"");
        let kind: SourceKind = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (kind.name(), serde_json::to_string(&kind).unwrap()),
            (*name, json)
        );
        assert_eq!(kind.reads(), !name.starts_with("tabletop_"));
    }
    let refused = serde_json::from_str::<SourceKind>("\"csv\"")
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("unknown variant `csv`, expected one of `tabletop_draw`"),
        "{refused}"
    );
}

#[test]
fn every_reader_has_a_file_of_its_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/formats");
    for reader in READERS {
        let name = reader.name();
        let is_there =
            [format!("{name}.rs"), format!("{name}/mod.rs")].map(|file| folder.join(file).is_file());
        assert!(is_there.contains(&true) && !reader.about().is_empty(), "{name}");
    }
}

/// Without a `kind`, the format of a file, pattern or folder follows from the file names alone; the files
/// are empty.
#[test]
fn a_format_that_nobody_named_is_told_by_the_names_of_files() {
    let told = |files: &[&str], path: &str| {
        let dir = tempfile::tempdir().unwrap();
        for name in files {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let found = reader_of(&dir.path().join(path), Split::Test);
        found.map(Reader::name)
    };
    for (path, expected) in [
        ("rows.jsonl.zst", Some("jsonl")),
        ("rows.NDJSON.gz", Some("jsonl")),
        ("shard.tar.zst", Some("webdataset")),
        ("shard-{00..02}.tar", Some("webdataset")),
        ("part-*.parquet", Some("parquet")),
        ("rows.txt", None),
    ] {
        assert_eq!(told(&[], path), expected, "{path}");
    }
    for (files, expected) in [
        // A pulled data set of the hub.
        (
            vec!["README.md", "data/test-00000.parquet", "data/train-00000.parquet"],
            Some("parquet"),
        ),
        (vec!["dataset_infos.json", "test.parquet"], Some("parquet")),
        // The folder has only another split; the reader itself reports that.
        (vec!["data/train-00000.parquet"], Some("parquet")),
        (vec!["a/shard-0.tar", "a/shard-1.tar"], Some("webdataset")),
        (vec!["rows.jsonl", "pictures/1.png"], Some("jsonl")),
        (vec!["captions.jsonl", "pictures/1.png"], Some("image_folder")),
        (vec!["1.jpg", "notes.json"], Some("image_folder")),
        (vec!["cats/1.png", "dogs/2.png"], Some("image_folder")),
        (
            vec!["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
            Some("idx"),
        ),
        (vec!["notes.txt"], None),
    ] {
        assert_eq!(told(&files, ""), expected, "{files:?}");
    }
}

/// Returns a strategy of JSON values, with numbers of every length.
fn json() -> impl Strategy<Value = Value> {
    let one = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    one.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((".{0,4}", inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    /// A row that is copied to the spool or between processes stays the same row, to the last bit of its numbers. Bytes
    /// that are cut off are an error.
    #[test]
    fn a_copy_of_a_row_is_the_row(
        entries in prop::collection::vec((".{0,4}", json()), 0..6),
        bytes in prop::collection::vec(any::<u8>(), 0..20),
        at: usize,
        cut: prop::sample::Index,
    ) {
        let stored = StoredPicture {
            file: Path::new("a table").into(),
            group: 1,
            row: at,
            column: 3,
            at: 4,
            path: (at % 2 == 0).then(|| "a picture".into()),
        };
        let mut fields = Fields {
            values: entries.into_iter().collect(),
            ..Fields::default()
        };
        let whole = fields.to_bytes();
        prop_assert!(Fields::from_bytes(&whole[..1 + cut.index(whole.len() - 1)]).is_err());
        let pictures = vec![Encoded::Bytes(bytes.into()), Encoded::File("b.png".into()), Encoded::Stored(stored)];
        fields.pictures.insert("image".to_owned(), pictures);
        fields.pictures.insert("none".to_owned(), Vec::new());
        prop_assert_eq!(Fields::from_bytes(&fields.to_bytes()), Ok(fields));
    }
}
