//! The suites that can be named in one place: those of the program, those of a profile, what is held out of its sources.

use std::sync::Arc;

use super::own::{HeldOut, HeldOutRows, Own, OwnBenchmark};
use super::{Benchmark, Suite};

/// The suites that can be named.
#[derive(Clone, Debug, Default)]
pub struct Suites {
    /// Of benchmarks that a person made.
    own: Vec<Suite>,
    /// Of what is held out of sources.
    held_out: Vec<Suite>,
}

impl Suites {
    /// Those of the program and these; `external` are the names of rewards that are no part of it.
    ///
    /// # Errors
    /// The number of the benchmark that is wrong, its key, and what was expected.
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

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Suite> {
        self.checked().chain(self.held_out.iter().cloned())
    }

    /// Those that every source is checked against (law L6): what is held out of a source is kept from training by itself.
    pub fn checked(&self) -> impl Iterator<Item = Suite> {
        Suite::all().chain(self.own.iter().cloned())
    }

    /// Those that are no part of the program.
    pub fn own(&self) -> impl Iterator<Item = &Suite> {
        self.own.iter().chain(&self.held_out)
    }

    /// The suite of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Suite> {
        self.all().find(|suite| suite.is_named(name))
    }
}
