//! A user's own data as it is: conversations, Parquet, WebDataset, packed files and folders. Broken rows are
//! named, and rows can be read again.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use demask_datasets::example::{Example, Kind, Mode, Split};
use demask_datasets::formats::row::{KeptColumns, Origin, Row};
use demask_datasets::formats::{
    Encoded, Reader, idx, image_folder, jsonl, parquet as parquet_format, tables, webdataset,
};
use demask_datasets::prompts::sequences::{Budgets, SequenceBuilder};
use demask_datasets::prompts::text_tokenizer::TextTokenizer;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

fn origin() -> Origin {
    Origin {
        source: "own".into(),
        licence: "MIT".into(),
        split: Split::Train,
        pixels: 8,
        columns: BTreeMap::new(),
        keep: KeptColumns::Nothing,
    }
}

fn png(red: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(8, 8, image::Rgb([red, 0, 9]))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

fn good(rows: Vec<Row>) -> Vec<Example> {
    rows.into_iter().flat_map(Result::unwrap).collect()
}

/// Returns the streamed rows, after checking that reading each row again, in reverse order, gives the same.
fn rows(reader: &dyn Reader, path: &Path, origin: &Origin) -> Vec<Row> {
    let streamed: Vec<Row> = reader.open(path, origin.clone()).unwrap().collect();
    let room = tempfile::tempdir().unwrap();
    let mut again = reader
        .open_again(path, origin.clone(), room.path())
        .unwrap()
        .unwrap();
    let mut places = Vec::new();
    while let Some((place, row)) = again.next_row() {
        assert_eq!(row, streamed[places.len()]);
        places.push(place);
    }
    assert_eq!(places.len(), streamed.len());
    for (place, row) in places
        .into_iter()
        .zip(&streamed)
        .rev()
        .filter(|(_, row)| row.is_ok())
    {
        assert_eq!(again.read_again(place), *row);
    }
    assert_eq!(
        fs::read_dir(room.path()).unwrap().count(),
        0,
        "what was unpacked has no name"
    );
    streamed
}

/// Pictures of a folder and of IDX files, packed or not, are read again, so that no source is held whole.
#[test]
fn l9_pictures_of_a_folder_and_of_idx_files_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    for (name, red) in [("b/cat.png", 10), ("a/dog.png", 20), ("bird.png", 30)] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png(red)).unwrap();
    }
    fs::write(
        dir.path().join("captions.jsonl"),
        "{oops\n{\"file\": \"a/dog.png\", \"caption\": \"my dog\"}\n",
    )
    .unwrap();
    let read = rows(&image_folder::ImageFolderReader, dir.path(), &origin());
    let said: Vec<Result<&str, u64>> = read
        .iter()
        .map(|row| {
            row.as_ref()
                .map(|examples| examples[0].prompt.as_str())
                .map_err(|bad| bad.line)
        })
        .collect();
    assert_eq!(said, [Err(1), Ok("my dog"), Ok("b"), Err(3)]);

    let big = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_be_bytes())
            .collect::<Vec<u8>>()
    };
    let images = [
        big(&[0x803, 4, 2, 2]),
        vec![1; 4],
        vec![2; 4],
        vec![3; 4],
        vec![4; 2],
    ]
    .concat();
    let labels = [big(&[0x801, 4]), vec![7, 99, 0, 1]].concat();
    for packed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        // The last picture is cut short, which a packed file is refused for.
        let rest: &[u8] = if packed { &[4, 4] } else { &[] };
        let images = [&images[..], rest].concat();
        for (name, bytes) in [("images-idx3", &images), ("labels-idx1", &labels)] {
            let path = dir
                .path()
                .join(format!("train-{name}-ubyte{}", if packed { ".gz" } else { "" }));
            let mut file = File::create(path).unwrap();
            if packed {
                let mut coder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
                coder.write_all(bytes).unwrap();
                coder.finish().unwrap();
            } else {
                file.write_all(bytes).unwrap();
            }
        }
        let read = rows(&idx::IdxReader, dir.path(), &origin());
        let classes: Vec<Option<&str>> = read
            .iter()
            .map(|row| row.as_ref().ok().map(|examples| examples[0].prompt.as_str()))
            .collect();
        let last = packed.then_some(idx::FASHION[1]);
        assert_eq!(
            classes,
            [Some(idx::FASHION[7]), None, Some(idx::FASHION[0]), last]
        );
    }
}

