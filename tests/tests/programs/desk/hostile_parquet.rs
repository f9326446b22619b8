//! L9: Parquet files that unpack or repeat to more memory than their process may take (`demask read-parquet`); and
//! files as they should be, which read the same there as in this process.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use demask_datasets::example::Split;
use demask_datasets::formats::parquet::{ParquetReader, process};
use demask_datasets::formats::row::{KeptColumns, Origin, Row};
use demask_datasets::formats::tables::{self, Entry};
use demask_datasets::formats::{RandomAccess, Reader as _};
use demask_tests::dice::Dice;
use demask_tests::processes::{children, is_alive};
use demask_tests::programs;
use parquet::basic::{Compression, GzipLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int32Type};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// The limit of the process, as it is told.
const LIMIT: &str = "reading takes more than 2048 MiB of memory";

const TEXT: &str = "message schema { REQUIRED BYTE_ARRAY text (UTF8); }";
const PICTURE: &str = "message schema { REQUIRED GROUP image {
    REQUIRED BYTE_ARRAY bytes; REQUIRED BYTE_ARRAY path (UTF8); } }";

/// Bytes of zeros in one member of the packed file.
const ZEROS: usize = 16 << 20;

fn writer(path: &Path, schema: &str, properties: WriterProperties) -> SerializedFileWriter<File> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap()
}

