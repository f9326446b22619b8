//! WebDataset: tar shards in which the files of a sample are adjacent and share their name up to its first dot.
//!
//! `.jpg`, `.jpeg` and `.png` are the picture, `.txt` its caption, `.cls` its class, `.json` further columns
//! (`columns/`); `x.question.txt` is the column `question`. A path is a shard, a folder, a pattern or
//! `shard-{0000..0012}.tar`. A packed shard is first unpacked to an anonymous file. Every sample can be read again at
//! its place, so draws are uniform over all shards; a shuffle buffer would only approximate that.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use demask_api::{bounded_file, bounded_json, limits};
use serde_json::Value;

use super::columns::encoded::Encoded;
use super::columns::fields::Fields;
use super::packed::{At, is_packed};
use super::{InOrder, RandomAccess, Reader, Rows, columns, packed, shards};
use crate::formats::row::{BadRow, Origin, ReadError, Row, RowPlace, placed};
use crate::unnamed_file;

/// The file endings of the format.
const ENDINGS: &[&str] = &[".tar", ".tar.gz", ".tgz", ".tar.zst"];
/// The most bytes of all files of a sample, with their headers and the ends of their names (law L9).
const LARGEST: u64 = 64 << 20;
/// The most bytes of an extension header, which holds the name of the file after it. The tar library reads it whole.
const LONGEST_EXTENSION: u64 = 1 << 20;
/// The largest ratio of unpacked to packed bytes, and the unpacked bytes allowed in any case (law L9). Pictures hardly
/// shrink when packed; texts shrink to a tenth.
const MOST_GROWTH: u64 = 200;
const SPARE: u64 = 256 << 20;
/// The block size of a tar file in bytes.
const BLOCK: u64 = 512;

/// The reader of the format `webdataset`.
#[derive(Clone, Copy, Debug)]
pub struct WebDatasetReader;

impl Reader for WebDatasetReader {
    fn name(&self) -> &'static str {
        "webdataset"
    }

    fn about(&self) -> &'static str {
        "WebDataset's tar shards: pictures with captions, classes or JSON beside them"
    }

    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError> {
        Ok(Box::new(InOrder(Shards::open(
            path,
            origin,
            &std::env::temp_dir(),
        )?)))
    }

    fn open_again(
        &self,
        path: &Path,
        origin: Origin,
        room: &Path,
    ) -> Result<Option<Box<dyn RandomAccess>>, ReadError> {
        Ok(Some(Box::new(Shards::open(path, origin, room)?)))
    }
}

/// An open shard: the range of its bytes in a file.
struct OpenShard {
    number: usize,
    file: File,
    begin: u64,
    length: u64,
}

/// The samples of several shards, one at a time.
struct Shards {
    files: Vec<PathBuf>,
    origin: Origin,
    room: PathBuf,
    /// The file with the contents of all unpacked shards, one after another.
    unpacked: Option<File>,
    /// Where each unpacked shard begins in that file, and its length.
    places: Vec<Option<(u64, u64)>>,
    present: Option<OpenShard>,
    /// The index of the shard that is opened next.
    next: usize,
    /// The offset in the current shard from which the next sample is read.
    at: u64,
    /// The number of the sample read last from the current shard, from 1.
    number: u64,
    /// The shard that was last opened for random access.
    again: Option<OpenShard>,
}

/// A sample as it is in a shard.
struct ShardSample {
    key: String,
    fields: Result<Fields, String>,
    /// The offset of the first byte after it.
    end: u64,
}

impl Shards {
    fn open(path: &Path, origin: Origin, room: &Path) -> Result<Self, ReadError> {
        let files = shards::files(path, ENDINGS, origin.split)?;
        let mut shards = Self {
            places: vec![None; files.len()],
            files,
            origin,
            room: room.to_owned(),
            unpacked: None,
            present: None,
            next: 1,
            at: 0,
            number: 0,
            again: None,
        };
        shards.present = Some(shards.shard(0)?);
        Ok(shards)
    }

