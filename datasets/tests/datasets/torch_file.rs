//! Conversion of checkpoints from `torch.save` to safetensors, including broken and malicious ones.
//!
//! `fixtures/torch` was written by PyTorch 2.11, with the same tensors as safetensors beside them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use demask_datasets::torch_file::{ConvertOptions, TorchFile, TorchFileError, convert};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/torch")
        .join(name)
}

/// The type, shape and bytes of each tensor.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter();
    tensors
        .map(|(name, view)| {
            (
                name.to_owned(),
                (view.dtype(), view.shape().to_vec(), view.data().to_vec()),
            )
        })
        .collect()
}

/// Converts into a fresh folder.
fn converted(input: &Path, options: &ConvertOptions) -> Result<Tensors, TorchFileError> {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.safetensors");
    // A partial file of a killed conversion, which the next conversion removes.
    let half = dir.path().join(format!(".out.safetensors.{}.part", u32::MAX));
    std::fs::write(half, "half").unwrap();
    let done = convert(input, &output, options);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), usize::from(done.is_ok()), "{left:?}");
    done.map(|_| read(&output))
}

fn plain(input: &Path) -> Result<Tensors, TorchFileError> {
    converted(input, &ConvertOptions::default())
}

/// Returns the message for a file of these bytes, which is broken.
fn refused(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.pt");
    std::fs::write(&path, bytes).unwrap();
    let error = plain(&path).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, TorchFileError::Broken { .. }), "{message}");
    assert!(message.contains("broken.pt"), "{message}");
    message
}

#[test]
fn every_type_stride_and_shared_storage_comes_out_as_pytorch_has_it() {
    let expected = read(&fixture("kinds.safetensors"));
    assert!(expected.len() > 15);
    assert_eq!(plain(&fixture("kinds.pt")).unwrap(), expected);
}

#[test]
fn the_format_before_1_6_is_read_too() {
    let mut expected = read(&fixture("kinds.safetensors"));
    expected.remove("u16");
    assert_eq!(plain(&fixture("legacy.pt")).unwrap(), expected);
}

#[test]
fn every_protocol_and_the_only_dictionary_that_holds_tensors() {
    let expected = read(&fixture("state.safetensors"));
    for protocol in 2..=5 {
        let path = fixture(&format!("protocol{protocol}.pt"));
        assert_eq!(plain(&path).unwrap(), expected, "protocol {protocol}");
        let named = TorchFile::open(&path).unwrap().tensors(None).unwrap();
        assert_eq!(named.key, "state_dict");
        assert!(named.skipped.is_empty());
    }
}