/// Writes a file of rows, each in a row group of its own and packed with gzip. A row has a value for each column.
fn write_rows(path: &Path, schema: &str, rows: &[&[&[u8]]]) {
    let properties = WriterProperties::builder()
        .set_compression(Compression::GZIP(GzipLevel::default()))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let mut writer = writer(path, schema, properties);
    for row in rows {
        let mut group = writer.next_row_group().unwrap();
        for value in *row {
            let mut column = group.next_column().unwrap().unwrap();
            let typed = column.typed::<ByteArrayType>();
            typed
                .write_batch(&[ByteArray::from(value.to_vec())], None, None)
                .unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Returns where the packed page of the first column lies in the file, of the last row group.
fn last_page(path: &Path) -> Range<usize> {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let groups = reader.metadata().row_groups();
    let (start, length) = groups.last().unwrap().column(0).byte_range();
    let (start, length) = (start as usize, length as usize);
    let bytes = fs::read(path).unwrap();
    let mut marks = bytes[start..start + length].windows(3);
    // The page's header precedes it.
    let header = marks.position(|bytes| bytes == [0x1f, 0x8b, 8]);
    start + header.unwrap()..start + length
}

/// Writes a file of which the first column of the last row unpacks to three gigabytes: gzip reads one member after
/// another.
fn write_unpacking(path: &Path, schema: &str, before: &[&[&[u8]]], others: &[&[u8]]) {
    let zeros = path.with_extension("zeros");
    write_rows(&zeros, TEXT, &[&[&vec![0_u8; ZEROS][..]]]);
    let member = fs::read(&zeros).unwrap()[last_page(&zeros)].to_vec();
    fs::remove_file(&zeros).unwrap();
    let mut dice = Dice::new(9);
    let noise: Vec<u8> = (0..(3 << 20) / 8)
        .flat_map(|_| dice.below(u64::MAX).to_le_bytes())
        .collect();
    let last: Vec<&[u8]> = [&noise[..]].into_iter().chain(others.iter().copied()).collect();
    let rows: Vec<&[&[u8]]> = before.iter().copied().chain([&last[..]]).collect();
    write_rows(path, schema, &rows);
    let page = last_page(path);
    assert!(page.len() / member.len() * ZEROS > 2 << 30, "{}", member.len());
    let mut bytes = fs::read(path).unwrap();
    for (at, byte) in page.zip(member.iter().cycle()) {
        bytes[at] = *byte;
    }
    fs::write(path, bytes).unwrap();
}

/// Writes a file whose only row unpacks to three gigabytes.
pub(super) fn write_unpacking_row(path: &Path) {
    write_unpacking(path, TEXT, &[], &[]);
}

/// Writes a file whose only row has a value of a quarter of a megabyte in its dictionary 12288 times.
fn write_repeating(path: &Path) {
    let schema = "message schema { REPEATED BYTE_ARRAY text (UTF8); }";
    let properties = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None);
    let mut writer = writer(path, schema, properties.build());
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values = vec![ByteArray::from(vec![b'a'; 256 << 10]); 12288];
    let continues: Vec<i16> = (0..12288).map(|at| i16::from(at > 0)).collect();
    let typed = column.typed::<ByteArrayType>();
    typed
        .write_batch(&values, Some(&[1; 12288]), Some(&continues))
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    assert!(fs::metadata(path).unwrap().len() < 1 << 20);
}

/// Writes rows of as many numbers each.
fn write_lists(path: &Path, rows: usize, numbers: usize) {
    let schema = "message schema { REPEATED INT32 numbers; }";
    let mut writer = writer(path, schema, WriterProperties::builder().build());
    let (values, defined) = (vec![7_i32; numbers], vec![1_i16; numbers]);
    let continues: Vec<i16> = (0..numbers).map(|at| i16::from(at > 0)).collect();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<Int32Type>();
    for _ in 0..rows {
        typed
            .write_batch(&values, Some(&defined), Some(&continues))
            .unwrap();
    }
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

/// Writes numbers whose shortest texts have up to seventeen digits.
fn write_numbers(path: &Path) {
    let schema = "message schema { REQUIRED DOUBLE wide; REQUIRED FLOAT narrow; }";
    let mut writer = writer(path, schema, WriterProperties::builder().build());
    let mut dice = Dice::new(3);
    let wide: Vec<f64> = (0..2000).map(|_| f64::from_bits(dice.below(u64::MAX))).collect();
    let narrow: Vec<f32> = (0..2000).map(|at| at as f32 / 7.0 - 100.0).collect();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<DoubleType>();
    typed.write_batch(&wide, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let typed = column.typed::<FloatType>();
    typed.write_batch(&narrow, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

fn origin(keep: KeptColumns) -> Origin {
    Origin {
        source: "own".into(),
        licence: String::new(),
        split: Split::Train,
        pixels: 8,
        columns: BTreeMap::new(),
        keep,
    }
}

/// Opens a source whose rows can be read again.
fn open(path: &Path, keep: KeptColumns) -> Result<Box<dyn RandomAccess>, String> {
    let room = std::env::temp_dir();
    let opened = ParquetReader.open_again(path, origin(keep), &room);
    opened.map(Option::unwrap).map_err(|error| error.to_string())
}

/// Everything that can be read of a file.
#[derive(Debug, PartialEq)]
struct Found {
    /// The rows of a source, or why it cannot be opened.
    rows: Result<Vec<Row>, String>,
    /// These rows, read again.
    again: Vec<Row>,
    /// The rows of a table, or why it cannot be opened.
    table: Result<Vec<Entry>, String>,
    /// The pictures of the table.
    pictures: Vec<Result<Vec<u8>, String>>,
}

fn found(path: &Path) -> Found {
    let (mut rows, mut again) = (Vec::new(), Vec::new());
    let opened = open(path, KeptColumns::Whole).map(|mut source| {
        let mut places = Vec::new();
        while let Some((place, row)) = source.next_row() {
            if row.is_ok() {
                places.push(place);
            }
            rows.push(row);
        }
        again.extend(places.into_iter().map(|place| source.read_again(place)));
    });
    let table = tables::read(path).map_err(|error| error.to_string());
    let entries = table.iter().flatten().flatten();
    let pictures = entries.flat_map(|row| row.fields.pictures.values().flatten());
    let pictures = pictures
        .map(|picture| picture.bytes().map(|bytes| bytes.into_owned()))
        .collect();
    Found {
        rows: opened.map(|()| rows),
        again,
        table,
        pictures,
    }
}

/// What a file has, read in this process, and by the command.
struct Compared {
    path: PathBuf,
    here: Found,
    apart: Found,
}

/// Files as they should be, and broken ones. They are read here first; then the command is registered, which reads from
/// then on.
static FILES: LazyLock<Vec<Compared>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let benchmarks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rewards/tests/fixtures/benchmarks");
    let mut paths: Vec<PathBuf> = [
        "gqa/hub/testdev_balanced_images/testdev-00000-of-00001.parquet",
        "gqa/hub/testdev_balanced_instructions/testdev-00000-of-00001.parquet",
        "flickr30k/hub/data/test-00000-of-00001.parquet",
        "mmbench/hub/en/dev-00000-of-00001.parquet",
        "mme/hub/data/test-00000-of-00001.parquet",
        "mmmu/hub/Art/validation-00000-of-00001.parquet",
        "seed/hub/data/test-00000-of-00001.parquet",
        "vqav2/hub/data/validation-00000-of-00001.parquet",
    ]
    .iter()
    .map(|name| benchmarks.join(name))
    .collect();
    let own = |name: &str| folder.path().join(name);
    write_numbers(&own("numbers.parquet"));
    fs::write(own("none.parquet"), "PAR1 or not").unwrap();
    write_rows(
        &own("cut.parquet"),
        TEXT,
        &[&[b"first"], &[b"second"], &[b"third"]],
    );
    let mut cut = fs::read(own("cut.parquet")).unwrap();
    let page = last_page(&own("cut.parquet"));
    cut[page].fill(7);
    fs::write(own("cut.parquet"), cut).unwrap();
    paths.extend(["numbers.parquet", "none.parquet", "cut.parquet"].map(own));
    let here: Vec<Found> = paths.iter().map(|path| found(path)).collect();
    process::use_program(programs().join("demask"));
    let both = paths.into_iter().zip(here);
    both.map(|(path, here)| Compared {
        apart: found(&path),
        path,
        here,
    })
    .collect()
});

/// One test at a time, because they count the processes of this one.
static TURN: Mutex<()> = Mutex::new(());

/// Returns the living processes that read files for this one.
fn readers() -> Vec<i32> {
    let own = i32::try_from(std::process::id()).unwrap();
    let reads = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(process::COMMAND)
    };
    children(own).into_iter().filter(reads).collect()
}

#[test]
fn files_are_read_by_the_process_as_they_are_here() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for file in FILES.iter() {
        assert_eq!(file.apart, file.here, "{}", file.path.display());
    }
    let rows = |name: &str| {
        let file = FILES.iter().find(|file| file.path.ends_with(name)).unwrap();
        file.apart.rows.as_ref()
    };
    assert_eq!(rows("numbers.parquet").unwrap().len(), 2000);
    let none = rows("none.parquet").unwrap_err();
    assert!(none.contains("a Parquet file was expected"), "{none}");
    let cut = rows("cut.parquet").unwrap();
    let why = cut[2].as_ref().unwrap_err();
    assert_eq!((cut.len(), why.line), (3, 3));
    assert!(
        why.reason.contains("the file cannot be read beyond this row"),
        "{why}"
    );
    let pictures = FILES.iter().flat_map(|file| &file.apart.pictures);
    assert!(pictures.filter(|picture| picture.is_ok()).count() > 5);
}

/// A file that takes too much memory ends its own process at the row that does; the rows before it and those of the
/// next file are read.
#[test]
fn l9_a_row_that_takes_too_much_memory_is_a_bad_row_and_the_next_file_is_read() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    LazyLock::force(&FILES);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_unpacking(&path("a.parquet"), TEXT, &[&[b"the first row is whole"]], &[]);
    write_repeating(&path("b.parquet"));
    write_rows(&path("c.parquet"), TEXT, &[&[b"the next file"]]);
    let mut source = open(folder.path(), KeptColumns::Nothing).unwrap();
    let mut rows = Vec::new();
    while let Some((_, row)) = source.next_row() {
        rows.push(row);
    }
    let good = |at: usize| rows[at].as_ref().unwrap()[0].place.clone();
    assert!(good(0).ends_with("a.parquet:1"), "{}", good(0));
    for (at, name) in [(1, "a.parquet:2"), (2, "b.parquet:1")] {
        let bad = rows[at].as_ref().unwrap_err().to_string();
        assert!(bad.contains(name) && bad.ends_with(LIMIT), "{bad}");
        assert!(bad.contains("the file cannot be read beyond this row"), "{bad}");
    }
    assert!(good(3).ends_with("c.parquet:1"), "{}", good(3));
    assert_eq!(rows.len(), 4);
}

#[test]
fn l9_a_picture_that_takes_too_much_memory_cannot_be_read_and_the_next_one_can() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    LazyLock::force(&FILES);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pictures.parquet");
    write_unpacking(&path, PICTURE, &[&[b"a picture", b"a.png"]], &[b"b.png"]);
    let rows: Vec<_> = tables::read(&path)
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows.len(), 2);
    for _ in 0..2 {
        let refused = rows[1].fields.pictures["image"][0].bytes().unwrap_err();
        assert!(
            refused.ends_with(LIMIT) && refused.contains("row group 1, row 0"),
            "{refused}"
        );
        let whole = rows[0].fields.pictures["image"][0].bytes().unwrap();
        assert_eq!(*whole, b"a picture"[..]);
    }
}

