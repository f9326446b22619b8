//! The interface of `demask-engine` as plain data: all requests to an engine and its answers.
//!
//! A program that drives an engine (the actors, the command, a test with a scripted engine) depends on this crate only,
//! which does not link libtorch. Requests and answers are sent over a Unix socket as length-prefixed JSON ([`wire`]).
//! Weights are not: the engine reads and writes them as checkpoint folders ([`checkpoint`]).

pub mod bounded_file;
pub mod bounded_json;
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
    activations, checkpoint, config, frozen_base, loading, memory, plan, published, sharding,
    tokenizer_rules, validation,
};
pub use protocol::{answer, cuda, exit, join, machine, number, request, wire};
pub use sampling::quirks;
pub use training::{estimators, policy, step_settings};

pub use answer::{
    Answer, BehaviourReport, DeviceInfo, DistReport, EngineError, EngineInfo, PictureScore, PolicyReport,
    RankReport, SampleFrame, TensorCheck, TokenizerReport, TrainReport,
};
pub use checkpoint::{Manifest, ManifestFile};
pub use config::{BackboneConfig, ImageTokenizerConfig, QuantizerLosses, StackConfig};
pub use cuda::{Cuda, CudaDevice};
pub use estimators::uni_grpo::Spacing;
pub use estimators::{Coupled, DiffuGrpo, EstimatorConfig, TraceRl, UniGrpo};
pub use frozen_base::{BaseDtype, FrozenBase};
pub use grid::Grid;
pub use join::{JoinFile, JoinRole};
pub use likelihood::{LikelihoodEstimator, LikelihoodQuery, LogLikelihood};
pub use loading::{Growth, LINEAR_LAYERS, LoadOptions, LoraConfig, Purpose};
pub use picture::{Picture, PictureSize};
pub use policy::{ObjectiveConfig, PolicyGroup, PolicySample};
pub use quirks::{Attention, Probabilities, QuirkError, Quirks, Template};
pub use request::{ModelSource, Request, ViewScores};
pub use sampling::{
    Commit, Credit, End, FeatureCache, ImageMethod, ImageSampler, MaskSchedule, Remasking, Sample,
    SampleRequest, Sampler, TextCache, TextSampler,
};
pub use sequence::{Sequence, Span, Task};
pub use step_settings::{Adam, BlockNoise, LossNormalization, MomentKind, Recompute, Shard, StepSettings};

/// The version of the engine protocol. A `Hello` with another version is refused, with both numbers.
pub const PROTOCOL: u32 = 14;
