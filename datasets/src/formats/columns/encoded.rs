//! A picture as a row has it: bytes, a file, or a place in a table.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use demask_api::{Picture, PictureSize};
use image::DynamicImage;

use super::stored_picture::StoredPicture;
use crate::curation::likeness::Likeness;
use crate::pictures::file as picture_file;
use crate::pictures::fit::{Fit, fit};
use crate::pictures::jpeg;

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
            let bytes = std::fs::read(path);
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
