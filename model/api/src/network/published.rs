//! Reading of a `config.json` that LLaDA or MMaDA published or that we wrote. Missing fields are filled in (`mmada.md`
//! 1.1), and an option that we do not implement is refused by name.

use serde_json::{Map, Value, json};

use crate::network::config::{BackboneConfig, LLADA_VOCABULARY};
use crate::network::validation::{self, OutOfRange};
use crate::{bounded_json, limits};

/// The size of MMaDA's vocabulary: LLaDA's plus the picture codes.
const MMADA_VOCABULARY: u64 = LLADA_VOCABULARY as u64 + 8192;
/// The width of the gated feed-forward layer of the published models, whose `d_model` is 4096.
const HIDDEN_OF_4096: u64 = 12_288;

/// The reason why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is not JSON, or a field has another type.
    #[error("this is not the configuration of a backbone: {0}")]
    Broken(#[from] serde_json::Error),
    /// A number is beyond its limit.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    /// An option has a value that we do not implement.
    #[error("{field} is {found}, expected {expected}: this architecture is not supported")]
    Unsupported {
        /// The field.
        field: String,
        /// The field's value.
        found: String,
        /// The value that we implement.
        expected: String,
    },
    /// Fields contradict one another.
    #[error("{0}")]
    Contradiction(String),
}