/// If a file has several dictionaries of tensors, `--key` chooses one, or a single tensor. A key that leads
/// nowhere is reported.
#[test]
fn one_of_several_dictionaries_is_chosen_by_its_key() {
    let error = plain(&fixture("several.pt")).unwrap_err().to_string();
    assert!(error.contains("model, ema") && error.contains("--key"), "{error}");
    let with = |key: &str| ConvertOptions {
        key: Some(key.to_owned()),
        dtype: None,
    };
    let zeros = converted(&fixture("several.pt"), &with("ema")).unwrap();
    assert_eq!(zeros["a"], (Dtype::F32, vec![2], vec![0; 8]));
    let ones = converted(&fixture("several.pt"), &with("model")).unwrap();
    assert_eq!(ones["a"].2, [0, 0, 128, 63, 0, 0, 128, 63]);
    let one = converted(&fixture("several.pt"), &with("model.a")).unwrap();
    assert_eq!(one.keys().collect::<Vec<_>>(), ["tensor"]);
    for (key, words) in [
        ("other", "no entry other"),
        ("step", "no tensor"),
        ("model.b", "it has a"),
    ] {
        let error = converted(&fixture("several.pt"), &with(key))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Conversion to bf16 applies to floating-point tensors only and rounds to nearest, ties to even.
#[test]
fn floating_tensors_are_rounded_to_another_type_and_others_kept() {
    let bf16 = ConvertOptions {
        key: None,
        dtype: Some(Dtype::BF16),
    };
    let (before, after) = (
        plain(&fixture("kinds.pt")).unwrap(),
        converted(&fixture("kinds.pt"), &bf16).unwrap(),
    );
    for (name, (dtype, shape, bytes)) in before {
        let floating = matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let found = &after[&name];
        assert_eq!(found.1, shape);
        if floating {
            assert_eq!(found.0, Dtype::BF16, "{name}");
        } else {
            assert_eq!((found.0, &found.2), (dtype, &bytes), "{name}");
        }
    }
    // 3.25 is exact in bf16: 0x4050.
    assert_eq!(after["scalar"].2, [0x50, 0x40]);
    // The middle between two bf16 numbers rounds to even; its f32 neighbours round down and up.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ties.pt");
    let bits = [0x3f80_8000u32, 0x3f80_7fff, 0x3f80_8001, 0x3f81_8000];
    let storage = bits.map(u32::to_le_bytes).concat();
    std::fs::write(&path, saved(&pickled(0, &[4], &[1]), &storage, false)).unwrap();
    let rounded = [0x3f80u16, 0x3f80, 0x3f81, 0x3f82].map(u16::to_le_bytes).concat();
    assert_eq!(converted(&path, &bf16).unwrap()["w"].2, rounded);
}

#[test]
fn a_pickle_that_asks_for_a_function_is_refused_by_name_and_nothing_is_written() {
    for (file, name) in [("system.pt", "posix.system"), ("eval.pt", "builtins.eval")] {
        match plain(&fixture(file)).unwrap_err() {
            TorchFileError::Forbidden {
                name: found, offset, ..
            } => {
                assert_eq!(found, name);
                assert!(offset > 100, "{offset}");
            }
            other => panic!("{file}: {other}"),
        }
    }
}

/// Returns a zip archive of stored entries. With `large`, every number is in zip64 fields.
fn archive(entries: &[(&str, &[u8])], large: bool) -> Vec<u8> {
    let (mut out, mut list) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let (at, len) = (out.len() as u64, data.len() as u64);
        let shown = |number: u64| if large { u32::MAX } else { number as u32 }.to_le_bytes();
        out.extend_from_slice(b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0");
        out.extend(crc.sum().to_le_bytes());
        out.extend([shown(len), shown(len)].concat());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(5u16.to_le_bytes());
        out.extend(name.as_bytes());
        out.extend([b'F', b'B', 1, 0, b'Z']);
        out.extend_from_slice(data);
        let extra = if large {
            [
                &[1, 0, 24, 0][..],
                &len.to_le_bytes(),
                &len.to_le_bytes(),
                &at.to_le_bytes(),
            ]
            .concat()
        } else {
            Vec::new()
        };
        list.extend_from_slice(b"PK\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0");
        list.extend(crc.sum().to_le_bytes());
        list.extend([shown(len), shown(len)].concat());
        list.extend((name.len() as u16).to_le_bytes());
        list.extend((extra.len() as u16).to_le_bytes());
        list.extend([0; 10]);
        list.extend(shown(at));
        list.extend(name.as_bytes());
        list.extend(extra);
    }
    let (start, len, count) = (out.len() as u64, list.len() as u64, entries.len() as u64);
    out.extend(list);
    if large {
        let end = out.len() as u64;
        out.extend_from_slice(b"PK\x06\x06");
        out.extend(44u64.to_le_bytes());
        out.extend([0; 12]);
        out.extend([count, count, len, start].map(u64::to_le_bytes).concat());
        out.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        out.extend(end.to_le_bytes());
        out.extend(1u32.to_le_bytes());
    }
    let shown = |number: u64| if large { u32::MAX } else { number as u32 }.to_le_bytes();
    let shown_count = if large { u16::MAX } else { count as u16 }.to_le_bytes();
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend([shown_count, shown_count].concat());
    out.extend([shown(len), shown(start)].concat());
    out.extend([0; 2]);
    out
}

/// Returns a pickle of `{"w": tensor}`, where the tensor is a view of four f32 in storage 0.
fn pickled(offset: u8, shape: &[u32], strides: &[u32]) -> Vec<u8> {
    let tensor = pickled_in("0", offset, shape, strides);
    [b"\x80\x02}\x8c\x01w".to_vec(), tensor, b"s.".to_vec()].concat()
}

/// Returns the pickle instructions for a view of four f32 in a storage.
fn pickled_in(storage: &str, offset: u8, shape: &[u32], strides: &[u32]) -> Vec<u8> {
    let text = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes()].concat();
    let numbers = |numbers: &[u32]| {
        let each = numbers
            .iter()
            .flat_map(|number| [&[b'J'][..], &number.to_le_bytes()].concat());
        [vec![b'('], each.collect(), vec![b't']].concat()
    };
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(storage),
        text("cpu"),
        vec![b'K', 4, b't', b'Q', b'K', offset],
        numbers(shape),
        numbers(strides),
        b"\x89}tR".to_vec(),
    ]
    .concat()
}

