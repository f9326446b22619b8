//! What the frozen weights beside an adapter are kept in, what that takes, and how a checkpoint tells it: in
//! `quantization_config.json`, with the fields that the transformers library gives bitsandbytes' formats.
//!
//! The published formats: NF4 in blocks of 64 with one largest magnitude each, and double quantisation of those (QLoRA,
//! arXiv 2305.14314); int8 by rows (the weights' half of LLM.int8, arXiv 2208.07339: activations stay as they are).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::network::config::BackboneConfig;
use crate::network::memory::{backbone_bytes, block_numbers, layer_shapes};

/// Numbers of a block of NF4, which share the largest magnitude.
pub const NF4_BLOCK: u64 = 64;
/// Largest magnitudes of a block of double quantisation.
pub const DOUBLE_BLOCK: u64 = 256;
/// Numbers of a weight that are quantised, or dequantised, at one time.
pub const DEQUANTIZED_AT_ONCE: u64 = 1 << 22;
/// Bytes that each takes on the way: its code as an index of half as many, itself in f32.
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

/// How the frozen weights beside an adapter are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrozenBase {
    /// Format of a number.
    pub dtype: BaseDtype,
    /// Whether NF4's largest magnitudes are quantised too, to eight bits.
    pub double_quantization: bool,
}

impl FrozenBase {
    /// Whether weights are kept otherwise than they are computed with.
    #[must_use]
    pub fn is_quantized(self) -> bool {
        self.dtype != BaseDtype::Auto
    }

    /// Bytes of a weight of so many rows and columns, where a number as it is computed with takes `width`. None where a
    /// number of 64 bits does not hold them.
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

    /// Bytes of a backbone whose blocks' linear layers are kept so; its other numbers take `width`.
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

    /// Bytes that a product's weight takes while it is dequantised: the largest product's, queries, keys and values
    /// being one, gate and what it multiplies another. Nothing where weights are kept as they are computed with.
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

    /// The text of `quantization_config.json`; none where nothing is quantised.
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
    /// In words: what is no such file, a format that is not computed here.
    pub fn read(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("not a format: {error}"))?;
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
                return Err(format!("expected one of {least} and {most}, found none of them"));
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

    /// QLoRA, section 3: double quantisation brings the constants from 0.5 bits a number to 0.127.
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
        // 6.98 G numbers of blocks in 4.127 bits, embedding and head in bf16.
        assert!((5_500_000_000..5_800_000_000).contains(&bytes), "{bytes}");
        assert_eq!(
            FrozenBase::default().backbone_bytes(&config, 2),
            backbone_bytes(&config, 2)
        );
    }
}
