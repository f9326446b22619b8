//! The storage format of the frozen weights below an adapter: its memory, and its record in a checkpoint.
//!
//! A checkpoint records the format in `quantization_config.json`, with the field names that the transformers library
//! uses for bitsandbytes.
//!
//! The formats are published ones. NF4 stores blocks of 64 elements, each with its largest magnitude; double
//! quantisation quantises these magnitudes too (QLoRA, arXiv 2305.14314). int8 scales each row (LLM.int8, arXiv
//! 2208.07339, for the weights only: activations are not quantised).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::network::config::BackboneConfig;
use crate::network::memory::{backbone_bytes, block_numbers, layer_shapes};
use crate::{bounded_json, limits};

/// The elements of an NF4 block, which is scaled by its largest magnitude.
pub const NF4_BLOCK: u64 = 64;
/// The magnitudes in one block of double quantisation.
pub const DOUBLE_BLOCK: u64 = 256;
/// The elements of a weight that are quantised or dequantised at one time.
pub const DEQUANTIZED_AT_ONCE: u64 = 1 << 22;
/// The temporary bytes per element: two for its code, which becomes an index, and four for its f32 value.
const DEQUANTIZED_BYTES: u64 = 2 + 4;

/// The storage format of the frozen weights of all blocks' linear layers, beside an adapter. The embedding, the head
/// and the norms stay in the dtype that the engine computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseDtype {
    /// The dtype that the engine computes in.
    #[default]
    Auto,
    /// bfloat16: two bytes per weight.
    Bf16,
    /// Eight bits per weight, quantised by rows.
    Int8,
    /// Four bits per weight, quantised in blocks of 64.
    Nf4,
}

/// The storage format of the frozen weights, with its options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrozenBase {
    /// Storage dtype of one element.
    pub dtype: BaseDtype,
    /// Whether the magnitudes of the NF4 blocks are quantised too, to eight bits.
    pub double_quantization: bool,
}

impl FrozenBase {
    /// Returns whether the storage dtype differs from the compute dtype.
    #[must_use]
    pub fn is_quantized(self) -> bool {
        self.dtype != BaseDtype::Auto
    }

    /// Returns the stored bytes of a `rows` × `columns` weight. An element of the compute dtype takes `width` bytes.
    /// `None` if the size overflows 64 bits.
    #[must_use]
    pub fn weight_bytes(self, rows: u64, columns: u64, width: u64) -> Option<u64> {
        let numbers = rows.checked_mul(columns)?;
        match self.dtype {
            BaseDtype::Auto => numbers.checked_mul(width),
            BaseDtype::Bf16 => numbers.checked_mul(2),
            BaseDtype::Int8 => numbers.checked_add(rows.checked_mul(4)?),
            BaseDtype::Nf4 => {
                let blocks = numbers.div_ceil(NF4_BLOCK);
                let magnitudes = if self.double_quantization {
                    blocks + 4 * blocks.div_ceil(DOUBLE_BLOCK) + 4
                } else {
                    blocks.checked_mul(4)?
                };
                (blocks * (NF4_BLOCK / 2)).checked_add(magnitudes)
            }
        }
    }

    /// Returns the bytes of a backbone whose blocks store their linear layers in this format. Its other parameters take
    /// `width` bytes each. `None` if the size overflows 64 bits.
    #[must_use]
    pub fn backbone_bytes(self, config: &BackboneConfig, width: u64) -> Option<u64> {
        let layers = config.n_layers as u64;
        let plain = block_numbers(config)?.checked_mul(layers)?.checked_mul(width)?;
        let mut block = 0_u64;
        for (rows, columns) in layer_shapes(config) {
            block = block.checked_add(self.weight_bytes(rows, columns, width)?)?;
        }
        let kept = block.checked_mul(layers)?;
        backbone_bytes(config, width)?
            .checked_sub(plain)?
            .checked_add(kept)
    }

    /// Returns the bytes that the largest weight of a block takes while it is dequantised, with the temporary buffers.
    /// The projections of queries, keys and values are one matrix product, and so are the two inputs of the gated
    /// feed-forward layer. 0 without quantisation.
    #[must_use]
    pub fn dequantized_bytes(self, config: &BackboneConfig, width: u64) -> u64 {
        if !self.is_quantized() {
            return 0;
        }
        let numbers = layer_shapes(config).map(|(rows, columns)| rows * columns);
        let [q, k, v, out, gate, up, down] = numbers;
        let largest = (q + k + v).max(out).max(gate + up).max(down);
        let piece = numbers.into_iter().max().unwrap_or(0).min(DEQUANTIZED_AT_ONCE);
        largest * width + piece * DEQUANTIZED_BYTES
    }

