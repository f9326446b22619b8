//! The requests to an engine. A connection has one request at a time. A watched `Sample` is answered with frames first.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::grid::Grid;
use crate::data::picture::Picture;
use crate::data::sequence::Sequence;
use crate::likelihood::LikelihoodQuery;
use crate::network::config::{BackboneConfig, ImageTokenizerConfig};
use crate::network::loading::LoadOptions;
use crate::sampling::SampleRequest;
use crate::training::estimators::EstimatorConfig;
use crate::training::policy::{ObjectiveConfig, PolicyGroup};
use crate::training::step_settings::StepSettings;

/// The source of a model's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // a few exist in a program's life
pub enum ModelSource {
    /// Random weights from a seed.
    Fresh {
        /// The configuration of the backbone.
        backbone: BackboneConfig,
        /// The configuration of the image tokenizer, for a model with pictures.
        image_tokenizer: Option<ImageTokenizerConfig>,
        /// A checkpoint whose trained image tokenizer is used instead.
        #[serde(default)]
        image_tokenizer_from: Option<PathBuf>,
        /// The seed of the weights.
        seed: u64,
    },
    /// A checkpoint folder: ours, or a published backbone (`config.json` and safetensors in one file or several).
    Checkpoint {
        /// The folder.
        dir: PathBuf,
        /// Whether to resume: to read the optimizer's state and step too, not only the weights.
        resume: bool,
        /// Whether to load the moving average of the weights, which a run with `ema` keeps, in place of the weights.
        /// This is for sampling and evaluation, not for resuming.
        #[serde(default)]
        average: bool,
        /// The folder of another image tokenizer, because published models have it in a repository of its own. If
        /// absent, the checkpoint's own is loaded, if there is one.
        #[serde(default)]
        image_tokenizer: Option<PathBuf>,
        /// The purpose of loading, and an adapter or picture codes to add.
        #[serde(default)]
        options: LoadOptions,
    },
}

