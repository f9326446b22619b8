//! The answers of an engine.

use serde::{Deserialize, Serialize};

use crate::data::picture::Picture;
use crate::data::sequence::Task;
use crate::likelihood::LogLikelihood;
use crate::network::config::BackboneConfig;
use crate::protocol::cuda::Cuda;
use crate::protocol::number;
use crate::sampling::Sample;

/// The device of an engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// The name: `cpu`, or for example `cuda:0`.
    pub name: String,
    /// The number of threads on a CPU, 0 on a GPU.
    pub threads: usize,
    /// The dtype of matrix products, and why it was chosen.
    pub compute: String,
    /// The instruction set of the attention kernels. Absent on a GPU and in a build without kernels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<String>,
    /// The rate of matrix products in GFLOP/s, if it was measured when the engine started.
    pub matmul_gflops: Option<f64>,
    /// The state of CUDA.
    #[serde(default)]
    pub cuda: Cuda,
}

/// The identity of an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// The version of the protocol.
    pub protocol: u32,
    /// The version of the crate.
    pub version: String,
    /// The version of the loaded libtorch.
    pub libtorch: String,
    /// The process id.
    pub pid: u32,
    /// The device that it computes on.
    pub device: DeviceInfo,
    /// A description of the sandbox of its process. Empty if the engine does not report it.
    #[serde(default)]
    pub sandbox: String,
}

/// The result of one optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// The number of optimizer steps so far, which is the version of the weights.
    pub step: u64,
    /// The weighted sum of the task losses.
    #[serde(deserialize_with = "number::one")]
    pub loss: f64,
    /// The mean loss of each task, without its weight.
    #[serde(deserialize_with = "number::named")]
    pub task_losses: Vec<(Task, f64)>,
    /// The norm of the gradient before clipping.
    #[serde(deserialize_with = "number::one")]
    pub grad_norm: f64,
    /// The number of tokens in the batch, without padding.
    pub tokens: u64,
    /// The number of masked tokens in the loss.
    pub masked: u64,
    /// The time inside the engine, in seconds.
    pub seconds: f64,
    /// Whether the loss and the gradient were finite. If not, the weights are unchanged.
    pub finite: bool,
    /// The report of each rank, in their order. Empty if one process trains alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<RankReport>,
}

/// The report of one rank of a world about itself and about a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankReport {
    /// The name of the rank's machine.
    pub host: String,
    /// The rank's process id on that machine.
    pub pid: u32,
    /// The device that it computes on.
    pub device: String,
    /// The time at which the process joined its world, in microseconds since the Unix epoch.
    pub began_us: i64,
    /// The resident memory of its process, in bytes. 0 if the system does not report it.
    pub memory: u64,
    /// The largest resident memory of its process so far, in bytes.
    pub peak: u64,
    /// The memory of its GPU that tensors use, in bytes. 0 on a CPU.
    #[serde(default)]
    pub device_memory: u64,
    /// The largest `device_memory` so far, in bytes.
    #[serde(default)]
    pub device_peak: u64,
    /// The time that the step took inside this rank, in seconds.
    pub seconds: f64,
    /// The communication of this rank with its peers in the step.
    pub dist: DistReport,
}

/// The communication of a rank with its peers in a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistReport {
    /// The time that the rank waited for its peers without computing, in seconds.
    pub wait_seconds: f64,
    /// The time that transfers took, in seconds, whether computation hid them or not. On a GPU this is unknown, and the
    /// waiting time is reported instead.
    pub seconds: f64,
    /// The number of received bytes.
    pub bytes: u64,
}

impl DistReport {
    /// Returns the sum of two reports.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            wait_seconds: self.wait_seconds + other.wait_seconds,
            seconds: self.seconds + other.seconds,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// The result of a policy step with its inner steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// The number of optimizer steps so far.
    pub step: u64,
    /// The loss of each inner step.
    #[serde(deserialize_with = "number::list")]
    pub losses: Vec<f64>,
    /// The k3 estimate of the KL to the reference, for each inner step.
    #[serde(deserialize_with = "number::list")]
    pub kl: Vec<f64>,
    /// The mean ratio of each inner step (1 at the first, law L7).
    #[serde(deserialize_with = "number::list")]
    pub ratio: Vec<f64>,
    /// The share of clipped tokens in each inner step.
    #[serde(deserialize_with = "number::list")]
    pub clipped: Vec<f64>,
    /// The norm of the gradient of each inner step.
    #[serde(deserialize_with = "number::list")]
    pub grad_norm: Vec<f64>,
    /// The distance of the policy that drew the samples. Absent if that is the trained policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behaviour: Option<BehaviourReport>,
    /// The time inside the engine, in seconds.
    pub seconds: f64,
    /// Whether everything was finite. If not, the weights are as before the step.
    pub finite: bool,
    /// The report of each rank, in their order. Empty if one process trains alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<RankReport>,
}

/// The distance between the policy that drew the samples and the trained one, over the counted tokens of all inner
/// steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BehaviourReport {
    /// The mean importance weight of a token, capped.
    #[serde(deserialize_with = "number::one")]
    pub weight: f64,
    /// The largest absolute difference of log-probabilities.
    #[serde(deserialize_with = "number::one")]
    pub gap: f64,
}

