//! One-off drawing, answering and describing, with an engine of its own: `generate`, `imagine`, `describe`.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use demask_actors::engine::{Engine, EngineOptions};
use demask_actors::engine_host::FrameSink;
use demask_actors::home::Home;
use demask_actors::watch::plain_example;
use demask_actors::workbench::{Draws, Made, Wanted, Workbench, fit};
use demask_api::{
    Answer, Commit, Grid, LoadOptions, ModelSource, PictureSize, Request, SampleFrame, Task, TextCache,
    TextSampler,
};
use demask_datasets::example::{Example, Kind, Mode};
use demask_datasets::pictures::file::decode;
use demask_datasets::pictures::fit::fit as fit_picture;
use demask_datasets::tabletop::render::PIXELS;
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use crate::args::{Cache, Describe, Generate, Imagine, Model};
use crate::chosen::Chosen;
use crate::drawn::{check_output, half_blocks, room, save, scale, within};
use crate::inpaint::Canvas;
use crate::{UsageError, print};

/// Temperature of the published scripts that write text (`mmada.md` 6.3).
const PUBLISHED_TEMPERATURE: f64 = 1.0;
/// What a published model is asked about a picture when nobody asks anything.
const DESCRIBE: &str = "Please describe this image in detail.";

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

/// A loaded model: an engine and the workbench that fits its checkpoint.
pub struct Studio {
    /// The engine.
    pub engine: Engine,
    /// Its tokenizer and budgets.
    pub bench: Workbench,
    /// Its samplers.
    pub draws: Draws,
    /// What `--sampling` says of text, key by key.
    pub said_of_text: Map<String, Value>,
    /// Whether it is prompted and sampled as published models are: it is one, or was made from one.
    theirs: bool,
    /// Whether it is said how it is sampled best.
    says_sampling: bool,
    /// Size of its pictures; none without an image tokenizer.
    size: Option<PictureSize>,
}

impl Studio {
    /// Loads the named checkpoint, or the shipped one.
    ///
    /// # Errors
    /// A checkpoint that is not there or broken, named; an engine that does not start.
    pub async fn open(home: &Home, model: &Model) -> anyhow::Result<Self> {
        Self::load(home, model, Chosen::new(home, model)?).await
    }

    /// The same for a command that draws or reads pictures, which is what the task is.
    async fn open_seeing(home: &Home, model: &Model, task: Task) -> anyhow::Result<Self> {
        let chosen = Chosen::new(home, model)?;
        if chosen.bench.builder().budgets().of(Task::Understand).codes == 0 {
            bail!("the model knows no pictures: it has no codes for them");
        }
        if chosen.size.is_none() {
            let does = if task == Task::Understand {
                "reads"
            } else {
                "draws"
            };
            let name = "name one's folder with --image-tokenizer";
            bail!("the checkpoint has no image tokenizer, so it {does} no pictures: {name}");
        }
        chosen.has_room(model, task)?;
        Self::load(home, model, chosen).await
    }

    async fn load(home: &Home, model: &Model, chosen: Chosen) -> anyhow::Result<Self> {
        let engine = start_engine(home, &model.device, "auto").await?;
        let source = ModelSource::Checkpoint {
            dir: chosen.folder.clone(),
            resume: false,
            average: model.average,
            image_tokenizer: chosen.image_tokenizer.clone(),
            options: LoadOptions {
                adapter: chosen.adapter.clone(),
                ..LoadOptions::sampling()
            },
        };
        let loaded = engine.ask(&Request::Load { model: source }).await;
        let loaded = loaded.with_context(|| chosen.blame())?;
        same_codes(&loaded, &chosen)?;
        Ok(Self {
            engine,
            bench: chosen.bench,
            draws: chosen.draws,
            said_of_text: chosen.said_of_text,
            theirs: chosen.theirs,
            says_sampling: chosen.says_sampling,
            size: chosen.size,
        })
    }

