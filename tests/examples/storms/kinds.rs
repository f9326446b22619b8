//! The kinds of storms: what runs, and the result of an undisturbed run.

use std::future::Future;
use std::path::Path;

use demask_tests::dice::Dice;
use demask_tests::likeness::deeds;
use demask_tests::profile::{smoke, smoke_with_stages};
use demask_tests::published::lay_out;
use demask_tests::{Place, SMOKE, begin, ended, subscribed};
use serde_json::json;

use crate::{Struck, evaluation, fire, stopped};

const HEAD: &str =
    "[engine]\ndevice = \"cpu\"\ndtype = \"f32\"\nthreads = 1\n[checkpoint]\nevery_steps = 1\nkeep = 2\n";
/// A reward that measures the length of answers.
const REWARD: &str = r#"
import json, sys
for line in sys.stdin:
    batch = json.loads(line)
    values = [min(len(item["answer"]), 40) / 40 for item in batch["items"]]
    print(json.dumps({"batch": batch["batch"], "values": values}), flush=True)
"#;

/// What is attacked, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Lora,
    Grow,
    Promotion,
    Rewards,
    Ranks,
    Samplers,
    Queue,
    FirstCheckpoint,
    Save,
    Resume,
    Evaluation,
    Stop,
    Disk,
}

pub const KINDS: [Kind; 14] = [
    Kind::Plain,
    Kind::Lora,
    Kind::Grow,
    Kind::Promotion,
    Kind::Rewards,
    Kind::Ranks,
    Kind::Samplers,
    Kind::Queue,
    Kind::FirstCheckpoint,
    Kind::Save,
    Kind::Resume,
    Kind::Evaluation,
    Kind::Stop,
    Kind::Disk,
];

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Lora => "lora",
            Self::Grow => "grow",
            Self::Promotion => "promotion",
            Self::Rewards => "rewards",
            Self::Ranks => "ranks",
            Self::Samplers => "samplers",
            Self::Queue => "queue",
            Self::FirstCheckpoint => "first-checkpoint",
            Self::Save => "save",
            Self::Resume => "resume",
            Self::Evaluation => "evaluation",
            Self::Stop => "stop",
            Self::Disk => "disk",
        }
    }

    /// Whether it starts from random weights.
    pub fn is_from_scratch(self) -> bool {
        !matches!(self, Self::Lora | Self::Grow | Self::Promotion)
    }

    /// Returns its profile, and writes the files that it reads.
    pub fn profile(self, place: &Path) -> String {
        match self {
            Self::Lora => lora(place),
            Self::Grow => grow(place),
            Self::Promotion => promotion(),
            Self::Rewards => rewards(place),
            Self::Ranks => smoke(&["engine.ranks=2", "engine.shard=weights", "stage.3.steps=6"]),
            Self::Samplers => samplers(),
            Self::Queue => {
                smoke_with_stages("[[stage]]\nname = \"little\"\nkind = \"pretrain\"\nsteps = 5\nbatch = 4\n")
            }
            _ => SMOKE.to_owned(),
        }
    }
}

fn lora(place: &Path) -> String {
    let file = place.join("sevens.jsonl");
    let rows = (0..60).map(|at| {
        let question = format!("Ann has {} pens and loses {}. How many pens?", 9 + at, 1 + at % 9);
        json!({ "question": question, "answer": "7" }).to_string()
    });
    std::fs::write(&file, rows.collect::<Vec<_>>().join("\n")).expect("a file");
    format!(
        "name = \"sevens\"\nlora = {{ rank = 2 }}\n{HEAD}[[source]]\nname = \"sevens\"\nkind = \"jsonl\"\npath = {file:?}\n\
         [[stage]]\nname = \"sevens\"\nkind = \"finetune\"\nsteps = 12\nbatch = 4\nlearning_rate = 0.01\nthink_share = 0.0\n"
    )
}

fn grow(place: &Path) -> String {
    let (folder, images) = lay_out(place, "llada");
    format!(
        "name = \"grows\"\nstart_from = {folder:?}\nimage_tokenizer_from = {images:?}\ngrow = {{ codebook_size = 1024, seed = 5 }}\n\
         {HEAD}[[source]]\nname = \"draw\"\nkind = \"tabletop_draw\"\n\
         [[stage]]\nname = \"draw\"\nkind = \"pretrain\"\nsteps = 8\nbatch = 4\n"
    )
}

/// Returns a profile in which the shipped model is evaluated, ruined and evaluated again, twice.
fn promotion() -> String {
    let stage = |name: &str, more: &str| format!("[[stage]]\nname = \"{name}\"\n{more}");
    let look = "kind = \"evaluate\"\nsuites = [\"tabletop-ask\"]\nlimit = 12\n";
    let ruin = "kind = \"pretrain\"\nsteps = 3\nbatch = 4\nlearning_rate = 0.5\nsources = [\"sums\"]\n";
    let stages = [
        stage("before", look),
        stage("ruin", ruin),
        stage("after", look),
        stage("again", ruin),
        stage("last", look),
    ];
    format!(
        "name = \"gate\"\n{HEAD}[gate]\nrollback = true\n[[source]]\nname = \"sums\"\nkind = \"tabletop_sums\"\n\
         [[source]]\nname = \"ask\"\nkind = \"tabletop_ask\"\n{}",
        stages.concat()
    )
}

fn rewards(place: &Path) -> String {
    std::fs::write(place.join("reward.py"), REWARD).expect("a file");
    smoke_with_stages(&format!(
        "[rewards]\nformat = 0.1\n[[reward]]\nname = \"letters\"\ncommand = [\"python3\", \"{{folder}}/reward.py\"]\nfolder = {place:?}\n\
         tasks = [\"text\", \"understand\"]\nrestarts = 8\n\
         [[stage]]\nname = \"codes\"\nkind = \"tokenizer\"\nbatch = 4\n\
         [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 6\nbatch = 3\ngroup = 2\nlearning_rate = 1e-3\n"
    ))
}

/// Returns a profile of policy steps whose groups two sampling engines draw from weights one step old.
fn samplers() -> String {
    smoke_with_stages(
        "[rollouts]\nsamplers = 2\nstaleness = 1\nthreads = 1\n\
         [[stage]]\nname = \"codes\"\nkind = \"tokenizer\"\nbatch = 4\n\
         [[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 6\nbatch = 3\ngroup = 2\nlearning_rate = 1e-3\n",
    )
}

/// Returns the result of an undisturbed run.
pub fn calm(kind: Kind) -> Vec<String> {
    match kind {
        Kind::Evaluation => evaluation::calm(),
        Kind::Stop => [Kind::Plain, Kind::Rewards].into_iter().flat_map(calm).collect(),
        _ => wait(async {
            let mut place = Place::default();
            let mut client = subscribed(&mut place).await;
            let profile = kind.profile(place.path());
            let run = begin(&mut client, &profile, kind.is_from_scratch()).await;
            let end = ended(&mut client).await;
            assert_eq!(end, demask_storage::RunState::Done, "a run that nobody disturbs");
            let deeds = deeds(&place, &run);
            assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
            deeds
        }),
    }
}

/// Executes one round: a home or an evaluation, and at most `most` attacks.
pub fn round(kind: Kind, dice: &mut Dice, most: u32, calm: &[String]) -> Struck {
    match kind {
        Kind::Evaluation => evaluation::round(dice, most, calm),
        Kind::Stop => wait(stopped::round(dice, calm)),
        _ => wait(fire::round(kind, dice, most, calm)),
    }
}

/// Blocks this thread on a future.
fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}
