//! The scores of pictures for texts: the loaded reward networks with their tokenizers and preprocessing.

use std::path::{Path, PathBuf};

use demask_api::{Picture, PictureScore};
use tch::{Device, Kind, Tensor};

use super::pixels::Pixels;
use super::texts::Texts;
use super::{Clip, ImageRewardNetwork};
use crate::error::{ModelError, Result};

/// The most pictures in a forward pass.
const ROWS: usize = 16;
/// The length in tokens at which ImageReward truncates a prompt, as published.
const IMAGE_REWARD_TOKENS: usize = 35;

/// The reward networks of an engine.
#[derive(Debug)]
pub struct RewardNetworks {
    folders: (Option<PathBuf>, Option<PathBuf>),
    clip: Option<(Clip, Texts, Pixels)>,
    image_reward: Option<(ImageRewardNetwork, Texts, Pixels)>,
}

impl RewardNetworks {
    /// Loads the given folders: `config.json`, `model.safetensors`, `tokenizer.json`, and for CLIP
    /// `preprocessor_config.json` if there is one.
    ///
    /// # Errors
    /// [`ModelError::Io`] or [`ModelError::Checkpoint`] if a file is missing or broken, or any error libtorch reports.
    pub fn load(clip: Option<PathBuf>, image_reward: Option<PathBuf>, device: Device) -> Result<Self> {
        Ok(Self {
            clip: clip.as_deref().map(|dir| load_clip(dir, device)).transpose()?,
            image_reward: image_reward
                .as_deref()
                .map(|dir| load_image_reward(dir, device))
                .transpose()?,
            folders: (clip, image_reward),
        })
    }

    /// Returns whether the networks were loaded from these folders.
    #[must_use]
    pub fn are_of(&self, clip: Option<&Path>, image_reward: Option<&Path>) -> bool {
        (self.folders.0.as_deref(), self.folders.1.as_deref()) == (clip, image_reward)
    }

    /// Returns the number of parameters of all networks.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let clip = self.clip.as_ref().map_or(0, |(network, ..)| network.parameters());
        let image_reward = self.image_reward.as_ref();
        clip + image_reward.map_or(0, |(network, ..)| network.parameters())
    }

    /// Computes the score of each picture for its text, by each network.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the numbers of pictures and texts differ, or a picture has no pixels or too many; or
    /// any error libtorch reports.
    pub fn score(&self, pictures: &[Picture], texts: &[String]) -> Result<Vec<PictureScore>> {
        if pictures.len() != texts.len() {
            let (pictures, texts) = (pictures.len(), texts.len());
            return Err(ModelError::Refused(format!(
                "found {pictures} pictures and {texts} texts; expected one text per picture"
            )));
        }
        let mut scores = Vec::with_capacity(pictures.len());
        for (pictures, texts) in pictures.chunks(ROWS).zip(texts.chunks(ROWS)) {
            let cosines = self
                .clip
                .as_ref()
                .map(|clip| cosines(clip, pictures, texts))
                .transpose()?;
            let rewards = self
                .image_reward
                .as_ref()
                .map(|network| rewards(network, pictures, texts))
                .transpose()?;
            scores.extend((0..pictures.len()).map(|at| PictureScore {
                cosine: cosines.as_ref().map(|cosines| cosines[at]),
                image_reward: rewards.as_ref().map(|rewards| rewards[at]),
            }));
        }
        Ok(scores)
    }
}

fn load_clip(dir: &Path, device: Device) -> Result<(Clip, Texts, Pixels)> {
    let network = Clip::load(dir, device)?;
    let (text, vision) = (&network.config().text, &network.config().vision);
    if vision.num_channels != 3 {
        let channels = vision.num_channels;
        return Err(ModelError::checkpoint(
            dir,
            format!("the network reads pictures of {channels} channels; expected 3 (red, green and blue)"),
        ));
    }
    let texts = Texts::load(
        dir,
        text.max_position_embeddings,
        text.pad_token_id.clamp(0, text.vocab_size as i64 - 1),
    )?;
    let pixels = Pixels::of_clip(dir, vision.image_size)?;
    Ok((network, texts, pixels))
}

fn load_image_reward(dir: &Path, device: Device) -> Result<(ImageRewardNetwork, Texts, Pixels)> {
    let network = ImageRewardNetwork::load(dir, device)?;
    let text = &network.config().text;
    let texts = Texts::load(
        dir,
        IMAGE_REWARD_TOKENS.min(text.max_position_embeddings),
        text.pad_token_id,
    )?;
    let pixels = Pixels::image_reward(network.config().vision.image_size);
    Ok((network, texts, pixels))
}

/// Computes the cosine similarity of each picture and its text by CLIP.
fn cosines(clip: &(Clip, Texts, Pixels), pictures: &[Picture], texts: &[String]) -> Result<Vec<f64>> {
    let (network, words, pixels) = clip;
    let (ids, real) = words.tensors(texts)?;
    let pixels = pixels.tensor(pictures)?;
    tch::no_grad(|| {
        let products = network
            .image_embeds(&pixels)?
            .f_mul(&network.text_embeds(&ids, &real)?)?;
        numbers(&products.f_sum_dim_intlist([-1].as_slice(), false, Kind::Float)?)
    })
}

/// Computes the ImageReward of each picture for its text.
fn rewards(
    network: &(ImageRewardNetwork, Texts, Pixels),
    pictures: &[Picture],
    texts: &[String],
) -> Result<Vec<f64>> {
    let (network, words, pixels) = network;
    let (ids, real) = words.tensors(texts)?;
    let pixels = pixels.tensor(pictures)?;
    tch::no_grad(|| {
        let seen = network.image_features(&pixels)?;
        let features = network.text_features(&ids, &real, &seen)?;
        numbers(&network.reward(&features)?)
    })
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Double)?
        .f_reshape([-1])?;
    Ok(Vec::<f64>::try_from(flat)?)
}
