//! A cache of picture codes by content, so that each picture is encoded once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use demask_api::{Answer, Picture, PictureSize, Request};
use demask_datasets::pictures::fit::fit_picture;

use super::error::WorkError;
use crate::engine::link::EngineLink;
use crate::engine::process::unexpected;

/// Most pictures in the cache. Beyond it the cache is emptied.
const CODE_CACHE: usize = 200_000;

/// Picture codes by the hash of the picture's content.
#[derive(Default)]
pub(super) struct CodeCache(Mutex<HashMap<[u8; 32], Vec<u32>>>);

impl CodeCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Vec<u32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empties the cache.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// Returns the codes of these pictures, in order. The engine encodes pictures that are not cached, resized to
    /// `size` first if one is given.
    pub(super) async fn of(
        &self,
        link: &dyn EngineLink,
        pictures: &[&Picture],
        size: Option<PictureSize>,
    ) -> Result<Vec<Vec<u32>>, WorkError> {
        let keys: Vec<[u8; 32]> = pictures.iter().map(|picture| key(picture)).collect();
        let known: Vec<Option<Vec<u32>>> = {
            let cache = self.lock();
            keys.iter().map(|key| cache.get(key).cloned()).collect()
        };
        let missing: Vec<Picture> = pictures
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(picture, _)| match size {
                Some(size) => fit_picture(picture, size),
                None => (*picture).clone(),
            })
            .collect();
        let mut fresh = Vec::new();
        if !missing.is_empty() {
            match link.ask(Request::Encode { pictures: missing }, None).await? {
                Answer::Codes { codes, .. } => fresh = codes,
                other => return Err(unexpected("codes", &other).into()),
            }
        }
        let mut fresh = fresh.into_iter();
        let mut cache = self.lock();
        if cache.len() > CODE_CACHE {
            cache.clear();
        }
        let all = keys.into_iter().zip(known).map(|(key, known)| {
            known.unwrap_or_else(|| {
                let codes = fresh.next().unwrap_or_default();
                cache.insert(key, codes.clone());
                codes
            })
        });
        Ok(all.collect())
    }
}

/// Returns the hash of a picture's content.
fn key(picture: &Picture) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(picture.width as u64).to_le_bytes());
    *hasher.update(&picture.rgb).finalize().as_bytes()
}