fn lines(values: &[serde_json::Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

fn json_rows(values: &[serde_json::Value]) -> Vec<Row> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("red.png"), png(200)).unwrap();
    let path = dir.path().join("rows.jsonl");
    fs::write(&path, lines(values)).unwrap();
    rows(&jsonl::JsonLinesReader, &path, &origin())
}

fn talk() -> serde_json::Value {
    json!({"messages": [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "count to three"},
        {"role": "assistant", "content": "<think>one by one</think>1 2 3"},
        {"role": "user", "content": "backwards"},
        {"role": "assistant", "content": "3 2 1"},
        {"role": "user", "content": "never answered"},
    ]})
}

/// A conversation yields one example per turn of the assistant, with all earlier turns as context. Reasoning
/// is part of the turn that is learnt and is removed from earlier ones.
#[test]
fn each_answer_of_a_conversation_is_learnt_after_all_that_was_said_before() {
    let examples = good(json_rows(&[talk()]));
    let [first, second] = &examples[..] else {
        panic!("{examples:?}")
    };
    assert_eq!(
        (first.prompt.as_str(), first.answer.as_deref()),
        ("count to three", Some("1 2 3"))
    );
    assert_eq!(first.reasoning.as_deref(), Some("one by one"));
    assert_eq!(
        (second.prompt.as_str(), second.kind),
        ("backwards", Kind::Instruction)
    );
    let said: Vec<(&str, &str)> = second
        .turns
        .iter()
        .map(|turn| (turn.role.as_str(), turn.content.as_str()))
        .collect();
    let wanted = [
        ("system", "be short"),
        ("user", "count to three"),
        ("assistant", "1 2 3"),
        ("user", "backwards"),
    ];
    assert_eq!(said, wanted, "an earlier answer is shown without its thoughts");
    assert_ne!(first.id, second.id);
}

/// Loss is computed on the assistant's turn only, and what precedes it in training is the very prompt that
/// sampling uses (L7).
#[test]
fn l7_loss_is_on_the_assistants_words_and_the_rest_is_the_prompt_that_is_sampled_from() {
    let examples = good(json_rows(&[talk()]));
    let corpus: Vec<String> = examples
        .iter()
        .map(|example| format!("{} {:?}", example.prompt, example.turns))
        .collect();
    let tokenizer = TextTokenizer::train(&corpus, 400).unwrap();
    let mut budgets = Budgets::default();
    (budgets.text.prompt, budgets.text.answer) = (400, 60);
    let builder = SequenceBuilder::new(tokenizer, budgets);
    for example in &examples {
        for mode in [Mode::Think, Mode::Direct] {
            let trained = builder.train(example, mode, &[], false).unwrap();
            let asked = builder.prompt(example, mode, &[]).unwrap();
            assert_eq!(trained.answer, [asked.target]);
            assert_eq!(trained.left_pad, asked.left_pad);
            assert_eq!(trained.ids[..asked.target.start], asked.ids[..asked.target.start]);
            let learnt = builder.text(&trained.ids, asked.target).unwrap();
            assert_eq!(learnt, example.completion(mode));
            let headers = builder.tokenizer().specials().start_header;
            let count = asked.ids.iter().filter(|&&id| id == headers).count();
            assert_eq!(count, example.conversation().len() + 1);
        }
    }
}

