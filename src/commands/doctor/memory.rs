//! Whether a run of a profile has the memory that its weights take in training.

use std::path::Path;

use demask_actors::home::Home;
use demask_actors::inference::shipped;
use demask_actors::profile::{Profile, StageKind};
use demask_api::checkpoint::CONFIG;
use demask_api::{BackboneConfig, CudaDevice, memory, published};

use super::check::{DoctorCheck, Status, check};
use crate::exit::UsageError;

/// Numbers that training keeps of each weight: itself, its gradient, AdamW's two moments.
const KEPT: u64 = 4;
/// Bytes of a number.
const WIDTH: u64 = 4;

/// The profile that is named.
///
/// # Errors
/// It is not there, or wrong.
pub(super) fn profile(name: &str) -> anyhow::Result<Profile> {
    let usage = |error: &dyn std::fmt::Display| UsageError(error.to_string());
    let (text, origin) = Profile::find(name).map_err(|error| usage(&error))?;
    Ok(Profile::parse(&text, &origin).map_err(|error| usage(&error))?)
}

/// What training takes at the least, and what is there: all of the graphics device's memory where the run would compute on one, what
/// is free of the machine's elsewhere.
pub(super) fn memory(
    home: &Home,
    profile: &Profile,
    from_scratch: bool,
    device: Option<&CudaDevice>,
) -> DoctorCheck {
    let name = "memory";
    let config = match shape(home, profile, from_scratch) {
        Ok(config) => config,
        Err(why) => {
            return check(
                name,
                Status::Warn,
                why,
                "name a checkpoint that is there in start_from",
            );
        }
    };
    let needed = match &profile.lora {
        // The base is kept as it is asked for, and not trained.
        Some(lora) => lora.frozen_base().backbone_bytes(&config, WIDTH),
        None => memory::backbone_bytes(&config, kept(profile) * WIDTH),
    };
    if let Some(device) = device.filter(|_| profile.engine.device != "cpu") {
        return weigh(needed, device.memory);
    }
    let Some(free) = memory::free() else {
        return check(name, Status::Warn, "free memory is not known", "");
    };
    weigh(needed, free)
}

fn weigh(needed: Option<u64>, free: u64) -> DoctorCheck {
    let shown = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let needs = needed.map_or("more than 16 EB".to_owned(), shown);
    let found = format!(
        "training the profile's model takes {needs} at the least (weights, gradients, moments); {} are there",
        shown(free)
    );
    if needed.is_some_and(|needed| needed <= free) {
        return check("memory", Status::Ok, found, "");
    }
    let fix = "train an adapter (lora), a smaller model, or on a machine with more memory";
    check("memory", Status::Fail, found, fix)
}

/// The network that the run trains.
///
/// # Errors
/// Its folder's configuration is not there or wrong, in words.
pub fn shape(home: &Home, profile: &Profile, from_scratch: bool) -> Result<BackboneConfig, String> {
    if from_scratch {
        // As a run makes it: words of the tokenizer that is trained, and picture codes.
        let tokenizer = profile.image_tokenizer.as_ref();
        let codebook_size = tokenizer.map_or(0, |config| 1 << config.codebook_bits);
        return Ok(BackboneConfig {
            codebook_size,
            vocab_size: profile.text_vocabulary + codebook_size,
            embedding_size: None,
            ..profile.model.clone()
        });
    }
    let folder = match &profile.start_from {
        Some(folder) => folder.clone(),
        None => shipped::folder(home).map_err(|error| format!("{error:#}"))?,
    };
    read(&folder.join(CONFIG))
}

fn read(path: &Path) -> Result<BackboneConfig, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    published::read(&text).map_err(|error| named(&error))
}

/// Numbers that training keeps of each weight of the profile.
fn kept(profile: &Profile) -> u64 {
    if profile.lora.is_some() || profile.adapter.is_some() {
        return 1;
    }
    let aligns = profile.stages.iter().any(|stage| stage.kind == StageKind::Align);
    // UniGRPO keeps the policy that it began with, an average is one more copy.
    KEPT + u64::from(aligns) + u64::from(profile.ema > 0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_model_that_does_not_fit_is_told_with_both_figures() {
        let row = weigh(Some(64_000_000_000), 8_000_000_000);
        assert!(
            row.status == Status::Fail
                && row.found.contains("64.0 GB")
                && row.found.contains("8.0 GB are there")
        );
        assert!(weigh(None, u64::MAX).status == Status::Fail);
        assert!(weigh(Some(1), 1).status == Status::Ok);
    }
}
