//! Validation of a user-defined benchmark, before any of its data is read.

use demask_datasets::formats::READERS;
use demask_datasets::prompts::row_template::RowTemplate;

use super::config::{COLUMNS, OwnBenchmark};
use super::scoring::OwnScorer;
use crate::benchmarks::BENCHMARKS;

impl OwnBenchmark {
    /// Returns the scorer of a valid benchmark. `rewards` are the names of the profile's external rewards.
    ///
    /// # Errors
    /// The first invalid key, and what was expected.
    pub(super) fn check(&self, rewards: &[&str]) -> Result<OwnScorer, (&'static str, String)> {
        let plain = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-' | '.');
        if self.name.is_empty() || self.name.len() > 80 || !self.name.chars().all(plain) {
            let message = format!("is '{}'; expected 1 to 80 letters, digits, _, - or .", self.name);
            return Err(("name", message));
        }
        if BENCHMARKS.iter().any(|one| one.name() == self.name) {
            let message = format!("is {}, which is the name of a built-in benchmark", self.name);
            return Err(("name", message));
        }
        if let Some(unknown) = self.columns.keys().find(|name| !COLUMNS.contains(&name.as_str())) {
            let message = format!(
                "names {unknown}; there are {}, and a prompt template sees all other columns under their own names",
                COLUMNS.join(", ")
            );
            return Err(("columns", message));
        }
        let unknown = |format: &&String| !READERS.iter().any(|reader| reader.name() == format.as_str());
        if let Some(format) = self.format.as_ref().filter(unknown) {
            let known: Vec<&str> = READERS.iter().map(|reader| reader.name()).collect();
            return Err(("format", format!("is {format}; there are {}", known.join(", "))));
        }
        for (key, template) in [("prompt", &self.prompt), ("reference", &self.reference)] {
            let read = template.as_deref().map(RowTemplate::new);
            if let Some(Err(why)) = read {
                return Err((
                    key,
                    format!("of benchmark {} is not a template: {why}", self.name),
                ));
            }
        }
        OwnScorer::of(self, rewards)
    }
}