/// Conversations are read in the layouts of ShareGPT, OpenAI, TRL's prompt and completion (as text or as
/// turns), and Alpaca. Each weighted turn of the assistant yields one example; a turn with tool calls or
/// with weight 0 yields none.
#[test]
fn conversations_are_read_by_every_name_that_people_give_them() {
    let share_gpt = json!({"conversations": [
        {"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi"},
        {"from": "human", "value": "bye"}, {"from": "gpt", "value": "so long"},
    ]});
    let texts = json!({"prompt": "hello", "completion": "hi"});
    let lists = json!({
        "prompt": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
        "completion": [{"role": "assistant", "content": "hi"}],
    });
    let alpaca = json!({"instruction": "add", "input": "1 and 2", "output": "3"});
    let called = json!({"messages": [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": null, "tool_calls": [{}]},
        {"role": "tool", "content": "rain"},
        {"role": "assistant", "content": "It rains."},
        {"role": "user", "content": "thanks"},
        {"role": "assistant", "content": "never mind", "weight": 0},
    ]});
    let examples = good(json_rows(&[share_gpt, texts, lists, alpaca, called]));
    let said: Vec<(&str, usize, &str)> = examples
        .iter()
        .map(|example| {
            (
                example.prompt.as_str(),
                example.turns.len(),
                example.answer.as_deref().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            ("hello", 0, "hi"),
            ("bye", 3, "so long"),
            ("hello", 0, "hi"),
            ("hello", 0, "hi"),
            ("add\n1 and 2", 0, "3"),
            ("weather?", 3, "It rains."),
        ]
    );
    assert!(examples.iter().all(|example| example.kind == Kind::Instruction));
}

/// A picture belongs to the turn that marks it; answers before that turn are text examples.
#[test]
fn pictures_are_where_the_text_marks_them() {
    let marked = json!({"image": "red.png", "conversations": [
        {"from": "human", "value": "<image>\nwhat colour?"}, {"from": "gpt", "value": "red"},
    ]});
    let late = json!({"images": ["red.png"], "messages": [
        {"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "and this?"}]},
        {"role": "assistant", "content": "red"},
    ]});
    let caption = json!({"image": "red.png", "caption": "a red square"});
    let examples = good(json_rows(&[marked, late, caption]));
    let seen: Vec<(Kind, &str, bool)> = examples
        .iter()
        .map(|example| (example.kind, example.prompt.as_str(), example.picture.is_some()))
        .collect();
    assert_eq!(
        seen,
        [
            (Kind::PictureInstruction, "what colour?", true),
            (Kind::Instruction, "hello", false),
            (Kind::PictureInstruction, "and this?", true),
            (Kind::Caption, "describe the table", true),
        ]
    );
}

/// Every kind of broken row is rejected with its own reason, and all rows are reported.
#[test]
fn broken_rows_are_named_with_what_was_expected() {
    let turns = |turns: serde_json::Value| json!({ "messages": turns });
    let cases = [
        (json!({"messages": "hello"}), "`messages`: a list of turns"),
        (
            turns(json!([{"role": "narrator", "content": "once"}])),
            "turn 1: a role of system, user",
        ),
        (
            turns(json!([{"role": "user", "content": "alone"}])),
            "expected an assistant turn",
        ),
        (
            turns(json!([{"role": "user", "content": ""}])),
            "the turn of the user is empty",
        ),
        (
            turns(
                json!([{"role": "user", "content": "<image> what?"}, {"role": "assistant", "content": "a"}]),
            ),
            "1 <image> in the text and 0 pictures",
        ),
        (
            json!({"images": ["red.png", "red.png"], "prompt": "which?", "completion": "both"}),
            "2 pictures; a sequence has room for one",
        ),
        (
            json!({"prompt": "a", "chosen": "b", "rejected": "c"}),
            "training on preference pairs is not supported",
        ),
        (
            json!({"prompt": "a", "completion": null, "answer": null}),
            "`answer`",
        ),
        (json!({"image": "gone.png", "caption": "a"}), "gone.png"),
    ];
    let values: Vec<_> = cases.iter().map(|(value, _)| value.clone()).collect();
    let found = json_rows(&values);
    assert_eq!(found.len(), cases.len());
    for (row, (value, words)) in found.into_iter().zip(&cases) {
        let bad = row.unwrap_err();
        assert!(bad.reason.contains(words), "{value}: {bad}");
    }
}

#[test]
fn columns_have_the_names_that_the_source_gives_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    fs::write(&path, lines(&[json!({"q": "one and one?", "a": "2"})])).unwrap();
    let named = Origin {
        columns: BTreeMap::from([("prompt".into(), "q".into()), ("completion".into(), "a".into())]),
        ..origin()
    };
    let examples = good(rows(&jsonl::JsonLinesReader, &path, &named));
    assert_eq!(
        (examples[0].prompt.as_str(), examples[0].answer.as_deref()),
        ("one and one?", Some("2"))
    );
}

/// JSON lines, a JSON array, gzip and zstd files give the same rows, alone, in a folder and by a pattern. A
/// later file that is missing is a bad row, not an error.
#[test]
fn packed_files_arrays_and_folders_hold_the_same_rows_as_lines() {
    let values: Vec<_> = (0..40)
        .map(|at| json!({"text": format!("row {at} with \"[{{,\" in it")}))
        .collect();
    let text = lines(&values);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a.jsonl"), &text).unwrap();
    fs::write(at("b.json"), serde_json::to_string_pretty(&values).unwrap()).unwrap();
    let mut packer = flate2::write::GzEncoder::new(
        File::create(at("c.jsonl.gz")).unwrap(),
        flate2::Compression::fast(),
    );
    packer.write_all(text.as_bytes()).unwrap();
    packer.finish().unwrap();
    fs::write(at("d.jsonl.zst"), zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    let reader = &jsonl::JsonLinesReader;
    let said = |path: &Path| -> Vec<String> {
        good(rows(reader, path, &origin()))
            .into_iter()
            .map(|example| example.answer.unwrap())
            .collect()
    };
    let plain = said(&at("a.jsonl"));
    assert_eq!(plain.len(), 40);
    for name in ["b.json", "c.jsonl.gz", "d.jsonl.zst"] {
        assert_eq!(said(&at(name)), plain, "{name}");
    }
    assert_eq!(said(dir.path()).len(), 160);
    assert_eq!(said(&at("[cd].jsonl*")).len(), 80);
    let missing = reader.open(&at("{a,e}.jsonl"), origin()).err();
    assert!(missing.is_none(), "a later file that is missing is a bad row");
    let last = rows(reader, &at("{a,e}.jsonl"), &origin())
        .pop()
        .unwrap()
        .unwrap_err();
    assert!(last.to_string().contains("e.jsonl"), "{last}");
}

/// A file that ends between two elements of its array is incomplete, although each of its rows is whole. So is the
/// reading of a file that goes on after its array, such as one with an array a line.
#[test]
fn an_array_that_does_not_end_with_its_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.json");
    for (text, words) in [
        ("[{\"text\": \"one\"},\n", Some("does not end")),
        (
            "[{\"text\": \"one\"}]\n[{\"text\": \"two\"}]\n",
            Some("text follows the end"),
        ),
        ("[{\"text\": \"one\"}]\n", None),
    ] {
        fs::write(&path, text).unwrap();
        let found = rows(&jsonl::JsonLinesReader, &path, &origin());
        assert_eq!(found.len(), 1 + usize::from(words.is_some()), "{text}");
        assert_eq!(found[0].as_ref().unwrap()[0].answer.as_deref(), Some("one"));
        if let Some(words) = words {
            let why = found[1].as_ref().unwrap_err().to_string();
            assert!(why.contains("rows.json:2") && why.contains(words), "{why}");
        }
    }
}

#[test]
fn of_a_folder_the_files_of_the_split_are_read() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["train-00000.jsonl", "train-00001.jsonl", "test-00000.jsonl"] {
        fs::write(dir.path().join(name), lines(&[json!({ "text": name })])).unwrap();
    }
    let examples = good(rows(&jsonl::JsonLinesReader, dir.path(), &origin()));
    assert_eq!(examples.len(), 2);
    let tests = Origin {
        split: Split::Test,
        ..origin()
    };
    assert_eq!(
        good(rows(&jsonl::JsonLinesReader, dir.path(), &tests))[0]
            .answer
            .as_deref(),
        Some("test-00000.jsonl")
    );
    let none = Origin {
        split: Split::Validation,
        ..origin()
    };
    let refused = jsonl::JsonLinesReader
        .open(dir.path(), none)
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("the split validation") && refused.contains("test-00000.jsonl"),
        "{refused}"
    );
}

