//! The `adapter_config.json` of an adapter, in the format of Hugging Face PEFT.

use std::path::Path;

use demask_api::checkpoint::{ADAPTER_CONFIG, QUANTIZATION};
use demask_api::{FrozenBase, LINEAR_LAYERS, LoraConfig, bounded_file, bounded_json, limits, validation};
use serde_json::{Map, Value, json};

use crate::error::{ModelError, Result};

/// The prefix of every tensor's name.
const PREFIX: &str = "base_model.model.";

/// Returns the published name of a module's matrix A, [rank, in], or B, [out, rank].
#[must_use]
pub fn tensor_name(module: &str, which: char) -> String {
    format!("{PREFIX}{module}.lora_{which}.weight")
}

/// Returns the module of a tensor's name.
#[must_use]
pub fn module_of(tensor: &str) -> Option<&str> {
    let rest = tensor.strip_prefix(PREFIX)?;
    rest.strip_suffix(".lora_A.weight")
        .or_else(|| rest.strip_suffix(".lora_B.weight"))
}

/// Finds an option with a value that we do not implement, and returns a message about it.
fn refused(fields: &Map<String, Value>) -> Option<String> {
    let plain: [(&str, &[Value]); 9] = [
        ("peft_type", &[json!("LORA")]),
        ("bias", &[json!("none")]),
        ("use_dora", &[json!(false)]),
        ("lora_bias", &[json!(false)]),
        ("fan_in_fan_out", &[json!(false)]),
        ("modules_to_save", &[json!([])]),
        ("rank_pattern", &[json!({})]),
        ("alpha_pattern", &[json!({})]),
        ("layer_replication", &[json!([])]),
    ];
    let wrong = |(field, values): &(&str, &[Value])| {
        let found = fields.get(*field).filter(|value| !value.is_null())?;
        (!values.contains(found)).then(|| format!("{field} is {found}, expected {}", values[0]))
    };
    // These initialisations change the weights of the base model, which the adapter's file does not contain.
    let start = fields.get("init_lora_weights").and_then(Value::as_str);
    let changes = |name: &&str| {
        ["pissa", "olora", "corda"]
            .iter()
            .any(|kind| name.starts_with(kind))
    };
    plain.iter().find_map(wrong).or_else(|| {
        let name = start.filter(changes)?;
        Some(format!("init_lora_weights is {name:?}, which changes the base"))
    })
}

/// Reads the configuration of a folder. The adapted modules are left empty: they follow from the names of the tensors.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be read. [`ModelError::Checkpoint`] if it is broken or describes a kind of
/// adapter that we do not implement.
pub fn read(dir: &Path) -> Result<LoraConfig> {
    let path = dir.join(ADAPTER_CONFIG);
    let named = |message: String| ModelError::checkpoint(&path, message);
    let fields = fields(&path)?;
    if let Some(message) = refused(&fields) {
        return Err(named(format!("{message}: this kind of adapter is not supported")));
    }
    let number = |name: &str| fields.get(name).and_then(Value::as_f64);
    let rank = fields.get("r").and_then(Value::as_u64);
    let rank = rank.filter(|&rank| rank > 0);
    let rank = rank.ok_or_else(|| named("r, the rank, is missing or not a positive integer".into()))?;
    let rank = usize::try_from(rank).unwrap_or(usize::MAX);
    validation::within("r", rank, limits::RANK).map_err(|error| named(error.to_string()))?;
    let base = frozen_base(dir)?;
    let dropout = fields.get("lora_dropout").filter(|value| !value.is_null());
    // A share of 1 or more would drop everything in a training step, so that nothing is learned.
    let dropout = dropout.map_or(Ok(0.0), |found| {
        let valid = found.as_f64().filter(|share| (0.0..1.0).contains(share));
        valid.ok_or_else(|| {
            named(format!(
                "lora_dropout is {found}, expected a number from 0 to below 1"
            ))
        })
    })?;
    let alpha = number("lora_alpha").ok_or_else(|| named("lora_alpha is missing or not a number".into()))?;
    Ok(LoraConfig {
        rank,
        alpha,
        rank_stabilized: fields.get("use_rslora").and_then(Value::as_bool) == Some(true),
        dropout,
        target_modules: Vec::new(),
        seed: 0,
        base: base.dtype,
        double_quantization: base.double_quantization,
    })
}

/// Reads the format of the frozen base that a folder's adapter was trained beside. Returns the default if the folder
/// does not name one.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be read. [`ModelError::Checkpoint`] if it is broken or names a format that we
/// do not implement.
pub fn frozen_base(dir: &Path) -> Result<FrozenBase> {
    let path = dir.join(QUANTIZATION);
    if !path.is_file() {
        return Ok(FrozenBase::default());
    }
    let text = bounded_file::read_text(&path, limits::LONGEST_CONFIG)
        .map_err(|source| ModelError::io(&path, source))?;
    FrozenBase::read(&text).map_err(|message| ModelError::checkpoint(&path, message))
}

/// Returns the base model that a folder's adapter names.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be read. [`ModelError::Checkpoint`] if it is broken or names no base model.
pub fn base(dir: &Path) -> Result<String> {
    let path = dir.join(ADAPTER_CONFIG);
    let fields = fields(&path)?;
    let base = fields.get("base_model_name_or_path").and_then(Value::as_str);
    base.map(str::to_owned)
        .ok_or_else(|| ModelError::checkpoint(&path, "base_model_name_or_path is missing"))
}

/// Parses `adapter_config.json`.
fn fields(path: &Path) -> Result<Map<String, Value>> {
    let text = bounded_file::read_text(path, limits::LONGEST_CONFIG)
        .map_err(|source| ModelError::io(path, source))?;
    bounded_json::parse(&text, limits::MOST_CONFIG_VALUES).map_err(|error| {
        ModelError::checkpoint(
            path,
            format!("this is not the configuration of an adapter: {error}"),
        )
    })
}

/// Writes the text of the file. `targets` are names of modules, or suffixes of names.
#[must_use]
pub fn text(config: &LoraConfig, targets: &[String], base: &str) -> String {
    // The head has the same name as the last layer of a block, but is not adapted, so it is excluded.
    let exclude = if targets.iter().any(|target| target == LINEAR_LAYERS[6]) {
        json!(["transformer.ff_out"])
    } else {
        Value::Null
    };
    let value = json!({
        "alpha_pattern": {},
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": "none",
        "exclude_modules": exclude,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": null,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": config.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": targets,
        "task_type": null,
        "use_dora": false,
        "use_rslora": config.rank_stabilized,
    });
    format!("{value:#}\n")
}
