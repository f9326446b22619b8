//! The arguments of the commands that sample from one model: generate, fill, imagine, describe, and the model flags of
//! eval.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use demask_api::PictureSize;
use demask_datasets::pictures::fit::Fit;

use super::output::Json;
use super::values::{amount, count, place, size, words};

/// Where the model of a one-off command comes from.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A checkpoint folder, a repository that was pulled, or a run's checkpoint (RUN, RUN@STEP, RUN@best) [default: the shipped
    /// tabletop model]
    #[arg(long, value_name = "DIR|OWNER/NAME|RUN[@STEP]")]
    pub checkpoint: Option<PathBuf>,
    /// A low-rank adapter to put on it: a folder in PEFT's layout (a checkpoint of a run that trained one is such), or a
    /// repository that was pulled
    #[arg(long, value_name = "DIR|OWNER/NAME", conflicts_with = "average")]
    pub adapter: Option<PathBuf>,
    /// Use the moving average of the weights, which a run with `ema` keeps in its checkpoints
    #[arg(long)]
    pub average: bool,
    /// Where to compute: auto, cpu, cuda:0
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// How it samples, in place of the checkpoint's sampling.json: that file's JSON, or a file of it
    #[arg(long, value_name = "JSON|FILE.json")]
    pub sampling: Option<String>,
    /// The folder of the image tokenizer, for a published model that comes without its own
    #[arg(long, value_name = "DIR")]
    pub image_tokenizer: Option<PathBuf>,
    /// Size of the pictures in pixels, 512 or 768x512: multiples of what a code stands for, 16 with MMaDA's image tokenizer
    /// [default: the square that the model was trained with, 512 for published ones]
    #[arg(long, value_name = "SIDE|WIDTHxHEIGHT", value_parser = size)]
    pub size: Option<PictureSize>,
    /// Do as the published code does wherever its numbers differ from ours
    #[arg(long)]
    pub as_published: bool,
    /// Set one of its quirks; may be given again: attention=hard|none|additive, compounding_temperature=BOOL,
    /// unconditional_prefix=N, probabilities=f32|logits, count_whole_picture=BOOL, whole_vocabulary=BOOL,
    /// template=checkpoint|mmada|llada, eot_as_text=BOOL
    #[arg(long = "quirk", value_name = "KEY=VALUE")]
    pub quirks: Vec<String>,
}

/// What is kept between the steps of the text sampler.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CacheKind {
    /// Nothing
    None,
    /// What stands before the active block
    Prefix,
    /// Everything but the active block
    Dual,
}

/// `demask generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// What to answer; - reads it from standard input
    #[arg(value_parser = words, required_unless_present = "file")]
    pub prompt: Option<String>,
    /// Answer every prompt of this file (- is standard input), a line each: text, or JSON with "prompt"
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub file: Option<PathBuf>,
    /// So many answers to each prompt, of seeds that follow one another
    #[arg(long, default_value_t = 1, value_parser = count)]
    pub samples: usize,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// Denoising steps, a multiple of the blocks [default: as the checkpoint says; 256 for published models]
    #[arg(long, value_parser = count)]
    pub steps: Option<usize>,
    /// New tokens [default: as the checkpoint was trained; 512 for published models]
    #[arg(long, value_parser = count)]
    pub length: Option<usize>,
    /// Block length [default: as the checkpoint says; 128 for published models]
    #[arg(long, value_parser = count)]
    pub block: Option<usize>,
    /// Gumbel temperature; 0 is greedy [default: as the checkpoint says; 1 for published models]
    #[arg(long, value_name = "T", value_parser = amount, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Classifier-free guidance; 0 is off [default: as the checkpoint says, else 0]
    #[arg(long, value_name = "S", value_parser = amount, allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// Commit every token that is at least this probable, 0 to 1, and one at least
    #[arg(long, value_name = "P", value_parser = amount, conflicts_with_all = ["steps", "factor"])]
    pub threshold: Option<f64>,
    /// Commit the r-th surest token while it is at least 1 - F / (r + 1) probable
    #[arg(long, value_name = "F", value_parser = amount, conflicts_with = "steps")]
    pub factor: Option<f64>,
    /// Keep keys and values between steps: exact without, faster with
    #[arg(long, value_enum)]
    pub cache: Option<CacheKind>,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Answer at once, without reasoning
    #[arg(long)]
    pub no_think: bool,
    /// Show the masks being filled, step by step
    #[arg(long)]
    pub show: bool,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask fill`.
#[derive(Debug, Args)]
pub struct Fill {
    /// The text, with [MASK] for one token that is not known and [MASK:N] for N
    pub text: String,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// Denoising steps, at most one a masked token [default: as --sampling says, else one a masked token]
    #[arg(long, value_parser = count)]
    pub steps: Option<usize>,
    /// Gumbel temperature; 0 is greedy [default: as --sampling says, else 0]
    #[arg(long, value_name = "T", value_parser = amount, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask imagine`.
