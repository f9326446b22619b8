//! The suites that a profile may name: the built-in ones, its own benchmarks, and the held-out shares of its sources.

use std::path::Path;

use demask_datasets::data_dir;
use demask_datasets::example::Split;
use demask_datasets::formats::row::{KeptColumns, Origin};
use demask_rewards::benchmarks::{HeldOut, OwnBenchmark, Suites};

use crate::profile::wrong::{Wrong, wrong};
use crate::profile::{Profile, Source};

impl Profile {
    /// Returns the suites that the profile may name. No file is read before a suite is asked for its items.
    #[must_use]
    pub fn suites(&self) -> Suites {
        // A parsed profile has been checked, so this cannot fail.
        self.found_suites().unwrap_or_default()
    }

    fn found_suites(&self) -> Result<Suites, (usize, &'static str, String)> {
        let own: Vec<OwnBenchmark> = self.benchmarks.iter().map(|own| self.placed(own)).collect();
        let external: Vec<&str> = self
            .external_rewards
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        let held_out = self.sources.iter().filter_map(|source| self.held_out(source));
        Suites::with(&own, &external, held_out.collect())
    }

    /// Checks that own benchmarks are valid and that no two suites share a name.
    pub(in crate::profile) fn check_benchmarks(&self) -> Result<(), Wrong> {
        let suites = match self.found_suites() {
            Ok(suites) => suites,
            Err((number, key, why)) => return wrong(&format!("benchmark.{number}.{key}"), &why),
        };
        let mut names: Vec<String> = suites.all().map(|suite| suite.name()).collect();
        names.sort();
        let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) else {
            return Ok(());
        };
        let twice = &twice[0];
        let at = self
            .benchmarks
            .iter()
            .rposition(|own| own.name == *twice)
            .unwrap_or(0);
        let message = format!(
            "of a benchmark is {twice}, which another suite has too; names must be distinct, and the held-out rows of a \
             source are the suite SOURCE-test"
        );
        wrong(&format!("benchmark.{at}.name"), &message)
    }

    /// Returns an own benchmark with its file where data is usually put, and with the profile's picture size as the
    /// default.
    fn placed(&self, own: &OwnBenchmark) -> OwnBenchmark {
        OwnBenchmark {
            file: data_dir::find(&own.file),
            pixels: own.pixels.or(Some(self.pixels)),
            ..own.clone()
        }
    }

    fn held_out(&self, source: &Source) -> Option<HeldOut> {
        let reader = source.kind.reader().filter(|_| source.test_share > 0.0)?;
        Some(HeldOut {
            path: data_dir::find(source.path.as_deref().unwrap_or(Path::new(""))),
            reader,
            origin: self.origin(source),
            share: source.test_share,
        })
    }

    /// Returns how the rows of a source are read.
    pub(crate) fn origin(&self, source: &Source) -> Origin {
        Origin {
            source: source.name.clone(),
            licence: source.licence.clone(),
            split: Split::Train,
            pixels: self.pixels,
            columns: source.columns.clone(),
            keep: match source.keep.is_empty() {
                true => KeptColumns::Nothing,
                false => KeptColumns::Named(source.keep.clone()),
            },
        }
    }
}
