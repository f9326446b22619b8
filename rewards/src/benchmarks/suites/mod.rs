//! The suites that can be named: the listed ones, those of a profile's benchmarks, and held-out shares of its sources.

mod suite;

use std::sync::Arc;

use super::Benchmark;
use super::own::{HeldOut, HeldOutRows, Own, OwnBenchmark};
pub use suite::Suite;

/// The suites that can be named.
#[derive(Clone, Debug, Default)]
pub struct Suites {
    /// The suites of user-defined benchmarks.
    own: Vec<Suite>,
    /// The suites of the sources' held-out shares.
    held_out: Vec<Suite>,
}

impl Suites {
    /// Adds a profile's suites to the listed ones; `external` are the names of its external rewards.
    ///
    /// # Errors
    /// The index of the invalid benchmark, its key, and what was expected.
    pub fn with(
        own: &[OwnBenchmark],
        external: &[&str],
        held_out: Vec<HeldOut>,
    ) -> Result<Self, (usize, &'static str, String)> {
        let mut suites = Self::default();
        for (number, config) in own.iter().enumerate() {
            let own = Own::new(config.clone(), external).map_err(|(key, why)| (number, key, why))?;
            let own: Arc<dyn Benchmark> = Arc::new(own);
            suites.own.extend(Suite::of_own(&own));
        }
        for rows in held_out {
            let rows: Arc<dyn Benchmark> = Arc::new(HeldOutRows::new(rows));
            suites.held_out.extend(Suite::of_own(&rows));
        }
        Ok(suites)
    }

    /// Returns all suites.
    pub fn all(&self) -> impl Iterator<Item = Suite> {
        self.checked().chain(self.held_out.iter().cloned())
    }

    /// Returns the suites against which every source is checked (law L6). The held-out share of a source is kept from
    /// training anyway.
    pub fn checked(&self) -> impl Iterator<Item = Suite> {
        Suite::all().chain(self.own.iter().cloned())
    }

    /// Returns the suites that a profile defines.
    pub fn own(&self) -> impl Iterator<Item = &Suite> {
        self.own.iter().chain(&self.held_out)
    }

    /// Finds the suite of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Suite> {
        self.all().find(|suite| suite.is_named(name))
    }
}