fn saved(pickle: &[u8], storage: &[u8], large: bool) -> Vec<u8> {
    archive(
        &[
            ("m/data.pkl", pickle),
            ("m/byteorder", b"little"),
            ("m/data/0", storage),
        ],
        large,
    )
}

#[test]
fn zip64_numbers_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.pt");
    for large in [false, true] {
        std::fs::write(&path, saved(&pickled(1, &[3], &[1]), &[7; 16], large)).unwrap();
        assert_eq!(
            plain(&path).unwrap()["w"],
            (Dtype::F32, vec![3], vec![7; 12]),
            "zip64: {large}"
        );
    }
}

#[test]
fn a_view_that_leaves_its_storage_or_repeats_it_without_end_is_refused() {
    let last = u32::MAX >> 1;
    let (leaves, count) = ("does not fit its storage", "found -1, expected a count");
    for (offset, shape, strides, words) in [
        (1, &[4][..], &[1][..], leaves),
        (0, &[2, 2], &[3, 1], leaves),
        (5, &[0], &[1], leaves),
        (0, &[last, last, last], &[last, last, last], leaves),
        (0, &[4], &[1, 1], "a tensor of 1 sides with 2 strides"),
        (0, &[u32::MAX], &[0], count),
        (0, &[2], &[u32::MAX], count),
    ] {
        let error = refused(&saved(&pickled(offset, shape, strides), &[0; 16], false));
        assert!(error.contains(words), "{shape:?} {strides:?}: {error}");
    }
    let error = refused(&saved(&pickled(0, &[last, last], &[0, 0]), &[0; 16], false));
    assert!(error.contains("repeats its storage"), "{error}");
}

