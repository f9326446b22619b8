//! SQLite's write-ahead log, read without SQLite: whether its header is valid, and what can be recovered if it is not.
//!
//! The format is <https://www.sqlite.org/fileformat2.html#walformat>: a header of 32 bytes, then frames of 24 bytes and
//! a page. A frame's checksum continues that of the frame before, so that every frame after the first can be verified
//! even without the header.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// The bytes of the log's header.
const HEADER: usize = 32;
/// The bytes of a frame's header.
const FRAME: usize = 24;
/// The magic number of a log; its last bit says that the checksums are of big-endian words.
const MAGIC: u32 = 0x377f_0682;
/// The format's version.
const VERSION: u32 = 3_007_000;

/// Returns the page size in a database's header, in bytes.
pub(super) fn page_size(header: &[u8]) -> u64 {
    match u16::from_be_bytes([header[16], header[17]]) {
        1 => 1 << 16,
        size => u64::from(size),
    }
}

/// Returns the length of a log that has frames but a broken header; `None` if it is valid or there is no log.
pub(super) fn broken(log: &Path) -> std::io::Result<Option<u64>> {
    let mut file = match File::open(log) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let bytes = file.metadata()?.len();
    let mut header = [0; HEADER];
    if bytes <= HEADER as u64 || file.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    Ok((!is_whole(&header)).then_some(bytes))
}

fn is_whole(header: &[u8]) -> bool {
    let big = word(header, 0) & 1 == 1;
    word(header, 0) & !1 == MAGIC
        && word(header, 1) == VERSION
        && sum([0, 0], &header[..24], big) == [word(header, 6), word(header, 7)]
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes
        .get(at * 4..at * 4 + 4)
        .and_then(|four| four.try_into().ok());
    u32::from_be_bytes(four.unwrap_or_default())
}

/// Continues the checksum `before` over `bytes`.
fn sum([mut one, mut other]: [u32; 2], bytes: &[u8], big: bool) -> [u32; 2] {
    let number = |four: &[u8]| {
        let four = four.try_into().unwrap_or_default();
        if big {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        }
    };
    for pair in bytes.chunks_exact(8) {
        one = one.wrapping_add(number(&pair[..4])).wrapping_add(other);
        other = other.wrapping_add(number(&pair[4..])).wrapping_add(one);
    }
    [one, other]
}

/// Writes the committed frames of a log into its database, even if the log's header is broken; returns the number of
/// recovered transactions. The first frame is trusted if it continues a valid header, or if the second frame continues
/// it.
///
/// # Errors
/// Any I/O error.
pub fn fold_in(database: &Path, log: &Path) -> std::io::Result<u64> {
    let (mut head, bytes) = ([0; HEADER], std::fs::read(log)?);
    let mut file = File::options().read(true).write(true).open(database)?;
    if bytes.len() < HEADER {
        return Ok(0);
    }
    let size = if is_whole(&bytes) {
        u64::from(word(&bytes, 2))
    } else if file.read_exact(&mut head).is_ok() {
        page_size(&head)
    } else {
        0
    };
    if !(512..=65_536).contains(&size) {
        return Ok(0);
    }
    let size = size as usize;
    let frames: Vec<&[u8]> = bytes[HEADER..].chunks_exact(FRAME + size).collect();
    let header = is_whole(&bytes).then(|| LogHeader {
        salts: [word(&bytes, 4), word(&bytes, 5)],
        checksum: [word(&bytes, 6), word(&bytes, 7)],
    });
    let committed = [false, true].map(|big| committed(&frames, header.as_ref(), big));
    let Some((pages, length, count)) = committed.into_iter().max_by_key(|found| found.2) else {
        return Ok(0);
    };
    // An impossible length: SQLite did not write this.
    if u64::from(length) > file.metadata()?.len() / size as u64 + frames.len() as u64 {
        return Ok(0);
    }
    for (page, frame) in &pages {
        file.seek(SeekFrom::Start(u64::from(page - 1) * size as u64))?;
        file.write_all(&frames[*frame][FRAME..])?;
    }
    if count > 0 {
        file.set_len(u64::from(length) * size as u64)?;
        file.sync_all()?;
    }
    Ok(count)
}

/// The contents of a valid log header.
struct LogHeader {
    salts: [u32; 2],
    checksum: [u32; 2],
}

/// Returns the last frame of each page, the length of the database in pages, and the number of transactions, as far as
/// the checksums continue.
fn committed(frames: &[&[u8]], header: Option<&LogHeader>, big: bool) -> (BTreeMap<u32, usize>, u32, u64) {
    let (mut pages, mut length, mut count) = (BTreeMap::new(), 0, 0);
    let (mut open, mut before) = (BTreeMap::new(), header.map(|header| header.checksum));
    let salts = match (header, frames.first()) {
        (Some(header), _) => header.salts,
        (None, Some(frame)) => [word(frame, 2), word(frame, 3)],
        (None, None) => return (pages, 0, 0),
    };
    for (number, frame) in frames.iter().enumerate() {
        let said = [word(frame, 4), word(frame, 5)];
        let continues = |before: [u32; 2]| {
            let header = sum(before, &frame[..8], big);
            sum(header, &frame[FRAME..], big) == said
        };
        // Frames of an earlier pass over the log have other salts.
        let same_round = [word(frame, 2), word(frame, 3)] == salts;
        let (page, size) = (word(frame, 0), word(frame, 1));
        if page == 0 || !same_round || before.is_some_and(|before| !continues(before)) {
            break;
        }
        before = Some(said);
        open.insert(page, number);
        if size > 0 {
            pages.append(&mut open);
            (length, count) = (size, count + 1);
        }
    }
    pages.retain(|page, _| *page <= length);
    // A first frame that no other continues is not verified.
    if header.is_none() && pages.values().all(|frame| *frame == 0) {
        return (BTreeMap::new(), 0, 0);
    }
    (pages, length, count)
}
