//! Pictures of examples, stored beside the store so that the lineage can show them (law L5).
//!
//! A source may hold more pictures than the disk has room for twice. Only the pictures of the first examples of a life
//! are stored, reduced in size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use demask_api::Picture;
use demask_datasets::example::{Example, Kind};
use demask_datasets::pictures::file::png;
use demask_storage::Blobs;

use crate::home::free_bytes;
use crate::pipeline::run_error::RunError;
use crate::runtime::disk::on_disk;

/// Most examples of a life whose pictures are stored.
const MOST: usize = 4096;
/// Free bytes below which no picture is stored: checkpoints and rows come first.
const LEAST_FREE: u64 = 64 << 20;
/// Longest side of a stored picture in pixels.
const LONGEST: usize = 128;

/// The pictures that were stored, by the examples' ids.
#[derive(Clone, Debug)]
pub struct KeptPictures {
    blobs: Blobs,
    kept: Arc<Mutex<HashMap<String, String>>>,
}

impl KeptPictures {
    /// Stores pictures in this folder.
    #[must_use]
    pub fn new(blobs: Blobs) -> Self {
        Self {
            blobs,
            kept: Arc::default(),
        }
    }

    /// Stores the picture of an example and returns its hash; `None` if the example has no picture, or if enough
    /// pictures are stored.
    ///
    /// # Errors
    /// Any error of the file system.
    pub async fn keep(&self, example: &Example) -> Result<Option<String>, RunError> {
        let Some(picture) = &example.picture else {
            return Ok(None);
        };
        {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            match kept.get(&example.id) {
                Some(hash) => return Ok(Some(hash.clone())),
                None if kept.len() >= MOST => return Ok(None),
                None => {}
            }
        }
        let (blobs, picture) = (self.blobs.clone(), picture.clone());
        let put = move || {
            if free_bytes(blobs.root()).is_some_and(|free| free < LEAST_FREE) {
                return Ok(None);
            }
            blobs.put(&png(&small(&picture))).map(Some)
        };
        let Some(hash) = on_disk(put).await?? else {
            return Ok(None);
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(example.id.clone(), hash.clone());
        Ok(Some(hash))
    }
}

/// Returns whether the prompt of an example shows its picture; otherwise the picture is to be drawn.
#[must_use]
pub fn shows_picture(example: &Example) -> bool {
    matches!(
        example.kind,
        Kind::Caption | Kind::Scene | Kind::Question | Kind::PictureInstruction
    )
}

/// Returns a picture of limited size, in which each pixel is the mean of a square of the large picture.
fn small(picture: &Picture) -> Picture {
    let side = picture.width.max(picture.height).div_ceil(LONGEST).max(1);
    if side == 1 {
        return picture.clone();
    }
    let (width, height) = ((picture.width / side).max(1), (picture.height / side).max(1));
    let mean = |x: usize, y: usize, channel: usize| {
        let rows = y * side..((y + 1) * side).min(picture.height);
        let columns = || x * side..((x + 1) * side).min(picture.width);
        let values = rows.flat_map(|row| columns().map(move |column| picture.at(column, row)[channel]));
        let (count, sum) = values.fold((0_usize, 0_usize), |(count, sum), value| {
            (count + 1, sum + usize::from(value))
        });
        u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX)
    };
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    Picture {
        width,
        height,
        rgb: places
            .flat_map(|(x, y)| [0, 1, 2].map(|channel| mean(x, y, channel)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_picture_is_kept_small_and_in_its_shape() {
        let large = small(&Picture::filled(512, 256, [9, 8, 7]));
        assert_eq!((large.width, large.height), (128, 64));
        assert!(large.rgb.chunks_exact(3).all(|pixel| pixel == [9, 8, 7]));
        let fits = Picture::filled(32, 32, [1, 2, 3]);
        assert_eq!(small(&fits), fits);
    }
}
