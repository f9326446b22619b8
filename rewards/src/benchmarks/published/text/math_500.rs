//! The benchmark `math-500`: the widely used 500 problems of MATH's test split (arXiv 2305.20050). Its file is
//! `HuggingFaceH4/MATH-500`'s `test.jsonl`; protocols and verdicts are MATH's.

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published};
use super::math;
use crate::benchmarks::{BenchmarkSource, Item, Protocol, SuiteError, Verdict};

const DESCRIPTION: Description = Description {
    name: "math-500",
    about: "500 problems of MATH's test split",
    size: 500,
    source: BenchmarkSource {
        licence: "MIT",
        megabytes: 1,
        is_gated: false,
        hub: Some("HuggingFaceH4/MATH-500"),
        files: &["test.jsonl"],
        from: "https://github.com/openai/prm800k",
        places: &["benchmarks/math-500", "math-500", "MATH-500"],
    },
    protocols: &[
        math::PROTOCOLS[2].published(&[]),
        math::PROTOCOLS[0].published(&[]),
    ],
};

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Math500;

impl Published for Math500 {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let rows = files.rows(|name| {
            name.rsplit('/')
                .next()
                .is_some_and(|base| base.starts_with("test"))
        })?;
        Ok(rows.into_iter().map(|(_, record)| record).collect())
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        Ok(records
            .iter()
            .map(|record| math::asked(protocol, record, "subject"))
            .collect())
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        math::verdict(protocol, item, reply)
    }
}
