//! The settings of the picture sampler: MaskGIT (`mmada.md` 6.2) or ancestral sampling, and its cache between forward
//! passes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sampling::quirks::Quirks;

/// The mask schedule: the share of masked tokens at a progress u from 0 to 1 (`mmada.md` 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskSchedule {
    /// cos(pi u / 2), as published.
    #[default]
    Cosine,
    /// 1 - u.
    Linear,
}

/// The way in which the codes of a picture are committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageMethod {
    /// The most probable of the drawn codes, with noise on their order (MaskGIT, `mmada.md` 6.2).
    #[default]
    #[serde(rename = "maskgit")]
    MaskGit,
    /// Every masked code independently, with the probability of the schedule: ancestral sampling, whose steps have
    /// exact likelihoods (the "emerge" sampler, `peers.md` B.11).
    Emerge,
}

/// The cache of a picture between passes over all of it, similar to Lumina-DiMOO's ML-Cache (`peers.md` B.4). The steps
/// in between compute only the codes that were just committed and the least certain masked ones. Every other masked
/// position keeps its last guess, and the other keys and values date from the pass that wrote them. Only the full
/// passes are exact.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureCache {
    /// Share of the steps, from the first on, that are full passes.
    pub warmup: f64,
    /// Number of steps between two full passes after the warm-up.
    pub interval: usize,
    /// Share of the masked codes that the other steps compute, at least one.
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

/// The parallel sampler for pictures: MaskGIT (`mmada.md` 6.2) or ancestral sampling.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSampler {
    /// Number of denoising steps.
    #[schemars(range(min = 1, max = 65536))]
    pub steps: usize,
    /// Temperature of the Gumbel noise on the confidence, multiplied by (1 - progress) at each step.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub temperature: f64,
    /// Classifier-free guidance scale g: `(1 + g) c - g u`; 0 is off.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub guidance: f64,
    /// Schedule of the share of codes that stay masked.
    pub schedule: MaskSchedule,
    /// Way in which codes are committed.
    pub method: ImageMethod,
    /// Probability from which on MaskGIT commits a drawn code ahead of the schedule; 0 is off, as published. Sampling
    /// ends when no code is masked.
    pub accept: f64,
    /// Probability from which on MaskGIT commits a surprise ahead of the schedule; 0 is off, as published. A surprise
    /// is a drawn code that is not the likeliest at its position, and each step commits the most probable one. Where
    /// every position is most likely empty, committing the likeliest codes adds no information for many steps. An
    /// unlikely code that was drawn says where something is, and makes the other codes certain. Codes below this
    /// probability are drawn again.
    pub surprise: f64,
    /// Cache between full passes; absent means that every step computes everything, which is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<FeatureCache>,
    /// Switches for the behaviour of the published code.
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
