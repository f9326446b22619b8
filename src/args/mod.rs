//! The arguments of all commands: one table of commands, with an example for each.

mod checkpoints;
mod doctor;
mod evaluation;
mod experiment;
mod output;
mod presentation;
mod profile;
mod runs;
mod sampling;
mod score;
pub mod store_help;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use checkpoints::{Convert, Floating, Grow, Merge, Pull, Stored, VerifyArgs};
pub use doctor::DoctorArgs;
pub use evaluation::{EvalAction, EvalArgs, EvalCompare, EvalMerge, EvalShow, Judging, Likelihood};
pub use experiment::{
    AskModel, Attach, DaemonCommand, Images, LogFormat, Query, QueryFormat, RunArgs, Set, SlurmArgs,
};
pub use output::Json;
pub use presentation::{Across, Plot, RunReport};
pub use profile::{CheckArgs, PlanArgs, ProfileCommand, Sharding};
pub use runs::{LabelFlags, Queue, Resume, Runs, RunsCompare, RunsEdit, Study, StudyAction};
pub use sampling::{CacheKind, Describe, Fill, Generate, Imagine, ModelArgs};
pub use score::ScoreArgs;

/// A research platform for multimodal masked-diffusion language models: train, align, watch and steer.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Folder of the database, pictures, logs and checkpoints [default: the user's data folder]
    #[arg(long, global = true, env = "DEMASK_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: DemaskCommand,
}

const EXAMPLES: &str = "Examples:
  demask run                                   train on the tabletop and watch it
  demask imagine \"two red circles\" --output circles.png
  demask generate \"Ben has 3 apples, buys 4. How many apples?\" --show
  demask eval tabletop-draw --limit 60 --json
  demask query \"SELECT name, value FROM v_latest\"
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the run that was followed was stopped or its daemon ended.";

