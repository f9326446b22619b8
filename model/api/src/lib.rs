//! Plain data: all that can be asked of a `demask-engine`, and what it answers.
//!
//! No libtorch here: whoever drives an engine (the actors, the command, a test with a scripted engine) depends on this
//! crate alone. Requests and answers cross a Unix socket as length-prefixed JSON ([`wire`]); weights never do, they
//! are read and written by the engine as checkpoint folders ([`checkpoint`]).

pub mod bounded_file;
pub mod data;
pub mod likelihood;
pub mod limits;
pub mod network;
pub mod protocol;
pub mod sampling;
pub mod training;
pub mod work_file;

pub use data::{grid, picture, sequence};
pub use network::{
    activations, checkpoint, config, loading, memory, plan, published, tokenizer_rules, validation,
};
pub use protocol::{answer, cuda, number, request, wire};
pub use sampling::quirks;
pub use training::{estimators, policy, step_settings};

pub use answer::{
    Answer, BehaviourReport, DeviceInfo, DistReport, EngineError, EngineInfo, PictureScore, PolicyReport,
    SampleFrame, TensorCheck, TokenizerReport, TrainReport,
};
pub use checkpoint::{Manifest, ManifestFile};
pub use config::{BackboneConfig, ImageTokenizerConfig, QuantizerLosses, StackConfig};
pub use cuda::{Cuda, CudaDevice};
pub use estimators::uni_grpo::Spacing;
pub use estimators::{Coupled, DiffuGrpo, EstimatorConfig, TraceRl, UniGrpo};
pub use grid::Grid;
pub use likelihood::{LikelihoodEstimator, LikelihoodQuery, LogLikelihood};
pub use loading::{Growth, LINEAR_LAYERS, LoadOptions, LoraConfig, Purpose};
pub use picture::{Picture, PictureSize};
pub use policy::{ObjectiveConfig, PolicyGroup, PolicySample, ViewScores};
pub use quirks::{Attention, Probabilities, QuirkError, Quirks, Template};
pub use request::{ModelSource, Request};
pub use sampling::{
    Commit, Credit, End, FeatureCache, ImageMethod, ImageSampler, MaskSchedule, Remasking, Sample,
    SampleRequest, Sampler, TextCache, TextSampler,
};
pub use sequence::{Sequence, Span, Task};
pub use step_settings::{Adam, BlockNoise, LossNormalization, MomentKind, Recompute, Shard, StepSettings};

/// The version of the engine protocol; a `Hello` with another one is refused with both numbers.
pub const PROTOCOL: u32 = 10;
