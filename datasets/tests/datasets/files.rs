//! Readers on valid files and on broken ones.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::Write as _;
use std::path::Path;

use demask_datasets::example::{Check, Kind, Split};
use demask_datasets::formats::idx::{FASHION, Idx};
use demask_datasets::formats::image_folder::ImageFolder;
use demask_datasets::formats::jsonl::JsonLines;
use demask_datasets::formats::row::{KeptColumns, Origin, Row};

fn origin(split: Split) -> Origin {
    Origin {
        source: "given".into(),
        licence: "MIT".into(),
        split,
        pixels: 32,
        columns: std::collections::BTreeMap::new(),
        keep: KeptColumns::Nothing,
    }
}

fn json(text: &str) -> Vec<Row> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    fs::write(&path, text).unwrap();
    JsonLines::open(&path, origin(Split::Train)).unwrap().collect()
}

/// A row of GSM8K becomes a word problem: calculator marks are removed from its steps, and the number after
/// `####` is the answer.
#[test]
fn gsm8k_rows_become_problems_with_worked_steps() {
    let rows = json(concat!(
        r#"{"question": "Ann sold 48 clips, then half as many. How many?", "#,
        r#""answer": "She sold 48/2 = <<48/2=24>>24 more.\nTogether 48+24 = <<48+24=72>>72.\n#### 1,072"}"#,
        "\n\n"
    ));
    let [Ok(examples)] = &rows[..] else {
        panic!("{rows:?}")
    };
    let example = &examples[0];
    assert_eq!(example.kind, Kind::WordProblem);
    assert_eq!(
        example.reasoning.as_deref().unwrap(),
        "She sold 48/2 = 24 more. Together 48+24 = 72."
    );
    assert_eq!(example.answer.as_deref().unwrap(), "1072");
    assert_eq!(
        example.check,
        Check::Number {
            answer: "1072".into()
        }
    );
    assert!(!example.id.is_empty());
}

/// Every bad row is reported with its file, its line and what was expected.
#[test]
fn each_bad_row_says_its_file_its_line_and_what_was_expected() {
    let rows = json(
        "{\"question\": \"a?\", \"answer\": \"#### 3\"}\n{oops\n[1]\n{\"colour\": 1}\n{\"question\": 3, \"answer\": null}\n{\"question\": \"a\", \"answer\": \"####\"}\n{\"text\": \" \"}\n",
    );
    let reasons: Vec<String> = rows
        .iter()
        .map(|row| row.as_ref().map_or_else(ToString::to_string, |_| "good".into()))
        .collect();
    let wanted = [
        (1, "good"),
        (2, "not JSON"),
        (3, "object"),
        (4, "found colour"),
        (5, "`answer`: text was expected, found null"),
        (6, "number was expected after ####"),
        (7, "`text` is empty"),
    ];
    for (reason, (line, words)) in reasons.iter().zip(wanted) {
        assert!(reason.contains(words), "{reason}");
        assert!(
            line == 1 || reason.contains(&format!("rows.jsonl:{line}:")),
            "{reason}"
        );
    }
    assert_eq!(reasons.len(), wanted.len());
}

#[test]
fn a_line_that_is_not_text_does_not_end_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    fs::write(&path, b"\xff\xfe\n{\"text\": \"fine\"}\n").unwrap();
    let rows: Vec<Row> = JsonLines::open(&path, origin(Split::Train)).unwrap().collect();
    assert!(rows[0].as_ref().unwrap_err().reason.contains("UTF-8"));
    assert_eq!(rows[1].as_ref().unwrap()[0].answer.as_deref(), Some("fine"));
}

fn png(path: &Path, side: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_fn(side, side * 2, |x, _| image::Rgb([(x * 3) as u8, 0, 9]))
        .save(path)
        .unwrap();
}