/// Truncated, damaged and incomplete archives, and files of another format, are refused with what is wrong.
#[test]
fn what_is_broken_is_said() {
    let good = saved(&pickled(0, &[4], &[1]), &[1; 16], false);
    let error = refused(&good[..good.len() / 2]);
    assert!(
        error.contains("has no end record: the file is incomplete"),
        "{error}"
    );
    let error = refused(&saved(&pickled(0, &[4], &[1]), &[1; 15], false));
    assert!(error.contains("15 bytes, expected 16"), "{error}");
    let at = good.windows(16).position(|window| window == [1; 16]).unwrap();
    let mut flipped = good;
    flipped[at] = 2;
    let error = refused(&flipped);
    assert!(
        error.contains("damaged") && error.contains("storage 0"),
        "{error}"
    );
    let pickle = pickled(0, &[4], &[1]);
    let error = refused(&archive(&[("m/data.pkl", &pickle)], false));
    assert!(error.contains("m/data/0 is missing"), "{error}");
    let error = refused(&archive(
        &[("m/data.pkl", &pickle), ("m/byteorder", b"big")],
        false,
    ));
    assert!(error.contains("byte order is big"), "{error}");
    let error = refused(&archive(&[("m/other", b"")], false));
    assert!(error.contains("data.pkl"), "{error}");
    for (bytes, words) in [
        (&b""[..], "empty"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "safetensors"),
        (b"<!DOCTYPE html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"hello", "neither"),
    ] {
        let error = refused(bytes);
        assert!(error.contains(words), "{error}");
    }
}

/// Malformed pickles, and pickles that would cost unbounded memory, stack or time (L9), are refused with the
/// file's name and what is wrong.
#[test]
fn pickles_that_make_no_sense_or_would_cost_without_end_are_refused() {
    let nest = [b"\x80\x02".to_vec(), b"](".repeat(200_000), vec![b'.']].concat();
    let deep = [
        b"\x80\x02".to_vec(),
        vec![b']'; 200_000],
        vec![b'a'; 199_999],
        vec![b'.'],
    ]
    .concat();
    let circle = b"\x80\x02}q\0\x8c\x01ah\0s.".to_vec();
    // Each list contains the previous one a hundred times, which is 100^20 entries if they were walked.
    let mut laughs = b"\x80\x02]q\0".to_vec();
    for level in 0..20u8 {
        laughs.extend([b']', b'q', level + 1, b'(']);
        laughs.extend([b'h', level].repeat(100));
        laughs.push(b'e');
    }
    laughs.push(b'.');
    let (ends, empty) = ("more bytes were expected", "pops from an empty stack");
    let circles = "deep, or form a cycle";
    for (pickle, words) in [
        (&b"\x80\x02"[..], ends),
        (b"\x80\x06}.", "pickle protocol 6"),
        (b".", empty),
        (b"\x80\x020.", empty),
        (b"\x80\x02h\x05.", "reads memo entry 5"),
        (b"\x80\x02t.", "closes a mark that it never opened"),
        (b"\x80\x02(0.", empty),
        (
            b"\x80\x02}K\x01K\x02K\x03(K\x01u.",
            "adds entries to a whole number",
        ),
        (b"\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff", ends),
        (b"\x80\x02X\xff\xff\xff\xffa.", ends),
        (b"\x80\x02\x8b\xff\xff\xff\xff.", ends),
        (b"\x80\x02ctorch\nFloatStorage", "ends inside a name"),
        (
            b"\x80\x02ctorch\nFloatStorage\n)R.",
            "is called with unexpected arguments",
        ),
        (b"\x80\x02K\x01Q.", "a persistent id is a whole number"),
        (b"\x80\x02}.", "contains no tensor"),
        (&nest, empty),
        (&deep, circles),
        (&circle, circles),
        (&laughs, "more than 4194304 entries"),
    ] {
        let message = refused(&saved(pickle, &[0; 16], false));
        assert!(message.contains(words), "{words}: {message}");
    }
}

/// Pickles that need unbounded time or memory are refused with the limit that they exceed (L9).
#[test]
fn l9_a_small_pickle_that_would_cost_without_end_is_refused_with_the_limit() {
    let head = b"\x80\x02".to_vec();
    let many =
        |part: &[u8], times: usize, end: &[u8]| [head.clone(), part.repeat(times), end.to_vec()].concat();
    // A dictionary of unused keys occurs in a list so often that walking all of it would take 1.6 billion
    // steps.
    let keys = [b"]}q\0(".to_vec(), b"NN".repeat(40_000), b"u0(".to_vec()].concat();
    let references = [head.clone(), keys, b"h\0".repeat(40_000), b"e.".to_vec()].concat();
    for (pickle, limit) in [
        (references, "more than 4194304 entries"),
        (
            many(b"]0", 3_500_000, b"]."),
            "more than 201326592 bytes of pickled values",
        ),
        (
            many(b"N\x940", 3_000_000, b"]."),
            "more than 201326592 bytes of pickled values",
        ),
        (
            many(b"]", 1_100_000, b"."),
            "more than 1048576 values on its stack",
        ),
        (many(b"(", 1_100_000, b"."), "more than 1048576 open marks"),
    ] {
        let words = refused(&saved(&pickle, &[0; 16], false));
        assert!(words.contains(limit), "{words}");
    }
}

/// Overlapping entries, by which a small archive could claim a large size, are refused (L9).
#[test]
fn l9_entries_of_an_archive_that_overlap_are_refused() {
    let names = ["0", "1"].map(|key| pickled_in(key, 0, &[4], &[1]));
    let pickle = [b"\x80\x02](".to_vec(), names.concat(), b"e.".to_vec()].concat();
    let mut bytes = archive(
        &[
            ("m/data.pkl", &pickle[..]),
            ("m/data/0", &[7; 2000]),
            ("m/data/1", &[7; 2000]),
        ],
        false,
    );
    // Make the second storage claim the first one's position: the last number of its directory entry, before
    // its name.
    let name = bytes.windows(8).rposition(|part| part == b"m/data/1").unwrap();
    let first = bytes.windows(8).position(|part| part == b"m/data/0").unwrap() as u32 - 30;
    bytes[name - 4..name].copy_from_slice(&first.to_le_bytes());
    let cut = bytes.windows(8).position(|part| part == b"m/data/1").unwrap() - 30;
    let (list, end) = (
        bytes.windows(4).position(|part| part == b"PK\x01\x02").unwrap(),
        bytes.len() - 22,
    );
    let moved = u32::try_from(cut).unwrap();
    bytes[end + 16..end + 20].copy_from_slice(&moved.to_le_bytes());
    let bytes = [&bytes[..cut], &bytes[list..]].concat();
    let words = refused(&bytes);
    assert!(words.contains("entries of the archive overlap"), "{words}");
}

#[test]
fn the_output_is_named_safetensors_and_left_alone_when_something_fails() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.safetensors");
    std::fs::write(&output, "before").unwrap();
    let error = convert(&fixture("system.pt"), &output, &ConvertOptions::default()).unwrap_err();
    assert!(matches!(error, TorchFileError::Forbidden { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "before");
    convert(&fixture("kinds.pt"), &output, &ConvertOptions::default()).unwrap();
    assert!(!read(&output).is_empty());
    let error = convert(
        &fixture("kinds.pt"),
        &dir.path().join("out.pt"),
        &ConvertOptions::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains(".safetensors"), "{error}");
    let error = convert(
        &fixture("kinds.pt"),
        &dir.path().join("no/out.safetensors"),
        &ConvertOptions::default(),
    );
    assert!(matches!(error.unwrap_err(), TorchFileError::Io { .. }));
}

/// A folder of shards is converted shard by shard with a new index. If the index is wrong, the conversion
/// fails and leaves no output folder. An existing output folder is not overwritten.
#[test]
fn a_folder_of_shards_becomes_a_folder_of_shards() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    std::fs::create_dir(&from).unwrap();
    let shard = |number: usize| format!("pytorch_model-0000{number}-of-00002.bin");
    std::fs::copy(fixture("protocol2.pt"), from.join(shard(1))).unwrap();
    std::fs::write(
        from.join(shard(2)),
        saved(&pickled(0, &[4], &[1]), &[1; 16], false),
    )
    .unwrap();
    std::fs::write(from.join("config.json"), "{}").unwrap();
    // Converted, it would have the name of the first shard.
    let twin = "model-00001-of-00002.bin";
    std::fs::copy(from.join(shard(2)), from.join(twin)).unwrap();
    // An index of safetensors that do not exist, which the new index must not overwrite.
    std::fs::write(from.join("model.safetensors.index.json"), "{}").unwrap();
    let index = |tensor: &str, second: &str| {
        let map = serde_json::json!({ "0.weight": shard(1), "1.bias": shard(1), tensor: second });
        let text = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string();
        std::fs::write(from.join("pytorch_model.bin.index.json"), text).unwrap();
    };
    for (tensor, second, words) in [
        ("v", shard(2), "lacks the tensor v"),
        ("w", "../escape.bin".to_owned(), "escape"),
        ("w", shard(3), "No such file"),
        (
            "w",
            twin.to_owned(),
            "both be written as model-00001-of-00002.safetensors",
        ),
    ] {
        index(tensor, &second);
        let error = convert(&from, &to, &ConvertOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
    index("w", &shard(2));
    assert_eq!(convert(&from, &to, &ConvertOptions::default()).unwrap().len(), 2);
    assert_eq!(
        read(&to.join("model-00001-of-00002.safetensors")),
        read(&fixture("state.safetensors"))
    );
    let text = std::fs::read_to_string(to.join("model.safetensors.index.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(written["weight_map"]["w"], "model-00002-of-00002.safetensors");
    assert!(written["metadata"]["total_size"].as_u64().unwrap() > 16);
    assert!(to.join("config.json").exists());
    let error = convert(&from, &to, &ConvertOptions::default()).unwrap_err();
    assert!(matches!(error, TorchFileError::Output { .. }), "{error:?}");
    assert!(
        error.to_string().contains("the output folder exists already"),
        "{error}"
    );
}

/// Opens and converts the bytes. Only a panic or a hang fails the test; the result does not matter.
fn survives(bytes: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any.pt");
    std::fs::write(&path, bytes).unwrap();
    convert(
        &path,
        &dir.path().join("out.safetensors"),
        &ConvertOptions::default(),
    )
    .ok();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), legacy: bool, large: bool) {
        survives(&bytes);
        let start: &[u8] = if legacy { &[0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19] }
            else { b"PK\x03\x04" };
        survives(&[start, &bytes].concat());
        survives(&saved(&bytes, &[0; 16], large));
    }

    #[test]
    fn any_pickle_of_known_instructions_is_survived(
        codes in proptest::collection::vec(proptest::sample::select(b"(012NJKMGXU}])tlaesudqrhjcRbQ\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x91\x93\x94\x01\x04.\n".to_vec()), 0..120),
    ) {
        survives(&saved(&[b"\x80\x02".to_vec(), codes].concat(), &[0; 16], false));
    }

    #[test]
    fn any_damage_is_survived(
        file in proptest::sample::select(vec!["kinds.pt", "legacy.pt", "protocol4.pt", "several.pt"]),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = std::fs::read(fixture(file)).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        survives(&bytes);
    }
}