/// Writes a Parquet file in which pictures and turns are stored as the hub's `datasets` library stores them.
fn write_parquet(path: &Path) {
    let schema = "message schema {
        OPTIONAL GROUP image { OPTIONAL BYTE_ARRAY bytes; OPTIONAL BYTE_ARRAY path (UTF8); }
        OPTIONAL INT64 label;
        OPTIONAL GROUP messages (LIST) { REPEATED GROUP list { OPTIONAL GROUP element {
            OPTIONAL BYTE_ARRAY role (UTF8); OPTIONAL BYTE_ARRAY content (UTF8); } } }
        OPTIONAL INT64 unused;
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let about =
        json!({"info": {"features": {"label": {"names": ["a cat", "a dog"], "_type": "ClassLabel"}}}});
    let notes = vec![KeyValue::new("huggingface".to_owned(), about.to_string())];
    let properties = Arc::new(
        WriterProperties::builder()
            .set_key_value_metadata(Some(notes))
            .build(),
    );
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let text = |words: &[&str]| {
        words
            .iter()
            .map(|word| ByteArray::from(*word))
            .collect::<Vec<_>>()
    };
    // Three rows: a cat, a conversation, and bytes that are not a picture.
    let pictures = [ByteArray::from(png(100)), ByteArray::from("no picture")];
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&pictures, Some(&[2, 0, 2]), None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&[], Some(&[1, 0, 1]), None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&[0, 1], Some(&[1, 0, 1]), None)
        .unwrap();
    column.close().unwrap();
    for words in [["user", "assistant"], ["hello", "hi"]] {
        let mut column = group.next_column().unwrap().unwrap();
        let levels = Some(&[0i16, 4, 4, 0][..]);
        column
            .typed::<ByteArrayType>()
            .write_batch(&text(&words), levels, Some(&[0, 0, 1, 0]))
            .unwrap();
        column.close().unwrap();
    }
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&[], Some(&[0, 0, 0]), None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

