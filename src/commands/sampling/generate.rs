//! `demask generate`: writes answers to prompts.

use std::process::ExitCode;

use demask_actors::home::Home;
use demask_actors::inference::complete::{CompletionRequest, CompletionResult, Inference};
use demask_actors::inference::settings::{SamplerSettings, fit};
use demask_actors::inference::typed_prompt::plain_example;
use demask_api::{Commit, TextCache, TextSampler};
use demask_datasets::example::{Kind, Mode};

use super::preview::show_text;
use super::prompts;
use crate::args::{CacheKind, Generate};
use crate::exit::UsageError;
use crate::model::engine::runtime;
use crate::model::session::Session;
use crate::terminal::print;

/// Prompts per request. Their results are printed before the next request.
const TOGETHER: usize = 64;

/// Temperature in the published scripts that write text (`mmada.md` 6.3).
const PUBLISHED_TEMPERATURE: f64 = 1.0;

/// Runs `demask generate`.
///
/// # Errors
/// An error if a file of prompts cannot be read; an error with both lengths if a prompt is too long; any error of
/// [`Session::open`].
pub fn generate(home: &Home, options: Generate) -> anyhow::Result<ExitCode> {
    let mode = if options.no_think {
        Mode::Direct
    } else {
        Mode::Think
    };
    let prompts = match (&options.file, &options.prompt) {
        (Some(file), _) => prompts::listed(file)?,
        (None, Some(prompt)) => vec![prompts::typed(prompt)?],
        (None, None) => return Err(UsageError("give a PROMPT or --file".into()).into()),
    };
    // Several samples of a prompt have consecutive seeds.
    let asked = |(prompt, sample): (usize, usize)| {
        (prompts[prompt].as_str(), options.seed.wrapping_add(sample as u64))
    };
    let one = options.file.is_none() && options.samples == 1;
    runtime()?.block_on(async {
        let mut session = Session::open(home, &options.model).await?;
        if let Some(length) = options.length {
            session.inference = with_length(&session, length)?;
        }
        let samplers = SamplerSettings {
            text: text_sampler(&session, mode, &options)?,
            ..session.samplers.clone()
        };
        let batches = prompts::batches(prompts.len(), options.samples, TOGETHER);
        for (number, batch) in batches.enumerate() {
            let batch: Vec<(&str, u64)> = batch.into_iter().map(asked).collect();
            let request = |(at, &(prompt, seed)): (usize, &(&str, u64))| CompletionRequest {
                example: plain_example(Kind::WordProblem, prompt, None),
                mode,
                seed,
                watch: (options.show && number == 0 && at == 0).then_some(1),
            };
            let wanted: Vec<CompletionRequest> = batch.iter().enumerate().map(request).collect();
            let sink = options.show.then(|| show_text(&session.inference));
            let made = session
                .inference
                .complete(&session.engine, &wanted, &samplers, sink);
            for (&(prompt, seed), made) in batch.iter().zip(made.await?) {
                tell(prompt, seed, &made, options.output.json, one)?;
            }
        }
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a result: the text for a single prompt, or one line of JSON each.
fn tell(prompt: &str, seed: u64, made: &CompletionResult, json: bool, one: bool) -> anyhow::Result<()> {
    let steps = made.commit_step.iter().max().map_or(0, |&last| last + 1);
    let object = serde_json::json!({
        "prompt": prompt, "text": made.completion.text, "tokens": made.completion.tokens,
        "steps": steps, "forwards": made.forwards, "seed": seed,
    });
    match (json, one) {
        (true, true) => print::json(&object)?,
        (true, false) => println!("{object}"),
        (false, _) => print::written(&made.completion.text),
    }
    Ok(())
}

/// Returns the inference with another answer length.
fn with_length(session: &Session, length: usize) -> anyhow::Result<Inference> {
    let mut budgets = *session.inference.builder().budgets();
    let whole = budgets.text.prompt + budgets.text.answer;
    (budgets.text.answer, budgets.text.direct_answer) = (length, length);
    if session.is_published_family {
        // Prompt and answer share one length, so a longer answer leaves less for the prompt.
        budgets.text.prompt = whole.saturating_sub(length);
    }
    Ok(session.inference.with_budgets(budgets))
}

/// Returns the requested sampler, with the checkpoint's or the published values for the rest. A given number of steps
/// implies the schedule as the commit rule.
fn text_sampler(session: &Session, mode: Mode, options: &Generate) -> anyhow::Result<TextSampler> {
    let budget = session.inference.builder().budgets().text;
    let length = if mode == Mode::Think {
        budget.answer
    } else {
        budget.direct_answer
    };
    let usual = &session.samplers.text;
    let temperature = if session.is_published_family && !session.says_sampling {
        PUBLISHED_TEMPERATURE
    } else {
        usual.temperature
    };
    let commit = match (options.steps, options.threshold, options.factor) {
        (Some(_), _, _) => Commit::Schedule,
        (None, Some(threshold), _) => Commit::Threshold { threshold },
        (None, None, Some(factor)) => Commit::Factor { factor },
        (None, None, None) => usual.commit,
    };
    let wanted = TextSampler {
        steps: options.steps.unwrap_or(usual.steps),
        block: options.block.unwrap_or(usual.block),
        temperature: options.temperature.unwrap_or(temperature),
        guidance: options.guidance.unwrap_or(usual.guidance),
        commit,
        cache: options.cache.map_or(usual.cache, cache),
        ..usual.clone()
    };
    let fitted = fit(&wanted, length);
    if options.block.is_some_and(|block| block != fitted.block) {
        return Err(UsageError(format!(
            "--block {}: expected 1 to {length}, the number of tokens of the answer",
            wanted.block
        ))
        .into());
    }
    let blocks = length.div_ceil(fitted.block);
    if let Some(steps) = options.steps.filter(|&steps| steps != fitted.steps) {
        let (block, most) = (fitted.block, blocks * fitted.block);
        return Err(UsageError(format!(
            "--steps {steps}: expected a multiple of {blocks} (blocks of {block}), at most {most} (one per token)"
        ))
        .into());
    }
    Ok(fitted)
}

fn cache(named: CacheKind) -> TextCache {
    match named {
        CacheKind::None => TextCache::None,
        CacheKind::Prefix => TextCache::Prefix,
        CacheKind::Dual => TextCache::Dual {
            refresh: 1,
            vicinity: 0,
        },
    }
}
