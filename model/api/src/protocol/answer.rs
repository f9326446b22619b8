//! What an engine answers.

use serde::{Deserialize, Serialize};

use crate::data::picture::Picture;
use crate::data::sequence::Task;
use crate::likelihood::LogLikelihood;
use crate::network::config::BackboneConfig;
use crate::protocol::cuda::Cuda;
use crate::protocol::number;
use crate::sampling::Sample;

/// A device that an engine can use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// `cpu` or `cuda:0`.
    pub name: String,
    /// Threads (CPU) or 0.
    pub threads: usize,
    /// The dtype of matrix products and why it was chosen.
    pub compute: String,
    /// The instruction set of the attention kernels; none on a GPU, and in a build without kernels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<String>,
    /// Measured matrix-product rate in GFLOP/s at engine start, if measured.
    pub matmul_gflops: Option<f64>,
    /// What was found of CUDA.
    #[serde(default)]
    pub cuda: Cuda,
}

/// Who an engine is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// Protocol.
    pub protocol: u32,
    /// Crate version.
    pub version: String,
    /// Version of the libtorch that runs.
    pub libtorch: String,
    /// Process id.
    pub pid: u32,
    /// The device that it computes on.
    pub device: DeviceInfo,
    /// What its process may do beside computing, in words; empty where it does not say.
    #[serde(default)]
    pub sandbox: String,
}

/// One optimiser step's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Optimiser steps so far: the weights version.
    pub step: u64,
    /// Weighted sum.
    #[serde(deserialize_with = "number::one")]
    pub loss: f64,
    /// Mean loss a task, unweighted.
    #[serde(deserialize_with = "number::named")]
    pub task_losses: Vec<(Task, f64)>,
    /// Before clipping.
    #[serde(deserialize_with = "number::one")]
    pub grad_norm: f64,
    /// Tokens in the batch, padding excluded.
    pub tokens: u64,
    /// Masked tokens that the loss counted.
    pub masked: u64,
    /// Wall seconds inside the engine.
    pub seconds: f64,
    /// False when loss or gradient was not finite; the weights were then left as they were.
    pub finite: bool,
    /// What the step's ranks exchanged, as rank 0 saw it; where weights are sharded over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dist: Option<DistReport>,
}

/// What went between a rank and its peers in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistReport {
    /// How long it waited for them and computed nothing.
    pub wait_seconds: f64,
    /// How long something was on its way, hidden or not; on a GPU not known and what was waited.
    pub seconds: f64,
    /// Bytes that came.
    pub bytes: u64,
}

/// `inner_steps` policy steps' result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// Optimiser steps so far.
    pub step: u64,
    /// Objective, an inner step.
    #[serde(deserialize_with = "number::list")]
    pub losses: Vec<f64>,
    /// k3 KL to the reference, an inner step.
    #[serde(deserialize_with = "number::list")]
    pub kl: Vec<f64>,
    /// Mean ratio, an inner step (1 at the first, law L7).
    #[serde(deserialize_with = "number::list")]
    pub ratio: Vec<f64>,
    /// Share of clipped tokens, an inner step.
    #[serde(deserialize_with = "number::list")]
    pub clipped: Vec<f64>,
    /// Gradient norm, an inner step.
    #[serde(deserialize_with = "number::list")]
    pub grad_norm: Vec<f64>,
    /// How far the policy that drew the samples is away; none where it is the one that is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<BehaviourReport>,
    /// Wall seconds.
    pub seconds: f64,
    /// False when something was not finite; the weights were then put back.
    pub finite: bool,
}

/// How far the policy that drew the samples is from the one that is trained, over the counted tokens of all inner steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BehaviourReport {
    /// Mean weight of a token: how much likelier it became, capped.
    #[serde(deserialize_with = "number::one")]
    pub weight: f64,
    /// Largest absolute difference of log-probabilities.
    #[serde(deserialize_with = "number::one")]
    pub gap: f64,
}

/// One step of the image tokenizer's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerReport {
    /// Wall seconds inside the engine.
    #[serde(default)]
    pub seconds: f64,
    /// Its optimiser steps so far.
    pub step: u64,
    /// Total.
    #[serde(deserialize_with = "number::one")]
    pub loss: f64,
    /// Reconstruction (mean squared error on [-1, 1]).
    #[serde(deserialize_with = "number::one")]
    pub reconstruction: f64,
    /// Commitment.
    #[serde(deserialize_with = "number::one")]
    pub commitment: f64,
    /// Entropy penalty: low per sample, high over the codebook.
    #[serde(deserialize_with = "number::one")]
    pub entropy: f64,
    /// Share of the codebook used in this batch.
    #[serde(deserialize_with = "number::one")]
    pub usage: f64,
    /// False when something was not finite.
    pub finite: bool,
}

