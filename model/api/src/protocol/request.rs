//! What can be asked of an engine. One request at a time a connection; `Sample` with `watch` answers with frames first.

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
use crate::training::policy::{ObjectiveConfig, PolicyGroup, ViewScores};
use crate::training::step_settings::StepSettings;

/// Where weights come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // a few exist in a program's life
pub enum ModelSource {
    /// Random weights from a seed.
    Fresh {
        /// The backbone's shape.
        backbone: BackboneConfig,
        /// The image tokenizer's shape, if pictures are wanted.
        image_tokenizer: Option<ImageTokenizerConfig>,
        /// A checkpoint whose trained image tokenizer is taken over instead.
        #[serde(default)]
        image_tokenizer_from: Option<PathBuf>,
        /// The seed of the weights.
        seed: u64,
    },
    /// A checkpoint folder: ours, or a published backbone (`config.json`, safetensors in
    /// one file or several).
    Checkpoint {
        /// The folder.
        dir: PathBuf,
        /// Read optimiser and step too (resume) rather than weights alone.
        resume: bool,
        /// Take the moving average of the weights, which a run with `ema` keeps, in place of the weights: for sampling and
        /// evaluation, not for resuming.
        #[serde(default)]
        average: bool,
        /// The folder of another image tokenizer: published models have theirs in a repository of its own. Absent: the
        /// checkpoint's, if it has one.
        #[serde(default)]
        image_tokenizer: Option<PathBuf>,
        /// What for, and what is put on it.
        #[serde(default)]
        options: LoadOptions,
    },
}

/// What an engine can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // one at a time is on its way
pub enum Request {
    /// Who are you? Answered by `Answer::Hello`.
    Hello {
        /// The caller's protocol.
        protocol: u32,
    },
    /// Load or make a model; what was loaded before is dropped. Answered by `Loaded`.
    Load {
        /// Where the model comes from.
        model: ModelSource,
    },
    /// One optimiser step on the sum of the micro-batches (gradient accumulation). Answered by `Trained`.
    Train {
        /// Micro-batches: the rows of one go through the network together.
        micro_batches: Vec<Vec<Sequence>>,
        /// Learning rate and noise.
        settings: StepSettings,
    },
    /// `inner_steps` optimiser steps on scored groups. Answered by `PolicyTrained`.
    Policy {
        /// The groups, advantages computed.
        groups: Vec<PolicyGroup>,
        /// Which masked views stand for a completion's likelihood.
        estimator: EstimatorConfig,
        /// The objective that the step climbs.
        objective: ObjectiveConfig,
        /// Learning rate and noise.
        settings: StepSettings,
        /// Log-probabilities under the policy that drew the samples, as `ViewsScored` gives them; empty where that is the present
        /// one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        behaviour: Vec<Vec<f32>>,
    },
    /// The log-probabilities of a policy step's views. Answered by `ViewsScored`.
    ScoreViews(ViewScores),
    /// The reference policy: the weights of a checkpoint, or the present ones. Answered by `Done`.
    SetReference {
        /// A checkpoint folder of the loaded model's shape; absent: the present weights.
        #[serde(default)]
        checkpoint: Option<PathBuf>,
    },
    /// Fill masks in. Answered by any number of `Frame`s, then `Samples`.
    Sample {
        /// The sequences, of any lengths and samplers. They run together, and with those of other requests that come meanwhile.
        requests: Vec<SampleRequest>,
    },
    /// What a person asks for while others are sampled: done between two passes of theirs, beside them and not with them, so that
    /// theirs stay as they are (law L8). Answered as the request in it.
    Aside {
        /// `Sample` or `Encode`.
        request: Box<Request>,
    },
    /// The log-probability of every answer token with the answer masked at the given positions. Answered by `LogProbs`.
    LogProbs {
        /// The sequences.
        sequences: Vec<Sequence>,
        /// For each sequence the masked positions.
        masked: Vec<Vec<usize>>,
    },
    /// The log-likelihoods of answers after their prompts, as many at one time as there is room for. Answered by
    /// `LogLikelihoods`.
    LogLikelihoods {
        /// The answers, of any lengths and settings.
        queries: Vec<LikelihoodQuery>,
    },
    /// One step of the image tokenizer's own training (reconstruction, commitment, entropy). Answered by `TokenizerTrained`.
    TrainTokenizer {
        /// The pictures.
        pictures: Vec<Picture>,
        /// Learning rate and noise.
        settings: StepSettings,
    },
    /// Pictures to codes, row-major. Answered by `Codes`.
    Encode {
        /// The pictures, of any sizes that the image tokenizer can halve often enough.
        pictures: Vec<Picture>,
    },
    /// Codes to pictures. Answered by `Pictures`.
    Decode {
        /// Codes a picture (not token ids).
        codes: Vec<Vec<u32>>,
        /// How the codes of each of them lie; absent: a square.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grid: Option<Grid>,
    },
    /// Write a checkpoint folder, manifest last. Answered by `Saved`.
    Save {
        /// The folder; must not exist. It appears whole or not at all.
        dir: PathBuf,
        /// Files to put beside the weights (tokenizer.json, the trainer's cursor), name to contents.
        attach: BTreeMap<String, String>,
        /// Write the optimiser's state too.
        optimizer: bool,
    },
    /// Compare with recorded tensors, a backbone in the engine's dtype. Answered by `Verified`.
    Verify {
        /// A folder: a backbone, an image tokenizer, CLIP or ImageReward.
        checkpoint: PathBuf,
        /// The recorded tensors.
        reference: PathBuf,
    },
    /// Load reward networks beside the model, in place of those that were loaded; without a folder there is none. What
    /// came from the same folders is kept as it is. Answered by `RewardLoaded`.
    LoadReward {
        /// CLIP's folder: `config.json`, `model.safetensors`, `tokenizer.json`, perhaps `preprocessor_config.json`.
        #[serde(default)]
        clip: Option<PathBuf>,
        /// ImageReward's folder: `config.json` or the published `med_config.json`, `model.safetensors`, and BERT's
        /// `tokenizer.json`.
        #[serde(default)]
        image_reward: Option<PathBuf>,
    },
    /// What the loaded reward networks say of pictures, of any sizes, for their texts. Answered by `Scores`.
    Score {
        /// The pictures.
        pictures: Vec<Picture>,
        /// Each picture's text.
        texts: Vec<String>,
    },
    /// Is the thread that computes getting on? Answered by `Heartbeat`, at once and out of turn, also while others wait (law L10).
    Heartbeat,
    /// Finish and exit 0. Answered by `Done`.
    Exit,
}
