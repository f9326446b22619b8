//! Plain data: all that can be asked of a `demask-engine`, and what it answers.
//!
//! No libtorch here: whoever drives an engine (the actors, the command, a test with a scripted engine) depends on this
//! crate alone. Requests and answers cross a Unix socket as length-prefixed JSON ([`wire`]); weights never do, they
//! are read and written by the engine as checkpoint folders ([`checkpoint`]).
//!
//! Files:
//! - `sequence.rs`: a token sequence with what may be masked in it, the unit of training;
//! - `config.rs`: the shapes of the networks, as their `config.json` has them;
//! - `published.rs`: such a file as it is published; `loading.rs`: how a checkpoint is loaded;
//! - `request.rs`: what can be asked; `answer.rs`: what comes back; `step_settings.rs`: what holds for an optimiser step;
//! - `sampling.rs`: how to fill masks in; `quirks.rs`: where the published code differs; `policy.rs`: how to learn from
//!   scored groups;
//! - `picture.rs`: small RGB pictures; `checkpoint.rs`: the folder layout and its manifest; `wire.rs`: the frames;
//! - `number.rs`: numbers that need not be finite.

pub mod answer;
pub mod checkpoint;
pub mod config;
pub mod loading;
pub mod number;
pub mod picture;
pub mod policy;
pub mod published;
pub mod quirks;
pub mod request;
pub mod sampling;
pub mod sequence;
pub mod step_settings;
pub mod wire;

pub use answer::{
    Answer, DeviceInfo, EngineError, EngineInfo, PictureScore, PolicyReport, SampleFrame, TensorCheck,
    TokenizerReport, TrainReport,
};
pub use checkpoint::{Manifest, ManifestFile};
pub use config::{BackboneConfig, ImageTokenizerConfig, QuantizerLosses, StackConfig};
pub use loading::{Growth, LINEAR_LAYERS, LoadOptions, LoraConfig, Purpose};
pub use picture::Picture;
pub use policy::{EstimatorConfig, ObjectiveConfig, PolicyGroup, PolicySample, Spacing};
pub use quirks::{Attention, Probabilities, QuirkError, Quirks, Template};
pub use request::{ModelSource, Request};
pub use sampling::{
    Commit, Credit, End, FeatureCache, ImageMethod, ImageSampler, MaskSchedule, Remasking, Sample,
    SampleRequest, Sampler, TextCache, TextSampler,
};
pub use sequence::{Sequence, Span, Task};
pub use step_settings::{Adam, BlockNoise, LossNormalization, StepSettings};

/// The version of the engine protocol; a `Hello` with another one is refused with both numbers.
pub const PROTOCOL: u32 = 6;