/// One denoising step of one watched sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleFrame {
    /// The request.
    pub id: u64,
    /// Denoising step, from 0.
    pub step: usize,
    /// Of how many.
    pub steps: usize,
    /// The whole target after this step: token ids, mask tokens where still masked.
    pub tokens: Vec<u32>,
    /// For each target position, the confidence in 0..=255 (of what is committed, or of the present guess).
    pub confidence: Vec<u8>,
    /// Pictures: a decode of the present guess.
    pub picture: Option<Picture>,
}

/// What reward networks say of a picture for its text: their plain numbers, whose meaning `demask-rewards` decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PictureScore {
    /// CLIP: the cosine of the picture's vector with the text's, -1 to 1.
    pub cosine: Option<f64>,
    /// ImageReward: its number, of mean 0 and deviation 1 over what people were shown.
    pub image_reward: Option<f64>,
}

/// How one recorded tensor compares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorCheck {
    /// Its name in the reference file.
    pub name: String,
    /// Largest absolute difference; for tokens the number of different ones.
    #[serde(deserialize_with = "number::one")]
    pub max_abs: f64,
    /// Largest difference divided by the largest recorded magnitude; for tokens the share of different ones.
    #[serde(deserialize_with = "number::one")]
    pub max_rel: f64,
    /// Within tolerance.
    pub passed: bool,
}

/// Why an engine could not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum EngineError {
    /// The request makes no sense now (no model loaded, a sequence too long).
    #[error("{message}")]
    Refused {
        /// What was expected and what was found.
        message: String,
    },
    /// A checkpoint is broken, truncated or misshapen.
    #[error("checkpoint {path}: {message}")]
    Checkpoint {
        /// The file or folder.
        path: String,
        /// What was expected and what was found.
        message: String,
    },
    /// The device is out of memory.
    #[error("out of memory: {message}")]
    OutOfMemory {
        /// libtorch's words.
        message: String,
    },
    /// The device failed: the engine ends after this answer, since nothing works on that device in its process any more.
    #[error("the device failed: {message}")]
    Device {
        /// libtorch's words.
        message: String,
    },
    /// No space left, or another file system error.
    #[error("{path}: {message}")]
    Io {
        /// The path.
        path: String,
        /// The system's words.
        message: String,
        /// The disk is full: wait and try again.
        full: bool,
    },
    /// Anything else from libtorch.
    #[error("engine: {message}")]
    Internal {
        /// The words.
        message: String,
    },
}

/// What an engine answers to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
#[allow(missing_docs)] // each variant is named after the request that it answers
pub enum Answer {
    Hello(EngineInfo),
    Loaded {
        /// Optimiser steps that were taken up with the checkpoint; 0 unless a run is resumed.
        step: u64,
        /// Parameters of the backbone.
        parameters: u64,
        backbone: Option<BackboneConfig>,
        /// Whether there is an image tokenizer.
        image_tokenizer: bool,
    },
    Trained(TrainReport),
    PolicyTrained(PolicyReport),
    Frame(SampleFrame),
    Samples {
        samples: Vec<Sample>,
        /// Wall seconds inside the engine.
        seconds: f64,
        /// Weights version that drew them.
        step: u64,
    },
    LogProbs {
        /// For each sequence, one value a masked position, in the order asked.
        #[serde(deserialize_with = "number::lists")]
        values: Vec<Vec<f32>>,
    },
    ViewsScored {
        /// For each inner step and in it for each sample, the counted tokens of its views in their order.
        #[serde(deserialize_with = "number::lists")]
        values: Vec<Vec<f32>>,
        /// Wall seconds inside the engine.
        #[serde(default)]
        seconds: f64,
    },
    LogLikelihoods {
        /// One a query, in the order asked.
        values: Vec<LogLikelihood>,
        /// Wall seconds inside the engine.
        #[serde(default)]
        seconds: f64,
    },
    TokenizerTrained(TokenizerReport),
    Codes {
        codes: Vec<Vec<u32>>,
        /// Wall seconds inside the engine.
        #[serde(default)]
        seconds: f64,
    },
    Pictures {
        pictures: Vec<Picture>,
    },
    Saved {
        /// The manifest's BLAKE3, in hex: the checkpoint's name in the store.
        hash: String,
        bytes: u64,
        step: u64,
        /// Wall seconds inside the engine.
        #[serde(default)]
        seconds: f64,
    },
    RewardLoaded {
        /// Parameters of the reward networks together.
        parameters: u64,
    },
    Scores {
        /// One a picture, in the order asked.
        scores: Vec<PictureScore>,
        /// Wall seconds inside the engine.
        #[serde(default)]
        seconds: f64,
    },
    Verified {
        tensors: Vec<TensorCheck>,
    },
    Heartbeat {
        /// Grows whenever the thread that computes gets on.
        beats: u64,
        /// Whether it has a request to do.
        busy: bool,
    },
    Done,
    Failed(EngineError),
}
