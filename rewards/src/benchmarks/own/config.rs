//! The configuration of a user-defined benchmark, in a profile or in a file of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use demask_api::limits;
use demask_datasets::example::Split;
use demask_datasets::formats::{READERS, Reader, reader_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A user-defined benchmark.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnBenchmark {
    /// The name by which suites refer to it.
    pub name: String,
    /// What it measures, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The file or folder of its items: JSON lines, Parquet, tar shards, a folder of pictures; a relative one may also
    /// lie beside the profile, or below `DEMASK_DATA`.
    pub file: PathBuf,
    /// The format, as in a source's `kind`; absent: by the file's name.
    pub format: Option<String>,
    /// The file's own column names, by the names `image`, `reference`, `choices` and `category`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// What is asked: a `text`, a `question` about a picture, or a `drawing`.
    #[serde(default)]
    pub kind: OwnKind,
    /// The prompt: a Jinja template over the row's columns. Absent: the column `prompt`, `question`, `instruction` or
    /// `caption`, followed by lettered choices if there are any.
    pub prompt: Option<String>,
    /// The right answer, also a template; absent: the column `reference`, `answer`, `target` or `label`.
    pub reference: Option<String>,
    /// How an answer is scored: `exact`, `number`, `choice`, `regex`, `f1`, an official scorer of single answers
    /// (`gsm8k`, `math.answer`, `math.completion`, `gqa.pair`, `vqav2.pair`, `gpqa_generative`, `arc_challenge_chat`,
    /// `opencompass_first_option`), or a reward's name.
    #[serde(default = "exact")]
    pub scorer: String,
    /// The pattern for `regex`: the first group of its last match is the answer, compared with the right answer if
    /// there is one.
    pub pattern: Option<String>,
    /// Which number of an official scorer's verdict counts, by its path (`gsm8k.strict-match.exact_match`).
    pub value: Option<String>,
    /// Whether the model may reason before it answers; absent: it may, except before a drawing.
    pub think: Option<bool>,
    /// The split whose files of a folder are read: `test`, `validation` or `train`.
    #[serde(default = "test")]
    #[schemars(with = "String")]
    pub split: Split,
    /// The most items; the first ones are taken.
    #[schemars(range(min = limits::ITEMS.least, max = limits::ITEMS.most))]
    pub limit: Option<usize>,
    /// The side of its pictures in pixels; absent: the profile's, or the model's.
    #[schemars(range(min = 8, max = 4096))]
    pub pixels: Option<usize>,
    /// Its licence.
    #[serde(default, alias = "license", skip_serializing_if = "String::is_empty")]
    pub licence: String,
}

/// The task of a user-defined benchmark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnKind {
    /// Text answered by text.
    #[default]
    Text,
    /// A question about a picture, answered by text.
    Question,
    /// Text answered by a picture.
    Drawing,
}

/// The known column names that `columns` may map.
pub(super) const COLUMNS: [&str; 4] = ["image", "reference", "choices", "category"];
impl OwnBenchmark {
    /// Returns the reader of its format.
    ///
    /// # Errors
    /// A message if the format is unknown, or if the file's name does not tell it.
    pub(super) fn reader(&self) -> Result<&'static dyn Reader, String> {
        let found = match &self.format {
            Some(format) => READERS.iter().copied().find(|reader| reader.name() == format),
            None => reader_of(&self.file, self.split),
        };
        found.ok_or_else(|| {
            let known: Vec<&str> = READERS.iter().map(|reader| reader.name()).collect();
            format!(
                "the name of {} does not tell its format; set format to one of {}",
                self.file.display(),
                known.join(", ")
            )
        })
    }

    /// Whether the model may reason first.
    pub(super) fn may_think(&self) -> bool {
        self.think.unwrap_or(self.kind != OwnKind::Drawing)
    }
}

fn exact() -> String {
    "exact".into()
}
pub(super) fn test() -> Split {
    Split::Test
}
