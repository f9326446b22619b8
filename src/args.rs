//! What can be typed: one table of commands, with an example for each.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use demask_api::PictureSize;
use demask_datasets::pictures::fit::Fit;

use crate::values::{amount, codes, count, place, size, words};

/// A research platform for multimodal masked-diffusion language models: train, align, watch and steer.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Folder of the database, pictures, logs and checkpoints [default: the user's data folder]
    #[arg(long, global = true, env = "DEMASK_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  demask run                                   train on the tabletop and watch it
  demask imagine \"two red circles\" --output circles.png
  demask generate \"Ben has 3 apples, buys 4. How many apples?\" --show
  demask eval tabletop-draw --limit 60 --json
  demask query \"SELECT name, value FROM v_latest\"
Exit codes: 0 done, 1 failed, 2 wrong usage.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a run (and the daemon, if none is up) and open the dashboard
    #[command(
        after_help = "Examples:\n  demask run\n  demask run --headless --set seed=7\n  demask run --profile profiles/smoke.toml --from-scratch"
    )]
    Run(Run),
    /// Start, stop or look at the background process that owns runs
    #[command(
        subcommand,
        after_help = "Examples:\n  demask daemon start\n  demask daemon status --json\n  demask daemon logs --follow\n  demask daemon stop\n`demask run` starts one if none is up; SIGTERM ends it as stop does."
    )]
    Daemon(Daemon),
    /// Open the dashboard on the running daemon
    #[command(after_help = "Examples:\n  demask attach\n  demask attach --images halfblocks")]
    Attach(Attach),
    /// Where the run is, what its actors are doing, what can be turned
    #[command(after_help = "Examples:\n  demask ps\n  demask ps --json")]
    Ps(Json),
    /// Hold the run at the next step boundary
    #[command(after_help = "Example:\n  demask pause && demask checkpoint && demask resume")]
    Pause(Json),
    /// Let a held run go on
    #[command(after_help = "Example:\n  demask resume")]
    Resume(Json),
    /// Checkpoint and end the run at the next step boundary
    #[command(
        after_help = "Example:\n  demask stop\nThe daemon stays up: `demask daemon stop` ends it and lets the run go on later."
    )]
    Stop(Json),
    /// Write a checkpoint at the next step boundary
    #[command(
        after_help = "Example:\n  demask checkpoint\n  demask query \"SELECT step, path FROM v_checkpoint WHERE kept\""
    )]
    Checkpoint(Json),
    /// Turn a knob at the next step boundary
    #[command(
        after_help = "Examples:\n  demask set learning_rate=0.0003\n  demask set kl=0.02\n  demask set reward.format=1.0\nThe knobs of the present run: demask ps"
    )]
    Set(Set),
    /// Write an answer to a prompt
    #[command(
        after_help = "Examples:\n  demask generate \"Ana has 5 pens, loses 2. How many pens?\"\n  demask generate \"There are 12 birds. 5 come, they double. How many birds?\" --show --temperature 0.5 --seed 3\n  demask generate \"What is 3 + 4?\" --checkpoint LLaDA-8B-Instruct --adapter my-adapter/"
    )]
    Generate(Generate),
    /// Fill holes in a text, from both sides
    #[command(
        after_help = "Examples:\n  demask fill \"The [MASK:8] sat on the mat.\" --checkpoint LLaDA-8B-Base\n  demask fill \"<think>5 - 2 = [MASK]. [MASK] + 4 = 7.</think>[MASK]\" --json"
    )]
    Fill(Fill),
    /// Draw a picture
    #[command(
        after_help = "Examples:\n  demask imagine \"a red circle above a blue square\" --output picture.png\n  demask imagine \"a green circle\" --output changed.png --from picture.png --mask mask.png\n  demask imagine \"a red circle\" --output wide.png --from part.png --outpaint --size 48x32\n  demask imagine \"draw as many red circles as 1 + 2\" --think --show --output three.png\n  demask imagine \"a lighthouse at dusk\" --output lighthouse.png --checkpoint MMaDA-8B-MixCoT --image-tokenizer magvitv2 --size 768x512"
    )]
    Imagine(Imagine),
    /// Describe a picture, or answer a question about it
    #[command(
        after_help = "Examples:\n  demask describe picture.png\n  demask describe picture.png \"how many circles are there?\"\n  demask describe chart.png --fit squash --checkpoint MMaDA-8B-MixCoT --image-tokenizer magvitv2"
    )]
    Describe(Describe),
    /// Score a checkpoint on benchmarks
    #[command(
        after_help = "Examples:\n  demask eval --list\n  demask eval tabletop-draw tabletop-ask --json\n  demask eval tabletop-sums --no-think --limit 200\n  demask eval tabletop-draw --clip clip-vit-large-patch14 --image-reward image-reward\nA reward network is a folder as in [reward_networks] of a profile: model.safetensors, config.json, tokenizer.json."
    )]
    Eval(Eval),
    /// Fetch a model or a data set from the Hugging Face Hub into its cache
    #[command(
        after_help = "Prints the folder that holds the files. What Python's huggingface_hub has fetched is used, and the\nother way round; a download that broke off goes on; every size and hash is checked.\nWith --to the files are copied into that folder, outside the cache. A file there that has the right content\nstays, one of an earlier revision gives way, and where any other is in the way nothing is written.\nExamples:\n  demask pull GSAI-ML/LLaDA-8B-Instruct\n  demask pull Gen-Verse/MMaDA-8B-MixCoT@main --file config.json --file '*.safetensors'\n  demask pull OWNER/NAME --to my-model\n  demask generate \"What is 3 + 4?\" --checkpoint $(demask pull OWNER/NAME)\nEnvironment: HF_TOKEN (or the token file), HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE."
    )]
    Pull(Pull),
    /// Ask the experiment store, read-only
    #[command(
        after_help = crate::views::help()
    )]
    Query(Query),
    /// List, show and compare runs
    #[command(
        subcommand,
        after_help = "A run is named by its id, by the beginning or the end of it, or by the word latest.\nExamples:\n  demask runs list\n  demask runs show latest\n  demask runs diff latest 80a7c1cf3794 --json"
    )]
    Runs(Runs),
    /// Compare a checkpoint with recorded tensors, number by number
    #[command(after_help = "Example:\n  demask verify backbone/ backbone/reference.safetensors")]
    Verify(Verify),
    /// Turn a PyTorch checkpoint into safetensors; nothing in it is ever run
    #[command(
        after_help = "Examples:\n  demask convert pytorch_model.bin model.safetensors\n  demask convert ImageReward.pt image-reward/ --dtype f16\n  demask convert epoch3.ckpt model.safetensors --key state_dict\n  demask convert LLaDA-8B-Base/ LLaDA-8B-Base-safetensors/"
    )]
    Convert(Convert),
    /// Add an adapter to its checkpoint's weights: a model of its own
    #[command(
        after_help = "The tokenizer, the samplers and the image tokenizer go along.\nExamples:\n  demask merge LLaDA-8B-Instruct/ merged/ --adapter my-adapter/\n  demask merge checkpoints/RUN/step-00000040/ merged/\n  demask generate \"What is 3 + 4?\" --checkpoint merged/"
    )]
    Merge(Merge),
    /// Give a text model picture codes, from LLaDA to what MMaDA is trained from
    #[command(
        after_help = "Embedding and head grow by a row a code, each the mean of the rows that are there and a little\nnoise; a picture's token is the length of the tokenizer plus its code.\nExamples:\n  demask grow LLaDA-8B-Instruct/ grown/ --image-tokenizer magvitv2/ --size 256\n  demask grow LLaDA-8B-Instruct/ grown/ --codes 8192 --seed 7 --json\n  demask run --profile my.toml --checkpoint grown/"
    )]
    Grow(Grow),
    /// Say what was found on this machine, what is missing and how to mend it
    #[command(
        after_help = "Examples:\n  demask doctor\n  demask doctor --json\nExits 1 when something must be mended."
    )]
    Doctor(Json),
}

