//! The keys of a profile, derived from its structs: type, default, range and description of each key, and the range
//! check.
//!
//! A doc comment is the key's description, `#[schemars(range(..))]` its range, and serde's default its default. Each
//! stands once, at the field. What the documentation says, what `demask profile schema` prints and what a profile is
//! refused for are therefore the same.

use std::sync::LazyLock;

use demask_rewards::rewards::{Needs, REWARDS};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Profile;
use super::wrong::{Wrong, range};

/// Lowest and highest weight of a reward.
pub(super) const WEIGHTS: (f64, f64) = (0.0, 100.0);

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<Profile>()
        .to_value();
    close(&mut schema);
    schema
});

/// Returns the JSON Schema (draft 2020-12) of a profile, for editors and other programs.
#[must_use]
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// Forbids unknown keys in every table. serde alone would allow them where a network's own configuration file may have
/// more keys.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("properties").is_some_and(Value::is_object) && fields.contains_key("type") {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// One key of a profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Key {
    /// Dotted path of the key; `*` stands for the number or the name of one of several.
    pub path: String,
    /// Type of its value: the name of a type, or the words that are allowed.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value that holds when the profile gives none; `required` if it must be given, `absent` if it may be missing.
    /// Empty for a table.
    pub default: String,
    /// Allowed values; empty where the type says everything.
    pub range: String,
    /// Description of the key.
    pub about: String,
    /// The alternative that the key belongs to, as in `kind = trace_rl`; empty if the key always applies.
    #[serde(rename = "where")]
    pub alternative: String,
}

impl Key {
    /// Returns the first sentence of the description.
    #[must_use]
    pub fn sentence(&self) -> &str {
        let end = self.about.find(". ").unwrap_or(self.about.len());
        self.about[..end].trim_end_matches('.')
    }

    /// Returns whether the key is a table or a list of tables.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.kind.ends_with("table") || self.kind.ends_with("tables")
    }
}

/// Returns every key of a profile, in the order of the schema.
#[must_use]
pub fn keys() -> Vec<Key> {
    let mut keys = Vec::new();
    members("", schema(), None, "", &mut keys);
    keys
}

/// Adds the keys of a table.
fn members(path: &str, schema: &Value, default: Option<&Value>, alternative: &str, keys: &mut Vec<Key>) {
    let required = |name: &str| {
        let names = schema["required"].as_array();
        names.is_some_and(|names| names.iter().any(|one| one == name))
    };
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        if !inner["const"].is_null() {
            continue; // this key names the alternative
        }
        let at = join(path, name);
        let given = default
            .and_then(|default| default.get(name))
            .or(inner.get("default"));
        let value = match given {
            Some(value) if !value.is_null() => inline(value),
            _ if required(name) && default.is_none() => "required".to_owned(),
            _ => "absent".to_owned(),
        };
        key(&at, inner, given, value, alternative, keys);
    }
}

/// Adds a key and, if it is a table, the keys in it.
fn key(
    path: &str,
    outer: &Value,
    given: Option<&Value>,
    default: String,
    alternative: &str,
    keys: &mut Vec<Key>,
) {
    let schema = plain(outer);
    let kind = type_of(schema);
    let mut own = Key {
        path: path.to_owned(),
        kind,
        default,
        range: range_of(schema),
        about: description(outer).or(description(schema)).unwrap_or_default(),
        alternative: alternative.to_owned(),
    };
    if own.is_table() {
        own.default.clear();
    }
    keys.push(own);
    let items = &schema["items"];
    if items["properties"].is_object() {
        members(&join(path, "*"), items, None, alternative, keys);
    }
    members(path, schema, given, alternative, keys);
    // A tagged union is a key for its tag, and the keys of each alternative, which are marked with the tag's value.
    let Some((tag, alternatives)) = tagged(schema) else {
        return;
    };
    let words: Vec<&str> = alternatives.iter().filter_map(|one| word(one, tag)).collect();
    keys.push(Key {
        path: join(path, tag),
        kind: words.join(" | "),
        default: given.map(|given| inline(&given[tag])).unwrap_or_default(),
        range: String::new(),
        about: alternatives
            .iter()
            .filter_map(|one| Some(format!("{}: {}", word(one, tag)?, sentence(&description(one)?))))
            .collect::<Vec<_>>()
            .join("; "),
        alternative: alternative.to_owned(),
    });
    for one in alternatives {
        let name = word(one, tag).unwrap_or_default();
        let given = given.filter(|given| given[tag] == name);
        members(path, one, given, &format!("{tag} = {name}"), keys);
    }
}

fn sentence(text: &str) -> &str {
    text.split(". ").next().unwrap_or_default().trim_end_matches('.')
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// Returns the schema of a value that is present. An optional value is an alternative of its schema with null.
fn plain(schema: &Value) -> &Value {
    let alternatives = schema["anyOf"].as_array();
    let there = alternatives.and_then(|all| all.iter().find(|one| one["type"] != "null"));
    there.unwrap_or(schema)
}

/// Returns the key whose word distinguishes the alternatives of a table, and the alternatives.
fn tagged(schema: &Value) -> Option<(&str, &Vec<Value>)> {
    let alternatives = schema["oneOf"].as_array()?;
    let properties = alternatives.first()?["properties"].as_object()?;
    let (tag, _) = properties.iter().find(|(_, inner)| !inner["const"].is_null())?;
    Some((tag, alternatives))
}

fn word<'a>(alternative: &'a Value, tag: &str) -> Option<&'a str> {
    alternative["properties"][tag]["const"].as_str()
}

