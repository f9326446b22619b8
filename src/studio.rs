//! One-off drawing, answering and describing, with an engine of its own: `generate`, `imagine`, `describe`.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use demask_actors::checkpoints::image_tokenizer_config;
use demask_actors::engine::{Engine, EngineOptions};
use demask_actors::engine_host::FrameSink;
use demask_actors::home::Home;
use demask_actors::shipped;
use demask_actors::watch::plain_example;
use demask_actors::workbench::{Draws, Made, Wanted, Workbench, fit};
use demask_api::{ModelSource, Picture, Request, SampleFrame, Task, TextSampler};
use demask_datasets::example::{Example, Kind, Mode};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::args::{Describe, Generate, Imagine, Model};
use crate::{UsageError, print};

/// A runtime for one command.
///
/// # Errors
/// The system's.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Starts an engine for one command.
///
/// # Errors
/// No engine program, or one that does not start.
pub async fn start_engine(home: &Home, device: &str, dtype: &str) -> anyhow::Result<Engine> {
    let socket = home.socket()?;
    let socket_dir = socket.parent().unwrap_or(Path::new("/tmp")).to_owned();
    let options = EngineOptions {
        socket_dir,
        device: device.to_owned(),
        dtype: dtype.to_owned(),
        ..EngineOptions::default()
    };
    Ok(Engine::start(&options).await?)
}

/// What to say of a checkpoint that cannot be used: which, and which one beside it was written whole before it.
fn instead(checkpoint: &Path) -> String {
    let name = checkpoint.file_name().unwrap_or_default();
    let beside = checkpoint
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok());
    let whole = beside.into_iter().flatten().flatten().filter(|entry| {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        !hidden && entry.file_name().as_os_str() < name && entry.path().join("manifest.json").is_file()
    });
    let offer = whole.map(|entry| entry.path()).max().map_or_else(
        || "there is none before it".to_owned(),
        |before| format!("the one before is --checkpoint {}", before.display()),
    );
    let what = match checkpoint.join("manifest.json").is_file() {
        true => offer,
        false => "expected a checkpoint folder, found no manifest.json in it".to_owned(),
    };
    format!("the checkpoint {} cannot be used ({what})", checkpoint.display())
}

/// Side of the pictures that a checkpoint reads: its codes a side, each of as many pixels as its image tokenizer halves.
fn side(checkpoint: &Path, bench: &Workbench) -> anyhow::Result<usize> {
    let codes = bench.builder().budgets().of(Task::Understand).codes;
    if codes == 0 || !checkpoint.join("image_tokenizer").is_dir() {
        return Ok(0);
    }
    let config = image_tokenizer_config(checkpoint)?;
    Ok(codes.isqrt() << config.encoder.ch_mult.len().saturating_sub(1))
}

/// A loaded model: an engine and the workbench that fits its checkpoint.
pub struct Studio {
    /// The engine.
    pub engine: Mutex<Engine>,
    /// Its tokenizer and budgets.
    pub bench: Workbench,
    /// Its samplers.
    pub draws: Draws,
    /// Side of the pictures that it reads, in pixels.
    side: usize,
}

impl Studio {
    /// Loads the named checkpoint, or the shipped one.
    ///
    /// # Errors
    /// A checkpoint that is broken, named; an engine that does not start.
    pub async fn open(home: &Home, model: &Model) -> anyhow::Result<Self> {
        let checkpoint = match &model.checkpoint {
            Some(named) => std::path::absolute(named)?,
            None => shipped::folder(home)?,
        };
        let bench = Workbench::of_checkpoint(&checkpoint).with_context(|| instead(&checkpoint))?;
        let draws = Draws::of_checkpoint(&checkpoint).with_context(|| instead(&checkpoint))?;
        let mut engine = start_engine(home, &model.device, "auto").await?;
        let source = ModelSource::Checkpoint {
            dir: checkpoint.clone(),
            resume: false,
            average: model.average,
        };
        let loaded = engine.ask(&Request::Load { model: source }).await;
        loaded.with_context(|| instead(&checkpoint))?;
        Ok(Self {
            engine: Mutex::new(engine),
            side: side(&checkpoint, &bench)?,
            bench,
            draws,
        })
    }

    /// Completes one example.
    ///
    /// # Errors
    /// A prompt that is too long, with both numbers; the engine's.
    pub async fn complete(
        &self,
        example: Example,
        mode: Mode,
        seed: u64,
        draws: &Draws,
        show: Option<FrameSink>,
    ) -> anyhow::Result<Made> {
        let wanted = [Wanted {
            example,
            mode,
            seed,
            watch: show.is_some().then_some(1),
        }];
        let mut made = self.bench.complete(&self.engine, &wanted, draws, show).await?;
        made.pop().context("the engine gave no sample")
    }
}

