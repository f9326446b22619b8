//! Fills a store through its own writer, as runs would, for measurements of queries. `tests/benches/query.py`
//! calls it.
//!
//!     cargo run --release -p demask-storage --example fill -- HOME/demask.db [METRIC ROWS, default 1000000] [RUNS,
//!     default 4]
#![allow(missing_docs)]

use std::error::Error;
use std::path::PathBuf;

use demask_storage::{Checkpoint, Eval, ExampleRecord, Metric, Record, Run, RunEnd, TrainUse, Writer};

/// The default number of runs in the store.
const RUNS: u64 = 4;
/// Names of the metrics that each step records.
const NAMES: [&str; 20] = [
    "train/loss",
    "train/loss_text",
    "train/loss_picture",
    "train/loss_understand",
    "train/gradient_norm",
    "train/learning_rate",
    "train/masked",
    "reward/total",
    "reward/correct",
    "reward/format",
    "reward/draw",
    "reward/length",
    "policy/kl",
    "policy/clipped",
    "policy/ratio",
    "rate/tokens_per_s",
    "rate/step_ms",
    "rate/wait_ms",
    "memory/engine",
    "mix/draw",
];
/// Sequences that each step trains on, and the number of examples they are chosen from.
const BATCH: u64 = 4;
const EXAMPLES: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("which database file?")?);
    let wanted: u64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let runs: u64 = arguments.next().map_or(Ok(RUNS), |text| text.parse())?;
    let mut writer = Writer::open(&path)?;
    let steps = wanted / runs.max(1) / NAMES.len() as u64;
    for number in 0..runs {
        let run = uuid::Uuid::now_v7().to_string();
        let began = i64::try_from(number)? * 10_000_000_000;
        let mut batch = first(&run, number);
        for step in 1..=steps {
            records(&run, step, &mut batch);
            if step.is_multiple_of(64) || step == steps {
                writer.append(&batch, began + i64::try_from(step)? * 200_000)?;
                batch.clear();
            }
        }
        let (status, reason) = (demask_storage::RunState::Done, "all stages are done".to_owned());
        writer.append(
            &[Record::RunEnd(RunEnd { run, status, reason })],
            began + 9_000_000_000,
        )?;
    }
    writer.finish()?;
    println!(
        "{} metric rows in {}",
        steps * runs * NAMES.len() as u64,
        path.display()
    );
    Ok(())
}

fn first(run: &str, number: u64) -> Vec<Record> {
    let config = serde_json::json!({ "name": "filled", "seed": number, "stage": [{ "kind": "pretrain", "steps": 12_500 }] });
    let begun = Record::Run(Run {
        id: run.to_owned(),
        parent: None,
        parent_step: None,
        labels: Default::default(),
        profile: "filled".into(),
        config_hash: format!("{number:064x}"),
        config,
        seed: number,
        host: "bench".into(),
        version: "0".into(),
        generation: 0,
    });
    let examples = (0..EXAMPLES / RUNS).map(|at| Record::Example(example(run, at)));
    std::iter::once(begun).chain(examples).collect()
}

fn example(run: &str, at: u64) -> ExampleRecord {
    ExampleRecord {
        id: id(run, at),
        run: run.to_owned(),
        source: ["draw", "ask", "sums"][(at % 3) as usize].into(),
        split: "train".into(),
        modality: demask_storage::Modality::Text,
        generator: "tabletop".into(),
        verifier: "by construction".into(),
        score: 1.0,
        text: format!("Ann has {at} pens and buys 3 more. How many pens does she have now?"),
        picture: None,
        licence: "CC0-1.0".into(),
        place: String::new(),
    }
}

fn id(run: &str, at: u64) -> String {
    blake3::hash(format!("{run}/{at}").as_bytes()).to_hex()[..32].to_owned()
}

/// Adds the records of one step. Values are a hash of the step, so that the file is the same each time except
/// for its ids.
fn records(run: &str, step: u64, into: &mut Vec<Record>) {
    let noise = |at: u64| ((step * 31 + at * 17).wrapping_mul(2_654_435_761) % 1000) as f64 / 1000.0;
    let values = NAMES
        .iter()
        .zip(0..)
        .map(|(name, at)| ((*name).to_owned(), 3.0 / (step as f64).sqrt() + noise(at)));
    into.push(Record::Metric(Metric {
        run: run.to_owned(),
        step,
        values: values.collect(),
    }));
    let subjects = (0..BATCH).map(|at| id(run, (step * BATCH + at) % (EXAMPLES / RUNS)));
    into.push(Record::TrainUse(TrainUse {
        run: run.to_owned(),
        step,
        stage: "pretrain".into(),
        subjects: subjects.collect(),
    }));
    if step.is_multiple_of(500) {
        into.push(Record::Checkpoint(checkpoint(run, step)));
        into.push(Record::Eval(eval(run, step, noise(99))));
    }
}

fn checkpoint(run: &str, step: u64) -> Checkpoint {
    Checkpoint {
        hash: id(run, step),
        run: run.to_owned(),
        step,
        weights: step,
        path: format!("checkpoints/{run}/{step:08}"),
        reason: "interval".into(),
        bytes: 40_000_000,
        kept: true,
    }
}

fn eval(run: &str, step: u64, value: f64) -> Eval {
    Eval {
        run: run.to_owned(),
        step,
        suite: "tabletop-draw".into(),
        checkpoint: id(run, step),
        metric: "accuracy".into(),
        value,
        low: value - 0.05,
        high: value + 0.05,
        n: 240,
        parts: Default::default(),
        decision: Some(demask_storage::Decision::Hold),
        gain: None,
    }
}