    /// Size of the pictures.
    fn size(&self) -> anyhow::Result<PictureSize> {
        self.size.context("the model has no image tokenizer")
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

impl Studio {
    /// The picture that is drawn on, if one is named.
    fn canvas(&self, options: &Imagine) -> anyhow::Result<Option<Canvas>> {
        let Some(from) = &options.from else {
            return Ok(None);
        };
        let size = self.size()?;
        let canvas = match &options.mask {
            Some(mask) => Canvas::read(from, mask, size, !self.theirs)?,
            None => {
                let codes = self.bench.builder().budgets().of(Task::TextToImage).codes;
                let grid = Grid::under(size, codes).context("the picture's codes do not cover it")?;
                Canvas::around(from, size, options.place, size.width / grid.columns, !self.theirs)?
            }
        };
        Ok(Some(canvas))
    }

    /// Draws what a canvas leaves open.
    ///
    /// # Errors
    /// A mask that leaves nothing open; as [`Self::complete`].
    async fn inpaint(
        &self,
        example: Example,
        canvas: &Canvas,
        seed: u64,
        draws: &Draws,
        show: Option<FrameSink>,
    ) -> anyhow::Result<Made> {
        let codes = self.bench.codes(&self.engine, &[&canvas.picture]).await?;
        let known = canvas.known(codes.first().context("the engine gave no codes")?)?;
        let wanted = Wanted {
            example,
            mode: Mode::Direct,
            seed,
            watch: show.is_some().then_some(1),
        };
        let mut made = self
            .bench
            .inpaint(&self.engine, &wanted, &known, draws, show)
            .await?;
        let drawn = made.completion.picture.take();
        made.completion.picture = drawn.map(|drawn| canvas.composed(&drawn));
        Ok(made)
    }
}

/// The tokenizer and the network must agree on where picture codes begin.
fn same_codes(loaded: &Answer, chosen: &Chosen) -> anyhow::Result<()> {
    let tokens = chosen.bench.builder().tokenizer().len();
    let codes = chosen.bench.builder().budgets().of(Task::Understand).codes;
    match loaded {
        Answer::Loaded {
            backbone: Some(config),
            ..
        } if codes > 0 && config.image_offset() as usize != tokens => bail!(
            "{}: picture codes begin at token {}, expected {tokens}, the length of its tokenizer.json: set \
             image_token_offset in its config.json",
            chosen.folder.display(),
            config.image_offset(),
        ),
        _ => Ok(()),
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
            text: text_sampler(&studio, mode, &options)?,
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
    let whole = budgets.text.prompt + budgets.text.answer;
    (budgets.text.answer, budgets.text.direct_answer) = (length, length);
    if studio.theirs {
        // What the answer takes, the prompt cannot have.
        budgets.text.prompt = whole.saturating_sub(length);
    }
    Ok(studio.bench.with_budgets(budgets))
}

/// The sampler that was asked for; for the rest the checkpoint's, or as published. A number of steps is a schedule.
fn text_sampler(studio: &Studio, mode: Mode, options: &Generate) -> anyhow::Result<TextSampler> {
    let budget = studio.bench.builder().budgets().text;
    let length = if mode == Mode::Think {
        budget.answer
    } else {
        budget.direct_answer
    };
    let usual = &studio.draws.text;
    let temperature = if studio.theirs && !studio.says_sampling {
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
            "--block {}: expected 1 to {length}, the tokens of the answer",
            wanted.block
        ))
        .into());
    }
    let blocks = length.div_ceil(fitted.block);
    if let Some(steps) = options.steps.filter(|&steps| steps != fitted.steps) {
        let (block, most) = (fitted.block, blocks * fitted.block);
        return Err(UsageError(format!(
            "--steps {steps}: expected a multiple of {blocks} (blocks of {block}), at most {most} (one a token)"
        ))
        .into());
    }
    Ok(fitted)
}

