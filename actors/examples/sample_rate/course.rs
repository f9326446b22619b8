//! The sampling rate and the accuracy of several samplers on the same items, in turn. The first sampler is the
//! baseline.
//!
//! Each DRAWS is the JSON of a checkpoint's `sampling.json`. LENGTH is the number of tokens of an answer (0: the
//! checkpoint's). With a batch of 1, each item is one request. Otherwise a request has four times as many items as run
//! at a time, so that items join and leave the batch. The output is one line of JSON per sampler and batch.

use std::time::Instant;

use anyhow::Context as _;
use demask_actors::engine::options::EngineOptions;
use demask_actors::engine::process::EngineProcess;
use demask_actors::inference::checkpoint_settings;
use demask_actors::inference::complete::{CompletionRequest, Inference};
use demask_actors::inference::settings::SamplerSettings;
use demask_actors::inference::shipped;
use demask_api::{LoadOptions, ModelSource, Request};
use demask_datasets::example::{Example, Mode};
use demask_rewards::benchmarks::Suite;
use demask_rewards::judge::Judge;

/// How many times the items of a request fill the batch.
const REFILLS: usize = 4;

#[derive(Default)]
struct Tally {
    seconds: f64,
    right: usize,
    done: usize,
    forwards: usize,
}

/// The setting in which every sampler runs.
struct Course {
    inference: Inference,
    /// One engine for each batch size.
    engines: Vec<EngineProcess>,
    judge: Judge,
}

/// Runs every sampler on items of a suite.
///
/// # Errors
/// An error if an argument cannot be parsed; any failure of an engine.
pub async fn run(
    suite: &str,
    items: usize,
    batches: &str,
    length: usize,
    samplers: &[String],
) -> anyhow::Result<()> {
    let suite = Suite::find(suite).with_context(|| format!("no suite {suite}"))?;
    let items = suite.examples(Some(items))?;
    let batches: Vec<usize> = batches.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let samplers: Vec<SamplerSettings> = samplers
        .iter()
        .map(|text| serde_json::from_str(text))
        .collect::<Result<_, _>>()?;
    let course = Course::open(&suite, length, &batches).await?;
    for (samplers, engine) in samplers
        .iter()
        .flat_map(|samplers| course.engines.iter().map(move |engine| (samplers, engine)))
    {
        let warm = &items[..items.len().min(16)];
        course
            .run(engine, warm, 16, samplers, &mut Tally::default())
            .await?;
    }
    let most = batches.iter().copied().max().unwrap_or(1);
    let pairs: Vec<(usize, &SamplerSettings)> = batches
        .iter()
        .flat_map(|&batch| samplers.iter().map(move |samplers| (batch, samplers)))
        .collect();
    let mut tallies: Vec<Tally> = pairs.iter().map(|_| Tally::default()).collect();
    for chunk in items.chunks(most * REFILLS) {
        for (tally, (batch, samplers)) in tallies.iter_mut().zip(&pairs) {
            let at = batches.iter().position(|known| known == batch).unwrap_or(0);
            let asked = if *batch == 1 { 1 } else { batch * REFILLS };
            course
                .run(&course.engines[at], chunk, asked, samplers, tally)
                .await?;
        }
    }
    report(&tallies, &pairs);
    for engine in &course.engines {
        engine.stop().await;
    }
    Ok(())
}

fn report(tallies: &[Tally], pairs: &[(usize, &SamplerSettings)]) {
    let rate = |tally: &Tally| tally.done as f64 / tally.seconds;
    let first = tallies.first().map_or(1.0, rate);
    for (tally, (batch, samplers)) in tallies.iter().zip(pairs) {
        let of = |count: usize| count as f64 / tally.done as f64;
        let line = serde_json::json!({
            "batch": batch, "samples_per_s": rate(tally), "ratio": rate(tally) / first, "right": of(tally.right),
            "n": tally.done, "forwards": of(tally.forwards), "draws": samplers,
        });
        println!("{line}");
    }
}

impl Course {
    /// Opens the shipped model, with another length of answers unless `length` is 0.
    async fn open(suite: &Suite, length: usize, batches: &[usize]) -> anyhow::Result<Self> {
        let checkpoint = shipped::folder()?;
        let mut inference = checkpoint_settings::inference(&checkpoint)?;
        if length > 0 {
            let mut budgets = *inference.builder().budgets();
            budgets.text.answer = length;
            inference = inference.with_budgets(budgets);
        }
        let mut engines = Vec::new();
        for &batch in batches {
            let options = EngineOptions {
                // A row with guidance counts twice.
                rows: Some(2 * batch / if length > 0 { 2 } else { 1 }),
                ..EngineOptions::default()
            };
            let engine = EngineProcess::start(&options).await?;
            let model = ModelSource::Checkpoint {
                dir: checkpoint.clone(),
                resume: false,
                average: false,
                image_tokenizer: None,
                options: LoadOptions::sampling(),
            };
            engine.ask(&Request::Load { model }).await?;
            engines.push(engine);
        }
        Ok(Self {
            inference,
            engines,
            judge: suite.judge()?,
        })
    }

    async fn run(
        &self,
        engine: &EngineProcess,
        items: &[Example],
        batch: usize,
        samplers: &SamplerSettings,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        for (number, part) in items.chunks(batch).enumerate() {
            let wanted: Vec<CompletionRequest> = part
                .iter()
                .enumerate()
                .map(|(at, example)| wanted(example, number * batch + at))
                .collect();
            let began = Instant::now();
            let made = self.inference.complete(engine, &wanted, samplers, None).await?;
            tally.seconds += began.elapsed().as_secs_f64();
            for (wanted, made) in wanted.iter().zip(&made) {
                tally.right += usize::from(self.judge.right(&wanted.example, &made.completion));
                tally.forwards += made.forwards;
                tally.done += 1;
            }
        }
        Ok(())
    }
}

fn wanted(example: &Example, seed: usize) -> CompletionRequest {
    let reasons = example.reasoning.is_some();
    CompletionRequest {
        example: example.clone(),
        mode: if reasons { Mode::Think } else { Mode::Direct },
        seed: seed as u64,
        watch: None,
    }
}