/// Parquet rows of the hub are read with pictures, class names and conversations. A broken picture is
/// reported by file and row, and a file that is not Parquet when it is opened.
#[test]
fn parquet_has_pictures_class_names_and_turns_as_the_hub_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    write_parquet(&dir.path().join("train-0.parquet"));
    write_parquet(&dir.path().join("train-1.parquet"));
    let found = rows(&parquet_format::ParquetReader, dir.path(), &origin());
    assert_eq!(found.len(), 6);
    let cat = found[0].as_ref().unwrap();
    assert_eq!(
        (cat[0].kind, cat[0].prompt.as_str()),
        (Kind::TextToImage, "a cat")
    );
    assert_eq!(cat[1].picture.as_ref().unwrap().at(3, 3), [100, 0, 9]);
    let talk = found[4].as_ref().unwrap();
    assert_eq!(
        (talk[0].prompt.as_str(), talk[0].answer.as_deref()),
        ("hello", Some("hi"))
    );
    let bad = found[5].as_ref().unwrap_err().to_string();
    assert!(
        bad.contains("train-1.parquet:3") && bad.contains("PNG or JPEG"),
        "{bad}"
    );
    fs::write(dir.path().join("train-2.parquet"), "PAR1 or not").unwrap();
    let cut = parquet_format::ParquetReader
        .open(&dir.path().join("train-2.parquet"), origin())
        .err()
        .unwrap();
    assert!(cut.to_string().contains("a Parquet file was expected"), "{cut}");
}

/// A picture whose bytes are null is the file that its path names, relative to the table.
#[test]
fn a_parquet_row_without_bytes_shows_the_file_beside_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.parquet");
    fs::create_dir(dir.path().join("pictures")).unwrap();
    fs::write(dir.path().join("pictures/own.png"), png(70)).unwrap();
    let schema = "message schema {
        OPTIONAL GROUP image { OPTIONAL BYTE_ARRAY bytes; OPTIONAL BYTE_ARRAY path (UTF8); }
        OPTIONAL BYTE_ARRAY caption (UTF8);
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (values, defined) in [
        (vec![], 1),
        (vec![ByteArray::from("pictures/own.png")], 2),
        (vec![ByteArray::from("a red square")], 1),
    ] {
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&values, Some(&[defined]), None).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    let examples = good(rows(&parquet_format::ParquetReader, &path, &origin()));
    assert_eq!(examples[0].picture.as_ref().unwrap().at(3, 3), [70, 0, 9]);
    let table: Vec<_> = tables::read(&path)
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let picture = &table[0].fields.pictures["image"][0];
    assert_eq!(picture.decode(8).unwrap().at(3, 3), [70, 0, 9]);
}

