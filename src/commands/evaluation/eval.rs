//! `demask eval`: evaluates a checkpoint on benchmarks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use demask_actors::home::Home;
use demask_actors::inference::settings::SamplerSettings;
use demask_actors::pipeline::evaluation::evaluator::run_suite;
use demask_actors::pipeline::evaluation::trial::{LikelihoodWay, Trial};
use demask_actors::pipeline::external_rewards::ExternalRewards;
use demask_actors::pipeline::reward_networks::Networks;
use demask_actors::profile::{ExternalReward, RewardFolders};
use demask_actors::runtime::ids;
use demask_api::machine::host_name;
use demask_api::{DeviceInfo, Remasking};
use demask_datasets::data_dir;
use demask_datasets::example::{Kind, Mode};
use demask_rewards::benchmarks::{
    Data, Item, ItemRequest, OwnBenchmark, Response, Scoring, Suite, SuiteResult,
};
use demask_rewards::judge::Completion;
use demask_rewards::verifiers::Verifiers;
use demask_storage::{Blobs, Evaluation, RunState, visible};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::figures::print_results;
use super::kept::{Follower, Kept};
use super::merge::{
    ADAPTER_FILES, DETECTIONS_FILE, DEVICE, IMAGE_TOKENIZER_FILES, PIXELS, SHARD, WEIGHTS, merge,
};
use super::named::{NamedSuites, laid_down};
use super::stamps::{stamp, stamps};
use super::{compare, list, show};
use crate::args::{EvalAction, EvalArgs, Likelihood};
use crate::exit::UsageError;
use crate::figure::file::{self, check_output};
use crate::model::engine;
use crate::model::pulled::pulled;
use crate::model::session::Session;
use crate::terminal::print;

/// Items per request. They are stored before the next request, so that an interruption loses no more than these.
const KEPT_TOGETHER: usize = 128;

