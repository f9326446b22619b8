//! The check that a run of a profile has the memory that training its weights takes.

use std::path::Path;

use demask_actors::inference::shipped;
use demask_actors::profile::{Profile, StageKind};
use demask_api::checkpoint::CONFIG;
use demask_api::{BackboneConfig, CudaDevice, bounded_file, limits, memory, published};

use super::check::{DoctorCheck, Status, check};
use crate::exit::UsageError;
use crate::model::adapter;

/// Numbers that training stores per weight: the weight, its gradient, and AdamW's two moments.
const KEPT: u64 = 4;
/// Bytes of a number.
const WIDTH: u64 = 4;

/// Reads the named profile.
///
/// # Errors
/// An error if it does not exist or is wrong.
pub(super) fn profile(name: &str) -> anyhow::Result<Profile> {
    let usage = |error: &dyn std::fmt::Display| UsageError(error.to_string());
    let (text, origin) = Profile::find(name).map_err(|error| usage(&error))?;
    Ok(Profile::parse(&text, &origin).map_err(|error| usage(&error))?)
}

/// Compares the least memory that training takes with the available memory. That is the whole memory of the GPU if the
/// run computes on one, and the machine's free memory otherwise.
pub(super) fn memory(profile: &Profile, from_scratch: bool, device: Option<&CudaDevice>) -> DoctorCheck {
    let name = "memory";
    let config = match shape(profile, from_scratch) {
        Ok(config) => config,
        Err(why) => {
            return check(
                name,
                Status::Warn,
                why,
                "set start_from to an existing checkpoint",
            );
        }
    };
    let adapter = match adapter::trained(profile, from_scratch) {
        Ok(adapter) => adapter,
        Err(why) => {
            let why = format!("{why:#}");
            return check(name, Status::Warn, why, "name an existing adapter");
        }
    };
    let needed = match &adapter {
        // The base is kept as it is asked for, and not trained.
        Some(adapter) => adapter.config.frozen_base().backbone_bytes(&config, WIDTH),
        None => memory::backbone_bytes(&config, kept(profile) * WIDTH),
    };
    if let Some(device) = device.filter(|_| profile.engine.device != "cpu") {
        return weigh(needed, device.memory);
    }
    let Some(free) = memory::free() else {
        return check(name, Status::Warn, "the free memory is unknown", "");
    };
    weigh(needed, free)
}

fn weigh(needed: Option<u64>, free: u64) -> DoctorCheck {
    let shown = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let needs = needed.map_or("more than 16 EB".to_owned(), shown);
    let found = format!(
        "training the profile's model needs at least {needs} (weights, gradients, optimizer moments); {} are available",
        shown(free)
    );
    if needed.is_some_and(|needed| needed <= free) {
        return check("memory", Status::Ok, found, "");
    }
    let fix = "train an adapter (lora) or a smaller model, or use a machine with more memory";
    check("memory", Status::Fail, found, fix)
}

/// Returns the configuration of the network that the run trains.
///
/// # Errors
/// A message if the configuration in its folder is missing or wrong.
pub fn shape(profile: &Profile, from_scratch: bool) -> Result<BackboneConfig, String> {
    if from_scratch {
        // The sizes are those that a run makes: the vocabulary of the trained tokenizer, and the picture codes.
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
        None => shipped::folder().map_err(|error| format!("{error:#}"))?,
    };
    read(&folder.join(CONFIG))
}

fn read(path: &Path) -> Result<BackboneConfig, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = bounded_file::read_text(path, limits::LONGEST_CONFIG).map_err(|error| named(&error))?;
    published::read(&text).map_err(|error| named(&error))
}

/// Returns the number of numbers that training all weights of the profile's model stores per weight.
fn kept(profile: &Profile) -> u64 {
    let aligns = profile.stages.iter().any(|stage| stage.kind == StageKind::Align);
    // UniGRPO stores its reference policy, and a moving average is one more copy.
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
                && row.found.contains("8.0 GB are available")
        );
        assert!(weigh(None, u64::MAX).status == Status::Fail);
        assert!(weigh(Some(1), 1).status == Status::Ok);
    }
}
