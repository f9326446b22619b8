//! `demask eval`: a checkpoint on benchmarks.

use std::path::PathBuf;
use std::process::ExitCode;

use demask_actors::home::Home;
use demask_actors::pipeline::evaluator::{Trial, run_suite};
use demask_actors::pipeline::reward_networks::Networks;
use demask_actors::profile::RewardFolders;
use demask_datasets::data_dir;
use demask_datasets::example::Mode;
use demask_rewards::benchmarks::{Suite, SuiteResult};
use demask_rewards::rewards::REWARDS;
use demask_rewards::statistics::Mean;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Eval;
use crate::exit::UsageError;
use crate::model::engine;
use crate::model::pulled::pulled;
use crate::model::session::Session;
use crate::terminal::print;

/// Scores and prints: with `--json` one object a suite, a line each.
///
/// # Errors
/// A suite that does not exist; a checkpoint that is broken.
pub fn eval(home: &Home, options: Eval) -> anyhow::Result<ExitCode> {
    if options.list {
        return list(options.output.json);
    }
    let suites: Vec<Suite> = options
        .suites
        .iter()
        .map(|name| find(name))
        .collect::<Result<_, _>>()?;
    if let Some(size) = options.model.size {
        let taken = suites
            .iter()
            .try_for_each(|suite| suite.takes(size.width, size.height));
        taken.map_err(|why| UsageError(format!("--size {size}: {why}")))?;
    }
    let mode = if options.no_think {
        Mode::Direct
    } else {
        Mode::Think
    };
    let networks = networks(&options)?;
    let mut results: Vec<SuiteResult> = Vec::new();
    engine::runtime()?.block_on(async {
        let session = Session::open(home, &options.model).await?;
        let trial = Trial {
            limit: options.limit,
            mode,
            samplers: session.samplers.clone(),
            seed: options.seed,
            networks: networks.clone(),
        };
        for suite in &suites {
            let bar = bar(suite);
            let mut progress = |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                true
            };
            let result = run_suite(&session.inference, &session.engine, suite, &trial, &mut progress).await?;
            bar.finish_and_clear();
            if options.output.json {
                println!("{}", serde_json::to_string(&result)?);
            }
            results.push(result);
        }
        anyhow::Ok(())
    })?;
    if !options.output.json {
        show(&results)?;
    }
    if networks.is_some() && results.iter().all(|result| result.networks.is_empty()) {
        print::note("no picture was drawn, so the reward networks had none to judge");
    }
    Ok(ExitCode::SUCCESS)
}

/// The reward networks that are named.
fn networks(options: &Eval) -> anyhow::Result<Option<Networks>> {
    let found = |flag: &str, named: &Option<PathBuf>| {
        let named = named.as_deref().map(data_dir::find);
        named.map(|named| pulled(flag, &named)).transpose()
    };
    let folders = RewardFolders {
        clip: found("--clip", &options.clip)?,
        image_reward: found("--image-reward", &options.image_reward)?,
    };
    Ok(Networks::of(&folders, |name| {
        format!("--{}", name.replace('_', "-"))
    })?)
}

fn find(name: &str) -> Result<Suite, UsageError> {
    let known: Vec<String> = Suite::all().map(|suite| suite.name()).collect();
    Suite::find(name).ok_or_else(|| UsageError(format!("no suite {name}; there are {}", known.join(", "))))
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let all: Vec<_> = Suite::all()
            .map(|suite| serde_json::json!({ "suite": suite.name(), "metric": suite.metric(), "items": suite.size(), "available": suite.available(), "about": suite.about() }))
            .collect();
        print::json(&all)?;
    } else {
        let rows: Vec<Vec<String>> = Suite::all()
            .map(|suite| {
                vec![
                    suite.name(),
                    suite.size().to_string(),
                    if suite.available() { "yes" } else { "no" }.to_owned(),
                    suite.about().to_owned(),
                ]
            })
            .collect();
        print::table(&["suite", "items", "here", ""], &rows)?;
        if Suite::all().any(|suite| !suite.available()) {
            print::note(
                "\nWhat is not here is found when DEMASK_DATA names the folder that holds it (README).",
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// On standard error, and only where that is a terminal.
fn bar(suite: &Suite) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} {eta}");
    let bar = ProgressBar::new(0).with_message(suite.name());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(results: &[SuiteResult]) -> anyhow::Result<()> {
    let percent = |value: f64| format!("{:.1}", 100.0 * value);
    let mut asked: Vec<_> = REWARDS
        .iter()
        .map(|reward| (reward.name(), reward.title()))
        .collect();
    asked.retain(|(name, _)| results.iter().any(|result| result.networks.contains_key(*name)));
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|result| {
            let parts: Vec<String> = result
                .parts
                .iter()
                .map(|(name, value)| format!("{name} {}", percent(*value)))
                .collect();
            let interval = format!("{}–{}", percent(result.low), percent(result.high));
            let mut row = vec![
                result.suite.clone(),
                percent(result.value),
                interval,
                result.n.to_string(),
            ];
            row.extend(asked.iter().map(|(name, _)| said(result.networks.get(*name))));
            row.push(parts.join(", "));
            row
        })
        .collect();
    let mut head = vec!["suite", "%", "95 %", "items"];
    head.extend(asked.iter().map(|(_, title)| *title));
    head.push("parts");
    print::table(&head, &rows)
}

/// A mean with its interval.
fn said(mean: Option<&Mean>) -> String {
    let Some(mean) = mean else { return String::new() };
    match (mean.low, mean.high) {
        (Some(low), Some(high)) => format!("{:.2} [{low:.2}, {high:.2}]", mean.value),
        _ => format!("{:.2}", mean.value),
    }
}
