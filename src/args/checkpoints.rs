//! The arguments of the commands about checkpoints and data: pull, verify, convert, merge, grow.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use demask_api::limits;

use super::output::Json;
use super::values::{CODES, within};

/// `demask pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// Repository, with an optional branch, tag or commit
    #[arg(value_name = "OWNER/NAME[@REVISION]", required_unless_present = "benchmark")]
    pub repo: Option<String>,
    /// Download the data of a benchmark, by its name in `demask eval --list`
    #[arg(long, value_name = "NAME", conflicts_with_all = ["repo", "files", "dataset"])]
    pub benchmark: Option<String>,
    /// Download only this file, or the files that match a pattern with `*` and `?`; may be repeated
    #[arg(long = "file", value_name = "FILE")]
    pub files: Vec<String>,
    /// Also copy the files into this folder, as plain files that may be changed, and print this folder
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// The repository is a data set
    #[arg(long)]
    pub dataset: bool,
    /// Number of files to download in parallel
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub jobs: u8,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Folder with config.json and model.safetensors (a backbone, an image tokenizer, CLIP or ImageReward), a pulled
    /// repository, or RUN[@STEP]
    pub checkpoint: PathBuf,
    /// File of recorded tensors to compare with
    #[arg(value_name = "REFERENCE.safetensors")]
    pub reference: PathBuf,
    /// Device to compute on: auto, cpu, cuda, cuda:0
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Dtype in which a backbone computes, with its tolerance: f32 (1e-4), or bf16 (0.25, losses 1e-2, tokens not
    /// compared)
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16"])]
    pub dtype: String,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// File written by torch.save (.pt, .pth, .bin, .ckpt), or a folder with pytorch_model.bin or its shards
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Safetensors file to write (model.safetensors if OUT is an existing folder); if IN is a folder, a folder that
    /// does not exist yet
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Dtype to convert floating-point tensors to [default: unchanged]
    #[arg(long, value_enum)]
    pub dtype: Option<Floating>,
    /// Dictionary to convert, by its keys joined with dots [default: the only one that holds tensors]
    #[arg(long)]
    pub key: Option<String>,
    /// Output
    #[command(flatten)]
    pub output_as: Json,
}

/// Dtypes of floating-point tensors.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Floating {
    /// 32 bits
    F32,
    /// 16 bits, IEEE half
    F16,
    /// 16 bits, bfloat16
    Bf16,
}

/// `demask merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// Checkpoint of a run that trains an adapter (also as RUN[@STEP]), or the base checkpoint of the adapter that
    /// --adapter names
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// Folder to write; it must not exist
    #[arg(value_name = "OUTPUT")]
    pub output: PathBuf,
    /// Adapter in PEFT's layout: a folder, a pulled repository, or RUN[@STEP]
    #[arg(long, value_name = "DIR|OWNER/NAME|RUN[@STEP]")]
    pub adapter: Option<PathBuf>,
    /// Dtype of the written weights [default: as stored in the checkpoint]
    #[arg(long, value_enum)]
    pub dtype: Option<Stored>,
    /// Output
    #[command(flatten)]
    pub output_as: Json,
}

/// `demask grow`.
#[derive(Debug, Args)]
pub struct Grow {
    /// Text model: a checkpoint folder, a pulled repository, or RUN[@STEP]
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// Folder to write; it must not exist
    #[arg(value_name = "OUTPUT")]
    pub output: PathBuf,
    /// Number of picture codes, at most 262144 [default: that of the image tokenizer, else 8192]
    #[arg(long, value_parser = within(CODES))]
    pub codes: Option<usize>,
    /// Image tokenizer to copy into the new model: a folder, or a pulled repository
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub image_tokenizer: Option<PathBuf>,
    /// Side of the model's pictures in pixels [default: 512 for a published model; as recorded in a checkpoint of
    /// Demask]
    #[arg(long, value_name = "PIXELS", value_parser = within(limits::PIXELS))]
    pub size: Option<usize>,
    /// Seed of the noise that is added to the new rows
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Dtype of the written weights [default: as stored in the checkpoint]
    #[arg(long, value_enum)]
    pub dtype: Option<Stored>,
    /// Output
    #[command(flatten)]
    pub output_as: Json,
}

/// Dtypes in which weights are stored.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Stored {
    /// 32 bits
    F32,
    /// 16 bits, bfloat16
    Bf16,
}

impl Stored {
    /// Returns the name of the type in a request to the engine.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}