/// A picture whose own caption cannot be read is a bad row: it does not get the name of its folder as its caption.
#[test]
fn a_caption_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["cats/a.png", "cats/b.png", "cats/c.png"] {
        png(&root.join(name), 8);
    }
    fs::write(root.join("cats/a.txt"), b"caf\xe9").unwrap();
    fs::write(root.join("cats/b.txt"), "\u{feff}two cats\n").unwrap();
    let rows: Vec<Row> = ImageFolder::open(root, origin(Split::Train)).unwrap().collect();
    let bad = rows[0].as_ref().unwrap_err().to_string();
    assert!(bad.contains("a.txt") && bad.contains("UTF-8"), "{bad}");
    assert_eq!(rows[1].as_ref().unwrap()[0].prompt, "two cats");
    assert_eq!(rows[2].as_ref().unwrap()[0].prompt, "cats");
}

/// Captions come from a list, a text file beside the picture, or the folder's name, in this order. A picture
/// without caption and a broken one are bad rows.
#[test]
fn a_folder_of_pictures_takes_captions_from_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    png(&root.join("a.png"), 40);
    png(&root.join("b.png"), 32);
    png(&root.join("red_cats/c.png"), 8);
    png(&root.join("d.png"), 8);
    fs::write(root.join("e.png"), b"\x89PNG\r\n\x1a\nnot one").unwrap();
    fs::write(root.join("e.txt"), "broken").unwrap();
    fs::write(
        root.join("captions.jsonl"),
        "{\"file\": \"a.png\", \"caption\": \"from the list\"}\n",
    )
    .unwrap();
    fs::write(root.join("b.txt"), "from beside\n").unwrap();
    let rows: Vec<Row> = ImageFolder::open(root, origin(Split::Train)).unwrap().collect();
    let drawn: Vec<Result<String, String>> = rows
        .iter()
        .map(|row| match row {
            Ok(examples) => {
                assert_eq!(examples[0].picture.as_ref().unwrap().rgb.len(), 3 * 32 * 32);
                assert_eq!(examples[1].answer.as_deref(), Some(examples[0].prompt.as_str()));
                Ok(examples[0].prompt.clone())
            }
            Err(bad) => Err(bad.to_string()),
        })
        .collect();
    assert_eq!(drawn[0].as_deref(), Ok("from the list"));
    assert_eq!(drawn[1].as_deref(), Ok("from beside"));
    assert!(drawn[2].as_ref().unwrap_err().contains("no caption"));
    assert!(
        drawn[3].as_ref().unwrap_err().contains("PNG or JPEG"),
        "{:?}",
        drawn[3]
    );
    assert_eq!(drawn[4].as_deref(), Ok("red cats"));
}

#[test]
fn a_broken_line_of_captions_is_one_bad_row() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    png(&root.join("a.png"), 8);
    png(&root.join("b.png"), 8);
    fs::write(
        root.join("metadata.jsonl"),
        "{\"file_name\": \"a.png\"}\n{\"file_name\": \"b.png\", \"text\": \"a boat\", \"size\": 3}\n",
    )
    .unwrap();
    let rows: Vec<Row> = ImageFolder::open(root, origin(Split::Train)).unwrap().collect();
    let reason = rows[0].as_ref().unwrap_err().to_string();
    assert!(reason.contains("metadata.jsonl:1: a picture's file"), "{reason}");
    assert!(rows[1].as_ref().unwrap_err().to_string().contains("no caption"));
    assert_eq!(rows[2].as_ref().unwrap()[0].prompt, "a boat");
}

#[test]
fn a_folder_is_no_file_of_lines_and_a_byte_order_mark_is_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let error = JsonLines::open(dir.path(), origin(Split::Train)).unwrap_err();
    assert!(error.to_string().contains("found a folder"), "{error}");
    let rows = json("\u{feff}{\"text\": \"fine\"}\n");
    assert_eq!(rows[0].as_ref().unwrap()[0].answer.as_deref(), Some("fine"));
}

