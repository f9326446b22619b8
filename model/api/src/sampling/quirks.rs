//! Quirks: switches for the differences between the published code and ours.
//!
//! The defaults are our behaviour. [`Quirks::published`] sets all switches (`demask … --as-published`), and
//! [`Quirks::set`] sets one (`--quirk KEY=VALUE`).
//!
//! The text sampler uses `attention` and `whole_vocabulary`. The picture sampler uses `attention`,
//! `compounding_temperature`, `unconditional_prefix`, `probabilities` and `count_whole_picture`. The code that writes
//! prompts uses `template` and `eot_as_text`. The spacing of UniGRPO's mask ratios is a switch of its estimator
//! ([`crate::Spacing`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The attention mode for a sequence that begins with padding (`mmada.md` 1.5). Without padding the three modes are the
/// same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Only real tokens attend to each other: our mode, and the published picture sampler's since June 2025.
    #[default]
    Hard,
    /// All positions attend to all, including padding: the mode in which the published weights were trained.
    None,
    /// Pairs of real tokens get +1 on their score, and padding still attends: the published trainer's mode since
    /// June 2025.
    Additive,
}

/// The dtype in which the picture sampler draws codes, ranks them and cuts (`mmada.md` 6.2, dtype quirk).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probabilities {
    /// At least f32, whatever the compute dtype.
    #[default]
    F32,
    /// The dtype of the logits. With bf16 weights many scores tie at the cut, and only strictly lower ones stay masked,
    /// so that fewer codes stay masked than the schedule says.
    Logits,
}

/// The chat template around a prompt (`mmada.md` 2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// The checkpoint's own template. Without one it is that of the family: [`Self::Mmada`] for a model with picture
    /// codes, [`Self::Llada`] for one without.
    #[default]
    Checkpoint,
    /// One line feed after a header, as in MMaDA's scripts, which replace the tokenizer's own template.
    Mmada,
    /// Two line feeds after a header, as in LLaDA.
    Llada,
}

/// The switches for the differences between the published code and ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// Attention mode. Ours is `hard`. The published one is `none`, with which the weights were trained and first
    /// sampled.
    pub attention: Attention,
    /// Multiply the picture sampler's temperature by (1 - progress) cumulatively at every step, so that it falls much
    /// faster. Ours is the initial temperature times (1 - progress).
    pub compounding_temperature: bool,
    /// Number of leading positions of the unconditional half of guidance that come from the unconditional sequence. The
    /// other positions are the current ones of the conditional half. Ours is 0, which means all positions before the
    /// picture. The published value is 513, the resolution plus one. It is right only for a text budget of 512: with
    /// 256, it freezes the unconditional picture in its initial state.
    pub unconditional_prefix: usize,
    /// Dtype in which pictures are drawn. Ours is `f32`; the published one is `logits`.
    pub probabilities: Probabilities,
    /// Let the picture schedule count from all codes instead of those that are masked at the start. Both are the same
    /// for a whole picture. A partial picture gets one code per step until the schedule falls below its masked codes.
    /// Ours counts from the masked codes.
    pub count_whole_picture: bool,
    /// Let the text sampler write every token, including picture codes and the mask token, and compute every block.
    /// Ours writes text only, and a block that is all end-of-text is the last.
    pub whole_vocabulary: bool,
    /// Chat template. Ours is `checkpoint`; the published one is `mmada`.
    pub template: Template,
    /// End a turn in questions about pictures with the text `<eot_id>`, which becomes ordinary tokens, instead of the
    /// token `<|eot_id|>`. The published captions, reasoning traces and picture benchmarks do this. Ours is the token.
    pub eot_as_text: bool,
}

/// The reason why a switch could not be set.
#[derive(Debug, thiserror::Error)]
pub enum QuirkError {
    /// The key is unknown, or there is no value.
    #[error("quirk {found}: expected KEY=VALUE with a key of {}", keys.join(", "))]
    Unknown {
        /// The given text.
        found: String,
        /// The names of the switches.
        keys: Vec<String>,
    },
    /// The switch does not take this value.
    #[error("quirk {key}={value}: {message}")]
    Value {
        /// The name of the switch.
        key: String,
        /// The given value.
        value: String,
        /// The values that the switch takes.
        message: String,
    },
}

impl Quirks {
    /// Returns the switches for the behaviour of the published code.
    #[must_use]
    pub const fn published() -> Self {
        Self {
            attention: Attention::None,
            compounding_temperature: true,
            unconditional_prefix: 513,
            probabilities: Probabilities::Logits,
            count_whole_picture: true,
            whole_vocabulary: true,
            template: Template::Mmada,
            eot_as_text: true,
        }
    }

    /// Returns whether every switch has our default.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        *self == Self::default()
    }

    /// Sets one switch from `KEY=VALUE`.
    ///
    /// # Errors
    /// [`QuirkError`] if there is no such switch (the message lists the switches) or the switch does not take the
    /// value.
    pub fn set(&mut self, assignment: &str) -> Result<(), QuirkError> {
        let serde_json::Value::Object(mut fields) = serde_json::json!(self) else {
            return Ok(()); // a struct is an object
        };
        let known = assignment
            .split_once('=')
            .filter(|(key, _)| fields.contains_key(*key));
        let Some((key, value)) = known else {
            return Err(QuirkError::Unknown {
                found: assignment.to_owned(),
                keys: fields.keys().cloned().collect(),
            });
        };
        let given = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        fields.insert(key.to_owned(), given);
        *self = serde_json::from_value(fields.into()).map_err(|error| QuirkError::Value {
            key: key.to_owned(),
            value: value.to_owned(),
            message: error.to_string(),
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn published_differs_everywhere() {
        let (ours, theirs) = (
            serde_json::json!(Quirks::default()),
            serde_json::json!(Quirks::published()),
        );
        for (key, value) in ours.as_object().unwrap() {
            assert_ne!(value, &theirs[key], "{key}");
        }
    }

    #[test]
    fn one_at_a_time() {
        let mut quirks = Quirks::default();
        for assignment in [
            "attention=additive",
            "unconditional_prefix=257",
            "eot_as_text=true",
        ] {
            quirks.set(assignment).unwrap();
        }
        let expected = Quirks {
            attention: Attention::Additive,
            unconditional_prefix: 257,
            eot_as_text: true,
            ..Quirks::default()
        };
        assert_eq!(quirks, expected);
        let before = quirks;
        let unknown = quirks.set("dtype=bf16").unwrap_err().to_string();
        assert!(
            unknown.contains("attention, compounding_temperature"),
            "{unknown}"
        );
        let value = quirks.set("attention=soft").unwrap_err().to_string();
        assert!(value.contains("`hard`, `none`, `additive`"), "{value}");
        assert!(quirks.set("attention").is_err());
        assert_eq!(quirks, before);
    }
}
