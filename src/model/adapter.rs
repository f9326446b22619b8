//! LoRA adapters that a flag names: a folder in PEFT's layout, applied to a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::bail;
use demask_actors::home::Home;
use demask_api::checkpoint::{ADAPTER, ADAPTER_CONFIG, CONFIG, QUANTIZATION, has_adapter};
use demask_api::{BaseDtype, FrozenBase};
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

/// Returns the name of the format in which an adapter's base was kept during training; `None` if it was not
/// quantised.
#[must_use]
pub fn frozen_base(adapter: &Path) -> Option<&'static str> {
    let text = std::fs::read_to_string(adapter.join(QUANTIZATION)).ok()?;
    match FrozenBase::read(&text).ok()?.dtype {
        BaseDtype::Auto => None,
        BaseDtype::Bf16 => Some("bf16"),
        BaseDtype::Int8 => Some("int8"),
        BaseDtype::Nf4 => Some("nf4"),
    }
}

/// Returns the base model that an adapter names, if it names one.
#[must_use]
pub fn base(adapter: &Path) -> Option<String> {
    let text = std::fs::read_to_string(adapter.join(ADAPTER_CONFIG)).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    let base = config["base_model_name_or_path"].as_str()?;
    (!base.is_empty()).then(|| base.to_owned())
}