const STUDY: &str = "A study is a profile with settings and seeds, each pair a run:
  name = \"rates\"                     # the file's name, if it is left out
  profile = \"my.toml\"                # a file beside this one, or a shipped profile
  seeds = [1, 2, 3]
  metrics = [\"eval/*\", \"train/loss\"]
  value = \"last\"                     # or best, or tail: the mean of the last tenth of the steps
  from_scratch = false                # or: from = \"RUN@best\"
  [set]                               # in all of them
  \"checkpoint.keep\" = 1
  [grid]                              # every value with every other
  \"stage.cot.learning_rate\" = [1e-3, 3e-4]
or, in place of [grid], one by one:
  [[setting]]
  name = \"small\"
  set = { \"stage.cot.batch\" = 8 }
What is done is not run again, whenever it was broken off. Every run has the tag study:NAME.
Examples:
  demask study rates.toml --dry-run
  demask study rates.toml
  demask study rates.toml --detach
  demask study show rates.toml --json
  demask study show rates.toml --plot rates.svg";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum DemaskCommand {
    /// For programs: renders the templates that come as frames on standard input, within a limit of memory
    #[command(hide = true)]
    RenderTemplates,
    /// Start a run (and the daemon, if none is up) and open the dashboard
    #[command(
        after_help = "Examples:\n  demask run\n  demask run --headless --set seed=7\n  demask run smoke --from-scratch\n  demask run my.toml --name first --tag paper --note 'twice the batch'\n  demask run my.toml --from first@best\n  demask run my.toml --set seed=8 --queue"
    )]
    Run(RunArgs),
    /// Profiles: list and show them, begin one, check one, every key
    #[command(
        subcommand,
        after_help = "Examples:\n  demask profile list\n  demask profile show smoke\n  demask profile init --output my.toml --from tabletop-align\n  demask profile check my.toml\n  demask profile schema --table sampling.text\n  demask profile schema > profile.schema.json"
    )]
    Profile(ProfileCommand),
    /// What a run of a profile will take of memory, by part, whether it fits, and what would take less
    #[command(
        after_help = "Examples:\n  demask plan tabletop\n  demask plan my.toml --device-memory 80GB\n  demask plan my.toml --device-memory 141GB --set optimizer.moments=bf16 --json\n  demask plan my.toml --device-memory 80GB --ranks 8 --shard weights\nArithmetic over shapes: nothing is loaded. With --device-memory it is of a GPU (bf16 unless the profile says f32), else of this\nmachine's processor. With --ranks it is of one rank; a processor's memory is theirs\nin equal parts. Ranks train on processors so far: of GPUs it is what they would take. Exits 1 when it does not fit."
    )]
    Plan(PlanArgs),
    /// A run as a job of a Slurm cluster, on one node: the batch script, printed or handed to sbatch
    #[command(
        after_help = "Examples:\n  demask slurm my.toml --ranks 8 --sbatch time=12:00:00 --sbatch partition=cpu --dry-run\n  demask slurm my.toml --gpus 1 --sbatch time=24:00:00\n  demask slurm my.toml --nodes 2 --ranks 16 --sbatch time=12:00:00\nFive minutes before the time limit the step is finished and saved and the job is requeued; the run goes on where it was.\nOver several nodes the ranks join the daemon on the first; DEMASK_LISTEN in the job's environment names its address."
    )]
    Slurm(SlurmArgs),
    /// Start, stop or look at the background process that owns runs
    #[command(
        subcommand,
        after_help = "Examples:\n  demask daemon start\n  demask daemon start --log-format json\n  demask daemon start --listen 10.0.0.1 --join-file shared/join\n  demask daemon status --json\n  demask daemon logs --follow\n  demask daemon stop\n`demask run` starts one if none is up; SIGTERM ends it as stop does.\nRUST_LOG says how much it logs; DEMASK_LOG_FORMAT is --log-format where another command starts it."
    )]
    Daemon(DaemonCommand),
    /// Open the dashboard on the running daemon
    #[command(after_help = "Examples:\n  demask attach\n  demask attach --images halfblocks")]
    Attach(Attach),
    /// Where the run is, what its actors are doing, what can be turned
    #[command(after_help = "Examples:\n  demask ps\n  demask ps --json")]
    Ps(Json),
    /// Hold the run at the next step boundary
    #[command(after_help = "Example:\n  demask pause && demask checkpoint && demask resume")]
    Pause(Json),
    /// Let a held run go on, or one that was stopped or failed
    #[command(
        after_help = "A stopped run goes on at its step, a failed one from its last checkpoint once its cause is mended; it ends in the\nweights of a run that was never stopped. One that is done has no step left: `demask run PROFILE --from RUN` begins\nanother with its weights.\nExamples:\n  demask resume\n  demask resume latest\n  demask resume baseline --follow"
    )]
    Resume(Resume),
    /// Checkpoint and end the run at the next step boundary
    #[command(
        after_help = "Example:\n  demask stop\nThe daemon stays up: `demask daemon stop` ends it and lets the run go on later.\n`demask resume RUN` goes on with a run that was stopped. A run that waits in the queue begins."
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
    /// Ask the model of the run that is under way, as it is now
    #[command(
        after_help = "Examples:\n  demask ask \"Ana has 5 pens, loses 2. How many pens?\" --reference 3\n  demask ask \"is there a circle?\" --image circle.png\n  demask ask \"a red circle\" --draw --output now.png\n  demask ask \"What is 3 + 4?\" --json\nIt is answered between two steps of denoising, or after the present step of training; the run's weights stay the same."
    )]
    Ask(AskModel),
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
        after_help = "Examples:\n  demask eval --list\n  demask eval tabletop-draw tabletop-ask --json\n  demask eval tabletop-sums --no-think --limit 200\n  demask eval mine.toml; demask eval mine.toml:pens --limit 50; demask eval --list mine.toml\n  demask eval prompts.jsonl --scorer number --items answers.jsonl\n  demask eval history\n  demask eval show latest --wrong\n  demask eval compare RUN@40 RUN@80\n  demask eval tabletop-draw --clip clip-vit-large-patch14 --image-reward image-reward\nA [[benchmark]] of FILE.toml is a benchmark of your own: file, prompt template, scorer (README).\nEvery item is kept (v_item); an evaluation that was interrupted goes on where it is begun alike.\nA reward network is a folder as in [reward_networks] of a profile: model.safetensors, config.json, tokenizer.json."
    )]
    Eval(EvalArgs),
    /// Grade recorded predictions as a benchmark's own tool grades them; no model runs
    #[command(
        after_help = "A line of FILE is {\"scorer\", \"prediction\", \"reference\", \"options\"?}, or {\"kind\", ...} with the inputs beside\nit; the same line comes back with its \"verdict\". SCORER is a family or a scorer, as --list names them.\nExamples:\n  demask score --list\n  demask score gsm8k outputs.jsonl\n  demask score vqav2 answers.jsonl --json > verdicts.jsonl\n  other-tool | demask score math - --json\nLines that cannot be scored are named on standard error and make the command fail at the end; --strict stops at the first."
    )]
    Score(ScoreArgs),
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
    /// List, show, compare and name runs
    #[command(
        subcommand,
        after_help = "A run is named by its id or its name, by the beginning or the end of its id, or by the word latest. RUN@STEP, RUN@best\nand RUN@latest are its checkpoints, wherever a checkpoint may be named.\nExamples:\n  demask runs list --tag paper\n  demask runs show latest\n  demask runs diff latest 80a7c1cf3794 --json\n  demask runs compare baseline latest --metric 'eval/*'\n  demask runs edit latest --name baseline --tag paper"
    )]
    Runs(Runs),
    /// Runs that wait for their turn: list them, change their order, cancel one
    #[command(
        subcommand,
        after_help = "The daemon begins one after another, however the one before ended; a daemon that dies forgets none.\nExamples:\n  demask run my.toml --set seed=7 --queue\n  demask queue list --json\n  demask queue move 80a7c1cf3794 1\n  demask queue cancel 80a7c1cf3794"
    )]
    Queue(Queue),
    /// Settings by seeds: queue the runs of a study, wait for them, compare them
    #[command(after_help = STUDY)]
    Study(Study),
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
    Verify(VerifyArgs),
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
        after_help = "Examples:\n  demask doctor\n  demask doctor --json\n  demask doctor --profile my.toml\n  demask doctor --repair\nExits 1 when something must be mended."
    )]
    Doctor(DoctorArgs),
}
