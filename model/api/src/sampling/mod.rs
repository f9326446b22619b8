//! The settings of the samplers, requests for samples, and finished samples.
//!
//! - `text_sampler.rs`, `image_sampler.rs`: the settings of the two samplers;
//! - `sample.rs`: a request for a sample, and the finished sample;
//! - `quirks.rs`: switches for the differences between the published code and ours.
//!
//! Not here: the sampling loops (`demask-model`).

pub mod image_sampler;
pub mod quirks;
pub mod sample;
pub mod text_sampler;

pub use image_sampler::{FeatureCache, ImageMethod, ImageSampler, MaskSchedule};
pub use quirks::{Attention, Probabilities, QuirkError, Quirks, Template};
pub use sample::{Sample, SampleRequest, Sampler};
pub use text_sampler::{Commit, Credit, End, Remasking, TextCache, TextSampler};