/// Writes a table with a picture and a list of pictures per row, in row groups of two.
fn write_pictures(path: &Path, rows: u8) {
    let schema = "message schema {
        OPTIONAL GROUP image { OPTIONAL BYTE_ARRAY bytes; OPTIONAL BYTE_ARRAY path (UTF8); }
        OPTIONAL BYTE_ARRAY question (UTF8);
        OPTIONAL GROUP several (LIST) { REPEATED GROUP list { OPTIONAL GROUP element {
            OPTIONAL BYTE_ARRAY bytes; OPTIONAL BYTE_ARRAY path (UTF8); } } }
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    for first in (0..rows).step_by(2) {
        let own: Vec<u8> = (first..rows.min(first + 2)).collect();
        let count = own.len();
        let mut group = writer.next_row_group().unwrap();
        let mut put = |values: &[ByteArray], defined: &[i16], repeated: Option<&[i16]>| {
            let mut column = group.next_column().unwrap().unwrap();
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(values, Some(defined), repeated).unwrap();
            column.close().unwrap();
        };
        let texts = |text: &dyn Fn(u8) -> ByteArray| own.iter().map(|row| text(*row)).collect::<Vec<_>>();
        put(&texts(&|row| png(row).into()), &vec![2; count], None);
        put(&[], &vec![1; count], None);
        put(
            &texts(&|row| format!("question {row}").as_str().into()),
            &vec![1; count],
            None,
        );
        // Two pictures in each list.
        let pairs: Vec<ByteArray> = own
            .iter()
            .flat_map(|row| [png(100 + row).into(), png(200 + row).into()])
            .collect();
        let (all, none) = (vec![4; 2 * count], vec![3; 2 * count]);
        let repeated: Vec<i16> = (0..2 * count).map(|at| (at % 2) as i16).collect();
        put(&pairs, &all, Some(&repeated));
        put(&[], &none, Some(&repeated));
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// The pictures of a table stay in its file. Each is read when it is decoded, in any order and on any thread.
#[test]
fn pictures_of_a_table_are_read_when_they_are_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("val-0.parquet");
    write_pictures(&path, 5);
    let rows: Vec<_> = tables::read(&path)
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[4].fields.values["question"], json!("question 4"));
    let is_red = |picture: &Encoded, red: usize| {
        assert!(matches!(picture, Encoded::Stored(_)), "{picture:?}");
        assert_eq!(usize::from(picture.decode(8).unwrap().at(3, 3)[0]), red);
    };
    for number in [0, 1, 2, 3, 4, 3, 0, 4] {
        let pictures = &rows[number].fields.pictures;
        is_red(&pictures["image"][0], number);
        assert_eq!(pictures["several"].len(), 2);
        is_red(&pictures["several"][1], 200 + number);
        is_red(&pictures["several"][0], 100 + number);
    }
    let behind = rows[2].fields.pictures["image"][0].clone();
    std::thread::spawn(move || is_red(&behind, 2)).join().unwrap();
    // A file that was replaced by a shorter one is reported.
    write_pictures(&path, 1);
    let gone = rows[4].fields.pictures["image"][0].clone();
    let why = std::thread::spawn(move || gone.decode(8).unwrap_err())
        .join()
        .unwrap();
    assert!(
        why.contains("val-0.parquet") && why.contains("has changed"),
        "{why}"
    );
}

/// A broken line of a table is named by its number in the file, empty lines included.
#[test]
fn a_line_of_a_table_has_its_number_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.jsonl");
    fs::write(&path, "\u{feff}{\"question\": \"which?\"}\n\n\nno row\n").unwrap();
    let found = tables::read(&path).unwrap();
    let first = found[0].as_ref().unwrap();
    assert!(first.place.ends_with("table.jsonl:1"), "{}", first.place);
    assert_eq!(found[1].as_ref().unwrap_err().line, 4);
}

/// An array is read item by item; one that is broken or cut off is refused as a whole, and says where.
#[test]
fn an_array_of_a_table_is_read_item_by_item() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.json");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        tables::read(&path)
    };
    let found = read("\u{feff} \n[ {\"a\": \"],[\"},\n7 , {} ]\n").unwrap();
    let first = found[0].as_ref().unwrap();
    assert!(first.place.ends_with("table.json:1"), "{}", first.place);
    assert_eq!(first.fields.values["a"], json!("],["));
    let second = found[1].as_ref().unwrap_err();
    assert_eq!(
        (second.line, second.reason.as_str()),
        (2, "an object was expected, found a number")
    );
    assert!(found[2].as_ref().unwrap().fields.values.is_empty() && found.len() == 3);
    assert!(read("[]").unwrap().is_empty() && read(" \n").unwrap().is_empty());
    for (text, at) in [
        ("[{\"a\": 1}, {\"a\" 2}]", "item 2"),
        ("[{\"a\": 1},", "does not end"),
        ("[{\"a\": 1}, {\"a\":", "item 2"),
        ("[{}] {}", "text follows"),
    ] {
        let refused = read(text).unwrap_err().to_string();
        assert!(
            refused.contains("JSON was expected") && refused.contains(at),
            "{text}: {refused}"
        );
    }
}