/// `demask generate`.
///
/// # Errors
/// As [`Studio::open`] and [`Studio::complete`].
pub fn generate(home: &Home, options: Generate) -> anyhow::Result<ExitCode> {
    let mode = if options.no_think {
        Mode::Direct
    } else {
        Mode::Think
    };
    let example = plain_example(Kind::WordProblem, &options.prompt, None);
    let made = runtime()?.block_on(async {
        let mut studio = Studio::open(home, &options.model).await?;
        if let Some(length) = options.length {
            studio.bench = with_length(&studio, length)?;
        }
        let draws = Draws {
            text: sampler(&studio, mode, &options)?,
            ..studio.draws.clone()
        };
        let sink = options.show.then(|| show_text(&studio.bench));
        studio.complete(example, mode, options.seed, &draws, sink).await
    })?;
    if options.output.json {
        let steps = made.commit_step.iter().max().map_or(0, |&last| last + 1);
        print::json(&serde_json::json!({
            "prompt": options.prompt, "text": made.completion.text, "tokens": made.completion.tokens,
            "steps": steps, "forwards": made.forwards, "seed": options.seed,
        }))?;
    } else {
        println!("{}", made.completion.text);
    }
    Ok(ExitCode::SUCCESS)
}

/// The workbench with another answer length.
fn with_length(studio: &Studio, length: usize) -> anyhow::Result<Workbench> {
    let mut budgets = *studio.bench.builder().budgets();
    (budgets.text.answer, budgets.text.direct_answer) = (length, length);
    let json = studio.bench.builder().tokenizer().to_json()?;
    Ok(Workbench::new(
        demask_datasets::text_tokenizer::TextTokenizer::from_json(&json)?,
        budgets,
    )?)
}

/// The checkpoint's sampler with what was typed in its place, which must divide the answer as it is.
fn sampler(studio: &Studio, mode: Mode, options: &Generate) -> anyhow::Result<TextSampler> {
    let budget = studio.bench.builder().budgets().text;
    let length = if mode == Mode::Think {
        budget.answer
    } else {
        budget.direct_answer
    };
    let given = &studio.draws.text;
    let block = options.block.unwrap_or(given.block);
    if options.block.is_some() && !length.is_multiple_of(block) {
        return Err(UsageError(format!(
            "--block {block}: the answer has {length} tokens, expected a divisor of it"
        ))
        .into());
    }
    let sampler = TextSampler {
        steps: options.steps.unwrap_or(given.steps),
        block,
        temperature: options.temperature.unwrap_or(given.temperature),
        guidance: options.guidance.unwrap_or(given.guidance),
        ..given.clone()
    };
    let fitted = fit(&sampler, length);
    if let Some(steps) = options.steps.filter(|&steps| steps != fitted.steps) {
        let (block, blocks) = (fitted.block, length / fitted.block);
        return Err(UsageError(format!(
            "--steps {steps}: expected a multiple of {blocks} (blocks of {block}), at most {length} (one a token)"
        ))
        .into());
    }
    Ok(sampler)
}

fn show_text(bench: &Workbench) -> FrameSink {
    let json = bench.builder().tokenizer().to_json().unwrap_or_default();
    let copy = demask_datasets::text_tokenizer::TextTokenizer::from_json(&json)
        .ok()
        .and_then(|tokenizer| Workbench::new(tokenizer, *bench.builder().budgets()).ok());
    Arc::new(move |frame: SampleFrame| {
        let words = copy
            .as_ref()
            .map(|copy| copy.words(&frame.tokens))
            .unwrap_or_default();
        let line: String = words
            .iter()
            .map(|word| if word.is_empty() { "░" } else { word.as_str() })
            .collect();
        eprintln!("{:>3}/{} {line}", frame.step + 1, frame.steps);
    })
}

/// `demask imagine`.
///
/// # Errors
/// As [`Studio::open`] and [`Studio::complete`]; a file that cannot be written.
pub fn imagine(home: &Home, options: Imagine) -> anyhow::Result<ExitCode> {
    check_output(&options.output)?;
    let (kind, mode) = if options.think {
        (Kind::ThinkThenDraw, Mode::Think)
    } else {
        (Kind::TextToImage, Mode::Direct)
    };
    let made = runtime()?.block_on(async {
        let studio = Studio::open(home, &options.model).await?;
        let mut draws = studio.draws.clone();
        let image = &mut draws.image;
        image.steps = options.steps.unwrap_or(image.steps);
        image.temperature = options.temperature.unwrap_or(image.temperature);
        image.guidance = options.guidance.unwrap_or(image.guidance);
        let sink = options.show.then(|| show_picture(show_text(&studio.bench)));
        studio
            .complete(
                plain_example(kind, &options.prompt, None),
                mode,
                options.seed,
                &draws,
                sink,
            )
            .await
    })?;
    let picture = made
        .completion
        .picture
        .context("the model has no image tokenizer: it cannot draw")?;
    save(&picture, options.scale, &options.output)?;
    let seen = demask_rewards::detector::Detector::default().read(&picture);
    if options.json {
        print::json(&serde_json::json!({
            "prompt": options.prompt, "file": options.output, "thought": made.completion.text,
            "reads": seen.scene.to_string(), "unknown_cells": seen.unknown, "forwards": made.forwards, "seed": options.seed,
        }))?;
    } else {
        if !made.completion.text.is_empty() {
            println!("{}", made.completion.text);
        }
        println!("{}: {}", options.output.display(), seen.scene);
    }
    Ok(ExitCode::SUCCESS)
}