/// A request to an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one at a time is on its way
pub enum Request {
    /// Asks for the engine's identity. Answered by `Answer::Hello`.
    Hello {
        /// The client's version of the protocol.
        protocol: u32,
    },
    /// Loads or creates a model and drops the previous one. Answered by `Loaded`.
    Load {
        /// The source of the weights.
        model: ModelSource,
    },
    /// Takes one optimizer step on the sum of the micro-batches (gradient accumulation). Answered by `Trained`.
    Train {
        /// The micro-batches. The rows of one share passes through the network.
        micro_batches: Vec<Vec<Sequence>>,
        /// The learning rate and the other settings of the step.
        settings: StepSettings,
    },
    /// Takes `inner_steps` optimizer steps on scored groups. Answered by `PolicyTrained`.
    Policy {
        /// The groups, with advantages.
        groups: Vec<PolicyGroup>,
        /// The estimator of a completion's likelihood, which plans masked views.
        estimator: EstimatorConfig,
        /// The objective that the step maximises.
        objective: ObjectiveConfig,
        /// The learning rate and the other settings of the step.
        settings: StepSettings,
        /// The log-probabilities under the policy that drew the samples, as in `ViewsScored`. Empty if the current
        /// weights drew them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        behaviour: Vec<Vec<f32>>,
    },
    /// Computes the log-probabilities of a policy step's views. Answered by `ViewsScored`.
    ScoreViews(ViewScores),
    /// Sets the reference policy. Answered by `Done`.
    SetReference {
        /// A checkpoint folder with the loaded model's configuration. If absent, the current weights are the reference.
        #[serde(default)]
        checkpoint: Option<PathBuf>,
    },
    /// Checks that every rank reads this text in a file, and so sees the folder of the process that wrote it. Answered by
    /// `Done`, or by a refusal that names the first rank that does not.
    ReadMark {
        /// The file.
        path: PathBuf,
        /// Its whole content.
        token: String,
    },
    /// Samples sequences. Answered by any number of `Frame`s, then `Samples`.
    Sample {
        /// The sequences, of any lengths and samplers. They share a batch with those of other requests that arrive
        /// meanwhile.
        requests: Vec<SampleRequest>,
    },
    /// Runs a user's request while other sequences are sampled: between two of their passes and in a batch of its own,
    /// so that the other samples do not change (law L8). Answered as the inner request.
    Aside {
        /// The request: `Sample` or `Encode`.
        request: Box<Request>,
    },
    /// Computes the log-probability of every answer token with the answer masked at the given positions. Answered by
    /// `LogProbs`.
    LogProbs {
        /// The sequences.
        sequences: Vec<Sequence>,
        /// For each sequence, the masked positions.
        masked: Vec<Vec<usize>>,
    },
    /// Computes the log-likelihoods of answers given their prompts, in batches that fit into memory. Answered by
    /// `LogLikelihoods`.
    LogLikelihoods {
        /// The answers, of any lengths and settings.
        queries: Vec<LikelihoodQuery>,
    },
    /// Takes one training step of the image tokenizer (reconstruction, commitment, entropy). Answered by
    /// `TokenizerTrained`.
    TrainTokenizer {
        /// The pictures.
        pictures: Vec<Picture>,
        /// The learning rate and the other settings of the step.
        settings: StepSettings,
    },
    /// Encodes pictures to codes, row by row. Answered by `Codes`.
    Encode {
        /// The pictures. Their sides must be multiples of the image tokenizer's downscaling factor.
        pictures: Vec<Picture>,
    },
    /// Decodes codes to pictures. Answered by `Pictures`.
    Decode {
        /// The codes of each picture (not token ids).
        codes: Vec<Vec<u32>>,
        /// The grid of the codes of each picture. If absent, it is square.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grid: Option<Grid>,
    },
    /// Writes a checkpoint folder, with the manifest last. Answered by `Saved`.
    Save {
        /// The folder, which must not exist. It appears complete or not at all.
        dir: PathBuf,
        /// Files to write beside the weights (`tokenizer.json`, the trainer's cursor), by name.
        attach: BTreeMap<String, String>,
        /// Whether to write the optimizer's state too.
        optimizer: bool,
    },
    /// Compares a network with recorded tensors, a backbone in the engine's dtype. Answered by `Verified`.
    Verify {
        /// The folder of a backbone, an image tokenizer, CLIP or ImageReward.
        checkpoint: PathBuf,
        /// The file of recorded tensors.
        reference: PathBuf,
    },
    /// Loads reward networks beside the model, in place of the previous ones. A network without a folder is dropped. If
    /// the folders are the same as before, nothing is loaded again. Answered by `RewardLoaded`.
    LoadReward {
        /// CLIP's folder: `config.json`, `model.safetensors`, `tokenizer.json` and optionally
        /// `preprocessor_config.json`.
        #[serde(default)]
        clip: Option<PathBuf>,
        /// ImageReward's folder: `config.json` or the published `med_config.json`, `model.safetensors`, and BERT's
        /// `tokenizer.json`.
        #[serde(default)]
        image_reward: Option<PathBuf>,
    },
    /// Scores pictures of any sizes for their texts with the loaded reward networks. Answered by `Scores`.
    Score {
        /// The pictures.
        pictures: Vec<Picture>,
        /// The text of each picture.
        texts: Vec<String>,
    },
    /// Asks for the progress of the computing thread. Answered by `Heartbeat` at once, also while other requests wait
    /// (law L10).
    Heartbeat,
    /// Ends the engine with exit code 0. Answered by `Done`.
    Exit,
}

/// A request for the log-probabilities of views under the policy that drew the samples. The views are those of a policy
/// step with the same groups, estimator and seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewScores {
    /// The groups. Their advantages are not used.
    pub groups: Vec<PolicyGroup>,
    /// The number of each sample among all samples of the policy step, which its views are planned by. Empty if these
    /// are all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<usize>,
    /// The estimator, which plans the views.
    pub estimator: EstimatorConfig,
    /// The number of inner steps of the policy step.
    pub inner_steps: usize,
    /// The seed of the policy step.
    pub seed: u64,
}
