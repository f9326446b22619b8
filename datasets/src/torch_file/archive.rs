//! The zip archive that `torch.save` writes: `NAME/data.pkl`, `NAME/data/0`, `NAME/data/1`, …, all stored uncompressed.
//!
//! Only the central directory at the end is trusted, and each of its entries is checked against the file's length. The
//! layout is that of PKWARE's APPNOTE 6.3, including zip64.

use std::collections::HashMap;

use super::TorchFile;
use super::allowance::Allowance;
use super::error::{Flaw, broken, short};
use super::pickle::{self, Keys};
use super::source::{OpenFile, Region};

/// The most bytes of a pickle.
const LONGEST: u64 = 64 << 20;
/// The most bytes of a central directory; this is more entries than a pickle may name storages.
const LONGEST_DIRECTORY: u64 = 16 << 20;
/// The least bytes of the end record; its comment has at most 65535 more.
const END: usize = 22;

/// Reads the pickle of an archive.
pub(super) fn read(source: OpenFile) -> Result<TorchFile, Flaw> {
    let entries = directory(&source)?;
    let mut roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let (Some(prefix), None) = (roots.next(), roots.next()) else {
        return broken("expected a zip archive with one data.pkl, as torch.save writes it");
    };
    let (prefix, pickle_entry) = (prefix.to_owned(), entries[&format!("{prefix}data.pkl")]);
    if let Some(order) = entries.get(&format!("{prefix}byteorder")) {
        let order = order.region(&source)?;
        let order = source.read(order.start, order.len.min(16))?;
        if order != b"little" {
            let found = String::from_utf8_lossy(&order).into_owned();
            return broken(format!(
                "the byte order is {found}, expected little: save the file again on a little-endian machine"
            ));
        }
    }
    let region = pickle_entry.region(&source)?;
    if region.len > LONGEST {
        return broken(format!(
            "the pickle has {} bytes, expected at most {LONGEST}",
            region.len
        ));
    }
    source.check(region, "data.pkl")?;
    let bytes = source.read(region.start, region.len)?;
    let (root, heap, _) = pickle::read(&bytes, Keys::Archive)?;
    let mut regions = HashMap::new();
    let mut bytes = Allowance::new(
        "bytes of storages, which is the size of the file, so entries of the archive overlap",
        source.len(),
    );
    for storage in heap.storages() {
        if regions.contains_key(&*storage.key) {
            continue;
        }
        let name = format!("{prefix}data/{}", storage.key);
        let Some(entry) = entries.get(&name) else {
            return broken(format!("{} is missing from the archive", short(&name)));
        };
        let region = entry.region(&source)?;
        bytes.spend(region.len)?;
        regions.insert(storage.key.to_string(), region);
    }
    Ok(TorchFile {
        source,
        regions,
        heap,
        root,
    })
}

/// An entry of the central directory.
#[derive(Clone, Copy, Debug)]
struct ArchiveEntry {
    header: u64,
    len: u64,
    packed: u64,
    method: u16,
    crc: u32,
}

impl ArchiveEntry {
    /// Returns the region of its bytes.
    fn region(self, source: &OpenFile) -> Result<Region, Flaw> {
        if self.method != 0 || self.packed != self.len {
            let method = self.method;
            return broken(format!(
                "an entry of the archive is compressed (method {method}), but torch.save stores entries uncompressed"
            ));
        }
        let header = source.read(self.header, 30)?;
        if !header.starts_with(b"PK\x03\x04") {
            return broken(format!("the archive has no entry at byte {}", self.header));
        }
        let skip = u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        let start = self.header + 30 + skip;
        if start.checked_add(self.len).is_none_or(|end| end > source.len()) {
            let (len, whole) = (self.len, source.len());
            return broken(format!(
                "an entry has {len} bytes from byte {start}, but the file ends at byte {whole}: it may be incomplete"
            ));
        }
        Ok(Region {
            start,
            len: self.len,
            // `torch.save` writes 0 when it is told not to compute the checksum.
            crc: (self.crc != 0).then_some(self.crc),
        })
    }
}

