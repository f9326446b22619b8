//! How to fill masks in: settings of the samplers, a request for a sample, a finished sample.
//!
//! - `text_sampler.rs`, `image_sampler.rs`: the settings of the two samplers;
//! - `sample.rs`: a request and what comes of it; `quirks.rs`: where the published code's numbers differ from ours.
//!
//! Not here: the loops themselves, which are `demask-model`'s.

pub mod image_sampler;
pub mod quirks;
pub mod sample;
pub mod text_sampler;

pub use image_sampler::{FeatureCache, ImageMethod, ImageSampler, MaskSchedule};
pub use quirks::{Attention, Probabilities, QuirkError, Quirks, Template};
pub use sample::{Sample, SampleRequest, Sampler};
pub use text_sampler::{Commit, Credit, End, Remasking, TextCache, TextSampler};
