//! PyTorch's checkpoints: the zip archive, the format before it, and the pickle inside.

use demask_datasets::torch_file::{ConvertOptions, TorchFile, convert};
use demask_tests::fuzz::{Door, room};

use crate::fixture;

const FIXTURES: &str = "datasets/tests/fixtures/torch";

/// Instructions of a pickle.
const INSTRUCTIONS: [&[u8]; 22] = [
    b"]",
    b"}",
    b"(",
    b"0",
    b"2",
    b"e",
    b"u",
    b"t",
    b"s",
    b"a",
    b"R",
    b"Q",
    b"h\0",
    b"q\0",
    b"\x94",
    b"N",
    b"]0",
    b"h\0h\0h\0h\0",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"ccollections\nOrderedDict\n",
    b"X\x07\0\0\0storage",
];

fn opened(bytes: &[u8], path: &std::path::Path) {
    std::fs::write(path, bytes).unwrap();
    if let Ok(file) = TorchFile::open(path) {
        file.tensors(None).ok();
        file.tensors(Some("model.a")).ok();
    }
}

#[test]
fn archives() {
    let names = ["kinds", "protocol2", "protocol4", "several", "eval"];
    let room = room();
    let path = room.path().join("any.pt");
    Door {
        name: "archive",
        inputs: 10_000,
        seeds: names
            .map(|name| fixture(&format!("{FIXTURES}/{name}.pt")))
            .to_vec(),
        words: &[
            b"PK\x01\x02",
            b"PK\x05\x06",
            b"PK\x06\x06",
            b"PK\x06\x07",
            b"data.pkl",
            b"\xff\xff\xff\xff",
        ],
        spare: 0,
    }
    .tried(|bytes| opened(bytes, &path));
}

#[test]
fn files_before_1_6() {
    let room = room();
    let path = room.path().join("any.pt");
    Door {
        name: "legacy",
        inputs: 10_000,
        seeds: vec![fixture(&format!("{FIXTURES}/legacy.pt"))],
        words: &INSTRUCTIONS,
        spare: 0,
    }
    .tried(|bytes| opened(bytes, &path));
}

#[test]
fn pickles() {
    let room = room();
    let path = room.path().join("any.pt");
    let seeds = ["kinds", "protocol2", "protocol4", "several"]
        .map(|name| pickle_of(&fixture(&format!("{FIXTURES}/{name}.pt"))));
    Door {
        name: "pickle",
        inputs: 10_000,
        seeds: seeds.to_vec(),
        words: &INSTRUCTIONS,
        spare: 0,
    }
    .tried(|pickle| opened(&archive(&[("m/data.pkl", pickle), ("m/data/0", &[7; 64])]), &path));
}

#[test]
fn folders_of_shards() {
    let room = room();
    let (input, output) = (room.path().join("in"), room.path().join("out"));
    std::fs::create_dir(&input).unwrap();
    std::fs::write(input.join("a.bin"), fixture(&format!("{FIXTURES}/protocol2.pt"))).unwrap();
    let index =
        br#"{"metadata": {"total_size": 12}, "weight_map": {"a": "a.bin", "b": "b.bin", "c.d": "../c.bin"}}"#;
    Door {
        name: "shards",
        inputs: 10_000,
        seeds: vec![index.to_vec()],
        words: &[b"/dev/zero", b"../../x.bin", b"\"a.bin\"", b"{", b"["],
        spare: 0,
    }
    .tried(|index| {
        std::fs::write(input.join("pytorch_model.bin.index.json"), index).unwrap();
        if convert(&input, &output, &ConvertOptions::default()).is_ok() {
            std::fs::remove_dir_all(&output).unwrap();
        }
    });
}

/// Returns the pickle of an archive that torch.save wrote.
fn pickle_of(archive: &[u8]) -> Vec<u8> {
    let find = |from: usize, what: &[u8]| {
        let found = archive[from..].windows(what.len()).position(|part| part == what);
        found.map(|at| from + at)
    };
    let header = find(0, b"data.pkl").unwrap();
    let begin = find(header, &[0x80]).unwrap();
    let ends = [b"PK\x07\x08", b"PK\x03\x04", b"PK\x01\x02"].map(|mark| find(begin, mark));
    archive[begin..ends.into_iter().flatten().min().unwrap()].to_vec()
}

/// Makes a zip archive of stored entries without checksums.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let (at, length) = (bytes.len() as u32, data.len() as u32);
        let sizes = [[0; 4], length.to_le_bytes(), length.to_le_bytes()].concat();
        bytes.extend([b"PK\x03\x04".as_slice(), &[0; 10], &sizes].concat());
        bytes.extend([name.len() as u8, 0, 0, 0]);
        bytes.extend([name.as_bytes(), data].concat());
        list.extend([b"PK\x01\x02".as_slice(), &[0; 12], &sizes].concat());
        list.extend([name.len() as u8, 0]);
        list.extend([0; 12]);
        list.extend(at.to_le_bytes());
        list.extend(name.as_bytes());
    }
    let (start, length, count) = (bytes.len() as u32, list.len() as u32, entries.len() as u8);
    bytes.extend(list);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, 0, count, 0]);
    bytes.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
    bytes.extend([0; 2]);
    bytes
}