/// Reads every entry by name.
fn directory(source: &OpenFile) -> Result<HashMap<String, ArchiveEntry>, Flaw> {
    let (start, len, count) = locate(source)?;
    if len > LONGEST_DIRECTORY {
        return broken(format!(
            "the archive's list of entries has {len} bytes, expected at most {LONGEST_DIRECTORY}"
        ));
    }
    let bytes = source.read(start, len)?;
    let (mut at, mut entries) = (0, HashMap::new());
    for _ in 0..count {
        let Some((name, entry, next)) = entry_at(&bytes, at) else {
            return broken(format!(
                "the archive's list of entries is broken at byte {at} of it"
            ));
        };
        at = next;
        if entries.insert(name.clone(), entry).is_some() {
            return broken(format!("two entries of the archive are named {}", short(&name)));
        }
    }
    Ok(entries)
}

/// Finds the central directory: its offset, its length and the number of its entries.
fn locate(source: &OpenFile) -> Result<(u64, u64, u64), Flaw> {
    let tail_len = source.len().min(END as u64 + 65_535);
    let tail_start = source.len() - tail_len;
    let tail = source.read(tail_start, tail_len)?;
    let last = tail.len().saturating_sub(END);
    let ends = |&at: &usize| {
        tail[at..].starts_with(b"PK\x05\x06")
            && tail.len() >= at + END
            && at + END + usize::from(u16_at(&tail, at + 20)) == tail.len()
    };
    let Some(end) = (0..=last).rev().find(ends) else {
        return broken("the zip archive has no end record: the file is incomplete; download it again");
    };
    let small = (
        u64::from(u32_at(&tail, end + 16)),
        u64::from(u32_at(&tail, end + 12)),
        u64::from(u16_at(&tail, end + 10)),
    );
    // Zip64 has its own end record before this one, and a locator of it.
    let Some(locator) = end
        .checked_sub(20)
        .filter(|&at| tail[at..].starts_with(b"PK\x06\x07"))
    else {
        return Ok(small);
    };
    let large = source.read(u64_at(&tail, locator + 8), 56)?;
    if !large.starts_with(b"PK\x06\x06") {
        return broken("the zip archive's zip64 record is missing");
    }
    Ok((u64_at(&large, 48), u64_at(&large, 40), u64_at(&large, 32)))
}

/// Parses the entry at an offset of the central directory; returns its name, the entry and the offset of the next one.
fn entry_at(bytes: &[u8], at: usize) -> Option<(String, ArchiveEntry, usize)> {
    let line = bytes.get(at..at.checked_add(46)?)?;
    if !line.starts_with(b"PK\x01\x02") {
        return None;
    }
    let long = |from: usize| usize::from(u16_at(line, from));
    let (name_end, extra_end) = (at + 46 + long(28), at + 46 + long(28) + long(30));
    let name = String::from_utf8_lossy(bytes.get(at + 46..name_end)?).into_owned();
    let mut entry = ArchiveEntry {
        header: u64::from(u32_at(line, 42)),
        len: u64::from(u32_at(line, 24)),
        packed: u64::from(u32_at(line, 20)),
        method: u16_at(line, 10),
        crc: u32_at(line, 16),
    };
    zip64(bytes.get(name_end..extra_end)?, &mut entry)?;
    Some((name, entry, extra_end + long(32)))
}

/// Reads the sizes that did not fit into 32 bits from the zip64 field, in its order.
fn zip64(mut extra: &[u8], entry: &mut ArchiveEntry) -> Option<()> {
    while extra.len() >= 4 {
        let (id, len) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let mut field = extra.get(4..4 + len)?;
        extra = &extra[4 + len..];
        if id != 1 {
            continue;
        }
        for number in [&mut entry.len, &mut entry.packed, &mut entry.header] {
            if *number == u64::from(u32::MAX) {
                *number = u64::from_le_bytes(field.get(..8)?.try_into().ok()?);
                field = &field[8..];
            }
        }
    }
    Some(())
}

/// Reads a little-endian number at an offset that the caller has checked.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