    /// Returns the text of `quantization_config.json`; `None` without quantisation.
    #[must_use]
    pub fn text(self) -> Option<String> {
        let value = match self.dtype {
            BaseDtype::Auto => return None,
            BaseDtype::Bf16 => json!({ "dtype": "bfloat16" }),
            BaseDtype::Int8 => json!({ "quant_method": "bitsandbytes", "load_in_8bit": true }),
            BaseDtype::Nf4 => json!({
                "quant_method": "bitsandbytes",
                "load_in_4bit": true,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": self.double_quantization,
            }),
        };
        Some(format!("{value:#}\n"))
    }

    /// Reads the text of `quantization_config.json`.
    ///
    /// # Errors
    /// A message if the text is not JSON, or if it names a format that this engine does not support.
    pub fn read(text: &str) -> Result<Self, String> {
        let value: Value = bounded_json::parse(text, limits::MOST_CONFIG_VALUES)
            .map_err(|error| format!("expected JSON with a quantisation format: {error}"))?;
        let flag = |name: &str| value[name].as_bool() == Some(true);
        let kind = value["bnb_4bit_quant_type"].as_str();
        let dtype = match (flag("load_in_4bit"), flag("load_in_8bit")) {
            (true, false) if kind == Some("nf4") => BaseDtype::Nf4,
            (false, true) => BaseDtype::Int8,
            (false, false) if value["dtype"] == "bfloat16" => BaseDtype::Bf16,
            _ => {
                let (least, most) = (
                    "load_in_4bit with bnb_4bit_quant_type nf4, load_in_8bit",
                    "dtype bfloat16",
                );
                return Err(format!("expected one of {least} and {most}, found neither"));
            }
        };
        Ok(Self {
            dtype,
            double_quantization: dtype == BaseDtype::Nf4 && flag("bnb_4bit_use_double_quant"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FORMS: [(BaseDtype, bool); 4] = [
        (BaseDtype::Bf16, false),
        (BaseDtype::Int8, false),
        (BaseDtype::Nf4, false),
        (BaseDtype::Nf4, true),
    ];

    #[test]
    fn what_is_written_is_read_and_anything_else_is_refused() {
        for (dtype, double_quantization) in FORMS {
            let form = FrozenBase {
                dtype,
                double_quantization,
            };
            assert_eq!(FrozenBase::read(&form.text().unwrap()), Ok(form));
        }
        assert_eq!(FrozenBase::default().text(), None);
        for strange in [
            "{}",
            "[]",
            "nf4",
            r#"{"load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}"#,
            r#"{"load_in_4bit": true, "load_in_8bit": true}"#,
        ] {
            assert!(FrozenBase::read(strange).is_err(), "{strange}");
        }
    }

    /// QLoRA, section 3: double quantisation reduces the constants from 0.5 to 0.127 bits per parameter.
    #[test]
    fn bits_of_a_number_are_the_papers() {
        let bits = |dtype, double_quantization| {
            let form = FrozenBase {
                dtype,
                double_quantization,
            };
            8.0 * form.weight_bytes(4096, 4096, 2).unwrap() as f64 / f64::from(4096 * 4096)
        };
        assert!((bits(BaseDtype::Nf4, false) - 4.5).abs() < 1e-9);
        assert!((bits(BaseDtype::Nf4, true) - 4.127).abs() < 1e-3);
        assert!((bits(BaseDtype::Int8, false) - 8.0).abs() < 0.01);
        assert!((bits(BaseDtype::Bf16, false) - 16.0).abs() < 1e-9);
    }

    #[test]
    fn eight_billion_fit_where_they_did_not() {
        let config = crate::published::read("{}").unwrap();
        let form = FrozenBase {
            dtype: BaseDtype::Nf4,
            double_quantization: true,
        };
        let bytes = form.backbone_bytes(&config, 2).unwrap();
        // 6.98 G parameters of the blocks at 4.127 bits; embedding and head in bf16.
        assert!((5_500_000_000..5_800_000_000).contains(&bytes), "{bytes}");
        assert_eq!(
            FrozenBase::default().backbone_bytes(&config, 2),
            backbone_bytes(&config, 2)
        );
    }
}
