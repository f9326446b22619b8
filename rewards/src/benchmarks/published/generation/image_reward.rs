//! The benchmark `image-reward`: how well people would like drawings, by ImageReward (arXiv 2304.05977). Its files are
//! prompts: ImageReward's own `benchmark-prompts.json`, or any. The score is unbounded; about 0 is average.

use std::collections::BTreeMap;

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, understanding};
use super::{mean_said, prompts};
use crate::benchmarks::{
    BenchmarkSource, Item, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult, Verdict,
};

const DESCRIPTION: Description = Description {
    name: "image-reward",
    about: "predicted human preference for drawings, given their prompts",
    size: 100,
    source: BenchmarkSource {
        licence: "Apache-2.0",
        megabytes: 1,
        is_gated: false,
        hub: None,
        files: &[],
        from: "THUDM/ImageReward, benchmark/benchmark-prompts.json, or any list of prompts",
        places: &["benchmarks/image-reward", "image-reward"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[Protocol::of("official", "image_reward")];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct ImageRewardBench;

impl Published for ImageRewardBench {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        prompts("image-reward", files)
    }

    fn asked(
        &self,
        _: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        Ok(records
            .iter()
            .map(|record| Ok(Asked::drawing(record.text("prompt")?)))
            .collect())
    }

    fn score(&self, _: &Protocol, item: &Item, _: &Response) -> Scoring {
        Scoring::AskNetwork {
            network: "image_reward",
            text: item.example.prompt.clone(),
        }
    }

    /// Maps the score to a credit between 0 and 1 by an approximation of the normal distribution function. Only lists
    /// of items use this credit.
    fn score_reply(&self, _: &Protocol, _: &Item, reply: &str) -> Option<Verdict> {
        let score: f64 = reply.parse().ok()?;
        Some(Verdict {
            credit: 1.0 / (1.0 + (-1.702 * score).exp()),
            answer: reply.to_owned(),
        })
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let said = mean_said(judged, |score| score);
        let figure = said.map_or_else(
            || "no drawing was judged".to_owned(),
            |said| format!("{:.3}", said.value),
        );
        let interval = said.and_then(|said| Some((said.low?, said.high?)));
        let value = said.map_or(0.0, |said| said.value);
        SuiteResult {
            figure,
            ..understanding::result(
                ("image-reward", protocol),
                said.map_or(0, |said| said.n),
                value,
                interval,
                BTreeMap::new(),
            )
        }
    }
}
