//! `demask eval merge`: merges the parts of an evaluation that several machines made.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::bail;
use demask_actors::home::Home;
use demask_actors::pipeline::evaluation::evaluator::{SuiteRun, labelled};
use demask_actors::runtime::ids;
use demask_rewards::benchmarks::{Judged, Suite};
use demask_storage::{EvalItem, Evaluation, RunState, evaluations, store};
use serde_json::{Map, Value, json};

use super::figures::print_results;
use super::kept::Kept;
use super::named::{NamedSuites, laid_down};
use super::stamps::without_time;
use crate::args::EvalMerge;
use crate::terminal::print;

/// The key of a part's number in the settings of an evaluation.
pub const SHARD: &str = "shard";
/// The key of the stamps of the weights' folder.
pub const WEIGHTS: &str = "weights";
/// The key of the device, which differs between machines.
pub const DEVICE: &str = "device";
/// The key of the side of pictures in pixels, in which the items of own benchmarks are read.
pub const PIXELS: &str = "pixels";
/// The key of an adapter's folder and files in them.
pub const ADAPTER_FILES: &str = "adapter_files";
/// The key of an image tokenizer's folder and files in them.
pub const IMAGE_TOKENIZER_FILES: &str = "image_tokenizer_files";
/// The key of the file of recorded detections in them.
pub const DETECTIONS_FILE: &str = "detections_file";

