//! A fingerprint of a file's content: a hash of its length and of pieces all over it, so that weights of many gigabytes
//! are recognized in milliseconds. Files of up to 4 MiB are hashed whole.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use demask_api::bounded_file;

/// The number of pieces of a long file.
const PIECES: u64 = 64;
/// The bytes of a piece.
const PIECE: u64 = 64 << 10;

/// Computes the fingerprint of a regular file, as 16 hexadecimal digits.
///
/// # Errors
/// Any I/O error, also if it is not a regular file.
pub fn fingerprint(path: &Path) -> io::Result<String> {
    let file = bounded_file::open(path)?;
    let length = file.metadata()?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length.to_le_bytes());
    let mut piece = vec![0; PIECE as usize];
    for (at, bytes) in pieces(length) {
        let piece = &mut piece[..bytes as usize];
        file.read_exact_at(piece, at)?;
        hasher.update(piece);
    }
    Ok(hasher.finalize().to_hex()[..16].to_string())
}

/// Returns the offset and the bytes of each piece: of a short file all of it, of a longer one as many pieces, the first
/// at its beginning and the last at its end.
fn pieces(length: u64) -> Vec<(u64, u64)> {
    if length <= PIECES * PIECE {
        let starts = (0..length.div_ceil(PIECE)).map(|number| number * PIECE);
        return starts.map(|at| (at, PIECE.min(length - at))).collect();
    }
    let last = length - PIECE;
    let starts = (0..PIECES).map(|number| last / (PIECES - 1) * number);
    starts
        .take(PIECES as usize - 1)
        .chain([last])
        .map(|at| (at, PIECE))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    #[test]
    fn a_fingerprint_is_of_the_content_alone() {
        let dir = tempfile::tempdir().unwrap();
        let print = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            fingerprint(&path).unwrap()
        };
        for length in [0, 1, 65_536, 70_000, 5 << 20] {
            let mut bytes = vec![7; length];
            let first = print("first", &bytes);
            assert_eq!(first.len(), 16);
            assert_eq!(print("copy", &bytes), first);
            for at in [0, length / 2, length.saturating_sub(1)] {
                // In the middle of a long file lies no piece.
                if length == 0 || length == 5 << 20 && at == length / 2 {
                    continue;
                }
                bytes[at] = 8;
                assert_ne!(print("other", &bytes), first, "{at} of {length}");
                bytes[at] = 7;
            }
            bytes.push(7);
            assert_ne!(print("longer", &bytes), first);
        }
        assert!(fingerprint(dir.path()).is_err());
    }

    #[test]
    fn the_pieces_of_a_file_lie_within_it() {
        for length in [0, 1, PIECE, PIECES * PIECE, PIECES * PIECE + 1, 1 << 40] {
            let pieces = pieces(length);
            assert!(pieces.len() as u64 <= PIECES);
            assert!(pieces.iter().all(|(at, bytes)| at + bytes <= length));
            let end = pieces.last().map_or(0, |(at, bytes)| at + bytes);
            assert_eq!((pieces.first().map_or(0, |(at, _)| *at), end), (0, length));
        }
    }
}