/// The tables of benchmarks are held as a whole, so their files, rows and values have limits.
#[test]
fn l9_a_table_of_a_benchmark_is_refused_before_it_fills_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (json, tsv) = (dir.path().join("table.json"), dir.path().join("table.tsv"));
    let refused = |path: &Path| tables::read(path).unwrap_err().to_string();
    // Files with holes, which take no room on the disk.
    for (path, bytes) in [(&json, (2 << 30) + 1), (&tsv, (16 << 30) + 1)] {
        File::create(path).unwrap().set_len(bytes).unwrap();
        let said = refused(path);
        assert!(
            said.contains(&format!("has {bytes} bytes, expected at most")),
            "{said}"
        );
    }
    let said = tables::document(&json).unwrap_err().to_string();
    assert!(said.contains("expected at most"), "{said}");
    let mut file = File::create(&tsv).unwrap();
    file.write_all(b"index\timage\n1\t").unwrap();
    file.set_len(65 << 20).unwrap();
    let said = refused(&tsv);
    assert!(
        said.contains("table.tsv") && said.contains("a row has more than 64 MiB"),
        "{said}"
    );
    // Rows within their own limit, but too many of them. Each is broken, so that none is held.
    let most = "a table of at most 16777216 values";
    let fill = |path: &Path, first: &str, row: &str| {
        let text = format!("{first}{}", format!("{row}\n").repeat(36));
        fs::write(path, text).unwrap();
        refused(path)
    };
    let said = fill(&tsv, "index\timage\n", &"\t".repeat(490_000));
    assert!(said.contains(most), "{said}");
    let said = fill(&json, "", &format!("{{{}", ",".repeat(490_000)));
    assert!(said.contains(most), "{said}");
    fs::write(&json, ",".repeat((1 << 24) + 1)).unwrap();
    let said = tables::document(&json).unwrap_err().to_string();
    assert!(
        said.contains("found 16777217 values in JSON, expected at most 16777216"),
        "{said}"
    );
    // One row of too many values leaves the others.
    fs::write(&json, format!("{{{}\n{{\"a\": 1}}\n", ",".repeat(500_001))).unwrap();
    let found = tables::read(&json).unwrap();
    let bad = found[0].as_ref().unwrap_err();
    assert!(bad.reason.contains("expected at most 500000"), "{bad}");
    assert!(found[1].is_ok());
}

/// Links to folders are followed, but not in a circle, and not on so many ways that a listing would never end.
#[test]
fn l9_links_between_folders_lead_to_an_end() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let pets = dir.path().join("pets");
    fs::create_dir_all(pets.join("cats")).unwrap();
    fs::write(pets.join("cats/1.png"), png(70)).unwrap();
    fs::write(pets.join("cats/rows.jsonl"), "{\"text\": \"a text\"}\n").unwrap();
    let (pictures, lines) = (&image_folder::ImageFolderReader, &jsonl::JsonLinesReader);
    let found = |folder: &Path| {
        let files = |reader: &dyn Reader| reader.files(folder, Split::Train).map(|files| files.len());
        [files(pictures), files(lines)]
    };
    symlink(".", pets.join("again")).unwrap();
    symlink("..", pets.join("cats/up")).unwrap();
    assert!(found(&pets).iter().all(|count| matches!(count, Ok(1))));
    // The same folder under another name is another caption.
    symlink("cats", pets.join("felines")).unwrap();
    assert!(found(&pets).iter().all(|count| matches!(count, Ok(2))));
    let web = dir.path().join("web");
    for name in 0..12 {
        let folder = web.join(name.to_string());
        fs::create_dir_all(&folder).unwrap();
        for other in (0..12).filter(|other| *other != name) {
            symlink(format!("../{other}"), folder.join(other.to_string())).unwrap();
        }
    }
    for refused in found(&web) {
        let said = refused.unwrap_err().to_string();
        assert!(
            said.contains("links lead to this folder on more than 100 ways"),
            "{said}"
        );
    }
}

