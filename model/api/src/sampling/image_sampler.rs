//! How a picture's codes are sampled: MaskGIT (`mmada.md` 6.2) or ancestral, and what is kept between forward passes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sampling::quirks::Quirks;

/// How the share of masked tokens falls with time (`mmada.md` 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskSchedule {
    /// cos(pi u / 2), as published.
    #[default]
    Cosine,
    /// 1 - u.
    Linear,
}

/// How the codes of a picture are committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageMethod {
    /// The most probable of the drawn codes, with noise on the order (MaskGIT, `mmada.md` 6.2).
    #[default]
    #[serde(rename = "maskgit")]
    MaskGit,
    /// Every masked code by itself with the probability that the schedule gives the step: ancestral sampling, whose steps
    /// have exact likelihoods (the "emerge" sampler, `peers.md` B.11).
    Emerge,
}

/// Which codes of a picture a step computes anew, in the manner of Lumina-DiMOO's ML-Cache (`peers.md` B.4): between whole
/// passes those that were just committed and the least sure of the masked ones; every other masked position keeps its last
/// guess, and all other keys and values are as old as the pass that wrote them. An approximation but for the whole passes.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureCache {
    /// Share of the steps, from the first on, that are whole passes.
    pub warmup: f64,
    /// A whole pass every so many steps after them.
    pub interval: usize,
    /// Share of the masked codes that the other steps compute anew (at least one).
    pub ratio: f64,
}

impl Default for FeatureCache {
    fn default() -> Self {
        Self {
            warmup: 0.3,
            interval: 5,
            ratio: 0.1,
        }
    }
}

/// The parallel sampler for pictures: MaskGIT (`mmada.md` 6.2) or ancestral.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSampler {
    /// Denoising steps.
    #[schemars(range(min = 1, max = 65536))]
    pub steps: usize,
    /// Temperature of the Gumbel noise on the confidence; times (1 - progress) at each step.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub temperature: f64,
    /// Guidance scale g: `(1 + g) c - g u`; 0 is off.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub guidance: f64,
    /// Share of tokens that stay masked.
    pub schedule: MaskSchedule,
    /// How codes are committed.
    pub method: ImageMethod,
    /// MaskGIT also commits every code that is drawn with at least this probability, and is done when none is masked; 0 is
    /// off, as published.
    pub accept: f64,
    /// MaskGIT commits the most probable of the codes that were drawn against the odds (a likelier one stands at their
    /// position) with at least this probability, one a step, before what the schedule says; 0 is off, as published. Where
    /// every place is most likely empty, committing the likeliest says nothing new for many steps; an unlikely code that
    /// has been drawn says where something stands, and the others are sure after it. Codes below it are drawn again.
    pub surprise: f64,
    /// What is computed anew; absent: everything at every step, which is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<FeatureCache>,
    /// Where it does as the published code does.
    #[serde(skip_serializing_if = "Quirks::is_ours")]
    pub quirks: Quirks,
}

impl Default for ImageSampler {
    fn default() -> Self {
        Self {
            steps: 12,
            temperature: 1.0,
            guidance: 2.0,
            schedule: MaskSchedule::Cosine,
            method: ImageMethod::MaskGit,
            accept: 0.0,
            surprise: 0.0,
            cache: None,
            quirks: Quirks::default(),
        }
    }
}
