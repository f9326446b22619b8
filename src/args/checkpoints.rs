//! The arguments of the commands about checkpoints and data: pull, verify, convert, merge, grow.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::Json;
use super::values::{codes, count};

/// `demask pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// The repository, and a branch, tag or commit of it
    #[arg(value_name = "OWNER/NAME[@REVISION]", required_unless_present = "benchmark")]
    pub repo: Option<String>,
    /// The data of a benchmark, by its name in `demask eval --list`
    #[arg(long, value_name = "NAME", conflicts_with_all = ["repo", "files", "dataset"])]
    pub benchmark: Option<String>,
    /// Only this file, or those that fit a pattern with * and ?; may be given again
    #[arg(long = "file", value_name = "FILE")]
    pub files: Vec<String>,
    /// Put the files into this folder too, as plain files that may be changed, and print it
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// It is a data set
    #[arg(long)]
    pub dataset: bool,
    /// Files at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub jobs: u8,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A folder with config.json and model.safetensors: a backbone, an image tokenizer, CLIP or ImageReward
    pub checkpoint: PathBuf,
    /// Recorded tensors
    #[arg(value_name = "REFERENCE.safetensors")]
    pub reference: PathBuf,
    /// Where to compute: auto, cpu, cuda:0
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// In which numbers a backbone computes: f32, within 1e-4; bf16, within 0.25, losses within 1e-2, and without its tokens
    #[arg(long, default_value = "f32", value_parser = ["f32", "bf16"])]
    pub dtype: String,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// A file that torch.save wrote (.pt, .pth, .bin, .ckpt), or a folder with pytorch_model.bin or its shards
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The safetensors file to write (into an existing folder: model.safetensors); for a folder, one that is not there yet
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Write floating tensors in this type [default: as they are]
    #[arg(long, value_enum)]
    pub dtype: Option<Floating>,
    /// The dictionary that is meant, keys joined by dots [default: the only one that holds tensors]
    #[arg(long)]
    pub key: Option<String>,
    /// Output
    #[command(flatten)]
    pub output_as: Json,
}

/// Types of floating tensors.
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
    /// A checkpoint: of a run that trains an adapter, which it carries (also as RUN[@STEP]), or the base of the one that
    /// --adapter names
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// The folder to write; it must not be there
    #[arg(value_name = "OUTPUT")]
    pub output: PathBuf,
    /// An adapter in PEFT's layout: a folder, or a repository that was pulled
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub adapter: Option<PathBuf>,
    /// Write the weights in this type [default: as the checkpoint's are stored]
    #[arg(long, value_enum)]
    pub dtype: Option<Stored>,
    /// Output
    #[command(flatten)]
    pub output_as: Json,
}

/// `demask grow`.
#[derive(Debug, Args)]
pub struct Grow {
    /// A text model: a checkpoint folder, a repository that was pulled, or RUN[@STEP]
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// The folder to write; it must not be there
    #[arg(value_name = "OUTPUT")]
    pub output: PathBuf,
    /// Picture codes, at most 262144 [default: as many as the image tokenizer has, else 8192]
    #[arg(long, value_parser = codes)]
    pub codes: Option<usize>,
    /// The folder of an image tokenizer that goes along, or a repository that was pulled
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub image_tokenizer: Option<PathBuf>,
    /// Side of its pictures in pixels [default: 512 as published; of a checkpoint of ours as it says]
    #[arg(long, value_name = "PIXELS", value_parser = count)]
    pub size: Option<usize>,
    /// Seed of the noise in the new rows
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write the weights in this type [default: as the checkpoint's are stored]
    #[arg(long, value_enum)]
    pub dtype: Option<Stored>,
    /// Output
    #[command(flatten)]
    pub output_as: Json,
}

/// Types that weights are stored in.
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
