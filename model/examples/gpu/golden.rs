//! Compares the device's results with recordings of the published code: tokens and numbers in f32, numbers in
//! bf16.

use std::path::{Path, PathBuf};

use demask_api::TensorCheck;
use demask_model::engine::verify::{BF16_TOLERANCE, verify_in};
use demask_model::weights::compare::TOLERANCE;
use tch::Kind;

use crate::figure::Teller;
use crate::options::Options;

/// The folder of the backbone that Fast-dLLM's samplers were recorded on.
const BACKBONE: &str = "backbone";
const FAST: &str = "fast-decoding";
const REFERENCE: &str = "reference.safetensors";

/// Checks every folder that contains a network and its recordings.
///
/// # Errors
/// Returns an error if the device or the folder does not exist.
pub fn golden(options: &Options, teller: &Teller, kind: Kind) -> anyhow::Result<()> {
    let place = options.place(if kind == Kind::Float { "f32" } else { "bf16" })?;
    let sets = sets(&options.golden)?;
    anyhow::ensure!(!sets.is_empty(), "no recordings in {}", options.golden.display());
    for (name, checkpoint, reference) in sets {
        if kind != Kind::Float && !name.starts_with(BACKBONE) {
            let why = match &name[..] {
                FAST => "holds tokens alone, which two roundings may part",
                _ => "computes in f32 whatever is asked",
            };
            teller.skipped(&name, why);
            continue;
        }
        match verify_in(&checkpoint, &reference, place.device, kind) {
            Ok(checks) => judge(teller, &name, &checks, kind),
            Err(error) => teller.check(&name, false, &error.to_string()),
        }
    }
    Ok(())
}

/// Returns the name, the network folder and the recordings of every set.
fn sets(folder: &Path) -> anyhow::Result<Vec<(String, PathBuf, PathBuf)>> {
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let dir = entry?.path();
        let Some(name) = dir.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            continue;
        };
        let network = match &name[..] {
            FAST => folder.join(BACKBONE),
            _ => dir.clone(),
        };
        let reference = dir.join(REFERENCE);
        if reference.is_file() && network.join("config.json").is_file() {
            sets.push((name, network, reference));
        }
    }
    sets.sort();
    Ok(sets)
}

fn judge(teller: &Teller, name: &str, checks: &[TensorCheck], kind: Kind) {
    let (tolerance, what) = match kind {
        Kind::Float => (TOLERANCE, "tokens equal"),
        _ => (BF16_TOLERANCE, "logits, losses, gradients; no tokens"),
    };
    let wrong: Vec<&str> = checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| &check.name[..])
        .collect();
    // A NaN counts as the largest difference.
    let worst = checks.iter().max_by(|a, b| a.max_rel.total_cmp(&b.max_rel));
    let Some(worst) = worst else {
        return teller.check(name, false, "nothing was compared");
    };
    let note = if wrong.is_empty() {
        format!("{} tensors, worst {}; {what}", checks.len(), worst.name)
    } else {
        format!(
            "{} of {} tensors: {}",
            wrong.len(),
            checks.len(),
            wrong.join(", ")
        )
    };
    teller.difference(name, worst.max_rel, tolerance, wrong.is_empty(), &note);
}
