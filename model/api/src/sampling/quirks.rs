//! Where the published code's numbers differ from ours: each difference is a switch. The defaults are ours;
//! [`Quirks::published`] sets them all (`demask … --as-published`), [`Quirks::set`] one (`--quirk KEY=VALUE`).
//!
//! Who reads which: the text sampler `attention` and `whole_vocabulary`; the picture sampler `attention`,
//! `compounding_temperature`, `unconditional_prefix`, `probabilities` and `count_whole_picture`; who writes prompts
//! `template` and `eot_as_text`. The spacing of UniGRPO's mask ratios is a switch too, but of its estimator:
//! [`crate::Spacing`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who attends to whom where a sequence begins with padding (`mmada.md` 1.5). Without padding the three are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// Pairs of real tokens attend, padding is shut out: ours, and the published picture sampler since June 2025.
    #[default]
    Hard,
    /// Everything attends to everything, padding too: how the published weights were trained.
    None,
    /// Pairs of real tokens get 1 added to their score, padding is merely weaker: the published trainer since June 2025.
    Additive,
}

/// In which numbers the picture sampler draws codes, ranks them and cuts (`mmada.md` 6.2, dtype quirk).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probabilities {
    /// f32 at least, whatever the network computes in.
    #[default]
    F32,
    /// The dtype of the logits: under bf16 weights many scores tie at the cut, and strictly lower ones alone are masked
    /// again, so that fewer are than the schedule says.
    Logits,
}

/// The chat markup around a prompt (`mmada.md` 2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// The checkpoint's own template; where it brings none, that of its family: [`Self::Mmada`] for a model with picture
    /// codes, [`Self::Llada`] for one without.
    #[default]
    Checkpoint,
    /// One line feed after a header: MMaDA's scripts, which put it in place of whatever the tokenizer brings.
    Mmada,
    /// Two line feeds after a header: LLaDA's.
    Llada,
}

/// The switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// Who attends to whom. Ours: `hard`; published: `none`, in which the weights were trained and first sampled.
    pub attention: Attention,
    /// The picture sampler's temperature is multiplied by (1 - progress) at every step over again, so that it falls much
    /// faster. Ours: it is the first temperature times (1 - progress).
    pub compounding_temperature: bool,
    /// How many leading positions of the unconditional half of guidance come from the unconditional sequence; what
    /// follows is the conditional one's, as it then stands. Ours: 0, which means all before the picture. Published: 513,
    /// the resolution and one, right for a text budget of 512 and for no other: with 256 it freezes the unconditional
    /// picture at its first state.
    pub unconditional_prefix: usize,
    /// In which numbers pictures are drawn. Ours: `f32`; published: `logits`.
    pub probabilities: Probabilities,
    /// The picture schedule counts from all codes, not from those that are unknown at the start: the same for a whole
    /// picture; a part of one gets one code a step until the schedule has come down to it. Ours: from the unknown.
    pub count_whole_picture: bool,
    /// The text sampler may write every token, picture codes and the mask token too, and computes every block. Ours: text
    /// alone, and a block of nothing but end-of-text is the last.
    pub whole_vocabulary: bool,
    /// The chat markup. Ours: `checkpoint`; published: `mmada`.
    pub template: Template,
    /// In questions about pictures a turn ends with the words `<eot_id>`, which are ordinary tokens, in place of the token
    /// `<|eot_id|>`: the published captions, reasoning traces and picture benchmarks have it so. Ours: the token.
    pub eot_as_text: bool,
}

/// Why a switch could not be set.
#[derive(Debug, thiserror::Error)]
pub enum QuirkError {
    /// No such switch, or no value.
    #[error("quirk {found}: expected KEY=VALUE with a key of {}", keys.join(", "))]
    Unknown {
        /// The word that was given.
        found: String,
        /// The switches.
        keys: Vec<String>,
    },
    /// A value that the switch does not take.
    #[error("quirk {key}={value}: {message}")]
    Value {
        /// The switch.
        key: String,
        /// What was given.
        value: String,
        /// What the switch takes.
        message: String,
    },
}

impl Quirks {
    /// Everything as the published code has it.
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

    /// Whether every switch is as ours.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        *self == Self::default()
    }

    /// Sets one switch from `KEY=VALUE`.
    ///
    /// # Errors
    /// No such switch (those that there are are named), or a value that it does not take.
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