/// A reader that is dropped before its end leaves no process behind.
#[test]
fn a_file_has_a_process_while_it_is_read() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    LazyLock::force(&FILES);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let row: &[&[u8]] = &[b"a text"];
    write_rows(&path, TEXT, &[row; 500]);
    let before = readers();
    let mut source = open(&path, KeptColumns::Nothing).unwrap();
    source.next_row().unwrap().1.unwrap();
    let own: Vec<i32> = readers()
        .into_iter()
        .filter(|pid| !before.contains(pid))
        .collect();
    assert_eq!(own.len(), 1);
    drop(source);
    assert!(!is_alive(own[0]));
    assert!(!Path::new(&format!("/proc/{}", own[0])).exists());
}

/// A Ctrl-C or the end of a batch job goes to the whole group of processes. A daemon goes on until it has saved.
#[test]
fn a_process_leaves_signals_to_its_caller() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    LazyLock::force(&FILES);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let text = vec![b'a'; 1 << 14];
    let row: &[&[u8]] = &[&text];
    write_rows(&path, TEXT, &[row; 200]);
    let before = readers();
    let mut source = open(&path, KeptColumns::Nothing).unwrap();
    source.next_row().unwrap().1.unwrap();
    let own = readers().into_iter().find(|pid| !before.contains(pid)).unwrap();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: a signal to a process of this test.
        assert_eq!(unsafe { libc::kill(own, signal) }, 0);
    }
    // Most rows are not in the pipe yet.
    for at in 1..200 {
        assert!(source.next_row().unwrap().1.is_ok(), "row {at}");
    }
    assert!(source.next_row().is_none());
}