fn shard(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Members of a tar shard are grouped into samples by key, in plain and gzipped shards and with names longer
/// than a tar header holds. Broken samples and a truncated shard are reported by shard and position, without
/// losing the samples before them.
#[test]
fn samples_of_tar_shards_are_grouped_by_key_packed_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let text = |words: &str| words.as_bytes().to_vec();
    let long = "deep/".repeat(30) + "b";
    let first = shard(&[
        ("a.png", png(10)),
        ("a.txt", text("ten")),
        (&format!("{long}.png"), png(20)),
        (
            &format!("{long}.json"),
            text("{\"caption\": \"twenty\", \"width\": 8}"),
        ),
        ("c.jpg", text("none")),
        ("c.txt", text("broken")),
        ("d.cls", text("7")),
    ]);
    let second = shard(&[
        ("a.json", text("{\"question\": \"which?\", \"answer\": \"this\"}")),
        ("a.png", png(30)),
        ("e.question.txt", text("how many?")),
        ("e.txt", text("ignored")),
        ("e.json", text("{\"answer\": \"#### 4\"}")),
    ]);
    fs::write(dir.path().join("s-00.tar"), &first).unwrap();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&second).unwrap();
    let packed = packer.finish().unwrap();
    fs::write(dir.path().join("s-01.tar.gz"), &packed).unwrap();
    fs::write(dir.path().join("s-02.tar"), &first[..1400]).unwrap();
    let reader = &webdataset::WebDatasetReader;
    let found = rows(reader, &dir.path().join("s-{00..00}.tar"), &origin());
    assert_eq!(found.len(), 4);
    for name in ["s.tgz", "s.TGZ"] {
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join(name), &packed).unwrap();
        assert_eq!(good(rows(reader, other.path(), &origin())).len(), 2, "{name}");
    }
    let found = rows(reader, dir.path(), &origin());
    let said: Vec<String> = found
        .iter()
        .map(|row| match row {
            Ok(examples) => format!("{} {}", examples[0].kind.name(), examples[0].prompt),
            Err(bad) => bad.to_string(),
        })
        .collect();
    assert_eq!(said[0], "text_to_image ten");
    assert_eq!(said[1], "text_to_image twenty");
    assert!(
        said[2].contains("s-00.tar:3: c: ") && said[2].contains("PNG or JPEG"),
        "{said:?}"
    );
    assert!(said[3].contains("s-00.tar:4: d: "), "{said:?}");
    assert_eq!(said[4], "question which?");
    assert_eq!(said[5], "word_problem how many?");
    assert!(said[6].contains("s-02.tar:1: "), "{said:?}");
}

/// A list of small objects takes 90 times its text in memory.
#[test]
fn l9_a_row_of_too_many_values_is_refused_before_they_are_made() {
    let many = format!(
        "{{\"text\": \"a\", \"rest\": [{}0]}}",
        "{\"a\":0},".repeat(300_000)
    );
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("rows.jsonl");
    fs::write(&lines, format!("{many}\n{{\"text\": \"b\"}}\n")).unwrap();
    let found = rows(&jsonl::JsonLinesReader, &lines, &origin());
    let [Err(bad), Ok(_)] = &found[..] else {
        panic!("{} rows", found.len())
    };
    assert!(bad.reason.contains("expected at most 500000"), "{bad}");
    let tar = dir.path().join("s.tar");
    fs::write(&tar, shard(&[("a.png", png(10)), ("a.json", many.into_bytes())])).unwrap();
    let found = rows(&webdataset::WebDatasetReader, &tar, &origin());
    let [Err(bad)] = &found[..] else {
        panic!("{} rows", found.len())
    };
    assert!(bad.reason.contains("expected at most 500000"), "{bad}");
}

/// The tar library reads the map of a sparse file whole, and its size with the holes is not that in the shard.
#[test]
fn l9_a_sparse_file_in_a_tar_shard_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.tar");
    let mut bytes = shard(&[("a.png", png(10)), ("a.txt", b"ten".to_vec())]);
    bytes.truncate(bytes.len() - 1024);
    let mut header = tar::Header::new_gnu();
    header.set_path("a.npy").unwrap();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(0);
    header.set_cksum();
    bytes.extend(header.as_bytes());
    bytes.extend(shard(&[("b.txt", b"not found".to_vec())]));
    fs::write(&path, &bytes).unwrap();
    let found = rows(&webdataset::WebDatasetReader, &path, &origin());
    let [Err(bad)] = &found[..] else {
        panic!("{found:?}")
    };
    assert!(bad.reason.contains("found a sparse file"), "{bad}");
}

/// The tar library reads a long name whole, before anything else can look at it.
#[test]
fn l9_a_name_in_a_tar_shard_is_refused_before_it_fills_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.tar");
    let mut bytes = shard(&[("a.png", png(10)), ("a.txt", b"ten".to_vec())]);
    bytes.truncate(bytes.len() - 1024);
    let mut header = tar::Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(2 << 20);
    header.set_cksum();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + (2 << 20), b'x');
    bytes.extend(shard(&[("b.txt", b"never named".to_vec())]));
    fs::write(&path, &bytes).unwrap();
    let found = rows(&webdataset::WebDatasetReader, &path, &origin());
    let [Err(bad)] = &found[..] else {
        panic!("{found:?}")
    };
    assert!(
        bad.reason
            .contains("a name has 2097152 bytes, expected at most 1048576"),
        "{bad}"
    );
}
