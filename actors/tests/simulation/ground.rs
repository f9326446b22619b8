//! What all schedules share: the profile, its data, the run's initial tokenizer, and the result of an
//! undisturbed run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use demask_actors::inference::checkpoint_settings;
use demask_actors::inference::complete::Inference;
use demask_actors::inference::settings::SamplerSettings;
use demask_actors::profile::{Profile, StageKind};
use demask_actors::runtime::seeds::seed_of;
use demask_datasets::prompts::text_tokenizer::TextTokenizer;
use demask_storage::Writer;
use tempfile::TempDir;

use crate::laws::Remains;
use crate::schedule::{LEAST_RANKS, RANKS, Schedule, Setting};
use crate::world;

/// A profile with every kind of stage that works on text.
const PROFILE: &str = r#"
name = "simulated"
seed = 11
start_from = "START"

[engine]
device = "cpu"
RANKS

[budgets]
text_to_image = { prompt = 8, answer = 0, direct_answer = 0, codes = 0 }
text = { prompt = 120, answer = 60, direct_answer = 8, codes = 0 }
understand = { prompt = 8, answer = 8, direct_answer = 8, codes = 0 }
think_then_draw = { prompt = 8, answer = 8, direct_answer = 8, codes = 0 }

[sampling]
rollout_temperature = 1.0
text = { steps = 2, block = 0 }

[checkpoint]
every_steps = 2
keep = 2

[gate]
suites = ["tabletop-sums"]
limit = 2

[[source]]
name = "sums"
kind = "jsonl"
path = "TRAIN"
licence = "ours"

[[stage]]
name = "pretrain"
kind = "pretrain"
steps = 3
batch = 2
learning_rate = 1e-3
final_rate = 1.0

[[stage]]
name = "reason"
kind = "reason"
batch = 2
group = PROPOSED

[[stage]]
name = "cot"
kind = "finetune"
steps = 2
batch = 2
learning_rate = 1e-3
final_rate = 1.0

[[stage]]
name = "unigrpo"
kind = "align"
steps = ALIGNED
batch = 2
group = 2
learning_rate = 1e-3
final_rate = 1.0
objective = { clip = 0.2, kl = 0.01, inner_steps = 2 }

[[stage]]
name = "after"
kind = "evaluate"
suites = [SUITES]
limit = 2
"#;

/// Sampling engines, which draw a step's groups while the step before it is trained.
const SAMPLERS: &str = r#"
[rollouts]
samplers = 2
staleness = 1
"#;

/// Sampling engines, which draw with the newest weights up to two steps ahead.
const FRESHEST: &str = r#"
[rollouts]
samplers = 2
staleness = 2
mode = "freshest"
"#;

/// An external reward, and a benchmark that it scores. Its restarts are few, so that the run is paused at times.
const REWARDS: &str = r#"
[[reward]]
name = "letters"
url = "http://127.0.0.1:9/score"
weight = 0.5
batch = 3
time_limit = 10
restarts = 1

[[benchmark]]
name = "judged"
file = "JUDGED"
scorer = "letters"
"#;

/// A teacher, which writes most of the traces.
const TEACHER: &str = r#"
[teacher]
url = "http://127.0.0.1:9/v1"
model = "school"
share = 0.75
concurrency = 2
max_tokens = 60
"#;

/// The items of that benchmark.
const JUDGED: &str = r#"{"question": "Which word rhymes with house?", "answer": "mouse"}
{"question": "Is the sea wet or dry?", "answer": "wet"}
"#;

/// The file name of the empty store.
const STORE: &str = "empty.db";
/// The learning rate before any steer.
pub const LEARNING_RATE: f64 = 1e-3;
/// The seed of the profile.
const SEED: u64 = 11;