/// When memory is short, the system ends the processes first that rest with an open page.
#[test]
fn a_picture_is_read_although_the_process_of_the_last_one_was_killed() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    LazyLock::force(&FILES);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pictures.parquet");
    write_rows(&path, PICTURE, &[&[b"one", b"a.png"], &[b"two", b"b.png"]]);
    let rows = tables::read(&path).unwrap();
    let picture = |row: usize| {
        let fields = &rows[row].as_ref().unwrap().fields;
        fields.pictures["image"][0]
            .bytes()
            .map(|bytes| bytes.into_owned())
    };
    assert_eq!(picture(0).unwrap(), b"one");
    let resting = readers();
    assert!(!resting.is_empty());
    for pid in resting {
        // SAFETY: a signal to a process of this test.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        while is_alive(pid) {
            std::thread::yield_now();
        }
    }
    assert_eq!(picture(1).unwrap(), b"two");
}

/// Rows and tables have the limits of those in JSON: a page of kilobytes repeats a value as often as it says.
#[test]
fn l9_values_that_are_repeated_have_limits() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    LazyLock::force(&FILES);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lists.parquet");
    write_lists(&path, 1, 500_000);
    let row = tables::read(&path).unwrap().remove(0).unwrap_err();
    assert!(
        row.reason
            .ends_with("it has 500001 values; at most 500000 are allowed"),
        "{row}"
    );
    write_lists(&path, 36, 480_000);
    let said = tables::read(&path).unwrap_err().to_string();
    assert!(
        said.contains("a table of at most 16777216 values was expected"),
        "{said}"
    );
}
