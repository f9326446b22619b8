//! A picture in encoded form as a row refers to it: bytes, a file, or a cell of a Parquet table.

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

/// The most bytes of a picture file (law L9).
const LONGEST: u64 = 256 << 20;

/// An encoded picture of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Encoded {
    /// The bytes of a PNG or JPEG file.
    Bytes(Arc<[u8]>),
    /// A file.
    File(PathBuf),
    /// A cell of a Parquet file.
    Stored(StoredPicture),
}

impl Encoded {
    /// Decodes the picture as a square of `pixels` a side.
    ///
    /// # Errors
    /// A message if the file cannot be read or the bytes are not a picture.
    pub fn decode(&self, pixels: usize) -> Result<Picture, String> {
        match self {
            Self::File(path) => picture_file::read(path, pixels),
            other => picture_file::read_bytes(&other.bytes()?, pixels),
        }
    }

    /// Returns the bytes of the picture file.
    ///
    /// # Errors
    /// A message if the file cannot be read.
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
                (None, None) => Err(format!(
                    "{}: expected the bytes of a picture, found none",
                    stored.file.display()
                )),
            },
        }
    }

    /// Returns a name of the picture that is the same on each machine: the file's own, or the cell's place in its table.
    /// Other pictures are named by their bytes.
    #[must_use]
    pub fn name(&self) -> String {
        let own = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        match self {
            Self::Bytes(bytes) => blake3::hash(bytes).to_hex().to_string(),
            Self::File(path) => own(path),
            Self::Stored(stored) => {
                let (group, row, column, at) = (stored.group, stored.row, stored.column, stored.at);
                format!("{} {group} {row} {column} {at}", own(&stored.file))
            }
        }
    }

    /// Computes the picture's likeness; `None` if it is blank.
    ///
    /// # Errors
    /// A message if the file cannot be read or the bytes are not a picture.
    pub fn likeness(&self) -> Result<Option<Likeness>, String> {
        Ok(Likeness::of_image(&self.image()?))
    }

    /// Decodes the picture and fits it to `size` by antialiased bicubic interpolation.
    ///
    /// # Errors
    /// A message if the file cannot be read or the bytes are not a picture.
    pub fn fitted(&self, size: PictureSize, way: Fit) -> Result<Picture, String> {
        Ok(fit(&self.image()?, size, way, false))
    }

    /// Like [`Self::fitted`], after the picture went through a JPEG file (`pictures/jpeg.rs`). The alpha channel is
    /// dropped, so transparent pixels show their stored colour.
    ///
    /// # Errors
    /// Those of [`Self::fitted`], and a message if the sides exceed what JPEG allows.
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

/// The cache key of a file is made of its path, size, modification time and inode; that of a cell, of its table's and
/// the cell's position; that of other pictures, of their bytes.
impl Lookable for Encoded {
    fn identity(&self) -> Option<u128> {
        let named = match self {
            Self::Bytes(bytes) => return Some(first(blake3::hash(bytes))),
            Self::File(path) => file_identity(path)?,
            Self::Stored(stored) => {
                let table = file_identity(&stored.file)?;
                let (group, row, column, at) = (stored.group, stored.row, stored.column, stored.at);
                // A cell whose bytes are null refers to a file beside the table.
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

/// Describes a file by its path, size, modification time and inode; `None` if it does not exist.
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
