//! The comparison of reward networks with recorded tensors (`demask verify`).
//!
//! A file may contain the inputs `pixel_values`, `input_ids` and `attention_mask` (all ones if absent), and the outputs
//! that belong to them. The outputs of CLIP are `image_embeds`, `text_embeds` and `logits_per_image`. The outputs of
//! ImageReward are `image_features`, `text_features` and `reward`.

use std::collections::BTreeMap;

use demask_api::TensorCheck;
use tch::Tensor;

use super::{Clip, ImageRewardNetwork};
use crate::error::{ModelError, Result};
use crate::weights::compare::compare;

type Recorded = BTreeMap<String, Tensor>;

/// The outputs that were computed from recorded inputs, with their recorded names.
type Found = Vec<(&'static str, Tensor)>;

/// Compares a CLIP network with recorded tensors.
///
/// # Errors
/// [`ModelError::Refused`] if an output's inputs are missing or have another shape, or any error libtorch reports.
pub fn verify_clip(clip: &Clip, recorded: &Recorded) -> Result<Vec<TensorCheck>> {
    let found = tch::no_grad(|| -> Result<Found> {
        let mut found = Vec::new();
        if let Some(pixels) = recorded.get("pixel_values") {
            found.push(("image_embeds", clip.image_embeds(pixels)?));
        }
        if let Some((ids, real)) = text(recorded)? {
            found.push(("text_embeds", clip.text_embeds(ids, &real)?));
        }
        if let [(_, image), (_, text)] = &found[..] {
            let logits = clip.logits_per_image(image, text)?;
            found.push(("logits_per_image", logits));
        }
        Ok(found)
    })?;
    checks(&found, recorded)
}

/// Compares an ImageReward network with recorded tensors.
///
/// # Errors
/// [`ModelError::Refused`] if an output's inputs are missing or have another shape, or any error libtorch reports.
pub fn verify_image_reward(network: &ImageRewardNetwork, recorded: &Recorded) -> Result<Vec<TensorCheck>> {
    let found = tch::no_grad(|| -> Result<Found> {
        let Some(pixels) = recorded.get("pixel_values") else {
            return Ok(Vec::new());
        };
        let image = network.image_features(pixels)?;
        let mut found = Vec::new();
        if let Some((ids, real)) = text(recorded)? {
            let features = network.text_features(ids, &real, &image)?;
            found.push(("reward", network.reward(&features)?));
            found.push(("text_features", features));
        }
        found.push(("image_features", image));
        Ok(found)
    })?;
    checks(&found, recorded)
}

/// Returns the recorded token ids and their attention mask, if there are any.
fn text(recorded: &Recorded) -> Result<Option<(&Tensor, Tensor)>> {
    let Some(ids) = recorded.get("input_ids") else {
        return Ok(None);
    };
    let real = match recorded.get("attention_mask") {
        Some(mask) if mask.size() != ids.size() => {
            return Err(ModelError::Refused(format!(
                "attention_mask has shape {:?}, expected input_ids' {:?}",
                mask.size(),
                ids.size()
            )));
        }
        Some(mask) => mask.shallow_clone(),
        None => ids.f_ones_like()?,
    };
    Ok(Some((ids, real)))
}

/// Compares every recorded output with the computed one.
///
/// # Errors
/// [`ModelError::Refused`] if an output's inputs are missing, or any error libtorch reports.
fn checks(found: &Found, recorded: &Recorded) -> Result<Vec<TensorCheck>> {
    const INPUTS: [&str; 3] = ["pixel_values", "input_ids", "attention_mask"];
    let outputs = recorded
        .iter()
        .filter(|(name, _)| !INPUTS.contains(&name.as_str()));
    let mut checks = Vec::new();
    for (name, expected) in outputs {
        let (_, tensor) = found.iter().find(|(found, _)| found == name).ok_or_else(|| {
            ModelError::Refused(format!(
                "the reference file has {name}, which cannot be computed from its pixel_values and input_ids"
            ))
        })?;
        checks.push(compare(name, tensor, expected)?);
    }
    Ok(checks)
}
