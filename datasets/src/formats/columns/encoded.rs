//! A picture as a row has it: bytes, a file, or a place in a table.

use std::borrow::Cow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use demask_api::{Picture, PictureSize, bounded_file};
use image::DynamicImage;

use super::stored_picture::StoredPicture;
use crate::curation::likeness::Likeness;
use crate::curation::likeness_cache::Lookable;
use crate::pictures::file as picture_file;
use crate::pictures::fit::{Fit, fit};
use crate::pictures::jpeg;

/// Bytes of a picture's file (law L9).
const LONGEST: u64 = 256 << 20;

/// A picture as a row has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Encoded {
    /// The bytes of a PNG or JPEG file.
    Bytes(Arc<[u8]>),
    /// A file.
    File(PathBuf),
    /// A place in a Parquet file.
    Stored(StoredPicture),
}

impl Encoded {
    /// The picture, `pixels` a side.
    ///
    /// # Errors
    /// In words: the file cannot be read, or the bytes are no picture.
    pub fn decode(&self, pixels: usize) -> Result<Picture, String> {
        match self {
            Self::File(path) => picture_file::read(path, pixels),
            other => picture_file::read_bytes(&other.bytes()?, pixels),
        }
    }

    /// The bytes of the picture's file.
    ///
    /// # Errors
    /// In words: the file cannot be read.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, String> {
        let read = |path: &PathBuf| {
            let bytes = bounded_file::read(path, LONGEST);
            bytes.map_err(|error| format!("{}: {error}", path.display()))
        };
        match self {
            Self::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::File(path) => read(path).map(Cow::Owned),
            Self::Stored(stored) => match (stored.bytes()?, &stored.path) {
                (Some(bytes), _) => Ok(Cow::Owned(bytes)),
                (None, Some(path)) => read(path).map(Cow::Owned),
                (None, None) => Err(format!("{}: a picture without bytes", stored.file.display())),
            },
        }
    }

    /// What the picture shows; none of a blank one.
    ///
    /// # Errors
    /// In words: the file cannot be read, or the bytes are no picture.
    pub fn likeness(&self) -> Result<Option<Likeness>, String> {
        Ok(Likeness::of_image(&self.image()?))
    }

    /// The picture made to fit this size, by bicubic interpolation that takes all pixels into account.
    ///
    /// # Errors
    /// In words: the file cannot be read, or the bytes are no picture.
    pub fn fitted(&self, size: PictureSize, way: Fit) -> Result<Picture, String> {
        Ok(fit(&self.image()?, size, way, false))
    }

    /// The same after it went through a JPEG file (`pictures/jpeg.rs`), what is transparent shown as it is stored.
    ///
    /// # Errors
    /// Those of [`Self::fitted`]; sides that JPEG has not.
    pub fn fitted_through_jpeg(&self, size: PictureSize, way: Fit) -> Result<Picture, String> {
        let image = picture_file::decode_opaque(&self.bytes()?)?;
        let image = jpeg::round_trip(&image)?;
        Ok(fit(&DynamicImage::ImageRgb8(image), size, way, false))
    }

    fn image(&self) -> Result<DynamicImage, String> {
        match self {
            Self::File(path) => picture_file::decode(path),
            other => picture_file::decode_bytes(&other.bytes()?),
        }
    }
}

/// A file is known by its path, size, time and inode, a place in a table by those of the table and the place, other pictures by their
/// bytes.
impl Lookable for Encoded {
    fn identity(&self) -> Option<u128> {
        let named = match self {
            Self::Bytes(bytes) => return Some(first(blake3::hash(bytes))),
            Self::File(path) => file_identity(path)?,
            Self::Stored(stored) => {
                let table = file_identity(&stored.file)?;
                let (group, row, column, at) = (stored.group, stored.row, stored.column, stored.at);
                // Where its bytes are null it is a file beside the table.
                let beside = stored.path.as_deref().and_then(file_identity).unwrap_or_default();
                format!("{table}\0{group}\0{row}\0{column}\0{at}\0{beside}")
            }
        };
        Some(first(blake3::hash(named.as_bytes())))
    }

    fn looked_at(&self) -> Result<Option<Likeness>, String> {
        self.likeness()
    }
}

/// A file's path, size, time of change and inode; none of one that is not there.
fn file_identity(path: &Path) -> Option<String> {
    let about = std::fs::metadata(path).ok()?;
    let place = std::path::absolute(path).ok()?;
    let (seconds, nanoseconds) = (about.mtime(), about.mtime_nsec());
    let (size, inode) = (about.len(), about.ino());
    Some(format!(
        "{}\0{size}\0{seconds}.{nanoseconds}\0{inode}",
        place.display()
    ))
}

fn first(hash: blake3::Hash) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(bytes)
}
