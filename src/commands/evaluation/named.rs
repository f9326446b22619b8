//! The suites that the arguments name: suites of the program, or those of a file of own benchmarks.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use demask_actors::home::Home;
use demask_actors::profile::{BenchmarkFile, ExternalReward};
use demask_rewards::benchmarks::published::embedded;
use demask_rewards::benchmarks::{Data, OwnBenchmark, Suite};

use crate::exit::UsageError;

/// The scorer of rows if none is named.
const SCORER: &str = "exact";

/// The suites of one argument.
pub enum NamedSuites {
    /// A suite of the program.
    Listed(Suite),
    /// The suites of a file, or one of them.
    File(Box<BenchmarkFile>, Option<String>),
}

impl NamedSuites {
    /// Parses an argument: `SUITE`, `FILE.toml`, `FILE.toml:SUITE`, or a file of rows, which `scorer` scores.
    ///
    /// # Errors
    /// An error if there is no such suite; an error with its line if the file is wrong.
    pub fn read(word: &str, scorer: Option<&str>) -> Result<Self, UsageError> {
        let in_file = in_file(word);
        if in_file.is_none() && Suite::find(word).is_none() && OwnBenchmark::is_of_rows(Path::new(word)) {
            let read = BenchmarkFile::of_rows(Path::new(word), scorer.unwrap_or(SCORER));
            let read = read.map_err(|error| UsageError(error.to_string()))?;
            return Ok(Self::File(Box::new(read), None));
        }
        if let Some(scorer) = scorer {
            return Err(UsageError(format!(
                "--scorer {scorer} is only for files of rows (.jsonl, .parquet, .tar, a folder); {word} has its own scorer"
            )));
        }
        let Some((file, which)) = in_file else {
            return find(word).map(Self::Listed);
        };
        let read = BenchmarkFile::read(Path::new(file)).map_err(|error| UsageError(error.to_string()))?;
        let names: Vec<String> = read.suites(None).iter().map(Suite::name).collect();
        match which {
            _ if names.is_empty() => Err(UsageError(format!(
                "{file} has no [[benchmark]], and no source with a test_share"
            ))),
            Some(which) if !names.iter().any(|name| name == which) => Err(UsageError(format!(
                "{file} has no suite {which}; there are {}",
                names.join(", ")
            ))),
            which => Ok(Self::File(Box::new(read), which.map(str::to_owned))),
        }
    }

    /// Returns the suites. `pixels` is the picture side for a suite that does not state one.
    pub fn suites(&self, pixels: Option<usize>) -> Vec<Suite> {
        match self {
            Self::Listed(suite) => vec![suite.clone()],
            Self::File(file, which) => {
                let mut suites = file.suites(pixels);
                suites.retain(|suite| which.as_ref().is_none_or(|which| suite.name() == *which));
                suites
            }
        }
    }

    /// Returns whether this is a published benchmark.
    pub fn is_published(&self) -> bool {
        matches!(self, Self::Listed(suite) if matches!(suite.data(), Data::Published(_)))
    }

    /// Returns the own benchmarks of the file.
    pub fn benchmarks(&self) -> &[OwnBenchmark] {
        match self {
            Self::Listed(_) => &[],
            Self::File(file, _) => &file.benchmarks,
        }
    }

    /// Returns the external rewards that may score the benchmarks.
    pub fn rewards(&self) -> &[ExternalReward] {
        match self {
            Self::Listed(_) => &[],
            Self::File(file, _) => &file.rewards,
        }
    }
}

/// Splits an argument into a file and the suite in it.
fn in_file(word: &str) -> Option<(&str, Option<&str>)> {
    if word.ends_with(".toml") {
        return Some((word, None));
    }
    let at = word.find(".toml:")? + ".toml".len();
    Some((&word[..at], Some(&word[at + 1..])))
}

fn find(name: &str) -> Result<Suite, UsageError> {
    let known: Vec<String> = Suite::all().map(|suite| suite.name()).collect();
    let known = known.join(", ");
    Suite::find(name).ok_or_else(|| {
        UsageError(format!(
            "there is no suite {name}; there are {known}, and suites of your own: demask eval FILE.toml"
        ))
    })
}

/// Writes the embedded rows and returns their folder.
///
/// # Errors
/// Any error of the file system.
pub(super) fn laid_down(home: &Home) -> anyhow::Result<PathBuf> {
    let folder = home.root().join("embedded");
    embedded::lay_down(&folder)
        .with_context(|| format!("{}: the embedded rows cannot be written", folder.display()))?;
    Ok(folder)
}
