//! Files of benchmarks. Such a file holds `[[benchmark]]` tables with the `[[reward]]` tables that score them. It may
//! also be a whole profile, in which case the held-out shares of its sources are benchmarks too.

use std::path::{Path, PathBuf};

use demask_api::{bounded_file, limits};
use demask_datasets::data_dir;
use demask_rewards::benchmarks::{OwnBenchmark, Suite, Suites};
use serde::Deserialize;

use super::ExternalReward;
use crate::profile::anchor::items_of;
use crate::profile::text::{line_of, located};
use crate::profile::wrong::Wrong;
use crate::profile::{Profile, ProfileError};

/// The benchmarks of a file.
#[derive(Clone, Debug)]
pub struct BenchmarkFile {
    /// The profile, if the file is one.
    profile: Option<Profile>,
    /// Own benchmarks, with their files found.
    pub benchmarks: Vec<OwnBenchmark>,
    /// External rewards that may score them.
    pub rewards: Vec<ExternalReward>,
}

/// The content of a file that is not a profile.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alone {
    #[serde(rename = "benchmark")]
    benchmarks: Vec<OwnBenchmark>,
    #[serde(default, rename = "reward")]
    rewards: Vec<ExternalReward>,
}

impl BenchmarkFile {
    /// Reads a file.
    ///
    /// # Errors
    /// An error with its line if the file cannot be read, is wrong, or names a file that is missing.
    pub fn read(file: &Path) -> Result<Self, ProfileError> {
        let origin = file.display().to_string();
        let text =
            bounded_file::read_named_text(file, limits::LONGEST_NAMED).map_err(|error| ProfileError {
                origin: origin.clone(),
                line: None,
                message: error.to_string(),
            })?;
        let whole: toml::Table =
            toml::from_str(&text).map_err(|error| located(&origin, &text, error.span(), error.message()))?;
        let (profile, benchmarks, rewards) = match whole.contains_key("stage") {
            true => {
                let profile = Profile::parse(&text, &origin)?;
                let (own, rewards) = (profile.benchmarks.clone(), profile.external_rewards.clone());
                (Some(profile), own, rewards)
            }
            false => {
                let read: Alone = toml::from_str(&text)
                    .map_err(|error| located(&origin, &text, error.span(), error.message()))?;
                (None, read.benchmarks, read.rewards)
            }
        };
        let mut found = Self {
            profile,
            benchmarks,
            rewards,
        };
        found.settle(&origin).map_err(|(path, message)| ProfileError {
            line: line_of(&text, &path),
            origin: origin.clone(),
            message,
        })?;
        Ok(found)
    }

    /// Makes a benchmark of a file of rows, scored by the named scorer ([`OwnBenchmark::of_rows`]).
    ///
    /// # Errors
    /// An error if the file cannot be read, or if there is no such scorer.
    pub fn of_rows(file: &Path, scorer: &str) -> Result<Self, ProfileError> {
        let origin = file.display().to_string();
        let wrong = |message| ProfileError {
            origin: origin.clone(),
            line: None,
            message,
        };
        let mut found = Self {
            profile: None,
            benchmarks: vec![OwnBenchmark::of_rows(file, scorer).map_err(wrong)?],
            rewards: Vec::new(),
        };
        found.settle(&origin).map_err(|(_, message)| wrong(message))?;
        Ok(found)
    }

    /// Checks every reward and benchmark, and finds the files and folders that they name.
    fn settle(&mut self, origin: &str) -> Result<(), Wrong> {
        for (number, reward) in self.rewards.iter_mut().enumerate() {
            let path = format!("reward.{number}");
            reward.check(&path)?;
            reward.folder = Some(reward.place(&path, origin)?);
        }
        if let Err((number, key, why)) = Suites::with(&self.benchmarks, &self.names(), Vec::new()) {
            return Err((format!("benchmark.{number}.{key}"), format!("{key} {why}")));
        }
        let data: Option<PathBuf> = data_dir::folder();
        for (number, own) in self.benchmarks.iter_mut().enumerate() {
            let path = format!("benchmark.{number}.file");
            (_, own.file) = items_of(&path, &own.name, &own.file, (origin, data.as_deref()))?;
        }
        if let Some(profile) = &mut self.profile {
            profile.benchmarks.clone_from(&self.benchmarks);
        }
        Ok(())
    }

    fn names(&self) -> Vec<&str> {
        self.rewards.iter().map(|reward| reward.name.as_str()).collect()
    }

    /// Returns the suites. `pixels` is the picture side for a benchmark that does not state one.
    #[must_use]
    pub fn suites(&self, pixels: Option<usize>) -> Vec<Suite> {
        let suites = match &self.profile {
            Some(profile) => profile.suites(),
            None => {
                let sized = |own: &OwnBenchmark| OwnBenchmark {
                    pixels: own.pixels.or(pixels),
                    ..own.clone()
                };
                let own: Vec<OwnBenchmark> = self.benchmarks.iter().map(sized).collect();
                Suites::with(&own, &self.names(), Vec::new()).unwrap_or_default()
            }
        };
        suites.own().cloned().collect()
    }
}
