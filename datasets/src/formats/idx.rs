//! The IDX files of MNIST and Fashion-MNIST: `{train,t10k}-images-idx3-ubyte` and `-labels-idx1-ubyte`, gzipped or not.
//!
//! A labelled picture becomes a request to draw its class and a question about it. Grey is copied to the three
//! channels, and the picture is centred in the model's square.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use demask_api::{Picture, bounded_file};
use flate2::read::GzDecoder;

use super::packed::{Spool, is_packed};
use super::{RandomAccess, Reader, Rows};
use crate::example::{Check, Example, Kind, Split};
use crate::formats::row::{BadRow, Origin, ReadError, Row, RowPlace, placed};

/// Fashion-MNIST's classes in words, by label.
pub const FASHION: [&str; 10] = [
    "a t-shirt",
    "trousers",
    "a pullover",
    "a dress",
    "a coat",
    "a sandal",
    "a shirt",
    "a sneaker",
    "a bag",
    "an ankle boot",
];

/// The most pictures of a file (law L9); the published files have 60,000.
const MOST_PICTURES: usize = 1 << 24;
/// The bytes of the header of a file of pictures.
const HEADER: usize = 16;

/// The question about a picture.
pub const WHAT: &str = "what is this?";

/// The reader of the format `idx`.
#[derive(Clone, Copy, Debug)]
pub struct IdxReader;

impl Reader for IdxReader {
    fn name(&self) -> &'static str {
        "idx"
    }

    fn about(&self) -> &'static str {
        "a folder of MNIST's IDX files, with Fashion-MNIST's classes"
    }

    fn has_classes(&self) -> bool {
        true
    }

    fn has_columns(&self) -> bool {
        false
    }

    fn endings(&self) -> &'static [&'static str] {
        &["-idx3-ubyte", "-idx3-ubyte.gz"]
    }

    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError> {
        Ok(Box::new(Idx::open(path, origin)?))
    }

    fn open_again(
        &self,
        path: &Path,
        origin: Origin,
        room: &Path,
    ) -> Result<Option<Box<dyn RandomAccess>>, ReadError> {
        let mut idx = Idx::open(path, origin)?;
        idx.again = Some(match is_packed(&idx.path) {
            true => Again::Unpacked(Spool::new(room)?),
            false => {
                let file = bounded_file::open(&idx.path).map_err(|error| ReadError::io(&idx.path, error))?;
                Again::File(file)
            }
        });
        Ok(Some(Box::new(idx)))
    }
}

/// Where a picture that was read can be read again.
enum Again {
    /// In the file itself.
    File(File),
    /// In a copy of what was unpacked.
    Unpacked(Spool),
}

/// The labelled pictures of a folder, one at a time.
pub struct Idx {
    images: Box<dyn Read + Send>,
    labels: Vec<u8>,
    path: PathBuf,
    rows: usize,
    columns: usize,
    /// The number of pictures that were read.
    number: usize,
    /// Whether the file has ended early.
    has_ended: bool,
    again: Option<Again>,
    origin: Origin,
}

impl std::fmt::Debug for Idx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Idx")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Idx {
    /// Opens the images and labels of the origin's split: the `train` files for training and validation, `t10k` for
    /// tests.
    ///
    /// # Errors
    /// An error if a file is missing or is not IDX, if the counts differ, or if the pictures are larger than the
    /// model's.
    pub fn open(folder: &Path, origin: Origin) -> Result<Self, ReadError> {
        let part = match origin.split {
            Split::Test => "t10k",
            Split::Train | Split::Validation => "train",
        };
        let (path, mut images) = find(folder, &format!("{part}-images-idx3-ubyte"))?;
        let [count, rows, columns] = header(&path, &mut images, 0x803)?;
        let (label_path, mut reader) = find(folder, &format!("{part}-labels-idx1-ubyte"))?;
        let [labelled] = header(&label_path, &mut reader, 0x801)?;
        if labelled != count {
            return Err(ReadError::format(
                &label_path,
                format!("{count} labels were expected, one per picture; found {labelled}"),
            ));
        }
        if rows > origin.pixels || columns > origin.pixels || rows == 0 || columns == 0 {
            return Err(ReadError::format(
                &path,
                format!(
                    "found pictures of {rows} x {columns} pixels; the model takes up to {0} x {0}",
                    origin.pixels
                ),
            ));
        }
        if count > MOST_PICTURES {
            return Err(ReadError::format(
                &path,
                format!("found {count} pictures, expected at most {MOST_PICTURES}"),
            ));
        }
        // The labels are small and kept in memory. The pictures are read one by one.
        let mut labels = Vec::new();
        reader
            .take(count as u64)
            .read_to_end(&mut labels)
            .map_err(|error| {
                ReadError::format(&label_path, format!("{count} labels were expected: {error}"))
            })?;
        if labels.len() != count {
            let found = labels.len();
            return Err(ReadError::format(
                &label_path,
                format!("{count} labels were expected, found {found}"),
            ));
        }
        for (path, bytes) in [(&label_path, 8 + count), (&path, HEADER + count * rows * columns)] {
            unpacks(path, bytes as u64)?;
        }
        Ok(Self {
            images,
            labels,
            path,
            rows,
            columns,
            number: 0,
            has_ended: false,
            again: None,
            origin,
        })
    }

    /// Returns the picture of these grey values.
    fn picture(&self, grey: &[u8]) -> Picture {
        let side = self.origin.pixels;
        let mut picture = Picture::filled(side, side, [0; 3]);
        let (top, left) = ((side - self.rows) / 2, (side - self.columns) / 2);
        for (at, &value) in grey.iter().enumerate() {
            picture.set(left + at % self.columns, top + at / self.columns, [value; 3]);
        }
        picture
    }

    /// Reads the next picture, and returns its grey values with the offset at which they can be read again.
    fn grey(&mut self) -> Result<(u64, Vec<u8>), String> {
        let size = self.rows * self.columns;
        let mut grey = vec![0; size];
        self.images
            .read_exact(&mut grey)
            .map_err(|error| format!("the file ends within this picture: {error}"))?;
        let at = match &mut self.again {
            Some(Again::Unpacked(spool)) => spool
                .append(&grey)
                .map_err(|error| format!("the picture cannot be written to the temporary file: {error}"))?,
            _ => (HEADER + self.number * size) as u64,
        };
        Ok((at, grey))
    }

    /// Reads the grey values at an offset again.
    fn grey_again(&mut self, at: u64) -> io::Result<Vec<u8>> {
        match &mut self.again {
            Some(Again::Unpacked(spool)) => spool.get(at),
            Some(Again::File(file)) => {
                let mut grey = vec![0; self.rows * self.columns];
                file.read_exact_at(&mut grey, at)?;
                Ok(grey)
            }
            None => Err(io::Error::other("the file was opened to be read once")),
        }
    }

    /// Makes the row of a picture, by its number from 1.
    fn row(&self, grey: Result<Vec<u8>, String>, number: usize) -> Row {
        let label = self.labels.get(number.saturating_sub(1)).copied();
        let class = label.and_then(|label| FASHION.get(usize::from(label)));
        let read = match (grey, class) {
            (Ok(grey), Some(class)) => Ok(examples(&self.picture(&grey), class, &self.origin)),
            (Ok(_), None) => {
                let found = label.map_or_else(|| "nothing".to_owned(), |label| label.to_string());
                Err(format!("a label from 0 to 9 was expected, found {found}"))
            }
            (Err(reason), _) => Err(reason),
        };
        let line = number as u64;
        read.map(|examples| placed(examples, &self.path, line))
            .map_err(|reason| BadRow {
                file: self.path.clone(),
                line,
                reason,
            })
    }
}

