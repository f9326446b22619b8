//! `demask imagine`: draws a picture, a part of one, or every prompt of a list.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use demask_actors::engine::actor::FrameSink;
use demask_actors::home::Home;
use demask_actors::inference::complete::{CompletionRequest, CompletionResult};
use demask_actors::inference::settings::SamplerSettings;
use demask_actors::inference::typed_prompt::plain_example;
use demask_api::{Grid, Task};
use demask_datasets::example::{Example, Kind, Mode};
use demask_datasets::tabletop::render::PIXELS;

use super::canvas::Canvas;
use super::preview::{show_picture, show_text};
use super::prompts;
use crate::args::Imagine;
use crate::model::engine::runtime;
use crate::model::session::Session;
use crate::terminal::picture::{check_output, save, scale};
use crate::terminal::print;

/// Pictures per request. They are written before the next request.
const TOGETHER: usize = 32;

/// Runs `demask imagine`.
///
/// # Errors
/// Any error of [`Session::open`] or [`Session::complete`]; an error if a file cannot be written.
pub fn imagine(home: &Home, options: Imagine) -> anyhow::Result<ExitCode> {
    let Some(prompt) = &options.prompt else {
        return draw_list(home, &options);
    };
    check_output(&options.output)?;
    let (kind, mode, task) = way(&options);
    let made = runtime()?.block_on(async {
        let session = Session::open_seeing(home, &options.model, task).await?;
        let samplers = samplers(&session, &options);
        let sink: Option<FrameSink> = options.show.then(|| show_picture(show_text(&session.inference)));
        let example = plain_example(kind, prompt, None);
        match canvas(&session, &options)? {
            Some(canvas) => inpaint(&session, example, &canvas, options.seed, &samplers, sink).await,
            None => {
                session
                    .complete(example, mode, options.seed, &samplers, sink)
                    .await
            }
        }
    })?;
    let (drawn, thought) = (kept(&options, &options.output, &made)?, &made.completion.text);
    if options.json {
        print::json(&described(prompt, &options.output, &made, &drawn, options.seed))?;
    } else {
        if !thought.is_empty() {
            print::say(thought);
        }
        say(&options.output, &drawn);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the kind, the mode and the task of the request.
fn way(options: &Imagine) -> (Kind, Mode, Task) {
    match options.think {
        true => (Kind::ThinkThenDraw, Mode::Think, Task::ThinkThenDraw),
        false => (Kind::TextToImage, Mode::Direct, Task::TextToImage),
    }
}

/// Returns the checkpoint's samplers with the requested changes.
fn samplers(session: &Session, options: &Imagine) -> SamplerSettings {
    let mut samplers = session.samplers.clone();
    let image = &mut samplers.image;
    image.steps = options.steps.unwrap_or(image.steps);
    image.temperature = options.temperature.unwrap_or(image.temperature);
    image.guidance = options.guidance.unwrap_or(image.guidance);
    samplers
}

/// Draws every prompt of a file into a folder, batch by batch.
fn draw_list(home: &Home, options: &Imagine) -> anyhow::Result<ExitCode> {
    let file = options.file.as_ref().context("give a PROMPT or --file")?;
    let prompts = prompts::listed(file)?;
    let folder = &options.output;
    std::fs::create_dir_all(folder).with_context(|| format!("--output {}", folder.display()))?;
    let (kind, mode, task) = way(options);
    runtime()?.block_on(async {
        let session = Session::open_seeing(home, &options.model, task).await?;
        let samplers = samplers(&session, options);
        for batch in prompts::batches(prompts.len(), options.samples, TOGETHER) {
            let request = |&(prompt, sample): &(usize, usize)| CompletionRequest {
                example: plain_example(kind, &prompts[prompt], None),
                mode,
                seed: options.seed.wrapping_add(sample as u64),
                watch: None,
            };
            let wanted: Vec<CompletionRequest> = batch.iter().map(request).collect();
            let made = session
                .inference
                .complete(&session.engine, &wanted, &samplers, None)
                .await?;
            for ((&(prompt, sample), wanted), made) in batch.iter().zip(&wanted).zip(made) {
                let file = folder.join(format!("{:05}-{sample}.png", prompt + 1));
                let drawn = kept(options, &file, &made)?;
                match options.json {
                    true => println!(
                        "{}",
                        described(&prompts[prompt], &file, &made, &drawn, wanted.seed)
                    ),
                    false => say(&file, &drawn),
                }
            }
        }
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The scene that the detector reads in a drawn tabletop picture; `None` for other pictures.
type Seen = Option<demask_rewards::verifiers::tabletop_detector::Reading>;

/// Writes a drawn picture and returns what the detector reads in it.
fn kept(options: &Imagine, file: &Path, made: &CompletionResult) -> anyhow::Result<Seen> {
    let picture = made
        .completion
        .picture
        .as_ref()
        .context("the engine returned no picture")?;
    let scale = options
        .scale
        .unwrap_or_else(|| scale(picture.width.max(picture.height)));
    save(picture, scale, file)?;
    // The detector reads tabletop pictures only.
    Ok((picture.width == PIXELS && picture.height == PIXELS)
        .then(|| demask_rewards::verifiers::tabletop_detector::TabletopDetector::default().read(picture)))
}

fn described(
    prompt: &str,
    file: &Path,
    made: &CompletionResult,
    seen: &Seen,
    seed: u64,
) -> serde_json::Value {
    serde_json::json!({
        "prompt": prompt, "file": file, "thought": made.completion.text,
        "reads": seen.as_ref().map(|seen| seen.scene.to_string()),
        "unknown_cells": seen.as_ref().map(|seen| seen.unknown),
        "forwards": made.forwards, "seed": seed,
    })
}

fn say(file: &Path, seen: &Seen) {
    match seen {
        Some(seen) => print::say(&format!("{}: {}", file.display(), seen.scene)),
        None => print::say(&file.display().to_string()),
    }
}

/// Returns the picture to draw on, if one is named.
fn canvas(session: &Session, options: &Imagine) -> anyhow::Result<Option<Canvas>> {
    let Some(from) = &options.from else {
        return Ok(None);
    };
    let size = session.size()?;
    let canvas = match &options.mask {
        Some(mask) => Canvas::read(from, mask, size, !session.is_published_family)?,
        None => {
            let codes = session.inference.builder().budgets().of(Task::TextToImage).codes;
            let grid = Grid::under(size, codes).context("the codes do not cover the picture")?;
            Canvas::around(
                from,
                size,
                options.place,
                size.width / grid.columns,
                !session.is_published_family,
            )?
        }
    };
    Ok(Some(canvas))
}

/// Draws the open parts of a canvas.
///
/// # Errors
/// An error if the mask leaves nothing open; any error of [`Session::complete`].
async fn inpaint(
    session: &Session,
    example: Example,
    canvas: &Canvas,
    seed: u64,
    samplers: &SamplerSettings,
    show: Option<FrameSink>,
) -> anyhow::Result<CompletionResult> {
    let codes = session
        .inference
        .codes(&session.engine, &[&canvas.picture])
        .await?;
    let known = canvas.known(codes.first().context("the engine returned no codes")?)?;
    let wanted = CompletionRequest {
        example,
        mode: Mode::Direct,
        seed,
        watch: show.is_some().then_some(1),
    };
    let mut made = session
        .inference
        .inpaint(&session.engine, &wanted, &known, samplers, show)
        .await?;
    let drawn = made.completion.picture.take();
    made.completion.picture = drawn.map(|drawn| canvas.composed(&drawn));
    Ok(made)
}
