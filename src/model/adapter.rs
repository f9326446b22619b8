//! LoRA adapters: one that a flag names, a folder in PEFT's layout, is applied to a checkpoint; one that a profile's
//! run trains is known before the run by its rank, its layers and the format of its base.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use demask_actors::home::Home;
use demask_actors::profile::Profile;
use demask_api::checkpoint::{ADAPTER, ADAPTER_CONFIG, CONFIG, QUANTIZATION, has_adapter};
use demask_api::{
    BaseDtype, FrozenBase, LINEAR_LAYERS, LoraConfig, bounded_file, bounded_json, limits, validation,
};
use serde_json::Value;

use crate::exit::UsageError;
use crate::model::pulled::pulled;

/// Name of PEFT's older weights file, which is a pickle.
const PICKLE: &str = "adapter_model.bin";

/// Returns the folder of the adapter that `--adapter` names for a checkpoint.
///
/// # Errors
/// An error if the folder does not exist or holds no adapter, or if the checkpoint already carries one.
pub fn put_on(home: &Home, checkpoint: &Path, named: &Path) -> anyhow::Result<PathBuf> {
    let folder = pulled(home, "--adapter", named)?;
    if has_adapter(checkpoint) {
        bail!(UsageError(format!(
            "--adapter {}: the checkpoint {} contains an adapter already; leave --adapter out, or merge the checkpoint's \
             adapter first (`demask merge`)",
            named.display(),
            checkpoint.display()
        )));
    }
    let lacks = |file: &str| !folder.join(file).is_file();
    let hint = if lacks(ADAPTER) && !lacks(PICKLE) {
        format!("; `demask convert {PICKLE} {ADAPTER}` creates it")
    } else {
        String::new()
    };
    match [ADAPTER_CONFIG, ADAPTER].into_iter().find(|file| lacks(file)) {
        None => Ok(folder),
        Some(missing) => bail!(
            "--adapter {}: it has no {missing}; expected an adapter in PEFT's layout, {ADAPTER_CONFIG} and \
             {ADAPTER}{hint}",
            named.display()
        ),
    }
}

/// Checks that a checkpoint is not an adapter alone, as adapters are usually published.
///
/// # Errors
/// An error if the adapter's base is not beside it. It says what to name instead.
pub fn has_base(checkpoint: &Path) -> anyhow::Result<()> {
    if !has_adapter(checkpoint) || checkpoint.join(CONFIG).is_file() {
        return Ok(());
    }
    let base = base(checkpoint).map_or_else(String::new, |base| format!(", {base},"));
    let checkpoint = checkpoint.display();
    bail!(UsageError(format!(
        "{checkpoint} is an adapter without its base: give the base{base} as the checkpoint, and this folder with --adapter"
    )))
}

/// Returns the error context for an engine that cannot apply the adapter to the checkpoint.
#[must_use]
pub fn blame(checkpoint: &Path, adapter: &Path) -> String {
    let made_for = base(adapter).map_or_else(String::new, |base| format!(" (made for {base})"));
    let (checkpoint, adapter) = (checkpoint.display(), adapter.display());
    format!("the adapter {adapter}{made_for} cannot be combined with the checkpoint {checkpoint}")
}

/// The adapter that a run trains in place of the weights.
pub struct TrainedAdapter {
    /// Its rank, its layers, and the format of its base.
    pub config: LoraConfig,
    /// Whether it existed before the run, so that the profile's `[lora]` makes no fresh one.
    pub exists: bool,
}

/// Returns the adapter that a run of the profile trains: a fresh one, the one that `adapter` names, or the one that the
/// start checkpoint contains; `None` if the run trains all weights.
///
/// # Errors
/// An error with the path if the configuration of an existing adapter is missing or broken.
pub fn trained(profile: &Profile, from_scratch: bool) -> anyhow::Result<Option<TrainedAdapter>> {
    if let Some(fresh) = &profile.lora {
        let config = fresh.clone();
        return Ok(Some(TrainedAdapter {
            config,
            exists: false,
        }));
    }
    let start = profile.start_from.as_deref();
    let carried = start.filter(|folder| !from_scratch && has_adapter(folder));
    let Some(folder) = profile.adapter.as_deref().or(carried) else {
        return Ok(None);
    };
    let config = config(folder)?;
    Ok(Some(TrainedAdapter { config, exists: true }))
}

/// Returns what an adapter's memory depends on, from the configuration in its folder. Which blocks have the adapted
/// layers is not read: all of them count.
fn config(folder: &Path) -> anyhow::Result<LoraConfig> {
    let path = folder.join(ADAPTER_CONFIG);
    let named = |message: &dyn std::fmt::Display| anyhow!("{}: {message}", path.display());
    let fields = fields(&text(folder, ADAPTER_CONFIG)?).map_err(|error| named(&error))?;
    let rank = fields["r"].as_u64().and_then(|rank| usize::try_from(rank).ok());
    let rank = rank.ok_or_else(|| named(&"r, the rank, is missing or not a positive integer"))?;
    validation::within("r", rank, limits::RANK).map_err(|error| named(&error))?;
    let base = base_format(folder)?;
    Ok(LoraConfig {
        rank,
        target_modules: adapted_layers(&fields["target_modules"]),
        base: base.dtype,
        double_quantization: base.double_quantization,
        ..LoraConfig::default()
    })
}

/// Returns the layers of a block that `target_modules` lists. A pattern in place of the list counts as all layers.
fn adapted_layers(targets: &Value) -> Vec<String> {
    let listed = |layer: &str| match targets.as_array() {
        Some(targets) => targets
            .iter()
            .filter_map(Value::as_str)
            .any(|target| target.rsplit('.').next() == Some(layer)),
        None => true,
    };
    let layers = LINEAR_LAYERS.into_iter().filter(|layer| listed(layer));
    layers.map(str::to_owned).collect()
}

/// Returns the format of the base beside which a folder's adapter was trained; the default if the folder names none.
fn base_format(folder: &Path) -> anyhow::Result<FrozenBase> {
    let path = folder.join(QUANTIZATION);
    if !path.is_file() {
        return Ok(FrozenBase::default());
    }
    let text = text(folder, QUANTIZATION)?;
    FrozenBase::read(&text).map_err(|message| anyhow!("{}: {message}", path.display()))
}

/// Reads a small text file of an adapter's folder (law L9).
fn text(folder: &Path, file: &str) -> anyhow::Result<String> {
    let path = folder.join(file);
    bounded_file::read_text(&path, limits::LONGEST_CONFIG).with_context(|| path.display().to_string())
}

/// Parses the text of an adapter's configuration.
fn fields(text: &str) -> serde_json::Result<Value> {
    bounded_json::parse(text, limits::MOST_CONFIG_VALUES)
}

/// Returns the name of the format in which an adapter's base was kept during training; `None` if it was not
/// quantised.
#[must_use]
pub fn frozen_base(adapter: &Path) -> Option<&'static str> {
    match base_format(adapter).ok()?.dtype {
        BaseDtype::Auto => None,
        BaseDtype::Bf16 => Some("bf16"),
        BaseDtype::Int8 => Some("int8"),
        BaseDtype::Nf4 => Some("nf4"),
    }
}

/// Returns the base model that an adapter names, if it names one.
#[must_use]
pub fn base(adapter: &Path) -> Option<String> {
    let config = fields(&text(adapter, ADAPTER_CONFIG).ok()?).ok()?;
    let base = config["base_model_name_or_path"].as_str()?;
    (!base.is_empty()).then(|| base.to_owned())
}
