//! The arguments of the commands that sample from one model: generate, fill, imagine, describe, and the model flags of
//! eval.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use demask_api::{PictureSize, limits};
use demask_datasets::pictures::fit::Fit;

use super::output::Json;
use super::values::{amount, place, probability, size, within, words};

/// The model of a one-off command.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// Checkpoint folder, pulled repository, or checkpoint of a run (RUN, RUN@STEP, RUN@best) [default: the shipped
    /// tabletop model]
    #[arg(long, value_name = "DIR|OWNER/NAME|RUN[@STEP]")]
    pub checkpoint: Option<PathBuf>,
    /// Low-rank adapter to apply to the checkpoint: a folder in PEFT's layout, a pulled repository, or the checkpoint of
    /// a run that trained an adapter
    #[arg(long, value_name = "DIR|OWNER/NAME|RUN[@STEP]", conflicts_with = "average")]
    pub adapter: Option<PathBuf>,
    /// Use the moving average of the weights, which a run with `ema` stores in its checkpoints
    #[arg(long)]
    pub average: bool,
    /// Device to compute on: auto, cpu, cuda, cuda:0
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Sampler settings that replace the checkpoint's sampling.json: JSON in the form of that file, or a file with it
    #[arg(long, value_name = "JSON|FILE.json")]
    pub sampling: Option<String>,
    /// Image tokenizer for a published model that is distributed without one: a folder, or a pulled repository
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub image_tokenizer: Option<PathBuf>,
    /// Size of pictures in pixels, as in 512 or 768x512; both sides must be multiples of the side of a code, which is
    /// 16 with MMaDA's image tokenizer [default: the square that the model was trained with; 512 for published models]
    #[arg(long, value_name = "SIDE|WIDTHxHEIGHT", value_parser = size)]
    pub size: Option<PictureSize>,
    /// Follow the published code wherever its results differ from Demask's (turns on all quirks)
    #[arg(long)]
    pub as_published: bool,
    /// Set one quirk of the published code; may be repeated: attention=hard|none|additive,
    /// compounding_temperature=BOOL, unconditional_prefix=N, probabilities=f32|logits, count_whole_picture=BOOL,
    /// whole_vocabulary=BOOL, template=checkpoint|mmada|llada, eot_as_text=BOOL
    #[arg(long = "quirk", value_name = "KEY=VALUE")]
    pub quirks: Vec<String>,
}

/// The keys and values that the text sampler keeps between steps.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CacheKind {
    /// No keys and values
    None,
    /// Those of the positions before the active block
    Prefix,
    /// Those of all positions outside the active block
    Dual,
}

/// `demask generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// Prompt to answer; `-` reads it from standard input
    #[arg(value_parser = words, required_unless_present = "file")]
    pub prompt: Option<String>,
    /// Answer every prompt of this file (`-` is standard input), one per line: text, or JSON with "prompt"
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// Number of answers to each prompt, with consecutive seeds
    #[arg(long, default_value_t = 1, value_parser = within(limits::SAMPLES))]
    pub samples: usize,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// Denoising steps, a multiple of the number of blocks [default: set by the checkpoint; 256 for published models]
    #[arg(long, value_parser = within(limits::STEPS))]
    pub steps: Option<usize>,
    /// Number of new tokens [default: as the checkpoint was trained; 512 for published models]
    #[arg(long, value_parser = within(limits::POSITIONS))]
    pub length: Option<usize>,
    /// Block length in tokens [default: set by the checkpoint; 128 for published models]
    #[arg(long, value_parser = within(limits::POSITIONS))]
    pub block: Option<usize>,
    /// Gumbel temperature; 0 is greedy [default: set by the checkpoint; 1 for published models]
    #[arg(long, value_name = "T", value_parser = amount, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Classifier-free guidance scale; 0 is off [default: set by the checkpoint, else 0]
    #[arg(long, value_name = "S", value_parser = amount, allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// Commit every token whose probability is at least P, 0 to 1, and at least one token per step
    #[arg(long, value_name = "P", value_parser = probability, conflicts_with_all = ["steps", "factor"])]
    pub threshold: Option<f64>,
    /// Commit the r-th ranked token as long as its probability is at least 1 - F / (r + 1)
    #[arg(long, value_name = "F", value_parser = amount, conflicts_with = "steps")]
    pub factor: Option<f64>,
    /// Keys and values to reuse between steps; without a cache sampling is exact, with one it is faster
    #[arg(long, value_enum)]
    pub cache: Option<CacheKind>,
    /// Seed of the sampling noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Answer without reasoning
    #[arg(long)]
    pub no_think: bool,
    /// Show how the masks are filled, step by step
    #[arg(long)]
    pub show: bool,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask fill`.
#[derive(Debug, Args)]
pub struct Fill {
    /// Text with [MASK] for one unknown token and [MASK:N] for N unknown tokens
    pub text: String,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// Denoising steps, at most one per masked token [default: set by --sampling, else one per masked token]
    #[arg(long, value_parser = within(limits::STEPS))]
    pub steps: Option<usize>,
    /// Gumbel temperature; 0 is greedy [default: set by --sampling, else 0]
    #[arg(long, value_name = "T", value_parser = amount, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Seed of the sampling noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask imagine`.
