//! `demask imagine`: a picture drawn, or a part of one.

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
use crate::args::Imagine;
use crate::model::engine::runtime;
use crate::model::session::Session;
use crate::terminal::picture::{check_output, save, scale};
use crate::terminal::print;

/// `demask imagine`.
///
/// # Errors
/// As [`Session::open`] and [`Session::complete`]; a file that cannot be written.
pub fn imagine(home: &Home, options: Imagine) -> anyhow::Result<ExitCode> {
    check_output(&options.output)?;
    let (kind, mode, task) = if options.think {
        (Kind::ThinkThenDraw, Mode::Think, Task::ThinkThenDraw)
    } else {
        (Kind::TextToImage, Mode::Direct, Task::TextToImage)
    };
    let made = runtime()?.block_on(async {
        let session = Session::open_seeing(home, &options.model, task).await?;
        let mut samplers = session.samplers.clone();
        let image = &mut samplers.image;
        image.steps = options.steps.unwrap_or(image.steps);
        image.temperature = options.temperature.unwrap_or(image.temperature);
        image.guidance = options.guidance.unwrap_or(image.guidance);
        let sink: Option<FrameSink> = options.show.then(|| show_picture(show_text(&session.inference)));
        let example = plain_example(kind, &options.prompt, None);
        match canvas(&session, &options)? {
            Some(canvas) => inpaint(&session, example, &canvas, options.seed, &samplers, sink).await,
            None => {
                session
                    .complete(example, mode, options.seed, &samplers, sink)
                    .await
            }
        }
    })?;
    let picture = made.completion.picture.context("the engine gave no picture")?;
    let scale = options
        .scale
        .unwrap_or_else(|| scale(picture.width.max(picture.height)));
    save(&picture, scale, &options.output)?;
    // Only a table can be read back.
    let seen = (picture.width == PIXELS && picture.height == PIXELS)
        .then(|| demask_rewards::verifiers::tabletop_detector::Detector::default().read(&picture));
    if options.json {
        print::json(&serde_json::json!({
            "prompt": options.prompt, "file": options.output, "thought": made.completion.text,
            "reads": seen.as_ref().map(|seen| seen.scene.to_string()), "unknown_cells": seen.map(|seen| seen.unknown),
            "forwards": made.forwards, "seed": options.seed,
        }))?;
    } else {
        if !made.completion.text.is_empty() {
            println!("{}", made.completion.text);
        }
        match seen {
            Some(seen) => println!("{}: {}", options.output.display(), seen.scene),
            None => println!("{}", options.output.display()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The picture that is drawn on, if one is named.
fn canvas(session: &Session, options: &Imagine) -> anyhow::Result<Option<Canvas>> {
    let Some(from) = &options.from else {
        return Ok(None);
    };
    let size = session.size()?;
    let canvas = match &options.mask {
        Some(mask) => Canvas::read(from, mask, size, !session.is_published_family)?,
        None => {
            let codes = session.inference.builder().budgets().of(Task::TextToImage).codes;
            let grid = Grid::under(size, codes).context("the picture's codes do not cover it")?;
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

/// Draws what a canvas leaves open.
///
/// # Errors
/// A mask that leaves nothing open; as [`Session::complete`].
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
    let known = canvas.known(codes.first().context("the engine gave no codes")?)?;
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
