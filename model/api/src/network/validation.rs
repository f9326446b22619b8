//! The check of a configuration's numbers against their limits (law L9), field by field, before anything is built from
//! them.

use serde_json::{Map, Value};

use crate::limits::{self, CountRange};
use crate::network::config::{BackboneConfig, ImageTokenizerConfig, StackConfig};

/// The error for a number of a configuration that is beyond its limit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {found}; allowed is {allowed}")]
pub struct OutOfRange {
    /// The field, with dots if it is nested.
    pub field: String,
    /// The field's value.
    pub found: String,
    /// The allowed values.
    pub allowed: String,
}

/// The integer fields of a backbone's `config.json`, with the range of each.
const BACKBONE_COUNTS: [(&str, CountRange); 16] = [
    ("d_model", limits::WIDTH),
    ("n_heads", limits::HEADS),
    ("n_kv_heads", limits::HEADS),
    ("n_layers", limits::LAYERS),
    ("mlp_hidden_size", limits::HIDDEN),
    ("mlp_ratio", limits::HIDDEN_RATIO),
    ("max_sequence_length", limits::POSITIONS),
    ("vocab_size", limits::VOCABULARY),
    ("embedding_size", limits::VOCABULARY),
    ("new_vocab_size", limits::VOCABULARY),
    ("llm_vocab_size", limits::VOCABULARY),
    ("mask_token_id", limits::TOKEN),
    ("eos_token_id", limits::TOKEN),
    ("pad_token_id", limits::TOKEN),
    ("codebook_size", limits::CODEBOOK),
    ("image_token_offset", limits::TOKEN),
];

/// The floating-point fields of a backbone's `config.json`, with the least and the largest value of each.
const BACKBONE_NUMBERS: [(&str, f64, f64); 2] = [("rms_norm_eps", 1e-30, 1.0), ("rope_theta", 1.0, 1e12)];

/// Checks the fields of a backbone's file. A field that is missing or null passes.
///
/// # Errors
/// [`OutOfRange`] for the first field that is not a number in its range.
pub fn backbone_fields(fields: &Map<String, Value>) -> Result<(), OutOfRange> {
    let given = |field: &str| fields.get(field).filter(|value| !value.is_null());
    for (field, range) in BACKBONE_COUNTS {
        if let Some(value) = given(field)
            && !value.as_u64().is_some_and(|number| range.contains(number))
        {
            return Err(range.refusal(field, value));
        }
    }
    for (field, least, most) in BACKBONE_NUMBERS {
        if let Some(value) = given(field)
            && !value
                .as_f64()
                .is_some_and(|number| (least..=most).contains(&number))
        {
            return Err(OutOfRange {
                field: field.to_owned(),
                found: shown(value),
                allowed: format!("a number from {least:e} to {most:e}"),
            });
        }
    }
    Ok(())
}

/// Checks a backbone's configuration.
///
/// # Errors
/// [`OutOfRange`] for the first number that is out of its range, including numbers that follow from other fields.
pub fn backbone(config: &BackboneConfig) -> Result<(), OutOfRange> {
    if let Ok(Value::Object(fields)) = serde_json::to_value(config) {
        backbone_fields(&fields)?;
    }
    within("n_kv_heads", config.kv_heads(), limits::HEADS)?;
    within("mlp_hidden_size", config.hidden(), limits::HIDDEN)?;
    within("embedding_size", config.rows(), limits::VOCABULARY)
}

/// Checks an image tokenizer's configuration.
///
/// # Errors
/// [`OutOfRange`] for the first number that is out of its range.
pub fn image_tokenizer(config: &ImageTokenizerConfig) -> Result<(), OutOfRange> {
    stack("encoder", &config.encoder)?;
    stack("decoder", &config.decoder)?;
    within("codebook_bits", config.codebook_bits, limits::CODE_BITS)?;
    within("norm_groups", config.norm_groups, limits::NORM_GROUPS)
}

fn stack(name: &str, config: &StackConfig) -> Result<(), OutOfRange> {
    let at = |field: &str| format!("{name}.{field}");
    let fields = [
        ("ch", config.ch, limits::CHANNELS),
        ("in_ch", config.in_ch, limits::COLOURS),
        ("out_ch", config.out_ch, limits::COLOURS),
        ("resolution", config.resolution, limits::PIXELS),
        ("z_channels", config.z_channels, limits::CODE_BITS),
    ];
    for (field, found, range) in fields {
        within(&at(field), found, range)?;
    }
    let lists = [
        ("ch_mult", &config.ch_mult, limits::CHANNEL_MULTIPLE),
        ("num_res_blocks", &config.num_res_blocks, limits::RESIDUAL_BLOCKS),
    ];
    for (field, found, range) in lists {
        within(
            &format!("the length of {}", at(field)),
            found.len(),
            limits::LEVELS,
        )?;
        for (level, &number) in found.iter().enumerate() {
            within(&at(&format!("{field}.{level}")), number, range)?;
        }
    }
    Ok(())
}

/// Checks that a count is within its range.
///
/// # Errors
/// [`OutOfRange`] if it is not.
pub fn within(field: &str, found: usize, range: CountRange) -> Result<(), OutOfRange> {
    if range.contains(found as u64) {
        return Ok(());
    }
    Err(range.refusal(field, &Value::from(found)))
}

impl CountRange {
    fn refusal(self, field: &str, found: &Value) -> OutOfRange {
        OutOfRange {
            field: field.to_owned(),
            found: shown(found),
            allowed: format!("a whole number from {} to {}", self.least, self.most),
        }
    }
}

/// Formats a value as in the file, truncated if it is long.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a table".to_owned(),
        other => other.to_string(),
    };
    if text.chars().count() <= MOST {
        return text;
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{start}…")
}