impl RandomAccess for Idx {
    fn next_row(&mut self) -> Option<(RowPlace, Row)> {
        if self.has_ended || self.number >= self.labels.len() {
            return None;
        }
        let grey = self.grey();
        self.has_ended = grey.is_err();
        self.number += 1;
        let (at, grey) = match grey {
            Ok((at, grey)) => (at, Ok(grey)),
            Err(reason) => (0, Err(reason)),
        };
        let place = RowPlace::new(0, at, self.number as u64);
        Some((place, self.row(grey, self.number)))
    }

    fn read_again(&mut self, place: RowPlace) -> Row {
        let grey = self.grey_again(place.within());
        let grey = grey.map_err(|error| format!("the picture cannot be read again: {error}"));
        self.row(grey, place.line as usize)
    }
}

impl Iterator for Idx {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.next_row().map(|(_, row)| row)
    }
}

/// Makes a request to draw the class, and a question about the picture.
fn examples(picture: &Picture, class: &str, origin: &Origin) -> Vec<Example> {
    let example = |kind, prompt: String, answer: Option<&str>, check| {
        Example {
            kind,
            category: class.to_owned(),
            prompt,
            picture: Some(picture.clone()),
            answer: answer.map(str::to_owned),
            check,
            ..origin.blank()
        }
        .with_id()
    };
    let exact = Check::Exact {
        answer: class.to_owned(),
    };
    let drawn = Check::Class {
        class: class.to_owned(),
    };
    vec![
        example(Kind::TextToImage, class.to_owned(), None, drawn),
        example(Kind::Question, WHAT.to_owned(), Some(class), exact),
    ]
}

/// Checks that a gzipped file unpacks to the end. Its checksum follows the last byte, which reading the pictures alone
/// would never reach.
fn unpacks(path: &Path, bytes: u64) -> Result<(), ReadError> {
    if !is_packed(path) {
        return Ok(());
    }
    let file = bounded_file::open(path).map_err(|error| ReadError::io(path, error))?;
    let unpacked = &mut GzDecoder::new(BufReader::new(file)).take(bytes + 1);
    io::copy(unpacked, &mut io::sink()).map_err(|error| {
        ReadError::format(
            path,
            format!("the file is damaged or incomplete: {error}; download it again"),
        )
    })?;
    Ok(())
}

fn find(folder: &Path, name: &str) -> Result<(PathBuf, Box<dyn Read + Send>), ReadError> {
    let plain = folder.join(name);
    match bounded_file::open(&plain) {
        Ok(file) => return Ok((plain, Box::new(BufReader::new(file)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ReadError::io(&plain, error)),
    }
    let packed = folder.join(format!("{name}.gz"));
    match bounded_file::open(&packed) {
        Ok(file) => Ok((packed, Box::new(GzDecoder::new(BufReader::new(file))))),
        Err(error) => Err(ReadError::io(&packed, error)),
    }
}

/// Reads the sizes in an IDX header, after its magic number.
fn header<const N: usize>(path: &Path, reader: &mut impl Read, magic: u32) -> Result<[usize; N], ReadError> {
    let mut word = || {
        let mut bytes = [0; 4];
        reader
            .read_exact(&mut bytes)
            .map_err(|error| ReadError::format(path, format!("an IDX header was expected: {error}")))?;
        Ok(u32::from_be_bytes(bytes))
    };
    let found = word()?;
    if found != magic {
        return Err(ReadError::format(
            path,
            format!("an IDX file with magic {magic:#x} was expected, found {found:#x}"),
        ));
    }
    let mut sizes = [0; N];
    for size in &mut sizes {
        *size = word()? as usize;
    }
    Ok(sizes)
}