/// The one flag of commands that only report.
#[derive(Debug, Args)]
pub struct Json {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `demask run`.
#[derive(Debug, Args)]
pub struct Run {
    /// A built-in profile's name (tabletop) or a TOML file
    #[arg(long, default_value = "tabletop", value_name = "NAME|FILE.toml")]
    pub profile: String,
    /// No dashboard: print where the run is, line by line, until it ends
    #[arg(long)]
    pub headless: bool,
    /// Start from random weights instead of the shipped checkpoint
    #[arg(long)]
    pub from_scratch: bool,
    /// Start from the weights of this checkpoint folder, or pulled repository, instead of the shipped one
    /// (`start_from` in a profile)
    #[arg(long, value_name = "DIR|OWNER/NAME", conflicts_with = "from_scratch")]
    pub checkpoint: Option<PathBuf>,
    /// Change one value of the profile; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// With --headless: leave at once, the daemon goes on
    #[arg(long, requires = "headless")]
    pub detach: bool,
    #[command(flatten)]
    /// JSON lines instead of text, with --headless
    pub output: Json,
}

/// `demask daemon`.
#[derive(Debug, Subcommand)]
pub enum Daemon {
    /// Start it in the background; an unfinished run goes on from its last checkpoint
    Start {
        /// Stay in the foreground
        #[arg(long)]
        foreground: bool,
    },
    /// Finish the step, checkpoint, flush, end
    Stop,
    /// Is it up, and what is it doing?
    Status(Json),
    /// Print its log
    Logs {
        /// Last lines to print
        #[arg(long, default_value_t = 50)]
        lines: usize,
        /// Go on printing as the log grows
        #[arg(long, short)]
        follow: bool,
    },
}

/// `demask attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// How pictures are drawn
    #[arg(long, value_enum, default_value_t = Images::Auto)]
    pub images: Images,
}

