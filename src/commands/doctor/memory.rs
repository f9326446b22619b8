//! The check that a run of a profile has the memory that training its weights takes.

use std::path::Path;

use demask_actors::inference::shipped;
use demask_actors::profile::{Profile, Stage, StageKind};
use demask_api::checkpoint::CONFIG;
use demask_api::plan::{LOGITS_AT_ONCE, TrainingPlan};
use demask_api::sharding::Ranks;
use demask_api::{BackboneConfig, CudaDevice, LoraConfig, Shard, bounded_file, limits, memory, published};

use super::check::{DoctorCheck, Status, check};
use crate::exit::UsageError;
use crate::model::adapter;

/// More bytes than training stores per weight, in any dtype and with every option.
const MOST: u64 = 64;

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
    let device = device.filter(|_| profile.engine.device != "cpu");
    let lora = adapter.as_ref().map(|adapter| &adapter.config);
    let needed = kept(profile, &config, lora, device.is_some());
    if let Some(device) = device {
        return weigh(needed, device.memory);
    }
    let Some(free) = memory::free() else {
        return check(name, Status::Warn, "the free memory is unknown", "");
    };
    // Ranks that the daemon starts share the machine's memory; those that join may be anywhere.
    let here = if profile.engine.join {
        1
    } else {
        ranks(profile, lora).count.max(1)
    };
    weigh(needed, free / here)
}

fn weigh(needed: Option<u64>, free: u64) -> DoctorCheck {
    let shown = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let needs = needed.map_or("more than 16 EB".to_owned(), shown);
    let found = format!(
        "training the profile's model needs at least {needs} a process (weights, gradients, optimizer moments); {} are available",
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

/// Returns the bytes of a number of the network in the profile's dtype.
pub fn number_bytes(profile: &Profile, gpu: bool) -> u64 {
    match profile.engine.dtype.as_str() {
        "bf16" => 2,
        "f32" => 4,
        _ if gpu => 2,
        _ => 4,
    }
}

fn read(path: &Path) -> Result<BackboneConfig, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = bounded_file::read_text(path, limits::LONGEST_CONFIG).map_err(|error| named(&error))?;
    published::read(&text).map_err(|error| named(&error))
}

/// Returns the ranks that the profile asks for. Quantised weights below an adapter are whole on each of them.
fn ranks(profile: &Profile, lora: Option<&LoraConfig>) -> Ranks {
    let quantized = lora.is_some_and(|lora| lora.frozen_base().is_quantized());
    Ranks {
        count: profile.engine.ranks.unwrap_or(1) as u64,
        shard: match profile.engine.ranks {
            Some(_) if !quantized => profile.engine.shard,
            _ => Shard::State,
        },
    }
}

/// Returns the bytes that a rank stores before it computes a row: weights, gradients and optimizer state, as
/// `demask plan` counts them. `None` if no number holds them.
fn kept(profile: &Profile, config: &BackboneConfig, lora: Option<&LoraConfig>, gpu: bool) -> Option<u64> {
    memory::backbone_bytes(config, MOST)?;
    let compares = |stage: &Stage| stage.kind == StageKind::Align && stage.objective.kl != 0.0;
    let plan = TrainingPlan {
        config,
        number: number_bytes(profile, gpu),
        lora,
        muon: profile.optimizer.muon,
        moments: profile.optimizer.moments,
        offload: profile.optimizer.offload,
        ranks: ranks(profile, lora),
        average: profile.ema > 0.0,
        recomputed: true,
        kernels: !gpu,
        threads: 1,
        rows: 0,
        length: 0,
        masked: 0,
        logits_at_once: LOGITS_AT_ONCE,
        reference: profile.stages.iter().any(compares),
        put_back: false,
        sampled: 0,
        samplers: 0,
        image_tokenizer: None,
    };
    Some(plan.bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use demask_api::MomentKind;

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

    /// What `demask plan` proposes to a run that does not fit takes less here too.
    #[test]
    fn what_takes_less_memory_is_counted_as_less() {
        let config = published::read("{}").unwrap();
        let needed =
            |profile: &Profile, lora: Option<&LoraConfig>| kept(profile, &config, lora, true).unwrap();
        let mut plain = profile("smoke").unwrap();
        plain.engine.dtype = "auto".to_owned();
        let all = needed(&plain, None);
        let changes: [fn(&mut Profile); 4] = [
            |profile| profile.optimizer.moments = MomentKind::Bf16,
            |profile| profile.optimizer.muon = true,
            |profile| profile.optimizer.offload = true,
            |profile| (profile.engine.ranks, profile.engine.shard) = (Some(8), Shard::Weights),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = plain.clone();
            change(&mut changed);
            let less = needed(&changed, None);
            assert!(less < all / 10 * 9, "change {number}: {less} of {all}");
        }
        // The base of an adapter is in the dtype of the GPU.
        let adapted = needed(&plain, Some(&LoraConfig::default()));
        assert!((16_000_000_000..18_000_000_000).contains(&adapted), "{adapted}");
    }
}