/// Merges parts that differ only in their part numbers, computes the result of each suite from all items, and stores it
/// as an evaluation.
///
/// # Errors
/// An error if there is no such evaluation, if the parts differ in anything else, if an item is in no part or in two, or
/// if a part has another item in its place.
pub fn merge(home: &Home, options: &EvalMerge) -> anyhow::Result<ExitCode> {
    let parts = parts(home, &options.evaluations)?;
    let (first, _) = &parts[0];
    let expected = compared(first);
    for (other, _) in &parts[1..] {
        let found = compared(other);
        let differ: Vec<&str> = expected
            .keys()
            .chain(found.keys().filter(|key| !expected.contains_key(*key)))
            .filter(|key| expected.get(*key) != found.get(*key))
            .map(String::as_str)
            .collect();
        if !differ.is_empty() {
            bail!(
                "{} and {} are not parts of one evaluation: they differ in {} (files are known by name, size and content)",
                first.id,
                other.id,
                differ.join(", ")
            );
        }
    }
    let mut suites: Vec<Suite> = named(first, options)?;
    if first.settings["embedded"] == true {
        let folder = laid_down(home)?;
        suites = suites
            .into_iter()
            .map(|suite| suite.within(folder.clone()))
            .collect();
    }
    let mut merged = Evaluation {
        id: ids::new_id().to_string(),
        state: RunState::Running,
        ..first.clone()
    };
    let is_of_one_device = parts
        .iter()
        .all(|(part, _)| part.settings[DEVICE] == first.settings[DEVICE]);
    if let Some(settings) = merged.settings.as_object_mut() {
        settings.remove(SHARD);
        // Items of several devices are nobody's to reuse.
        if !is_of_one_device {
            settings.remove(DEVICE);
        }
    }
    let limit = merged.limit.and_then(|limit| usize::try_from(limit).ok());
    let mut runs = Vec::new();
    for suite in &suites {
        runs.push(of_suite(suite, limit, &parts)?);
    }
    let rows = parts.iter().flat_map(|(_, items)| items.values().cloned());
    let mut kept = Kept::begin(home, merged, false)?;
    kept.take_over(rows)?;
    let mut results = Vec::new();
    for run in runs {
        kept.result(&run)?;
        if options.output.json {
            println!("{}", serde_json::to_string(&run.result)?);
        }
        results.push(run.result);
    }
    kept.end()?;
    if !options.output.json {
        print_results(&suites, &results)?;
        print::note(&format!("stored as {}", kept.id()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what must be equal in all parts of an evaluation: all but their number, the device, and where a machine has its
/// files and since when. Its recorded detections are those in the drawings of its own part.
fn compared(evaluation: &Evaluation) -> Map<String, Value> {
    let mut compared = evaluation.settings.as_object().cloned().unwrap_or_default();
    for key in [SHARD, DETECTIONS_FILE, DEVICE] {
        compared.remove(key);
    }
    if let Some(weights) = compared.get_mut(WEIGHTS) {
        remove_times(weights);
    }
    // The name that was typed on its machine; the files tell more.
    if compared.contains_key(ADAPTER_FILES) {
        compared.remove("adapter");
    }
    for key in [ADAPTER_FILES, IMAGE_TOKENIZER_FILES] {
        if let Some(Value::Object(of)) = compared.get_mut(key) {
            of.remove("folder");
            if let Some(files) = of.get_mut("files") {
                remove_times(files);
            }
        }
    }
    for (key, value) in [
        ("suites", json!(evaluation.suites)),
        ("seed", json!(evaluation.seed)),
        ("limit", json!(evaluation.limit)),
    ] {
        compared.insert(key.to_owned(), value);
    }
    compared
}

/// Removes the times of stamps.
fn remove_times(stamps: &mut Value) {
    for stamp in stamps.as_array_mut().into_iter().flatten() {
        *stamp = without_time(stamp.as_str().unwrap_or_default()).into();
    }
}

/// A part: its evaluation, and its items by suite and number.
type Part = (Evaluation, BTreeMap<(String, u64), EvalItem>);

fn parts(home: &Home, named: &[String]) -> anyhow::Result<Vec<Part>> {
    let connection = store::open_read_only(&home.database())?;
    let all = evaluations::all(&connection)?;
    named
        .iter()
        .map(|name| {
            let found: Vec<&Evaluation> = all.iter().filter(|one| one.id.starts_with(name) || one.id.ends_with(name)).collect();
            let [one] = found.as_slice() else {
                bail!("{} evaluations have an id that begins or ends with '{name}', expected one; `demask eval history` lists them", found.len());
            };
            if one.state != RunState::Done {
                bail!("{} is not finished; run its `demask eval` command again to continue it", one.id);
            }
            let items = evaluations::items(&connection, &one.id, 0)?;
            let items = items.into_iter().map(|item| ((item.suite.clone(), item.number), item));
            Ok(((*one).clone(), items.collect()))
        })
        .collect()
}

/// Returns the suites of an evaluation: those of the program, and those of the named files.
fn named(evaluation: &Evaluation, options: &EvalMerge) -> anyhow::Result<Vec<Suite>> {
    let mut known: Vec<Suite> = Suite::all().collect();
    let pixels = evaluation.settings[PIXELS].as_u64();
    let pixels = pixels.and_then(|pixels| usize::try_from(pixels).ok());
    for word in &options.suites {
        known.extend(NamedSuites::read(word, options.scorer.as_deref())?.suites(pixels));
    }
    evaluation
        .suites
        .iter()
        .map(|name| match known.iter().find(|suite| suite.name() == *name) {
            Some(suite) => Ok(suite.clone()),
            None => bail!("{name} is not a built-in suite: give its file too, `demask eval merge ID ID --suites FILE.toml`"),
        })
        .collect()
}

fn of_suite(suite: &Suite, limit: Option<usize>, parts: &[Part]) -> anyhow::Result<SuiteRun> {
    let (mut items, mut missing) = (Vec::new(), 0);
    let asked = suite.items(limit)?;
    let all = asked.len();
    for (number, item) in asked.into_iter().enumerate() {
        let key = (suite.name(), number as u64);
        let mut rows = parts.iter().filter_map(|(_, items)| items.get(&key));
        match (rows.next(), rows.next()) {
            (Some(row), None) if row.item != item.example.id => bail!(
                "item {number} of {} was another one in {} than it is here: the parts need the same data, which is here too",
                suite.name(),
                row.run
            ),
            (Some(row), None) => items.push(Kept::of_row(row, number, &item)),
            (Some(_), Some(_)) => bail!("item {number} of {} is in two parts", suite.name()),
            (None, _) => missing += 1,
        }
    }
    if missing > 0 {
        bail!(
            "{missing} of {all} items of {} are in no part; give all n parts of --shards k/n together",
            suite.name()
        );
    }
    let judged: Vec<Judged> = items.iter().map(|item| item.judged.clone()).collect();
    // The parts were made alike, so the first tells how.
    let settings = &parts[0].0.settings;
    let estimator = settings["likelihood"].as_str();
    let judge = settings["judging"]["judge_model"].as_str();
    Ok(SuiteRun {
        result: labelled(suite.aggregate(&judged), suite, &items, (estimator, judge)),
        items,
    })
}