/// Told before the model is loaded, not after the picture is drawn.
fn check_output(path: &Path) -> anyhow::Result<()> {
    let refuse = |why: &str| Err(UsageError(format!("--output {}: {why}", path.display())).into());
    let png = |extension: &std::ffi::OsStr| extension.eq_ignore_ascii_case("png");
    if path.is_dir() || path.file_name().is_none() {
        return refuse("is a folder; expected the name of a PNG file");
    }
    if !path.extension().is_none_or(png) {
        return refuse("pictures are written as PNG; expected a name that ends in .png");
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(missing) = folder.filter(|folder| !folder.is_dir()) {
        bail!("{}: no such folder to write the picture to", missing.display());
    }
    Ok(())
}

/// Pictures as they are filled in; the reasoning before them, which comes without, as words.
fn show_picture(words: FrameSink) -> FrameSink {
    let drawn = std::io::stderr().is_terminal();
    Arc::new(move |frame: SampleFrame| {
        if frame.picture.is_none() {
            return words(frame);
        }
        let filled = frame.confidence.iter().filter(|&&value| value > 0).count();
        eprintln!("step {}/{}: {filled} codes guessed", frame.step + 1, frame.steps);
        if let Some(picture) = frame.picture.as_ref().filter(|_| drawn) {
            eprint!("{}", half_blocks(picture));
        }
    })
}

/// A picture in half-block characters, two pixels a character.
fn half_blocks(picture: &Picture) -> String {
    let mut text = String::new();
    for y in (0..picture.height).step_by(2) {
        for x in 0..picture.width {
            let ([r, g, b], [s, h, c]) = (picture.at(x, y), picture.at(x, y + 1));
            text.push_str(&format!("\x1b[38;2;{r};{g};{b};48;2;{s};{h};{c}m▀"));
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

fn save(picture: &Picture, scale: u32, path: &Path) -> anyhow::Result<()> {
    let (width, height) = (u32::try_from(picture.width)?, u32::try_from(picture.height)?);
    let image = image::RgbImage::from_raw(width, height, picture.rgb.clone())
        .context("a picture of the wrong size")?;
    let large = image::imageops::resize(
        &image,
        width * scale,
        height * scale,
        image::imageops::FilterType::Nearest,
    );
    // Beside it first: a picture is there whole or not at all.
    let work = path.with_extension("part.png");
    let written = large.save_with_format(&work, image::ImageFormat::Png);
    let written = written.map_err(anyhow::Error::from);
    let written = written.and_then(|()| Ok(std::fs::rename(&work, path)?));
    if written.is_err() {
        std::fs::remove_file(&work).ok();
    }
    written.with_context(|| path.display().to_string())
}

/// `demask describe`.
///
/// # Errors
/// A picture that does not decode; as [`Studio::open`] and [`Studio::complete`].
pub fn describe(home: &Home, options: Describe) -> anyhow::Result<ExitCode> {
    let image = image::open(&options.file)
        .with_context(|| format!("{}: expected a PNG or JPEG picture", options.file.display()))?;
    let (kind, prompt) = match &options.question {
        Some(question) => (Kind::Question, question.clone()),
        None => (Kind::Caption, "describe the table".to_owned()),
    };
    let made = runtime()?.block_on(async {
        let studio = Studio::open(home, &options.model).await?;
        if studio.side == 0 {
            bail!("the checkpoint has no image tokenizer, so it reads no pictures");
        }
        studio
            .complete(
                plain_example(kind, &prompt, Some(fitted(&image, studio.side))),
                Mode::Direct,
                options.seed,
                &studio.draws,
                None,
            )
            .await
    })?;
    if options.output.json {
        print::json(
            &serde_json::json!({ "file": options.file, "question": prompt, "answer": made.completion.text }),
        )?;
    } else {
        println!("{}", made.completion.text);
    }
    Ok(ExitCode::SUCCESS)
}

/// A picture as the model reads it: a square of this side, cut at the middle. One of whole pixels stays sharp.
fn fitted(image: &image::DynamicImage, side: usize) -> Picture {
    let pixels = u32::try_from(side).unwrap_or(u32::MAX).max(1);
    let exact = image.width().is_multiple_of(pixels) && image.width() == image.height();
    let filter = if exact {
        image::imageops::FilterType::Nearest
    } else {
        image::imageops::FilterType::CatmullRom
    };
    let small = image.resize_to_fill(pixels, pixels, filter).to_rgb8();
    Picture {
        width: side,
        height: side,
        rgb: small.into_raw(),
    }
}