#[derive(Debug, Args)]
pub struct Imagine {
    /// What to draw
    #[arg(value_parser = words, required_unless_present = "file")]
    pub prompt: Option<String>,
    /// Draw every prompt of this file (- is standard input), a line each: text, or JSON with "prompt"; --output is a folder then
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "from", "show"])]
    pub file: Option<PathBuf>,
    /// So many pictures of each prompt of the file, of seeds that follow one another
    #[arg(long, default_value_t = 1, value_parser = count, conflicts_with = "prompt")]
    pub samples: usize,
    /// Where to write the picture; with --file the folder of PROMPT-SAMPLE.png, made where it is missing
    #[arg(long, short, value_name = "FILE.png|FOLDER")]
    pub output: PathBuf,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// Denoising steps [default: as the checkpoint says, else 12]
    #[arg(long, value_parser = count)]
    pub steps: Option<usize>,
    /// Noise on the order in which tokens are kept [default: as the checkpoint says, else 1]
    #[arg(long, value_name = "T", value_parser = amount, allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Classifier-free guidance; 0 is off [default: as the checkpoint says, else 2]
    #[arg(long, value_name = "S", value_parser = amount, allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// A picture to draw on: anew where --mask is light, or around it with --outpaint
    #[arg(long, value_name = "PICTURE", requires = "open")]
    pub from: Option<PathBuf>,
    /// A picture of the same size: white is drawn anew, black and what is transparent stay; both are made to fit --size
    #[arg(
        long,
        value_name = "MASK",
        requires = "from",
        conflicts_with = "think",
        group = "open"
    )]
    pub mask: Option<PathBuf>,
    /// Draw what lies around the picture, which stands unscaled in one of --size and keeps its pixels. A code that it covers
    /// only in part is drawn too and shown outside it: edges that lie between codes join best
    #[arg(long, requires = "from", conflicts_with = "think", group = "open")]
    pub outpaint: bool,
    /// Where the picture's upper left corner stands, in pixels [default: in the middle, at the nearest whole code before it]
    #[arg(long, value_name = "X,Y", value_parser = place, requires = "outpaint")]
    pub place: Option<(usize, usize)>,
    /// Reason first, then draw
    #[arg(long)]
    pub think: bool,
    /// Enlarge this many times, without smoothing [default: 8 for pictures of 32 pixels, less for larger ones]
    #[arg(long, value_parser = value_parser!(u32).range(1..=64))]
    pub scale: Option<u32>,
    /// Show the picture being filled in, step by step
    #[arg(long)]
    pub show: bool,
    /// JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// `demask describe`.
#[derive(Debug, Args)]
pub struct Describe {
    /// A picture
    #[arg(value_name = "FILE.png", required_unless_present = "file")]
    pub picture: Option<PathBuf>,
    /// Read every picture of this file (- is standard input), a line each: a path, or JSON with "image" and, where something is
    /// asked, "prompt"; paths are seen from the file's folder
    #[arg(long, value_name = "FILE", conflicts_with = "picture")]
    pub file: Option<PathBuf>,
    /// So many answers to each line of the file, of seeds that follow one another
    #[arg(long, default_value_t = 1, value_parser = count, conflicts_with = "picture")]
    pub samples: usize,
    /// A question about it; without one the picture is described
    #[arg(value_parser = words)]
    pub question: Option<String>,
    /// The model
    #[command(flatten)]
    pub model: ModelArgs,
    /// How the picture becomes one of the model's size, a square unless --size says otherwise: crop (its middle), squash (all
    /// of it, squeezed), pad (all of it, white around it)
    #[arg(long, default_value = "crop")]
    pub fit: Fit,
    /// Reason first, then answer
    #[arg(long)]
    pub think: bool,
    /// Seed of the noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Output
    #[command(flatten)]
    pub output: Json,
}
