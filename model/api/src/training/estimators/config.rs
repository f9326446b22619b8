//! The configuration of an estimator in a profile and in a request: `{ kind = "trace_rl", merge = 1, views = 3 }`.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::{ESTIMATORS, Estimator, EstimatorEntry, InnerStep, MaskedView, UniGrpo};
use crate::training::policy::PolicySample;

/// The key of the estimator's name among its settings.
const KIND: &str = "kind";

/// An estimator with its settings.
#[derive(Clone, Debug)]
pub struct EstimatorConfig(Arc<dyn AnyEstimator>);

/// An estimator of any type, for dynamic dispatch.
trait AnyEstimator: Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn settings(&self) -> serde_json::Result<Value>;
    fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView>;
    fn check_settings(&self) -> Result<(), String>;
    fn check_sample(&self, sample: &PolicySample) -> Result<(), String>;
}

impl<E: Estimator> AnyEstimator for E {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn settings(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self)
    }

    fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView> {
        Estimator::views(self, sample, mask_token, step)
    }

    fn check_settings(&self) -> Result<(), String> {
        Estimator::check_settings(self)
    }

    fn check_sample(&self, sample: &PolicySample) -> Result<(), String> {
        Estimator::check_sample(self, sample)
    }
}

impl EstimatorConfig {
    /// Returns the name of the estimator.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Plans the views of a completion ([`Estimator::views`]).
    #[must_use]
    pub fn views(&self, sample: &PolicySample, mask_token: u32, step: InnerStep) -> Vec<MaskedView> {
        self.0.views(sample, mask_token, step)
    }

    /// Checks the settings of the estimator.
    ///
    /// # Errors
    /// A message with the setting and its range.
    pub fn check_settings(&self) -> Result<(), String> {
        self.0.check_settings()
    }

    /// Checks that a sample has everything that its views need.
    ///
    /// # Errors
    /// A message with the sequence and what it lacks.
    pub fn check_sample(&self, sample: &PolicySample) -> Result<(), String> {
        self.0.check_sample(sample)
    }

    /// Reads an estimator from settings, which include its name. `known` is the list of estimators.
    ///
    /// # Errors
    /// A message if the name is missing or not in the list, or the estimator has no such settings, with those that
    /// there are.
    pub fn read(mut settings: Map<String, Value>, known: &[EstimatorEntry]) -> Result<Self, String> {
        let names = || {
            let names: Vec<String> = known.iter().map(|entry| format!("`{}`", entry.name)).collect();
            names.join(", ")
        };
        let named = match settings.remove(KIND) {
            Some(Value::String(named)) => named,
            Some(other) => return Err(format!("{KIND} is {other}, expected one of {}", names())),
            None => return Err(format!("missing field `{KIND}`, expected one of {}", names())),
        };
        let entry = known.iter().find(|entry| entry.name == named);
        let entry = entry.ok_or_else(|| format!("unknown variant `{named}`, expected one of {}", names()))?;
        (entry.read)(settings).map_err(|error| error.to_string())
    }
}

impl<E: Estimator> From<E> for EstimatorConfig {
    fn from(estimator: E) -> Self {
        Self(Arc::new(estimator))
    }
}

impl Default for EstimatorConfig {
    fn default() -> Self {
        UniGrpo::default().into()
    }
}

impl PartialEq for EstimatorConfig {
    fn eq(&self, other: &Self) -> bool {
        let settings = |one: &Self| one.0.settings().ok();
        self.name() == other.name() && settings(self) == settings(other)
    }
}

impl Serialize for EstimatorConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let settings = self.0.settings().map_err(S::Error::custom)?;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(KIND, self.name())?;
        for (name, value) in settings.as_object().into_iter().flatten() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for EstimatorConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let settings = Map::<String, Value>::deserialize(deserializer)?;
        Self::read(settings, ESTIMATORS).map_err(D::Error::custom)
    }
}

impl JsonSchema for EstimatorConfig {
    fn schema_name() -> Cow<'static, str> {
        "EstimatorConfig".into()
    }

    /// Returns the schema of the settings of each estimator, distinguished by the name.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let each: Vec<Value> = ESTIMATORS
            .iter()
            .map(|entry| {
                let mut schema = (entry.schema)(generator).to_value();
                schema["properties"][KIND] = json!({ "type": "string", "const": entry.name });
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                schema["required"] = [vec![KIND.into()], required].concat().into();
                schema
            })
            .collect();
        json_schema!({
            "description": "Which masked views of a completion stand for its log-likelihood.",
            "oneOf": each,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A new estimator in a file of its own, whose view is the clean sequence.
    #[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Clean {
        #[serde(default)]
        twice: bool,
    }

    impl Estimator for Clean {
        const NAME: &'static str = "clean";

        fn views(&self, sample: &PolicySample, _: u32, _: InnerStep) -> Vec<MaskedView> {
            let view = MaskedView {
                ids: sample.sequence.ids.clone(),
                counted: Vec::new(),
            };
            vec![view; if self.twice { 2 } else { 1 }]
        }
    }

    /// The list with the line of the new estimator.
    const WITH_IT: &[EstimatorEntry] = &[EstimatorEntry::of::<UniGrpo>(), EstimatorEntry::of::<Clean>()];

    fn read(json: &str) -> Result<EstimatorConfig, String> {
        EstimatorConfig::read(serde_json::from_str(json).unwrap(), WITH_IT)
    }

    #[test]
    fn an_estimator_that_is_added_is_found_by_its_name_and_reads_its_own_settings() {
        let found = read(r#"{"kind": "clean", "twice": true}"#).unwrap();
        assert_eq!((found.name(), &found), ("clean", &Clean { twice: true }.into()));
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"{"kind":"clean","twice":true}"#
        );
        for (json, expected) in [
            (r#"{"kind": "clean", "thrice": true}"#, "unknown field `thrice`"),
            (
                r#"{"kind": "cleen"}"#,
                "unknown variant `cleen`, expected one of `uni_grpo`, `clean`",
            ),
            (r#"{"twice": true}"#, "missing field `kind`"),
        ] {
            let why = read(json).unwrap_err();
            assert!(why.contains(expected), "{json}: {why}");
        }
    }

    #[test]
    fn settings_are_written_as_they_are_read() {
        for json in [
            r#"{"kind":"uni_grpo","spacing":"to_end"}"#,
            r#"{"kind":"diffu_grpo","prompt_mask":0.15}"#,
            r#"{"kind":"coupled"}"#,
            r#"{"kind":"trace_rl","merge":1,"views":2}"#,
        ] {
            let config: EstimatorConfig = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&config).unwrap(), json);
            config.check_settings().unwrap();
        }
        assert_eq!(ESTIMATORS.len(), 4);
    }

    #[test]
    fn the_schema_tells_them_apart_by_their_names() {
        let schema = SchemaGenerator::default().into_root_schema_for::<EstimatorConfig>();
        let each = schema.as_value()["oneOf"].as_array().unwrap().clone();
        let names: Vec<&str> = each
            .iter()
            .map(|one| one["properties"][KIND]["const"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["uni_grpo", "diffu_grpo", "coupled", "trace_rl"]);
        assert_eq!(each[1]["properties"]["prompt_mask"]["maximum"], json!(1.0));
        assert_eq!(each[3]["required"], json!([KIND, "merge", "views"]));
    }
}
