//! What can be typed: one table of commands, with an example for each.

mod checkpoints;
mod evaluation;
mod experiment;
mod output;
mod presentation;
mod profile;
mod sampling;
mod score;
pub mod store_help;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use checkpoints::{Convert, Floating, Grow, Merge, Pull, Stored, Verify};
pub use evaluation::{Eval, EvalAction, EvalCompare, EvalShow};
pub use experiment::{Attach, Daemon, Format, Images, LogFormat, Query, Run, Runs, Set};
pub use output::Json;
pub use presentation::{Across, Plot, RunReport};
pub use profile::{Check, Profile};
pub use sampling::{Cache, Describe, Fill, Generate, Imagine, Model};
pub use score::Score;

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
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the run that was followed was stopped or its daemon ended.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a run (and the daemon, if none is up) and open the dashboard
    #[command(
        after_help = "Examples:\n  demask run\n  demask run --headless --set seed=7\n  demask run smoke --from-scratch\n  demask run my.toml"
    )]
    Run(Run),
    /// Profiles: list and show them, begin one, check one, every key
    #[command(
        subcommand,
        after_help = "Examples:\n  demask profile list\n  demask profile show smoke\n  demask profile init --output my.toml --from tabletop-align\n  demask profile check my.toml\n  demask profile schema --table sampling.text\n  demask profile schema > profile.schema.json"
    )]
    Profile(Profile),
    /// Start, stop or look at the background process that owns runs
    #[command(
        subcommand,
        after_help = "Examples:\n  demask daemon start\n  demask daemon start --log-format json\n  demask daemon status --json\n  demask daemon logs --follow\n  demask daemon stop\n`demask run` starts one if none is up; SIGTERM ends it as stop does.\nRUST_LOG says how much it logs; DEMASK_LOG_FORMAT is --log-format where another command starts it."
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
        after_help = "Examples:\n  demask generate \"Ana has 5 pens, loses 2. How many pens?\"\n  demask generate \"There are 12 birds. 5 come, they double. How many birds?\" --show --temperature 0.5 --seed 3\n  demask generate \"What is 3 + 4?\" --checkpoint LLaDA-8B-Instruct --adapter my-adapter/\n  demask generate --file problems.jsonl --samples 4 --json > answers.jsonl\n  echo \"What is 3 + 4?\" | demask generate -"
    )]
    Generate(Generate),
    /// Fill holes in a text, from both sides
    #[command(
        after_help = "Examples:\n  demask fill \"The [MASK:8] sat on the mat.\" --checkpoint LLaDA-8B-Base\n  demask fill \"<think>5 - 2 = [MASK]. [MASK] + 4 = 7.</think>[MASK]\" --json"
    )]
    Fill(Fill),
    /// Draw a picture
    #[command(
        after_help = "Examples:\n  demask imagine \"a red circle above a blue square\" --output picture.png\n  demask imagine \"a green circle\" --output changed.png --from picture.png --mask mask.png\n  demask imagine \"a red circle\" --output wide.png --from part.png --outpaint --size 48x32\n  demask imagine \"draw as many red circles as 1 + 2\" --think --show --output three.png\n  demask imagine \"a lighthouse at dusk\" --output lighthouse.png --checkpoint MMaDA-8B-MixCoT --image-tokenizer magvitv2 --size 768x512\n  demask imagine --file prompts.jsonl --samples 4 --output pictures/ --json > pictures.jsonl"
    )]
    Imagine(Imagine),
    /// Describe a picture, or answer a question about it
    #[command(
        after_help = "Examples:\n  demask describe picture.png\n  demask describe picture.png \"how many circles are there?\"\n  demask describe chart.png --fit squash --checkpoint MMaDA-8B-MixCoT --image-tokenizer magvitv2\n  demask describe --file questions.jsonl --samples 4 --json > answers.jsonl"
    )]
    Describe(Describe),
    /// Score a checkpoint on benchmarks
    #[command(
        after_help = "Examples:\n  demask eval --list\n  demask eval tabletop-draw tabletop-ask --json\n  demask eval tabletop-sums --no-think --limit 200\n  demask eval history\n  demask eval show latest --wrong\n  demask eval compare RUN@40 RUN@80\n  demask eval tabletop-draw --clip clip-vit-large-patch14 --image-reward image-reward\nEvery item is kept (v_item); an evaluation that was interrupted goes on where it is begun alike.\nA reward network is a folder as in [reward_networks] of a profile: model.safetensors, config.json, tokenizer.json."
    )]
    Eval(Eval),
    /// Grade recorded predictions as a benchmark's own tool grades them; no model runs
    #[command(
        after_help = "A line of FILE is {\"scorer\", \"prediction\", \"reference\", \"options\"?}, or {\"kind\", ...} with the inputs beside\nit; the same line comes back with its \"verdict\". SCORER is a family or a scorer, as --list names them.\nExamples:\n  demask score --list\n  demask score gsm8k outputs.jsonl\n  demask score vqav2 answers.jsonl --json > verdicts.jsonl\n  other-tool | demask score math - --json\nLines that cannot be scored are named on standard error and make the command fail at the end; --strict stops at the first."
    )]
    Score(Score),
    /// Fetch a model or a data set from the Hugging Face Hub into its cache
    #[command(
        after_help = "Prints the folder that holds the files. What Python's huggingface_hub has fetched is used, and the\nother way round; a download that broke off goes on; every size and hash is checked.\nWith --to the files are copied into that folder, outside the cache. A file there that has the right content\nstays, one of an earlier revision gives way, and where any other is in the way nothing is written.\nExamples:\n  demask pull GSAI-ML/LLaDA-8B-Instruct\n  demask pull Gen-Verse/MMaDA-8B-MixCoT@main --file config.json --file '*.safetensors'\n  demask pull OWNER/NAME --to my-model\n  demask generate \"What is 3 + 4?\" --checkpoint $(demask pull OWNER/NAME)\nEnvironment: HF_TOKEN (or the token file), HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE."
    )]
    Pull(Pull),
    /// Ask the experiment store, read-only
    #[command(
        after_help = store_help::help()
    )]
    Query(Query),
    /// List, show and compare runs
    #[command(
        subcommand,
        after_help = "A run is named by its id, by the beginning or the end of it, or by the word latest.\nExamples:\n  demask runs list\n  demask runs show latest\n  demask runs diff latest 80a7c1cf3794 --json"
    )]
    Runs(Runs),
    /// Draw curves of runs, over each other, in a file or here
    #[command(
        after_help = "Examples:\n  demask plot --metric 'reward/*'\n  demask plot latest 80a7c1cf3794 --metric train/loss --smooth 0.9 --output loss.svg\n  demask plot --metric policy/kl --log --x time --output kl.png --size 1200x500\nMarks show where a knob was turned (demask set)."
    )]
    Plot(Plot),
    /// Write a run as one HTML page: configuration, curves, benchmarks, samples, funnel, steering
    #[command(
        after_help = "Examples:\n  demask report --output report.html\n  demask report 80a7c1cf3794 --output run.html --samples 40\nThe page holds its pictures, runs no script and fetches nothing."
    )]
    Report(RunReport),
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
