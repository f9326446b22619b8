//! The format before PyTorch 1.6: a pickled magic number, protocol and system description, the pickle itself, the
//! storages' names, then the length and bytes of each storage.

use std::collections::HashMap;

use super::TorchFile;
use super::error::{Flaw, broken, short};
use super::heap::{Heap, HeapValue, width};
use super::pickle::{self, Keys};
use super::source::{OpenFile, Region};

/// The first bytes of such a file: the pickled magic number.
pub(super) const MAGIC: [u8; 14] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
];

/// The protocol number of such files.
const PROTOCOL: i64 = 1001;
/// The most bytes that are read before the storages.
const LONGEST: u64 = 64 << 20;

/// Reads the pickle of such a file.
pub(super) fn read(source: OpenFile) -> Result<TorchFile, Flaw> {
    let bytes = source.read(0, source.len().min(LONGEST))?;
    let mut at = 0;
    let mut next = |keys| -> Result<(HeapValue, Heap), Flaw> {
        let (value, heap, len) = pickle::read(&bytes[at..], keys)?;
        at += len;
        Ok((value, heap))
    };
    next(Keys::Archive)?;
    match next(Keys::Archive)?.0 {
        HeapValue::Int(PROTOCOL) => {}
        other => return broken(format!("found {}, expected protocol {PROTOCOL}", other.what())),
    }
    next(Keys::Archive)?;
    let (root, heap) = next(Keys::Legacy)?;
    let (keys, names) = next(Keys::Archive)?;
    let regions = regions(&source, at as u64, &keys, &names, &heap)?;
    Ok(TorchFile {
        source,
        regions,
        heap,
        root,
    })
}

/// Returns the region of each storage; they follow one another in the order of their names.
fn regions(
    source: &OpenFile,
    mut at: u64,
    keys: &HeapValue,
    names: &Heap,
    heap: &Heap,
) -> Result<HashMap<String, Region>, Flaw> {
    let widths: HashMap<&str, u64> = heap
        .storages()
        .iter()
        .map(|storage| (&*storage.key, storage.dtype.map_or(1, width)))
        .collect();
    let &HeapValue::Items(number) = keys else {
        return broken("the list of storages is missing");
    };
    let mut regions = HashMap::new();
    for key in names.items(number) {
        let HeapValue::Text(key) = key else {
            return broken(format!("a storage is named by {}, expected a text", key.what()));
        };
        let Some(width) = widths.get(&**key) else {
            return broken(format!("storage {} belongs to no tensor", short(key)));
        };
        // A storage begins with its number of elements, eight bytes, little-endian.
        let head = source.read(at, 8)?;
        let count = head
            .iter()
            .rev()
            .fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        let (start, len) = (at + 8, count.checked_mul(*width));
        let Some(end) = len
            .and_then(|len| start.checked_add(len))
            .filter(|&end| end <= source.len())
        else {
            let whole = source.len();
            return broken(format!(
                "storage {} has {count} elements, but the file ends at byte {whole}: it may be incomplete",
                short(key)
            ));
        };
        let (len, crc) = (end - start, None);
        regions.insert(key.to_string(), Region { start, len, crc });
        at = end;
    }
    Ok(regions)
}