    /// Opens a shard, unpacking it if necessary.
    fn shard(&mut self, number: usize) -> Result<OpenShard, ReadError> {
        let path = self.files.get(number).cloned().unwrap_or_default();
        let failed = |error| ReadError::io(&path, error);
        if !is_packed(&path) {
            let file = bounded_file::open(&path).map_err(failed)?;
            let length = file.metadata().map_err(failed)?.len();
            let begin = 0;
            return Ok(OpenShard {
                number,
                file,
                begin,
                length,
            });
        }
        // All packed shards are unpacked into one temporary file. `places` has the range of each shard, so that a shard
        // is unpacked only once.
        let mut file = match &self.unpacked {
            Some(file) => file.try_clone().map_err(failed)?,
            None => unnamed_file::create_in(&self.room).map_err(|error| ReadError::io(&self.room, error))?,
        };
        let (begin, length) = match self.places[number] {
            Some(place) => place,
            None => {
                let begin = file.seek(SeekFrom::End(0)).map_err(failed)?;
                let mut inside = packed::open(&path)?;
                let packed = path.metadata().map_err(failed)?.len();
                let most = packed.saturating_mul(MOST_GROWTH).saturating_add(SPARE);
                let length = io::copy(&mut inside.by_ref().take(most + 1), &mut file).map_err(failed)?;
                if length > most {
                    file.set_len(begin).ok();
                    return Err(ReadError::format(
                        &path,
                        format!(
                            "the shard decompresses to more than {most} bytes, which is {MOST_GROWTH} times its size"
                        ),
                    ));
                }
                self.places[number] = Some((begin, length));
                (begin, length)
            }
        };
        self.unpacked = Some(file.try_clone().map_err(failed)?);
        Ok(OpenShard {
            number,
            file,
            begin,
            length,
        })
    }

    fn row(&self, path: &Path, sample: ShardSample, line: u64) -> Row {
        let base = path.parent().unwrap_or(Path::new("."));
        let read = sample
            .fields
            .and_then(|fields| columns::examples(fields, base, &self.origin, true));
        read.map(|examples| placed(examples, path, line))
            .map_err(|reason| BadRow {
                file: path.to_owned(),
                line,
                reason: format!("{}: {reason}", sample.key),
            })
    }
}

impl RandomAccess for Shards {
    fn next_row(&mut self) -> Option<(RowPlace, Row)> {
        loop {
            // A shard that cannot be opened or read on yields a bad row; reading continues with the next shard.
            if self.present.is_none() {
                let next = self.next;
                let path = self.files.get(next)?.clone();
                (self.next, self.at, self.number) = (next + 1, 0, 0);
                match self.shard(next) {
                    Ok(open) => self.present = Some(open),
                    Err(error) => {
                        let (line, reason) = (0, error.to_string());
                        let file = path;
                        return Some((RowPlace::new(next, 0, 0), Err(BadRow { file, line, reason })));
                    }
                }
            }
            let open = self.present.as_ref()?;
            let (shard, at) = (open.number, self.at);
            let path = self.files[shard].clone();
            let sample = sample(open, at);
            self.number += 1;
            let (line, place) = (self.number, RowPlace::new(shard, at, self.number));
            match sample {
                Ok(Some(sample)) => {
                    self.at = sample.end;
                    return Some((place, self.row(&path, sample, line)));
                }
                Ok(None) => self.present = None,
                Err(error) => {
                    self.present = None;
                    let reason = format!("the tar file cannot be read beyond this entry: {error}");
                    let file = path;
                    return Some((place, Err(BadRow { file, line, reason })));
                }
            }
        }
    }

    fn read_again(&mut self, place: RowPlace) -> Row {
        let (number, line) = (place.file(), u64::from(place.line));
        let path = self.files.get(number).cloned().unwrap_or_default();
        let bad = |reason: String| BadRow {
            file: path.clone(),
            line,
            reason: format!("the sample cannot be read again: {reason}"),
        };
        let open = match self.again.take().filter(|open| open.number == number) {
            Some(open) => open,
            None => self.shard(number).map_err(|error| bad(error.to_string()))?,
        };
        let sample = sample(&open, place.within());
        self.again = Some(open);
        match sample {
            Ok(Some(sample)) => self.row(&path, sample, line),
            Ok(None) => Err(bad("the shard has become shorter since it was indexed".to_owned())),
            Err(error) => Err(bad(error.to_string())),
        }
    }
}