/// Evaluates and prints the results; with `--json` one object per suite and line.
///
/// # Errors
/// An error if a suite does not exist, or if the checkpoint is broken.
pub fn eval(home: &Home, options: EvalArgs) -> anyhow::Result<ExitCode> {
    match &options.action {
        Some(EvalAction::Show(options)) => return show::show(home, options),
        Some(EvalAction::Compare(options)) => return compare::compare(home, options),
        Some(EvalAction::History(output)) => return show::history(home, output.json),
        Some(EvalAction::Merge(options)) => return merge(home, options),
        None => {}
    }
    if let Some(file) = &options.items {
        check_output("--items", file, &["jsonl"], options.force)?;
    }
    let embedded = options.embedded.then(|| laid_down(home)).transpose()?;
    let named = named(&options, embedded.as_deref())?;
    let suites = |pixels| -> Vec<Suite> {
        let all = named.iter().flat_map(|named| named.suites(pixels));
        all.map(|suite| match &embedded {
            Some(folder) => suite.within(folder.clone()),
            None => suite,
        })
        .collect()
    };
    if options.list {
        let all: Vec<Suite> = Suite::all().chain(own(&named)).collect();
        return list::list(&all, options.output.json);
    }
    are_distinct(&named)?;
    if let Some(size) = options.model.size {
        let taken = suites(Some(size.width))
            .iter()
            .try_for_each(|suite| suite.takes(size.width, size.height));
        taken.map_err(|why| UsageError(format!("--size {size}: {why}")))?;
    }
    let mode = if options.no_think {
        Mode::Direct
    } else {
        Mode::Think
    };
    let networks = networks(home, &options)?;
    let judges = options.judging.judges()?;
    let mut results: Vec<SuiteResult> = Vec::new();
    let mut evaluation = None;
    engine::runtime()?.block_on(async {
        let session = Session::open(home, &options.model).await?;
        let suites = suites(session.size.map(|size| size.width));
        // Errors in a suite's items are reported before any item is asked.
        suites
            .iter()
            .try_for_each(|suite| suite.items(options.limit).map(drop))?;
        if options.samples > 1 {
            let samplers = &session.samplers;
            suites
                .iter()
                .try_for_each(|suite| samples_differ(suite, options.limit, samplers))?;
        }
        let rewards: Vec<ExternalReward> = named.iter().flat_map(NamedSuites::rewards).cloned().collect();
        let trial = Trial {
            limit: options.limit,
            samples: options.samples,
            mode,
            samplers: session.samplers.clone(),
            seed: options.seed,
            networks: networks.clone(),
            external: Some(ExternalRewards::of(&rewards, "eval", &Blobs::new(home.blobs()))),
            judges: judges.clone(),
            size: session.size,
            cuts: options.embedded,
            likelihood: options.likelihood.into(),
            shard: options.shards,
            batch: KEPT_TOGETHER,
        };
        let mut kept = match options.no_store {
            true => None,
            false => Some(begin(home, &options, (&suites, &named), &session, &trial)?),
        };
        for suite in &suites {
            let bar = bar(suite);
            let mut follower = Follower {
                suite: suite.name(),
                bar: bar.clone(),
                kept: kept.as_mut(),
                credits: Vec::new(),
            };
            let run = run_suite(&session.inference, &session.engine, suite, &trial, &mut follower).await?;
            bar.finish_and_clear();
            if let Some(kept) = &mut kept {
                kept.result(&run)?;
            }
            let result = run.result;
            if options.output.json {
                println!("{}", serde_json::to_string(&result)?);
            }
            results.push(result);
        }
        if let Some(kept) = &mut kept {
            kept.end()?;
            if kept.reused() > 0 {
                print::note(&format!(
                    "{} items were reused from earlier evaluations of these weights; --fresh computes them again",
                    kept.reused()
                ));
            }
            if let Some(file) = &options.items {
                let lines: Vec<String> = kept.items()?.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
                file::write(file, (lines.join("\n") + "\n").as_bytes())?;
            }
            evaluation = Some(kept.id().to_owned());
        }
        anyhow::Ok(())
    })?;
    if !options.output.json {
        print_results(&suites(None), &results)?;
        if let Some(id) = evaluation {
            print::note(&format!(
                "stored as {id}; `demask eval show --wrong` shows the wrong items"
            ));
        }
    }
    if networks.is_some() && results.iter().all(|result| result.networks.is_empty()) {
        print::note("no picture was drawn, so the reward networks had none to judge");
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the named suites. With embedded rows, `all` means those of every published benchmark.
fn named(options: &EvalArgs, embedded: Option<&Path>) -> anyhow::Result<Vec<NamedSuites>> {
    let mut named = Vec::new();
    for word in &options.suites {
        if let (Some(folder), "all") = (embedded, word.as_str()) {
            let published = Suite::all().filter(|suite| matches!(suite.data(), Data::Published(_)));
            named.extend(
                published
                    .filter(|suite| can_be_judged(&suite.clone().within(folder.to_owned()), options))
                    .map(NamedSuites::Listed),
            );
        } else {
            named.push(NamedSuites::read(word, options.scorer.as_deref())?);
        }
    }
    if let Some(other) = named.iter().find(|one| embedded.is_some() && !one.is_published()) {
        let names: Vec<String> = other.suites(None).iter().map(Suite::name).collect();
        let message = format!(
            "--embedded: {} has no embedded rows; only published benchmarks have them",
            names.join(", ")
        );
        return Err(UsageError(message).into());
    }
    Ok(named)
}

/// Refuses a suite of a file that has the name of another suite: the items and the result of the second would replace
/// those of the first in the store. A suite of the program that is named twice is the same one.
fn are_distinct(named: &[NamedSuites]) -> Result<(), UsageError> {
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    for one in named {
        let is_file = matches!(one, NamedSuites::File(..));
        for name in one.suites(None).iter().map(Suite::name) {
            if seen.get(&name).is_some_and(|before| *before || is_file) {
                return Err(UsageError(format!(
                    "two of the suites are named {name} (a file of rows is named after itself): evaluate them one after \
                     the other, or give them names in [[benchmark]] tables"
                )));
            }
            seen.insert(name, is_file);
        }
    }
    Ok(())
}

impl From<Likelihood> for LikelihoodWay {
    fn from(likelihood: Likelihood) -> Self {
        match likelihood {
            Likelihood::Published => Self::Published,
            Likelihood::Reduced => Self::Reduced,
            Likelihood::Chain => Self::Chain,
        }
    }
}

/// Returns whether the judge that a suite needs was named, according to its first item.
fn can_be_judged(suite: &Suite, options: &EvalArgs) -> bool {
    let first = suite
        .items(Some(1))
        .ok()
        .and_then(|items| items.into_iter().next());
    let Some(item) = first.filter(|item| item.example.kind == Kind::TextToImage) else {
        return true;
    };
    let nothing = Completion::default();
    match suite.score(&item, &Response::Completion(&nothing), &Verifiers::default()) {
        Scoring::AskNetwork { network: "clip", .. } => options.clip.is_some(),
        Scoring::AskNetwork { .. } => options.image_reward.is_some(),
        Scoring::AskDetector { .. } => {
            options.judging.detector.is_some() || options.judging.detections.is_some()
        }
        Scoring::AskJudge { .. } => options.judging.judge.is_some(),
        Scoring::AskReward { .. } | Scoring::Done(_) => true,
    }
}

/// Refuses several samples of a suite that has an item with one answer whatever the noise.
fn samples_differ(suite: &Suite, limit: Option<usize>, samplers: &SamplerSettings) -> anyhow::Result<()> {
    let in_one_order = samplers.text.remasking != Remasking::Random;
    let why = |item: &Item| match suite.request(item) {
        ItemRequest::Likelihood { .. } => Some("it compares log-likelihoods and samples nothing"),
        ItemRequest::Generate { .. } if suite.protocol().decoding.is_some() && in_one_order => {
            Some("its protocol fills in at temperature 0, so that all samples would be equal")
        }
        ItemRequest::Generate { .. }
            if item.example.kind != Kind::TextToImage && samplers.text.temperature == 0.0 && in_one_order =>
        {
            Some(
                "the text sampler's temperature is 0, so that all samples would be equal; \
                 --sampling '{\"text\": {\"temperature\": 0.8}}' sets one",
            )
        }
        ItemRequest::Generate { .. } => None,
    };
    match suite.items(limit)?.iter().find_map(why) {
        Some(why) => Err(UsageError(format!("--samples: {}: {why}", suite.name())).into()),
        None => Ok(()),
    }
}

/// Records the evaluation and its settings in the store, so that an interrupted one can be recognized.
fn begin(
    home: &Home,
    options: &EvalArgs,
    (suites, named): (&[Suite], &[NamedSuites]),
    session: &Session,
    trial: &Trial,
) -> anyhow::Result<Kept> {
    let mut settings = json!({
        "samplers": trial.samplers,
        "reasoning": trial.mode == Mode::Think,
        WEIGHTS: stamps(&session.folder),
        "adapter": options.model.adapter,
        "average": options.model.average,
        "size": options.model.size.map(|size| size.to_string()),
        "clip": options.clip,
        "image_reward": options.image_reward,
    });
    // The same weights answer otherwise in another precision, and in the last bits on another device.
    let device = &session.engine.info().device;
    settings[DEVICE] = json!({ "name": named_device(device), "kernels": device.kernels });
    settings["dtype"] = json!(device.compute.split(':').next());
    // A folder or file of the same name may hold something else by the next evaluation.
    for (key, folder) in [
        (ADAPTER_FILES, &session.adapter),
        (IMAGE_TOKENIZER_FILES, &session.image_tokenizer),
    ] {
        if let Some(folder) = folder {
            settings[key] = json!({ "folder": folder.display().to_string(), "files": stamps(folder) });
        }
    }
    let named_judges = options.judging.named();
    if named_judges
        .as_object()
        .is_some_and(|named| named.values().any(|one| !one.is_null()))
    {
        settings["judging"] = named_judges;
    }
    if let Some(file) = &options.judging.detections {
        settings[DETECTIONS_FILE] = json!(stamp(file));
    }
    if let Some((part, parts)) = options.shards {
        settings[SHARD] = json!(format!("{part}/{parts}"));
    }
    if options.samples > 1 {
        settings["samples"] = json!(options.samples);
    }
    if options.likelihood != Likelihood::Published {
        settings["likelihood"] = json!(format!("{:?}", options.likelihood).to_lowercase());
    }
    if options.embedded {
        settings["embedded"] = true.into();
    }
    // The own benchmarks are recorded for later readers of the evaluation.
    let benchmarks: Vec<&OwnBenchmark> = named.iter().flat_map(NamedSuites::benchmarks).collect();
    if !benchmarks.is_empty() {
        settings["benchmarks"] = json!(benchmarks);
        settings[PIXELS] = json!(session.size.map(|size| size.width));
    }
    // A reward with another command or range judges differently.
    let is_scorer = |reward: &&ExternalReward| benchmarks.iter().any(|one| one.scorer == reward.name);
    let rewards: Vec<&ExternalReward> = named
        .iter()
        .flat_map(NamedSuites::rewards)
        .filter(is_scorer)
        .collect();
    if !rewards.is_empty() {
        settings["rewards"] = json!(rewards);
    }
    let evaluation = Evaluation {
        id: ids::new_id().to_string(),
        checkpoint: std::fs::canonicalize(&session.folder)
            .unwrap_or_else(|_| session.folder.clone())
            .display()
            .to_string(),
        suites: suites.iter().map(Suite::name).collect(),
        settings,
        seed: options.seed,
        limit: options.limit.map(|limit| limit as u64),
        host: host_name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: RunState::Running,
    };
    // Scores of reward networks are not stored with an item, so items cannot be reused with networks.
    let reuse = !options.fresh && trial.networks.is_none();
    let kept = Kept::begin(home, evaluation, reuse)
        .context("the evaluation cannot be stored; --no-store runs it without storing")?;
    if kept.known() > 0 {
        let (count, id) = (kept.known(), kept.id());
        print::note(&format!(
            "continuing the interrupted evaluation {id}, which has {count} items; --fresh starts again"
        ));
    }
    Ok(kept)
}

/// Returns the name of a device: the GPU's own, or `cpu`.
fn named_device(device: &DeviceInfo) -> &str {
    let number = device.name.strip_prefix("cuda:");
    let number = number.and_then(|number| number.parse::<usize>().ok());
    let gpu = number.and_then(|number| device.cuda.devices().get(number));
    gpu.map_or(device.name.as_str(), |gpu| gpu.name.as_str())
}

/// Returns the named reward networks.
fn networks(home: &Home, options: &EvalArgs) -> anyhow::Result<Option<Networks>> {
    let found = |flag: &str, named: &Option<PathBuf>| {
        let named = named.as_deref().map(data_dir::find);
        named.map(|named| pulled(home, flag, &named)).transpose()
    };
    let folders = RewardFolders {
        clip: found("--clip", &options.clip)?,
        image_reward: found("--image-reward", &options.image_reward)?,
    };
    Ok(Networks::of(&folders, |name| {
        format!("--{}", name.replace('_', "-"))
    })?)
}

/// Returns the suites of the named files.
fn own(named: &[NamedSuites]) -> impl Iterator<Item = Suite> {
    let files = named
        .iter()
        .filter(|named| matches!(named, NamedSuites::File(..)));
    files.flat_map(|named| named.suites(None))
}

/// Makes a progress bar on standard error, which is visible only on a terminal.
fn bar(suite: &Suite) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} items, {per_sec}, {eta} left");
    let bar = ProgressBar::new(0).with_message(visible::line(&suite.name()));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
