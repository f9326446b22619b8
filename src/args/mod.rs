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
    /// Command to run
    #[command(subcommand)]
    pub command: DemaskCommand,
}

const EXAMPLES: &str = "Examples:
  demask run                                   train on the tabletop data and open the dashboard
  demask imagine \"two red circles\" --output circles.png
  demask generate \"Ben has 3 apples, buys 4. How many apples?\" --show
  demask eval tabletop-draw --limit 60 --json
  demask query \"SELECT name, value FROM v_latest\"
Exit codes: 0 success, 1 failure, 2 wrong usage, 3 the followed run was stopped or its daemon ended,
4 the run is being stopped but the disk has not confirmed the order.";

const STUDY: &str = "A study runs one profile with several settings and seeds. Each pair is a run. FILE.toml:
  name = \"rates\"                     # default: the name of the file
  profile = \"my.toml\"                # a file in the folder of this one, or a shipped profile
  seeds = [1, 2, 3]
  metrics = [\"eval/*\", \"train/loss\"]
  value = \"last\"                     # last, best, or tail (the mean of the last tenth of the steps)
  from_scratch = false                # or: from = \"RUN@best\"
  [set]                               # for every run
  \"checkpoint.keep\" = 1
  [grid]                              # every combination of these values
  \"stage.cot.learning_rate\" = [1e-3, 3e-4]
or, in place of [grid], one table per setting:
  [[setting]]
  name = \"small\"
  set = { \"stage.cot.batch\" = 8 }
An interrupted study is continued by the same command: runs that are done are not run again. Every
run has the tag study:NAME.
Examples:
  demask study rates.toml --dry-run
  demask study rates.toml
  demask study rates.toml --detach
  demask study show rates.toml --json
  demask study show rates.toml --plot rates.svg";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum DemaskCommand {
    /// Internal: render the templates that arrive as frames on standard input, within a memory limit
    #[command(hide = true)]
    RenderTemplates,
    /// Internal: read the Parquet files that frames on standard input name, within a memory limit
    #[command(hide = true)]
    ReadParquet,
    /// Start a run, and the daemon if none is running, and open the dashboard
    #[command(
        after_help = "Examples:\n  demask run\n  demask run --headless --set seed=7\n  demask run smoke --from-scratch\n  demask run my.toml --name first --tag paper --note 'twice the batch'\n  demask run my.toml --from first@best\n  demask run my.toml --set seed=8 --queue"
    )]
    Run(RunArgs),
    /// List, show, create and check profiles, and print their keys
    #[command(
        subcommand,
        after_help = "Examples:\n  demask profile list\n  demask profile show smoke\n  demask profile init --output my.toml --from tabletop-align\n  demask profile check my.toml\n  demask profile schema --table sampling.text\n  demask profile schema > profile.schema.json"
    )]
    Profile(ProfileCommand),
    /// Compute how much memory a run of a profile needs, by part, whether it fits, and which changes would reduce it
    #[command(
        after_help = "Examples:\n  demask plan tabletop\n  demask plan my.toml --device-memory 80GB\n  demask plan my.toml --device-memory 141GB --set optimizer.moments=bf16 --json\n  demask plan my.toml --device-memory 80GB --ranks 8 --shard weights\nThe plan is computed from tensor shapes; nothing is loaded. It is for a GPU with --device-memory (in\nbf16 unless the profile says f32), otherwise for the CPU of this machine. With --ranks it is for one\nrank; ranks on a CPU share its memory equally. Training on several GPUs has not been run yet, so\nits plan is arithmetic alone. Exits with 1 if the run does not fit."
    )]
    Plan(PlanArgs),
    /// Submit a run to a Slurm cluster as a job, or print its batch script
    #[command(
        after_help = "Examples:\n  demask slurm my.toml --ranks 8 --sbatch time=12:00:00 --sbatch partition=cpu --dry-run\n  demask slurm my.toml --gpus 1 --sbatch time=24:00:00\n  demask slurm my.toml --nodes 2 --ranks 16 --gpus-per-node 8 --sbatch time=12:00:00\nFive minutes before the time limit, the step is finished, a checkpoint is saved and the job is\nrequeued; the run then continues where it was. On several nodes the ranks join the daemon on the\nfirst one; DEMASK_LISTEN in the environment of the job names its address."
    )]
    Slurm(SlurmArgs),
    /// Start, stop and inspect the daemon, the background process that owns runs
    #[command(
        subcommand,
        after_help = "Examples:\n  demask daemon start\n  demask daemon start --log-format json\n  demask daemon start --listen 10.0.0.1 --join-file shared/join\n  demask daemon status --json\n  demask daemon logs --follow\n  demask daemon stop\n`demask run` starts a daemon if none is running. SIGTERM ends it as `demask daemon stop` does.\nOn a disk that does not answer, `demask daemon stop` waits; asked again, the daemon ends without the\nrows that the disk has not confirmed. Nothing acknowledged is lost. A second signal ends it at once.\nRUST_LOG sets the log level. DEMASK_LOG_FORMAT sets the log format when another command starts the\ndaemon."
    )]
    Daemon(DaemonCommand),
    /// Open the dashboard of the running daemon
    #[command(after_help = "Examples:\n  demask attach\n  demask attach --images halfblocks")]
    Attach(Attach),
    /// Show the progress of the run, the state of its actors, and the knobs that can be changed
    #[command(after_help = "Examples:\n  demask ps\n  demask ps --json")]
    Ps(Json),
    /// Pause the run at the next step boundary
    #[command(after_help = "Example:\n  demask pause && demask checkpoint && demask resume")]
    Pause(Json),
    /// Continue a run that is paused, stopped or failed
    #[command(
        after_help = "A stopped run continues at its step, a failed one from its last checkpoint once the cause is fixed.\nThe final weights are those of a run that was never interrupted. A run that is done has no steps\nleft: `demask run PROFILE --from RUN` starts another run from its weights.\nExamples:\n  demask resume\n  demask resume latest\n  demask resume baseline --follow"
    )]
    Resume(Resume),
    /// Save a checkpoint and end the run at the next step boundary
    #[command(
        after_help = "Example:\n  demask stop\nThe daemon keeps running, and the next run in the queue starts. `demask resume RUN` continues the\nstopped run. `demask daemon stop` ends the daemon without ending the run; the next daemon\ncontinues the run. The order is taken within seconds even if the disk does not answer; if the disk has\nnot confirmed it by then, the command says so and exits with 4."
    )]
    Stop(Json),
    /// Save a checkpoint at the next step boundary
    #[command(
        after_help = "Example:\n  demask checkpoint\n  demask query \"SELECT step, path FROM v_checkpoint WHERE kept\""
    )]
    Checkpoint(Json),
    /// Change a knob (a setting of the run) at the next step boundary
    #[command(
        after_help = "Examples:\n  demask set learning_rate=0.0003\n  demask set kl=0.02\n  demask set reward.format=1.0\n`demask ps` lists the knobs of the current run."
    )]
    Set(Set),
    /// Ask the model of the current run, with its current weights
    #[command(
        after_help = "Examples:\n  demask ask \"Ana has 5 pens, loses 2. How many pens?\" --reference 3\n  demask ask \"is there a circle?\" --image circle.png\n  demask ask \"a red circle\" --draw --output now.png\n  demask ask \"What is 3 + 4?\" --json\nThe model answers between two denoising steps, or after the current training step. The weights of\nthe run are not changed."
    )]
    Ask(AskModel),
    /// Generate an answer to a prompt
    #[command(
        after_help = "Examples:\n  demask generate \"Ana has 5 pens, loses 2. How many pens?\"\n  demask generate \"There are 12 birds. 5 come, they double. How many birds?\" --show --temperature 0.5 --seed 3\n  demask generate \"What is 3 + 4?\" --checkpoint LLaDA-8B-Instruct --adapter my-adapter/\n  demask generate --file problems.jsonl --samples 4 --json > answers.jsonl\n  echo \"What is 3 + 4?\" | demask generate -"
    )]
    Generate(Generate),
    /// Fill in the masked tokens of a text, given the text before and after them
    #[command(
        after_help = "Examples:\n  demask fill \"The [MASK:8] sat on the mat.\" --checkpoint LLaDA-8B-Base\n  demask fill \"<think>5 - 2 = [MASK]. [MASK] + 4 = 7.</think>[MASK]\" --json"
    )]
    Fill(Fill),
    /// Draw a picture from a prompt, or change or extend a picture
    #[command(
        after_help = "Examples:\n  demask imagine \"a red circle above a blue square\" --output picture.png\n  demask imagine \"a green circle\" --output changed.png --from picture.png --mask mask.png\n  demask imagine \"a red circle\" --output wide.png --from part.png --outpaint --size 48x32\n  demask imagine \"draw as many red circles as 1 + 2\" --think --show --output three.png\n  demask imagine \"a lighthouse at dusk\" --output lighthouse.png --checkpoint MMaDA-8B-MixCoT --image-tokenizer magvitv2 --size 768x512\n  demask imagine --file prompts.jsonl --samples 4 --output pictures/ --json > pictures.jsonl"
    )]
    Imagine(Imagine),
    /// Describe a picture, or answer a question about it
    #[command(
        after_help = "Examples:\n  demask describe picture.png\n  demask describe picture.png \"how many circles are there?\"\n  demask describe chart.png --fit squash --checkpoint MMaDA-8B-MixCoT --image-tokenizer magvitv2\n  demask describe --file questions.jsonl --samples 4 --json > answers.jsonl"
    )]
    Describe(Describe),
    /// Evaluate a checkpoint on benchmarks
    #[command(
        after_help = "Examples:\n  demask eval --list\n  demask eval tabletop-draw tabletop-ask --json\n  demask eval tabletop-sums --no-think --limit 200\n  demask eval mine.toml; demask eval mine.toml:pens --limit 50; demask eval --list mine.toml\n  demask eval prompts.jsonl --scorer number --items answers.jsonl\n  demask eval history\n  demask eval show latest --wrong\n  demask eval compare RUN@40 RUN@80\n  demask eval tabletop-draw --clip clip-vit-large-patch14 --image-reward image-reward\nA [[benchmark]] table of FILE.toml defines a benchmark of your own: file, prompt template, scorer\n(see the README). Every item is stored (view v_item). An interrupted evaluation continues if it is\nstarted again with the same settings.\n--clip and --image-reward take a folder as in [reward_networks] of a profile, with\nmodel.safetensors, config.json and tokenizer.json."
    )]
    Eval(EvalArgs),
    /// Score recorded predictions as the official tool of a benchmark does; no model is run
    #[command(
        after_help = "Each line of FILE is {\"scorer\", \"prediction\", \"reference\", \"options\"?}, or {\"kind\", ...} with the\ninputs as further keys. With --json the same line is printed with its \"verdict\" added. SCORER is a\nscorer or a family of scorers, as listed by --list.\nExamples:\n  demask score --list\n  demask score gsm8k outputs.jsonl\n  demask score vqav2 answers.jsonl --json > verdicts.jsonl\n  other-tool | demask score math - --json\nLines that cannot be scored are reported on standard error, and the command fails at the end; with\n--strict it stops at the first one.\nOther than the official tools: a set without rows is an error (MME's says 0), and so is a set of\nmmbench.circular without a question's first pass (VLMEvalKit's table is empty). rewards/README.md\nlists the other differences."
    )]
    Score(ScoreArgs),
    /// Download a model or a data set from the Hugging Face Hub into the Hub's cache
    #[command(
        after_help = "Prints the folder that contains the files. The cache is shared with Python's huggingface_hub. An\ninterrupted download is continued, and the size and hash of every file are checked.\nWith --to the files are also copied into that folder, outside the cache. Files there that have the\nright content are left alone, and files of an earlier revision are replaced; if any other file is in\nthe way, nothing is written.\nExamples:\n  demask pull GSAI-ML/LLaDA-8B-Instruct\n  demask pull Gen-Verse/MMaDA-8B-MixCoT@main --file config.json --file '*.safetensors'\n  demask pull OWNER/NAME --to my-model\n  demask generate \"What is 3 + 4?\" --checkpoint $(demask pull OWNER/NAME)\nEnvironment: HF_TOKEN (or the token file), HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE."
    )]
    Pull(Pull),
    /// Query the experiment store with SQL, read-only
    #[command(
        after_help = store_help::help()
    )]
    Query(Query),
    /// List, show, compare and label runs
    #[command(
        subcommand,
        after_help = "RUN is the name or the id of a run, the beginning or the end of its id, or the word latest. Where a\ncommand takes a checkpoint, RUN@STEP, RUN@best and RUN@latest are checkpoints of the run.\nExamples:\n  demask runs list --tag paper\n  demask runs show latest\n  demask runs diff latest 80a7c1cf3794 --json\n  demask runs compare baseline latest --metric 'eval/*'\n  demask runs edit latest --name baseline --tag paper"
    )]
    Runs(Runs),
    /// List, reorder and cancel the runs that wait in the queue
    #[command(
        subcommand,
        after_help = "The daemon starts the queued runs one after another, however the previous run ended. The queue\nsurvives a crash of the daemon.\nExamples:\n  demask run my.toml --set seed=7 --queue\n  demask queue list --json\n  demask queue move 80a7c1cf3794 1\n  demask queue cancel 80a7c1cf3794"
    )]
    Queue(Queue),
    /// Queue the runs of a study (several settings and seeds), wait for them and compare them
    #[command(after_help = STUDY)]
    Study(Study),
    /// Draw metrics of one or several runs as charts, in the terminal or to a file
    #[command(
        after_help = "Examples:\n  demask plot --metric 'reward/*'\n  demask plot latest 80a7c1cf3794 --metric train/loss --smooth 0.9 --output loss.svg\n  demask plot --metric policy/kl --log --x time --output kl.png --size 1200x500\nMarks in a chart show where a knob was changed (`demask set`)."
    )]
    Plot(Plot),
    /// Write a report of a run as one HTML page: configuration, curves, benchmarks, samples, data funnel, steering
    #[command(
        after_help = "Examples:\n  demask report --output report.html\n  demask report 80a7c1cf3794 --output run.html --samples 40\nThe page contains its pictures, runs no script and loads nothing from elsewhere."
    )]
    Report(RunReport),
    /// Compare the results of a checkpoint with recorded tensors, number by number
    #[command(after_help = "Example:\n  demask verify backbone/ backbone/reference.safetensors")]
    Verify(VerifyArgs),
    /// Convert a PyTorch checkpoint to safetensors; no code in it is executed
    #[command(
        after_help = "Examples:\n  demask convert pytorch_model.bin model.safetensors\n  demask convert ImageReward.pt image-reward/ --dtype f16\n  demask convert epoch3.ckpt model.safetensors --key state_dict\n  demask convert LLaDA-8B-Base/ LLaDA-8B-Base-safetensors/"
    )]
    Convert(Convert),
    /// Merge an adapter into the weights of its checkpoint and write the result as a new model
    #[command(
        after_help = "The tokenizer, the sampler settings and the image tokenizer are copied.\nExamples:\n  demask merge LLaDA-8B-Instruct/ merged/ --adapter my-adapter/\n  demask merge checkpoints/RUN/step-00000040/ merged/\n  demask generate \"What is 3 + 4?\" --checkpoint merged/"
    )]
    Merge(Merge),
    /// Add picture codes to a text model, as LLaDA is extended before it is trained into MMaDA
    #[command(
        after_help = "The embedding and the head get one new row per code: the mean of the existing rows plus a little\nnoise. The token id of a code is the length of the text tokenizer plus the code.\nExamples:\n  demask grow LLaDA-8B-Instruct/ grown/ --image-tokenizer magvitv2/ --size 256\n  demask grow LLaDA-8B-Instruct/ grown/ --codes 8192 --seed 7 --json\n  demask run --profile my.toml --checkpoint grown/"
    )]
    Grow(Grow),
    /// Check this machine: report what was found, what is missing and how to fix it
    #[command(
        after_help = "Examples:\n  demask doctor\n  demask doctor --json\n  demask doctor --profile my.toml\n  demask doctor --repair\nExits with 1 if something must be fixed."
    )]
    Doctor(DoctorArgs),
}