fn idx(dir: &Path, part: &str, labels: &[u8], counted: u32, packed: bool) {
    let mut images = [0x803u32, counted, 28, 28]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect::<Vec<u8>>();
    for &label in labels {
        images.extend(std::iter::repeat_n(10 * label, 28 * 28));
    }
    let mut tags: Vec<u8> = [0x801u32, counted]
        .iter()
        .flat_map(|word| word.to_be_bytes())
        .collect();
    tags.extend(labels);
    tags.resize(8 + counted as usize, 0);
    for (name, bytes) in [("images-idx3", images), ("labels-idx1", tags)] {
        let name = format!("{part}-{name}-ubyte");
        if packed {
            let file = fs::File::create(dir.join(name + ".gz")).unwrap();
            let mut coder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            coder.write_all(&bytes).unwrap();
            coder.finish().unwrap();
        } else {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
}

#[test]
fn labelled_pictures_are_read_packed_or_not() {
    for packed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        idx(dir.path(), "train", &[0, 9, 12, 3], 4, packed);
        let rows: Vec<Row> = Idx::open(dir.path(), origin(Split::Train)).unwrap().collect();
        let first = &rows[1].as_ref().unwrap()[0];
        assert_eq!(
            (first.kind, first.prompt.as_str()),
            (Kind::TextToImage, FASHION[9])
        );
        let picture = first.picture.as_ref().unwrap();
        assert_eq!((picture.at(0, 0), picture.at(16, 16)), ([0; 3], [90; 3]));
        assert!(rows[2].as_ref().unwrap_err().reason.contains("found 12"));
        assert_eq!(rows[3].as_ref().unwrap()[1].answer.as_deref(), Some("a dress"));
        assert!(Idx::open(dir.path(), origin(Split::Test)).is_err());
    }
}

#[test]
fn a_file_cut_short_gives_what_it_has_and_says_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    idx(dir.path(), "t10k", &[1, 2], 5, false);
    let rows: Vec<Row> = Idx::open(dir.path(), origin(Split::Test)).unwrap().collect();
    assert_eq!(rows.len(), 3);
    assert!(
        rows[2]
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("ubyte:3: the file ends")
    );
    fs::write(dir.path().join("t10k-images-idx3-ubyte"), b"no").unwrap();
    assert!(
        Idx::open(dir.path(), origin(Split::Test))
            .unwrap_err()
            .to_string()
            .contains("IDX header")
    );
}

#[test]
fn l9_a_packed_file_with_a_wrong_checksum_is_refused_before_the_first_row() {
    for part in ["images-idx3", "labels-idx1"] {
        let dir = tempfile::tempdir().unwrap();
        idx(dir.path(), "train", &[0, 9, 3], 3, true);
        let path = dir.path().join(format!("train-{part}-ubyte.gz"));
        let mut bytes = fs::read(&path).unwrap();
        let sum = bytes.len() - 8;
        bytes[sum] ^= 1;
        fs::write(&path, bytes).unwrap();
        let words = Idx::open(dir.path(), origin(Split::Train))
            .unwrap_err()
            .to_string();
        assert!(
            words.contains(part) && words.contains("the file is damaged"),
            "{words}"
        );
    }
}

#[test]
fn l9_more_labels_than_a_file_may_have_take_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let words = [0x803u32, u32::MAX, 28, 28]
        .iter()
        .flat_map(|word| word.to_be_bytes());
    fs::write(
        dir.path().join("train-images-idx3-ubyte"),
        words.collect::<Vec<u8>>(),
    )
    .unwrap();
    let words = [0x801u32, u32::MAX].iter().flat_map(|word| word.to_be_bytes());
    fs::write(
        dir.path().join("train-labels-idx1-ubyte"),
        words.collect::<Vec<u8>>(),
    )
    .unwrap();
    let words = Idx::open(dir.path(), origin(Split::Train))
        .unwrap_err()
        .to_string();
    assert!(words.contains("expected at most 16777216"), "{words}");
}

/// Opening a pipe would wait for its writer for ever.
#[test]
fn l10_a_pipe_is_no_idx_file() {
    for part in ["images-idx3", "labels-idx1"] {
        let dir = tempfile::tempdir().unwrap();
        idx(dir.path(), "train", &[0, 9, 3], 3, false);
        let path = dir.path().join(format!("train-{part}-ubyte"));
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let words = Idx::open(dir.path(), origin(Split::Train))
            .unwrap_err()
            .to_string();
        assert!(words.contains(part) && words.contains("regular file"), "{words}");
    }
}