impl Setting {
    /// Returns the profile's text, before its folders are filled in.
    fn profile(self) -> String {
        let sums = r#""tabletop-sums""#;
        // Only a policy stage of several steps has steps whose groups are drawn with older weights.
        let (proposed, aligned, suites, more) = match self {
            Self::Alone | Self::Disk | Self::Ranks | Self::Watched => ("2", "2", sums, ""),
            Self::Samplers => ("2", "4", sums, SAMPLERS),
            Self::Freshest => ("2", "7", sums, FRESHEST),
            Self::Rewards => ("2", "2", r#""tabletop-sums", "judged""#, REWARDS),
            Self::Teacher => ("6", "2", sums, TEACHER),
        };
        let ranks = match self {
            Self::Ranks => format!("ranks = {RANKS}\nmin_ranks = {LEAST_RANKS}"),
            _ => String::new(),
        };
        PROFILE
            .replace("RANKS", &ranks)
            .replace("PROPOSED", proposed)
            .replace("ALIGNED", aligned)
            .replace("SUITES", suites)
            + more
    }
}

/// What all schedules of a setting share.
pub struct Ground {
    folder: TempDir,
    pub setting: Setting,
    /// The profile's text.
    pub profile: String,
    /// The tokenizer and prompt settings that the simulated engine uses.
    pub inference: Inference,
    /// The step that each step's seed belongs to.
    pub steps: BTreeMap<u64, u64>,
    /// Number of steps of all stages.
    pub total: u64,
    /// The first step of the policy stage.
    pub align: u64,
    /// Number of optimizer steps before the policy stage.
    pub optimizer_steps: u64,
    /// Steps by which the weights that draw a step's groups may be older than those that are trained.
    pub staleness: u64,
    calm: OnceLock<Remains>,
}

impl Ground {
    /// Creates the shared state and executes an undisturbed run.
    pub fn prepare(setting: Setting) -> Arc<Self> {
        let ground = Arc::new(Self::make(setting));
        let calm = world::live_through(&Schedule::calm(setting), &ground);
        assert!(
            calm.violations.is_empty(),
            "the calm run: {:?}\n{}",
            calm.violations,
            calm.log.join("\n")
        );
        ground.calm.set(calm.remains.unwrap()).ok();
        ground
    }

    fn make(setting: Setting) -> Self {
        let folder = scratch();
        let lines: Vec<String> = (0..40_u32).map(line).collect();
        let train = folder.path().join("train.jsonl");
        std::fs::write(&train, lines.concat()).unwrap();
        let judged = folder.path().join("judged.jsonl");
        std::fs::write(&judged, JUDGED).unwrap();
        let start = folder.path().join("start");
        std::fs::create_dir(&start).unwrap();
        let store = folder.path().join(STORE);
        Writer::open(&store).unwrap().finish().unwrap();
        let profile = setting
            .profile()
            .replace("START", start.to_str().unwrap())
            .replace("TRAIN", train.to_str().unwrap())
            .replace("JUDGED", judged.to_str().unwrap());
        let parsed = Profile::parse(&profile, "simulated").unwrap();
        let tokenizer = TextTokenizer::train(&lines, 400).unwrap();
        let inference = Inference::new(tokenizer, parsed.budgets);
        let files = checkpoint_settings::files(&inference, &SamplerSettings::default()).unwrap();
        for (name, text) in files {
            std::fs::write(start.join(name), text).unwrap();
        }
        let total = parsed.total_steps();
        let before = parsed
            .stages
            .iter()
            .take_while(|stage| stage.kind != StageKind::Align);
        let trains = |kind: StageKind| matches!(kind, StageKind::Pretrain | StageKind::Finetune);
        let optimizer_steps = before.clone().filter(|stage| trains(stage.kind));
        Self {
            folder,
            setting,
            profile,
            inference,
            steps: (0..total).map(|step| (seed_of(SEED, step, 1), step)).collect(),
            total,
            optimizer_steps: optimizer_steps.map(|stage| stage.steps).sum(),
            align: before.map(|stage| stage.steps).sum(),
            staleness: parsed.rollouts.staleness,
            calm: OnceLock::new(),
        }
    }

    /// Returns the folder in which homes are created.
    pub fn room(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Returns an empty store, made as a daemon makes it. It is copied, because making one takes longer than
    /// the rest of a schedule.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join(STORE)
    }

    /// Returns whether the newest weights draw a group when it is admitted.
    pub fn takes_freshest(&self) -> bool {
        self.setting == Setting::Freshest
    }

    /// Returns the step whose first weights draw the groups of a policy step; with the freshest weights, the first step
    /// whose weights may.
    pub fn source_of(&self, step: u64) -> u64 {
        self.align.max(step.saturating_sub(self.staleness))
    }

    /// Returns the result of the undisturbed run, or `None` while that run is executed.
    pub fn calm(&self) -> Option<&Remains> {
        self.calm.get()
    }
}

/// Creates a temporary folder, in memory if possible, because the simulation does not depend on a disk.
fn scratch() -> TempDir {
    let name =
        |builder: &mut tempfile::Builder<'_, '_>| builder.prefix("demask-simulation-").tempdir_in("/dev/shm");
    name(&mut tempfile::Builder::new())
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn line(at: u32) -> String {
    let who = ["Tom", "Ann", "Ben", "Zoe", "Kim"][at as usize % 5];
    let thing = ["apples", "pens", "coins", "keys", "birds", "cups", "nuts", "hats"][at as usize / 5];
    let (first, second) = (at % 7 + 1, at % 3 + 2);
    let sum = first + second;
    format!(
        "{{\"question\": \"{who} starts with {first} {thing} and finds {second}. Count the {thing} of {who}.\", \
         \"answer\": \"{who} has {first}+{second} = <<{first}+{second}={sum}>>{sum} now.\\n#### {sum}\"}}\n"
    )
}