/// The result of one training step of the image tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerReport {
    /// The time inside the engine, in seconds.
    #[serde(default)]
    pub seconds: f64,
    /// The number of its optimizer steps so far.
    pub step: u64,
    /// The total loss.
    #[serde(deserialize_with = "number::one")]
    pub loss: f64,
    /// The reconstruction loss (mean squared error on [-1, 1]).
    #[serde(deserialize_with = "number::one")]
    pub reconstruction: f64,
    /// The commitment loss.
    #[serde(deserialize_with = "number::one")]
    pub commitment: f64,
    /// The entropy of each bit minus the entropy of the mean bits.
    #[serde(deserialize_with = "number::one")]
    pub entropy: f64,
    /// The share of the codebook that this batch uses.
    #[serde(deserialize_with = "number::one")]
    pub usage: f64,
    /// Whether everything was finite.
    pub finite: bool,
}

/// A watched sequence after one denoising step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleFrame {
    /// The id of the request.
    pub id: u64,
    /// The denoising step, from 0.
    pub step: usize,
    /// The number of denoising steps.
    pub steps: usize,
    /// The token ids of the target after this step, with mask tokens at masked positions.
    pub tokens: Vec<u32>,
    /// For each target position, the confidence of the committed token or of the current guess, in 0..=255.
    pub confidence: Vec<u8>,
    /// For pictures, the decoded current guess.
    pub picture: Option<Picture>,
}

/// The scores of a picture for its text by the reward networks. `demask-rewards` decides what they mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PictureScore {
    /// CLIP's cosine similarity of the picture and the text, -1 to 1.
    pub cosine: Option<f64>,
    /// ImageReward's score, with mean 0 and standard deviation 1 over the pictures that people rated.
    pub image_reward: Option<f64>,
}

/// The result of the comparison with one recorded tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorCheck {
    /// The name of the tensor in the reference file.
    pub name: String,
    /// The largest absolute difference; for tokens, the number of different ones.
    #[serde(deserialize_with = "number::one")]
    pub max_abs: f64,
    /// The largest difference divided by the largest recorded magnitude; for tokens, the share of different ones.
    #[serde(deserialize_with = "number::one")]
    pub max_rel: f64,
    /// Whether the difference is within the tolerance.
    pub passed: bool,
}

/// The reason why an engine could not answer a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum EngineError {
    /// The request is invalid or not possible now (no model is loaded, a sequence is too long).
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
        /// libtorch's message.
        message: String,
    },
    /// The device failed. The engine ends after this answer, because its process cannot use the device any more.
    #[error("the device failed: {message}")]
    Device {
        /// libtorch's message.
        message: String,
    },
    /// The disk is full, or there is another file system error.
    #[error("{path}: {message}")]
    Io {
        /// The path.
        path: String,
        /// The message of the operating system.
        message: String,
        /// Whether the disk is full, so that a later attempt may succeed.
        full: bool,
    },
    /// Any other error from libtorch.
    #[error("engine: {message}")]
    Internal {
        /// The message.
        message: String,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
#[allow(missing_docs)] // each variant is named after the request that it answers
pub enum Answer {
    Hello(EngineInfo),
    Loaded {
        /// The optimizer steps of the resumed run; 0 if no run is resumed.
        step: u64,
        /// The number of parameters of the backbone.
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
        /// The time inside the engine, in seconds.
        seconds: f64,
        /// The version of the weights that drew them.
        step: u64,
    },
    LogProbs {
        /// For each sequence, one value per masked position, in the order of the request.
        #[serde(deserialize_with = "number::lists")]
        values: Vec<Vec<f32>>,
    },
    ViewsScored {
        /// One list per inner step and sample, with a value for each counted token of its views, in their order.
        #[serde(deserialize_with = "number::lists")]
        values: Vec<Vec<f32>>,
        /// The time inside the engine, in seconds.
        #[serde(default)]
        seconds: f64,
    },
    LogLikelihoods {
        /// One value per query, in the order of the request.
        values: Vec<LogLikelihood>,
        /// The time inside the engine, in seconds.
        #[serde(default)]
        seconds: f64,
    },
    TokenizerTrained(TokenizerReport),
    Codes {
        codes: Vec<Vec<u32>>,
        /// The time inside the engine, in seconds.
        #[serde(default)]
        seconds: f64,
    },
    Pictures {
        pictures: Vec<Picture>,
    },
    Saved {
        /// The BLAKE3 hash of the manifest, in hex, which is the checkpoint's name in the store.
        hash: String,
        bytes: u64,
        step: u64,
        /// The time inside the engine, in seconds.
        #[serde(default)]
        seconds: f64,
    },
    RewardLoaded {
        /// The number of parameters of all reward networks together.
        parameters: u64,
    },
    Scores {
        /// One score per picture, in the order of the request.
        scores: Vec<PictureScore>,
        /// The time inside the engine, in seconds.
        #[serde(default)]
        seconds: f64,
    },
    Verified {
        tensors: Vec<TensorCheck>,
    },
    Heartbeat {
        /// A counter that grows with the progress of the computing thread.
        beats: u64,
        /// Whether the computing thread has a request.
        busy: bool,
    },
    Done,
    Failed(EngineError),
}