#[derive(Debug, Args)]
pub struct Imagine {
    /// Prompt to draw
    #[arg(value_parser = words, required_unless_present = "file")]
    pub prompt: Option<String>,
    /// Draw every prompt of this file (`-` is standard input), one per line: text, or JSON with "prompt"; --output is
    /// then a folder
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "from", "show"])]
    pub file: Option<PathBuf>,
    /// Number of pictures of each prompt of the file, with consecutive seeds
    #[arg(long, default_value_t = 1, value_parser = within(limits::SAMPLES), conflicts_with = "prompt")]
    pub samples: usize,
    /// File to write the picture to; with --file, the folder for PROMPT-SAMPLE.png, which is created if it does not
    /// exist
    #[arg(long, short, value_name = "FILE.png|FOLDER")]
    pub output: PathBuf,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// Denoising steps [default: set by the checkpoint, else 12]
    #[arg(long, value_parser = within(limits::STEPS))]
    pub steps: Option<usize>,
    /// Temperature of the noise on the order in which codes are committed [default: set by the checkpoint, else 1]
    #[arg(long, value_name = "T", value_parser = amount, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Classifier-free guidance scale; 0 is off [default: set by the checkpoint, else 2]
    #[arg(long, value_name = "S", value_parser = amount, allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// Seed of the sampling noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Picture to change: redrawn where --mask is light, or extended with --outpaint
    #[arg(long, value_name = "PICTURE", requires = "open")]
    pub from: Option<PathBuf>,
    /// Mask of the same size as the picture: white parts are redrawn, black and transparent parts stay; both pictures
    /// are fitted to --size
    #[arg(
        long,
        value_name = "MASK",
        requires = "from",
        conflicts_with = "think",
        group = "open"
    )]
    pub mask: Option<PathBuf>,
    /// Draw the surroundings of the picture, which is placed unscaled in a picture of --size and keeps its pixels. A
    /// code that the picture covers only in part is drawn too and shown outside the picture, so edges join best between
    /// codes
    #[arg(long, requires = "from", conflicts_with = "think", group = "open")]
    pub outpaint: bool,
    /// Position of the picture's upper left corner in pixels [default: centred, moved left and up to a whole code]
    #[arg(long, value_name = "X,Y", value_parser = place, requires = "outpaint")]
    pub place: Option<(usize, usize)>,
    /// Reason before drawing
    #[arg(long)]
    pub think: bool,
    /// Factor by which the picture is enlarged, without smoothing [default: 8 for pictures of 32 pixels, less for
    /// larger ones]
    #[arg(long, value_parser = value_parser!(u32).range(1..=64))]
    pub scale: Option<u32>,
    /// Show how the picture is filled in, step by step
    #[arg(long)]
    pub show: bool,
    /// Print JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// `demask describe`.
#[derive(Debug, Args)]
pub struct Describe {
    /// Picture to describe or ask about
    #[arg(value_name = "FILE.png", required_unless_present = "file")]
    pub picture: Option<PathBuf>,
    /// Describe every picture of this file (`-` is standard input), one per line: a path, or JSON with "image" and, for
    /// a question, "prompt"; paths are relative to the file's folder
    #[arg(long, value_name = "FILE", conflicts_with = "picture")]
    pub file: Option<PathBuf>,
    /// Number of answers to each line of the file, with consecutive seeds
    #[arg(long, default_value_t = 1, value_parser = within(limits::SAMPLES), conflicts_with = "picture")]
    pub samples: usize,
    /// Question about the picture [default: describe the picture]
    #[arg(value_parser = words)]
    pub question: Option<String>,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// How the picture is fitted to the model's picture size, a square unless --size is given: crop (to its middle),
    /// squash (to the size, changing the aspect ratio), pad (with white)
    #[arg(long, default_value = "crop")]
    pub fit: Fit,
    /// Reason before answering
    #[arg(long)]
    pub think: bool,
    /// Seed of the sampling noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Output
    #[command(flatten)]
    pub output: Json,
}