/// Reads the sample at an offset of a shard; `None` at the shard's end.
fn sample(open: &OpenShard, at: u64) -> io::Result<Option<ShardSample>> {
    if at >= open.length {
        return Ok(None);
    }
    let file = open.file.try_clone()?;
    let inside = At {
        file,
        at: open.begin + at,
    }
    .take(open.length - at);
    let mut archive = tar::Archive::new(inside);
    let mut present: Option<ShardSample> = None;
    let (mut seen, mut held) = (BTreeSet::new(), 0_u64);
    let (mut entries, mut next) = (archive.entries()?, at);
    loop {
        check_headers(open, next)?;
        let Some(entry) = entries.next() else {
            return Ok(present);
        };
        let mut entry = entry?;
        let behind = entry.raw_file_position().checked_add(entry.size());
        let Some(end) = behind
            .and_then(|end| end.checked_next_multiple_of(BLOCK)?.checked_add(at))
            .filter(|&end| end <= open.length.next_multiple_of(BLOCK))
        else {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file ends within an entry of {} bytes", entry.size()),
            ));
        };
        next = end;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let member = entry
            .header()
            .entry_type()
            .is_file()
            .then(|| split_name(&name))
            .flatten();
        let Some((key, column)) = member else {
            if let Some(sample) = &mut present {
                sample.end = end;
            }
            continue;
        };
        // The sample ends where the key changes, or where a column appears for the second time: that is the next sample
        // with the same key.
        let is_other = present.as_ref().is_some_and(|sample| sample.key != key);
        if is_other || held <= LARGEST && !seen.insert(column.to_owned()) {
            return Ok(present);
        }
        let sample = present.get_or_insert_with(|| ShardSample {
            key: key.to_owned(),
            fields: Ok(Fields::default()),
            end,
        });
        sample.end = end;
        let size = entry.size();
        held = held
            .saturating_add(size)
            .saturating_add(BLOCK + column.len() as u64);
        if held > LARGEST {
            sample.fields = Err(format!(
                "the sample has {held} bytes with .{column} ({size} bytes), expected at most {LARGEST}"
            ));
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file ends within {name}"),
            ));
        }
        if let Ok(fields) = &mut sample.fields
            && let Err(why) = add(fields, column, bytes)
        {
            sample.fields = Err(format!(".{column}: {why}"));
        }
    }
}

/// Checks the headers at an offset of a shard, up to that of a file, before the tar library reads them: no extension
/// header may be too long, and no file sparse. The library reads the map of a sparse file whole too, and gives its size
/// with the holes, by which the next header is not found.
fn check_headers(open: &OpenShard, mut at: u64) -> io::Result<()> {
    let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let mut block = [0; BLOCK as usize];
    // A file has at most three extension headers: the tar library refuses a second one of a kind.
    for _ in 0..4 {
        if at.saturating_add(BLOCK) > open.length {
            break;
        }
        open.file.read_exact_at(&mut block, open.begin + at)?;
        let header = tar::Header::from_byte_slice(&block);
        let kind = header.entry_type();
        if kind.is_gnu_sparse() {
            return refuse("found a sparse file, expected whole ones (tar without --sparse)".to_owned());
        }
        if !(kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions()) {
            break;
        }
        let size = header.entry_size()?;
        if size > LONGEST_EXTENSION {
            return refuse(format!(
                "a name has {size} bytes, expected at most {LONGEST_EXTENSION}"
            ));
        }
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    Ok(())
}

/// Splits a name at the first dot of its last component; `None` for files that belong to no sample.
fn split_name(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let start = name.rfind('/').map_or(0, |at| at + 1);
    let dot = start + name[start..].find('.')?;
    let hidden = dot == start || name.split('/').any(|part| part == "__MACOSX");
    (!hidden).then(|| (&name[..dot], &name[dot + 1..]))
}

/// Adds a file of a sample to its fields.
fn add(fields: &mut Fields, column: &str, bytes: Vec<u8>) -> Result<(), String> {
    let lower = column.to_lowercase();
    let (named, ending) = lower
        .rsplit_once('.')
        .map_or((None, lower.as_str()), |(name, ending)| (Some(name), ending));
    let name = |usual: &str| named.unwrap_or(usual).to_owned();
    let text = |bytes| String::from_utf8(bytes).map_err(|error| format!("not UTF-8 text: {error}"));
    match ending {
        "jpg" | "jpeg" | "png" | "webp" => {
            let pictures = fields.pictures.entry(name("image")).or_default();
            pictures.push(Encoded::Bytes(bytes.into()));
        }
        "txt" | "text" | "caption" => {
            fields.values.insert(name("caption"), Value::String(text(bytes)?));
        }
        "cls" => {
            fields.values.insert(name("label"), Value::String(text(bytes)?));
        }
        "json" => {
            bounded_json::check(&bytes, limits::MOST_ROW_VALUES)?;
            let value: Value =
                serde_json::from_slice(&bytes).map_err(|error| format!("not JSON: {error}"))?;
            let Value::Object(values) = value else {
                return Err("a JSON object in braces was expected".to_owned());
            };
            for (name, value) in values {
                fields.values.entry(name).or_insert(value);
            }
        }
        _ => {}
    }
    Ok(())
}