/// How pictures are drawn in the dashboard.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Images {
    /// What the terminal can
    Auto,
    /// Half-block characters
    Halfblocks,
    /// Kitty's graphics
    Kitty,
    /// Sixel graphics
    Sixel,
    /// Not at all
    Off,
}

/// `demask set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The knob and its new value
    #[arg(value_name = "KEY=VALUE")]
    pub assignment: String,
    #[command(flatten)]
    /// Output
    pub output: Json,
}

/// Where the model of a one-off command comes from.
#[derive(Debug, Args)]
pub struct Model {
    /// A checkpoint folder, or a repository that was pulled [default: the shipped tabletop model]
    #[arg(long, value_name = "DIR|OWNER/NAME")]
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
pub enum Cache {
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
    /// What to answer
    #[arg(value_parser = words)]
    pub prompt: String,
    /// The model
    #[command(flatten)]
    pub model: Model,
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
    pub cache: Option<Cache>,
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
    pub model: Model,
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
    #[arg(value_parser = words)]
    pub prompt: String,
    /// Where to write the picture
    #[arg(long, short, value_name = "FILE.png")]
    pub output: PathBuf,
    /// The model
    #[command(flatten)]
    pub model: Model,
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
    #[arg(value_name = "FILE.png")]
    pub file: PathBuf,
    /// A question about it; without one the picture is described
    #[arg(value_parser = words)]
    pub question: Option<String>,
    /// The model
    #[command(flatten)]
    pub model: Model,
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

/// `demask eval`.
#[derive(Debug, Args)]
pub struct Eval {
    /// Suites, see --list
    #[arg(value_name = "SUITE", required_unless_present = "list")]
    pub suites: Vec<String>,
    /// Name the suites and end
    #[arg(long)]
    pub list: bool,
    /// The model
    #[command(flatten)]
    pub model: Model,
    /// At most this many items a suite
    #[arg(long, value_parser = count)]
    pub limit: Option<usize>,
    /// Answer without reasoning
    #[arg(long)]
    pub no_think: bool,
    /// Also say what this CLIP makes of drawings: the mean CLIP score, 0 to 100
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub clip: Option<PathBuf>,
    /// Also say what this ImageReward makes of drawings, on the mean
    #[arg(long, value_name = "DIR|OWNER/NAME")]
    pub image_reward: Option<PathBuf>,
    /// Seed of the samplers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Output
    #[command(flatten)]
    pub output: Json,
}

/// `demask pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// The repository, and a branch, tag or commit of it
    #[arg(value_name = "OWNER/NAME[@REVISION]")]
    pub repo: String,
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

/// `demask query`.
#[derive(Debug, Args)]
pub struct Query {
    /// One SELECT statement; without it the views and their columns are listed
    pub sql: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// The same as --format json
    #[arg(long)]
    pub json: bool,
    /// At most this many rows; 0 means all
    #[arg(long, default_value_t = 1000)]
    pub limit: u64,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values
    Csv,
    /// One array of objects
    Json,
    /// One object a line
    Jsonl,
}

/// `demask runs`.
#[derive(Debug, Subcommand)]
pub enum Runs {
    /// All runs, newest first
    List(Json),
    /// One run: configuration, checkpoints, benchmarks
    Show {
        /// Its id, the beginning or the end of it, or the word latest
        run: String,
        /// Output
        #[command(flatten)]
        output: Json,
    },
    /// What differs between two runs
    Diff {
        /// One run
        a: String,
        /// The other
        b: String,
        /// Output
        #[command(flatten)]
        output: Json,
    },
}

/// `demask verify`.
#[derive(Debug, Args)]
pub struct Verify {
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
    /// A checkpoint: of a run that trains an adapter, which it carries, or the base of the one that --adapter names
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
    /// A text model: a checkpoint folder, or a repository that was pulled
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
    /// As an engine is asked for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}
