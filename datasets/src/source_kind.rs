//! The kind of a profile's source: generated tabletop examples, or files that a reader reads.

use std::borrow::Cow;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::example::Kind;
use crate::formats::{READERS, Reader};

/// The names of the generated sources, each with the kind of its examples.
pub const TABLETOP: [(&str, Kind); 7] = [
    ("tabletop_draw", Kind::TextToImage),
    ("tabletop_caption", Kind::Caption),
    ("tabletop_scene", Kind::Scene),
    ("tabletop_ask", Kind::Question),
    ("tabletop_sums", Kind::WordProblem),
    ("tabletop_exercise", Kind::Instruction),
    ("tabletop_think_draw", Kind::ThinkThenDraw),
];

/// Every name that a profile may give as a source's `kind`.
pub static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let generated = TABLETOP.iter().map(|(name, _)| *name);
    generated
        .chain(READERS.iter().map(|reader| reader.name()))
        .collect()
});

/// The kind of a source.
#[derive(Clone, Copy)]
pub enum SourceKind {
    /// Tabletop examples of this kind, generated without end.
    Tabletop(Kind),
    /// A file or folder that this reader reads.
    Read(&'static dyn Reader),
}

impl SourceKind {
    /// Returns the source kind of a name; `None` for an unknown name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let generated = TABLETOP.iter().find(|(known, _)| *known == name);
        let read = READERS.iter().find(|reader| reader.name() == name);
        generated
            .map(|(_, kind)| Self::Tabletop(*kind))
            .or_else(|| read.map(|reader| Self::Read(*reader)))
    }

    /// Returns the name in profiles.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tabletop(kind) => TABLETOP
                .iter()
                .find(|(_, known)| known == kind)
                .map_or("", |(name, _)| name),
            Self::Read(reader) => reader.name(),
        }
    }

    /// Returns the reader; `None` for generated examples.
    #[must_use]
    pub fn reader(&self) -> Option<&'static dyn Reader> {
        match self {
            Self::Tabletop(_) => None,
            Self::Read(reader) => Some(*reader),
        }
    }

    /// Whether the examples are read from files.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.reader().is_some()
    }
}

impl JsonSchema for SourceKind {
    fn schema_name() -> Cow<'static, str> {
        "SourceKind".into()
    }

    /// Lists each kind's name as a constant with its description.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let generated = TABLETOP.iter().map(|(name, kind)| {
            let about = format!(
                "Tabletop examples of the kind {}, generated without limit.",
                kind.name().replace('_', " ")
            );
            (*name, about)
        });
        let read = READERS
            .iter()
            .map(|reader| (reader.name(), reader.about().to_owned()));
        let words: Vec<Schema> = generated
            .chain(read)
            .map(|(name, about)| json_schema!({ "type": "string", "const": name, "description": about }))
            .collect();
        json_schema!({ "oneOf": words })
    }
}

impl PartialEq for SourceKind {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for SourceKind {}

impl std::fmt::Debug for SourceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for SourceKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for SourceKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::find(&name).ok_or_else(|| de::Error::unknown_variant(&name, &NAMES))
    }
}