fn cache(named: Cache) -> TextCache {
    match named {
        Cache::None => TextCache::None,
        Cache::Prefix => TextCache::Prefix,
        Cache::Dual => TextCache::Dual {
            refresh: 1,
            vicinity: 0,
        },
    }
}

fn show_text(bench: &Workbench) -> FrameSink {
    let bench = bench.with_budgets(*bench.builder().budgets());
    Arc::new(move |frame: SampleFrame| {
        let words = bench.words(&frame.tokens);
        let line: String = words
            .iter()
            .map(|word| if word.is_empty() { "░" } else { word.as_str() })
            .collect();
        print::note(&format!("{:>3}/{} {line}", frame.step + 1, frame.steps));
    })
}

/// `demask imagine`.
///
/// # Errors
/// As [`Studio::open`] and [`Studio::complete`]; a file that cannot be written.
pub fn imagine(home: &Home, options: Imagine) -> anyhow::Result<ExitCode> {
    check_output(&options.output)?;
    let (kind, mode, task) = if options.think {
        (Kind::ThinkThenDraw, Mode::Think, Task::ThinkThenDraw)
    } else {
        (Kind::TextToImage, Mode::Direct, Task::TextToImage)
    };
    let made = runtime()?.block_on(async {
        let studio = Studio::open_seeing(home, &options.model, task).await?;
        let mut draws = studio.draws.clone();
        let image = &mut draws.image;
        image.steps = options.steps.unwrap_or(image.steps);
        image.temperature = options.temperature.unwrap_or(image.temperature);
        image.guidance = options.guidance.unwrap_or(image.guidance);
        let sink: Option<FrameSink> = options.show.then(|| show_picture(show_text(&studio.bench)));
        let example = plain_example(kind, &options.prompt, None);
        match studio.canvas(&options)? {
            Some(canvas) => studio.inpaint(example, &canvas, options.seed, &draws, sink).await,
            None => studio.complete(example, mode, options.seed, &draws, sink).await,
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

/// Pictures as they are filled in; the reasoning before them, which comes without, as words.
fn show_picture(words: FrameSink) -> FrameSink {
    let drawn = std::io::stderr().is_terminal();
    Arc::new(move |frame: SampleFrame| {
        if frame.picture.is_none() {
            return words(frame);
        }
        let filled = frame.confidence.iter().filter(|&&value| value > 0).count();
        print::note(&format!(
            "step {}/{}: {filled} codes guessed",
            frame.step + 1,
            frame.steps
        ));
        if let Some(picture) = frame.picture.as_ref().filter(|_| drawn) {
            let (width, height) = room();
            print::note(half_blocks(&within(picture, width, height)).trim_end_matches('\n'));
        }
    })
}

/// `demask describe`.
///
/// # Errors
/// A picture that does not decode; as [`Studio::open`] and [`Studio::complete`].
pub fn describe(home: &Home, options: Describe) -> anyhow::Result<ExitCode> {
    let image = decode(&options.file).map_err(anyhow::Error::msg)?;
    let mode = if options.think { Mode::Think } else { Mode::Direct };
    let (prompt, made) = runtime()?.block_on(async {
        let studio = Studio::open_seeing(home, &options.model, Task::Understand).await?;
        let (kind, prompt) = match (&options.question, studio.theirs) {
            (Some(question), _) => (Kind::Question, question.clone()),
            (None, true) => (Kind::Caption, DESCRIBE.to_owned()),
            (None, false) => (Kind::Caption, "describe the table".to_owned()),
        };
        // One of whole pixels stays sharp for a model of few of them.
        let picture = fit_picture(&image, studio.size()?, options.fit, !studio.theirs);
        let example = plain_example(kind, &prompt, Some(picture));
        let made = studio
            .complete(example, mode, options.seed, &studio.draws, None)
            .await?;
        anyhow::Ok((prompt, made))
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
