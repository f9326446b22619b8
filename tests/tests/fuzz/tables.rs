//! Data files of every reader: JSON lines, Parquet, tar shards, IDX, caption lists of a picture folder.

use std::collections::BTreeMap;
use std::path::Path;

use demask_datasets::example::Split;
use demask_datasets::formats::READERS;
use demask_datasets::formats::parquet::process::MOST_MEMORY;
use demask_datasets::formats::row::{KeptColumns, Origin};
use demask_tests::fuzz::{Door, room};

use crate::fixture;

/// The number of rows that are read of an input.
const ROWS: usize = 1000;

fn read(kind: &str, path: &Path, keep: KeptColumns) {
    let reader = READERS.iter().find(|reader| reader.name() == kind).unwrap();
    let origin = Origin {
        source: "fuzz".into(),
        licence: String::new(),
        split: Split::Train,
        pixels: 32,
        columns: BTreeMap::new(),
        keep,
    };
    if let Ok(rows) = reader.open(path, origin.clone()) {
        rows.take(ROWS).for_each(drop);
    }
    let again = reader.open_again(path, origin, path.parent().unwrap());
    if let Ok(Some(mut rows)) = again {
        let mut last = None;
        for _ in 0..ROWS {
            let Some((place, _)) = rows.next_row() else { break };
            last = Some(place);
        }
        last.map(|place| rows.read_again(place));
    }
}

/// Hostile JSON lines and arrays.
#[test]
fn json_lines() {
    let seeds = [
        &br#"{"question": "What is 1 + 2?", "answer": "work #### 3"}
{"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]}
{"image": "x.png", "caption": "a red circle"}
"#[..],
        br#"[{"prompt": "a", "response": "b"}, {"instruction": "say", "input": "it", "output": "it"}]"#,
        b"\xef\xbb\xbf{\"text\": \"plain \\u00e9 \\ud83d\\ude00\"}\n\n{\"text\": 3}",
        br#"{"conversations": [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "a cat"}]}"#,
    ];
    let room = room();
    let path = room.path().join("rows.jsonl");
    Door {
        name: "json-lines",
        inputs: 10_000,
        seeds: seeds.map(<[u8]>::to_vec).to_vec(),
        words: &[
            b"[",
            b"{",
            b"\"",
            b"\\u",
            b"{\"a\":",
            b"1e999",
            b"null",
            b"\"image\": \"/dev/zero\"",
            b"\"text\":",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        read("jsonl", &path, KeptColumns::Nothing);
    });
}

/// Hostile Parquet files, read with all columns.
#[test]
fn parquet() {
    let hub = "rewards/tests/fixtures/benchmarks";
    let seeds = ["mme", "pope", "flickr30k"]
        .map(|name| fixture(&format!("{hub}/{name}/hub/data/test-00000-of-00001.parquet")));
    let room = room();
    let path = room.path().join("rows.parquet");
    Door {
        name: "parquet",
        inputs: 10_000,
        seeds: seeds.to_vec(),
        words: &[
            b"PAR1",
            b"\x15",
            b"\x15\x00\x15",
            b"\x19\x2c",
            b"\xff\xff\xff\xff\x0f",
            b"\xf8\xff\xff\xff\x7f",
        ],
        // What a run reads so is read in a process of its own with this limit.
        spare: MOST_MEMORY - (256 << 20),
    }
    .tried(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        read("parquet", &path, KeptColumns::Whole);
    });
}

/// Makes a tar file of these entries.
fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, data) in entries {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", data.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        bytes.extend(header);
        bytes.extend(*data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Recomputes the checksums of a tar file's headers.
fn summed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for header in bytes
        .chunks_exact_mut(512)
        .filter(|block| &block[257..262] == b"ustar")
    {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

/// Hostile tar shards. Header checksums are recomputed, because readers stop at a wrong one.
#[test]
fn tar_shards() {
    let json = br#"{"caption": "a cat", "class": 3}"#;
    let seeds = vec![
        tar(&[
            ("a/1.png", b"\x89PNG"),
            ("a/1.txt", b"a red circle"),
            ("a/2.json", json),
            ("a/2.cls", b"7"),
        ]),
        tar(&[("x.question.txt", b"why?"), ("x.answer.txt", b"because")]),
    ];
    let room = room();
    let path = room.path().join("rows.tar");
    Door {
        name: "tar",
        inputs: 10_000,
        seeds,
        words: &[
            b"77777777777\0",
            b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff",
            b"ustar",
            b"L",
            b"x",
            b"S",
            b"30 path=a.txt\n",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(&path, summed(bytes)).unwrap();
        read("webdataset", &path, KeptColumns::Nothing);
    });
}

/// Hostile IDX files of images beside valid labels, and the reverse.
#[test]
fn idx() {
    let header = |magic: u8, sizes: &[u32]| {
        let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
        [0, 0, 8, magic].into_iter().chain(sizes).collect::<Vec<u8>>()
    };
    let images = [header(3, &[3, 4, 4]), vec![9; 48]].concat();
    let labels = [header(1, &[3]), vec![0, 1, 2]].concat();
    let room = room();
    let name = |part: &str| room.path().join(format!("train-{part}-ubyte"));
    Door {
        name: "idx",
        inputs: 10_000,
        seeds: vec![images.clone(), labels.clone()],
        words: &[
            b"\0\0\x08\x03",
            b"\0\0\x08\x01",
            b"\xff\xff\xff\xff",
            b"\x7f\xff\xff\xff",
        ],
        spare: 0,
    }
    .tried(|bytes| {
        for (images, labels) in [(bytes, &labels[..]), (&images[..], bytes)] {
            std::fs::write(name("images-idx3"), images).unwrap();
            std::fs::write(name("labels-idx1"), labels).unwrap();
            read("idx", room.path(), KeptColumns::Nothing);
        }
    });
}

#[test]
fn captions() {
    let room = room();
    let mut png = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(4, 4)
        .write_to(&mut png, image::ImageFormat::Png)
        .unwrap();
    std::fs::write(room.path().join("a.png"), png.into_inner()).unwrap();
    let path = room.path().join("captions.jsonl");
    Door {
        name: "captions",
        inputs: 10_000,
        seeds: vec![b"{\"file\": \"a.png\", \"caption\": \"a dog\"}\n{\"file_name\": \"b/../a.png\", \"text\": \"\"}\n".to_vec()],
        words: &[b"\"file\": \"../../../etc/passwd\"", b"{", b"\\u0000", b"\n"],
        spare: 0,
    }
    .tried(|bytes| {
        std::fs::write(&path, bytes).unwrap();
        read("image_folder", room.path(), KeptColumns::Nothing);
    });
}