/// Returns the options that select a kind of network, with the one value of each that we implement. Absent or null
/// means that value.
fn required() -> [(&'static str, Value); 8] {
    [
        ("alibi", json!(false)),
        ("rope", json!(true)),
        ("activation_type", json!("silu")),
        ("block_type", json!("llama")),
        ("block_group_size", json!(1)),
        ("layer_norm_type", json!("rms")),
        ("layer_norm_with_affine", json!(true)),
        ("use_scheduler_head", json!(false)),
    ]
}

/// The options of networks of this family that change the results in ways that we do not implement.
const ABSENT: [&str; 5] = [
    "clip_qkv",
    "rope_scaling",
    "sliding_window",
    "quantization_config",
    "num_experts",
];

/// Reads the text of a `config.json`.
///
/// Missing fields have LLaDA-8B's values. Some follow from other fields: picture codes are MMaDA's if the file is
/// MMaDA's and none if it is LLaDA's, and `multi_query_attention` means one key and value head. Two kinds of fields are
/// ignored. `rope_full_precision` changes only the rounding in bf16, and we always apply angles in f32. Dropouts take
/// effect in the published training only.
///
/// # Errors
/// [`ConfigError`] if the text is not a configuration, a number is beyond its limit, fields contradict one another, or
/// an option is not implemented.
pub fn read(text: &str) -> Result<BackboneConfig, ConfigError> {
    let mut fields: Map<String, Value> = bounded_json::parse(text, limits::MOST_CONFIG_VALUES)?;
    let hidden_is_absent = !fields.contains_key("mlp_hidden_size");
    fields.retain(|_, value| !value.is_null());
    refuse(&fields)?;
    validation::backbone_fields(&fields)?;
    let heads = kv_heads(&fields)?;
    let number = |name: &str| fields.get(name).and_then(Value::as_u64);
    let mmada = is_mmada(&fields);
    let mut filled = Vec::new();
    if let Some(heads) = heads {
        filled.push(("n_kv_heads", heads));
    }
    if hidden_is_absent && number("d_model").is_none_or(|width| width == 4096) {
        filled.push(("mlp_hidden_size", HIDDEN_OF_4096));
    }
    let vocabulary = number("vocab_size").unwrap_or(match (number("new_vocab_size"), mmada) {
        (Some(new), _) => new,
        (None, true) => MMADA_VOCABULARY,
        (None, false) => LLADA_VOCABULARY as u64,
    });
    filled.push(("vocab_size", vocabulary));
    if let Some(new) = number("new_vocab_size").filter(|&new| new > vocabulary) {
        filled.push(("embedding_size", number("embedding_size").unwrap_or(new)));
    }
    let text_rows = number("llm_vocab_size").unwrap_or(vocabulary);
    let codes = match number("new_vocab_size") {
        Some(new) if new > text_rows => new - text_rows,
        _ if mmada => 8192,
        _ => 0,
    };
    filled.push(("codebook_size", number("codebook_size").unwrap_or(codes)));
    for (name, value) in filled {
        fields.insert(name.to_owned(), json!(value));
    }
    let config: BackboneConfig = serde_json::from_value(Value::Object(fields))?;
    if config.rows() < config.vocab_size {
        let (rows, vocabulary) = (config.rows(), config.vocab_size);
        let message = format!("embedding_size is {rows}, expected at least vocab_size {vocabulary}");
        return Err(ConfigError::Contradiction(message));
    }
    validation::backbone(&config)?;
    Ok(config)
}

fn is_mmada(fields: &Map<String, Value>) -> bool {
    let named = fields.get("model_type").and_then(Value::as_str) == Some("mmada");
    let sized = ["vocab_size", "embedding_size", "new_vocab_size"]
        .into_iter()
        .any(|name| fields.get(name).and_then(Value::as_u64) == Some(MMADA_VOCABULARY));
    named || sized
}

fn refuse(fields: &Map<String, Value>) -> Result<(), ConfigError> {
    let unsupported = |field: &str, expected: String| {
        Err(ConfigError::Unsupported {
            field: field.to_owned(),
            found: fields.get(field).map_or_else(String::new, Value::to_string),
            expected,
        })
    };
    for (field, expected) in required() {
        if fields.get(field).is_some_and(|found| *found != expected) {
            return unsupported(field, expected.to_string());
        }
    }
    if let Some(field) = ABSENT.into_iter().find(|&field| fields.contains_key(field)) {
        return unsupported(field, "none".into());
    }
    let flag = |name: &str| fields.get(name).and_then(Value::as_bool);
    if flag("attention_layer_norm") == Some(true) && flag("attention_layer_norm_with_affine") == Some(false) {
        return unsupported("attention_layer_norm_with_affine", "true".into());
    }
    let family = fields.get("model_type").and_then(Value::as_str);
    if !fields.contains_key("d_model") && family.is_some_and(|name| !["llada", "mmada"].contains(&name)) {
        return unsupported("model_type", "\"llada\" or \"mmada\"".into());
    }
    Ok(())
}

/// Returns the number of key and value heads, if the file has it.
fn kv_heads(fields: &Map<String, Value>) -> Result<Option<u64>, ConfigError> {
    let named = fields.get("n_kv_heads").and_then(Value::as_u64);
    let query = fields.get("n_heads").and_then(Value::as_u64).unwrap_or(32);
    let meant = match fields.get("multi_query_attention").and_then(Value::as_bool) {
        None => return Ok(named),
        Some(true) => 1,
        Some(false) => query,
    };
    match named {
        Some(named) if named != meant => Err(ConfigError::Contradiction(format!(
            "multi_query_attention implies {meant} key and value heads, but n_kv_heads is {named}"
        ))),
        // As published, `false` without `n_kv_heads` means as many as query heads.
        _ => Ok(Some(meant)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]

    use super::*;

    #[test]
    fn an_empty_file_is_lladas() {
        let config = read("{}").unwrap();
        assert_eq!(
            (config.d_model, config.n_layers, config.hidden()),
            (4096, 32, 12_288)
        );
        assert_eq!((config.rows(), config.codebook_size), (126_464, 0));
        assert_eq!((config.mask_token_id, config.eos_token_id), (126_336, 126_081));
    }

    #[test]
    fn picture_codes_begin_behind_the_tokenizers_last_token() {
        for text in [
            r#"{"model_type": "mmada"}"#,
            r#"{"vocab_size": 134656}"#,
            r#"{"vocab_size": 126464, "new_vocab_size": 134656, "llm_vocab_size": 126464}"#,
            r#"{"model_type": "mmada", "vocab_size": 134656, "embedding_size": 134656, "codebook_size": 8192}"#,
        ] {
            let config = read(text).unwrap();
            assert_eq!(
                (config.codebook_size, config.image_offset()),
                (8192, 126_349),
                "{text}"
            );
            assert_eq!(config.rows(), 134_656, "{text}");
        }
        let small =
            r#"{"model_type": "mmada", "llm_vocab_size": 1000, "vocab_size": 1064, "new_vocab_size": 1064}"#;
        let config = read(small).unwrap();
        assert_eq!((config.codebook_size, config.image_offset()), (64, 1000));
    }

    #[test]
    fn one_key_head_may_be_asked_for_by_either_name() {
        let heads = |text: &str| read(text).map(|config| config.kv_heads());
        assert_eq!(heads(r#"{"multi_query_attention": true}"#).unwrap(), 1);
        assert_eq!(
            heads(r#"{"multi_query_attention": false, "n_heads": 8}"#).unwrap(),
            8
        );
        assert_eq!(
            heads(r#"{"multi_query_attention": null, "n_kv_heads": 4}"#).unwrap(),
            4
        );
        let message = heads(r#"{"multi_query_attention": true, "n_kv_heads": 4}"#).unwrap_err();
        assert!(message.to_string().contains("n_kv_heads is 4"), "{message}");
    }

    #[test]
    fn the_feed_forward_of_a_null_width_is_the_ratios() {
        let hidden = |text: &str| read(text).unwrap().hidden();
        assert_eq!(hidden(r#"{"d_model": 64}"#), 256);
        assert_eq!(hidden(r#"{"mlp_hidden_size": null}"#), 16_384);
        assert_eq!(hidden(r#"{"d_model": 64, "mlp_hidden_size": 96}"#), 96);
    }

    #[test]
    fn l9_a_number_beyond_its_limit_is_refused_with_field_value_and_limit() {
        let beyond = [
            ("max_sequence_length", "4294967296", "16777216"),
            ("max_sequence_length", "4611686018427387904", "16777216"),
            ("d_model", "18446744073709551615", "65536"),
            ("d_model", "-1", "65536"),
            ("d_model", "1e300", "65536"),
            ("d_model", "\"wide\"", "65536"),
            ("n_layers", "100000000", "1024"),
            ("n_heads", "0", "1024"),
            ("n_kv_heads", "9007199254740993", "1024"),
            ("mlp_ratio", "4294967295", "1024"),
            ("mlp_hidden_size", "4294967295", "1000000"),
            ("vocab_size", "4294967295", "16777216"),
            ("new_vocab_size", "9223372036854775808", "16777216"),
            ("codebook_size", "4294967295", "262144"),
            ("mask_token_id", "4294967295", "16777216"),
            ("rope_theta", "0", "1e12"),
            ("rms_norm_eps", "-3", "1e0"),
        ];
        for (field, value, limit) in beyond {
            let message = read(&format!(r#"{{"{field}": {value}}}"#))
                .unwrap_err()
                .to_string();
            let all = [field, limit].iter().all(|words| message.contains(words));
            assert!(all && message.contains(&format!("{field} is ")), "{message}");
        }
    }

    #[test]
    fn what_is_not_computed_is_refused_by_name() {
        for (text, words) in [
            (r#"{"alibi": true}"#, "alibi is true, expected false"),
            (r#"{"rope": false}"#, "rope is false, expected true"),
            (
                r#"{"activation_type": "swiglu"}"#,
                "activation_type is \"swiglu\", expected \"silu\"",
            ),
            (
                r#"{"block_type": "sequential"}"#,
                "block_type is \"sequential\", expected \"llama\"",
            ),
            (r#"{"block_group_size": 4}"#, "block_group_size is 4, expected 1"),
            (
                r#"{"layer_norm_type": "default"}"#,
                "layer_norm_type is \"default\", expected \"rms\"",
            ),
            (
                r#"{"layer_norm_with_affine": false}"#,
                "layer_norm_with_affine is false",
            ),
            (r#"{"clip_qkv": 8.0}"#, "clip_qkv is 8.0, expected none"),
            (r#"{"rope_scaling": {"factor": 2}}"#, "rope_scaling is"),
            (
                r#"{"quantization_config": {"bits": 4}}"#,
                "quantization_config is",
            ),
            (
                r#"{"attention_layer_norm": true, "attention_layer_norm_with_affine": false}"#,
                "attention_layer_norm_with_affine is false, expected true",
            ),
            (
                r#"{"model_type": "dream"}"#,
                "model_type is \"dream\", expected \"llada\" or \"mmada\"",
            ),
            (
                r#"{"vocab_size": 100, "embedding_size": 90}"#,
                "embedding_size is 90, expected at least",
            ),
            (r#"{"n_layers": "two"}"#, "n_layers is \"two\""),
            ("[]", "not the configuration of a backbone"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(words), "{message} lacks {words}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let config = BackboneConfig {
            vocab_size: 100,
            d_model: 64,
            n_heads: 4,
            ..BackboneConfig::default()
        };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(read(&text).unwrap(), config);
    }
}
