//! The benchmark `clip-score`: the similarity of drawings and their prompts by CLIP. Its files are prompts: MMaDA's
//! `quantative.txt`, or any.
//!
//! Three scales were published under this name; each is a protocol, and they are not interchangeable.
//!
//! - `mmada`: 100 · max(cosine, 0) of ViT-L/14, as in torchmetrics; about 30 is good.
//! - `clipscore`: Hessel's 2.5 · max(cosine, 0) of ViT-B/32 with the prompt after `A photo depicts `.
//! - `image-reward`: the plain cosine of ViT-L/14.
//!
//! The network is the one that `--clip` names; its folder is stored with the result.

use std::collections::BTreeMap;

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, understanding};
use super::{mean_said, prompts};
use crate::benchmarks::{
    BenchmarkSource, Item, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult, Verdict,
};

/// The prefix of prompts in Hessel's CLIPScore.
const PREFIX: &str = "A photo depicts ";

const DESCRIPTION: Description = Description {
    name: "clip-score",
    about: "similarity of drawings and their prompts by CLIP",
    size: 31,
    source: BenchmarkSource {
        licence: "that of the prompts",
        megabytes: 1,
        is_gated: false,
        hub: None,
        files: &[],
        from: "Gen-Verse/MMaDA, validation_prompts/quantative.txt, or any list of prompts",
        places: &["benchmarks/clip-score", "clip-score"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    Protocol::of("mmada", "clip_score_100"),
    Protocol::of("clipscore", "clip_score_2.5"),
    Protocol::of("image-reward", "cosine"),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct ClipScore;

impl Published for ClipScore {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        prompts("clip-score", files)
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

    fn score(&self, protocol: &Protocol, item: &Item, _: &Response) -> Scoring {
        let prefix = if protocol.name == "clipscore" { PREFIX } else { "" };
        Scoring::AskNetwork {
            network: "clip",
            text: format!("{prefix}{}", item.example.prompt),
        }
    }

    fn score_reply(&self, _: &Protocol, _: &Item, reply: &str) -> Option<Verdict> {
        let cosine: f64 = reply.parse().ok()?;
        Some(Verdict {
            credit: cosine.clamp(0.0, 1.0),
            answer: reply.to_owned(),
        })
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let scaled = |cosine: f64| match protocol.name {
            "mmada" => 100.0 * cosine.max(0.0),
            "clipscore" => 2.5 * cosine.max(0.0),
            _ => cosine,
        };
        let said = mean_said(judged, scaled);
        let figure = said.map_or_else(
            || "no drawing was judged".to_owned(),
            |said| format!("{:.3} ({})", said.value, protocol.metric),
        );
        let full = if protocol.name == "mmada" { 100.0 } else { 1.0 };
        let value = said.map_or(0.0, |said| said.value / full);
        let interval = said.and_then(|said| Some((said.low? / full, said.high? / full)));
        SuiteResult {
            figure,
            ..understanding::result(
                ("clip-score", protocol),
                said.map_or(0, |said| said.n),
                value,
                interval,
                BTreeMap::new(),
            )
        }
    }
}