/// Returns the words that a value may be, if it is one of a set of words.
fn words(schema: &Value) -> Vec<&str> {
    let alone = schema["enum"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let alternatives = schema["oneOf"].as_array().into_iter().flatten();
    let each = alternatives.flat_map(|one| match one["const"].as_str() {
        Some(word) => vec![word],
        None => words(one),
    });
    alone.chain(each).collect()
}

fn type_of(schema: &Value) -> String {
    let words = words(schema);
    if !words.is_empty() {
        return words.join(" | ");
    }
    let types = &schema["type"];
    let name = types.as_str().or_else(|| types[0].as_str()).unwrap_or("object");
    match name {
        "integer" => "whole number".to_owned(),
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "object" => "table".to_owned(),
        "array" => match schema["minItems"]
            .as_u64()
            .filter(|_| schema["minItems"] == schema["maxItems"])
        {
            Some(count) => format!("{count} of {}", type_of(&schema["items"])),
            None => format!("list of {}s", type_of(&schema["items"])),
        },
        other => other.to_owned(),
    }
}

/// Returns the bounds of a number or of a list's length. The upper one is `None` where there is none.
fn bounds(schema: &Value, least: &str, most: &str) -> Option<(f64, Option<f64>)> {
    let least = schema[least].as_f64();
    let most = schema[most].as_f64();
    (least.is_some() || most.is_some()).then_some((least.unwrap_or(f64::NEG_INFINITY), most))
}

fn range_of(schema: &Value) -> String {
    let number = bounds(schema, "minimum", "maximum");
    let items = || bounds(&schema["items"], "minimum", "maximum");
    match number.or_else(items) {
        Some((least, Some(most))) => format!("{} to {}", shown(least), shown(most)),
        Some((least, None)) => format!("{} or more", shown(least)),
        None => String::new(),
    }
}

fn shown(number: f64) -> String {
    if number != 0.0 && number.abs() < 1e-6 || number.abs() >= 1e9 {
        format!("{number:e}")
    } else {
        number.to_string()
    }
}

/// Formats a default as TOML does.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let inner: Vec<String> = fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| format!("{name} = {}", inline(value)))
                .collect();
            format!("{{ {} }}", inner.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Returns a doc comment as one line of text, with rustdoc's link brackets removed.
fn description(schema: &Value) -> Option<String> {
    let text = schema["description"].as_str()?;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(text.replace("[`", "`").replace("`]", "`"))
}

/// Makes the schema of `[rewards]` from the list of rewards.
pub(super) fn rewards(_: &mut SchemaGenerator) -> Schema {
    let each: Map<String, Value> = REWARDS
        .iter()
        .map(|reward| {
            let network = match reward.needs() {
                Needs::Completion => String::new(),
                Needs::Network(name) => format!(
                    "; default {} if reward_networks.{name} is set",
                    reward.default_weight()
                ),
            };
            let about = format!("Weight: {}{network}.", reward.about());
            let schema =
                json!({ "type": "number", "minimum": WEIGHTS.0, "maximum": WEIGHTS.1, "description": about });
            (reward.name().to_owned(), schema)
        })
        .collect();
    let external = json!({
        "type": "number",
        "minimum": WEIGHTS.0,
        "maximum": WEIGHTS.1,
        "description": "Weight of the external reward of this name.",
    });
    json_schema!({ "type": "object", "properties": each, "additionalProperties": external })
}

/// Returns an error for the first value of a profile that is out of the range of its key.
pub(super) fn check_ranges(profile: &Profile) -> Result<(), Wrong> {
    // Checked as TOML, because JSON cannot represent NaN and infinity.
    match toml::Value::try_from(profile) {
        Ok(value) => check_value("", schema(), &value),
        Err(error) => Err(("name".to_owned(), format!("{error}"))),
    }
}

/// Checks that a number is in the range of the key at a path.
pub(super) fn check_range(path: &str, number: f64) -> Result<(), Wrong> {
    let at = path
        .split('.')
        .fold(schema(), |at, name| &plain(at)["properties"][name]);
    check_number(path, plain(at), number)
}

fn check_number(path: &str, schema: &Value, number: f64) -> Result<(), Wrong> {
    match bounds(schema, "minimum", "maximum") {
        Some((least, most)) => range(path, number, least, most.unwrap_or(f64::INFINITY)),
        None => Ok(()),
    }
}

fn check_value(path: &str, schema: &Value, value: &toml::Value) -> Result<(), Wrong> {
    let schema = chosen(plain(schema), value);
    match value {
        toml::Value::Integer(number) => check_number(path, schema, *number as f64),
        toml::Value::Float(number) => check_number(path, schema, *number),
        toml::Value::Array(items) => {
            if let Some((least, most)) = bounds(schema, "minItems", "maxItems") {
                range(path, items.len() as f64, least, most.unwrap_or(f64::INFINITY))?;
            }
            let mut each = items.iter().enumerate();
            each.try_for_each(|(number, item)| {
                check_value(&join(path, &number.to_string()), &schema["items"], item)
            })
        }
        toml::Value::Table(fields) => fields
            .iter()
            .try_for_each(|(name, value)| check_value(&join(path, name), &schema["properties"][name], value)),
        _ => Ok(()),
    }
}

/// Returns the alternative that a table's word names.
fn chosen<'a>(schema: &'a Value, value: &toml::Value) -> &'a Value {
    let alternative = tagged(schema).and_then(|(tag, alternatives)| {
        let named = value.get(tag)?.as_str()?;
        alternatives.iter().find(|one| word(one, tag) == Some(named))
    });
    alternative.unwrap_or(schema)
}
