//! Examples to engine requests and back: training sequences, completions, pictures. What rollouts, evaluations,
//! reasoning and the one-off commands share.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use demask_api::sequence::Task;
use demask_api::{
    Answer, Grid, ImageSampler, Picture, PictureSize, Quirks, Request, Sample, SampleRequest, Sampler,
    Sequence, TextSampler,
};
use demask_datasets::example::{Example, Kind, Mode};
use demask_datasets::pictures::fit::fit_picture;
use demask_datasets::prompts::published::FolderError;
use demask_datasets::prompts::sequences::{Budgets, Prompt, SequenceBuilder, SequenceError};
use demask_datasets::prompts::style::PromptStyle;
use demask_datasets::prompts::text_tokenizer::{TextTokenizer, TokenizerError};
use demask_rewards::judge::Completion;
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineFailure, unexpected};
use crate::engine_host::{EngineAddress, FrameSink};

/// An answer on its way.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Answer, EngineFailure>> + 'a>>;

/// Something that can be asked what an engine can be asked: an engine process, or the actor that owns one.
pub trait EngineLink {
    /// Asks; frames on the way go to the sink.
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_>;
}

impl EngineLink for Engine {
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_> {
        Box::pin(async move {
            let mut show = |frame| {
                if let Some(sink) = &frames {
                    sink(frame);
                }
            };
            self.ask_watched(&request, &mut show).await
        })
    }
}

impl EngineLink for EngineAddress {
    fn ask(&self, request: Request, frames: Option<FrameSink>) -> Asking<'_> {
        Box::pin(Self::ask(self, request, frames))
    }
}

/// Pictures whose codes are remembered.
const CODE_CACHE: usize = 200_000;

/// Why a request could not be made or answered.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
    /// A prompt or answer that does not fit.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A benchmark that cannot be run.
    #[error(transparent)]
    Suite(#[from] demask_rewards::benchmarks::SuiteError),
    /// The folder of a model.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A file of the checkpoint.
    #[error("{path}: {message}")]
    File {
        /// Which.
        path: String,
        /// Why.
        message: String,
    },
}

/// One completion to make.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is asked: prompt, picture, kind.
    pub example: Example,
    /// With reasoning or without.
    pub mode: Mode,
    /// The noise.
    pub seed: u64,
    /// Stream its frames, under this id.
    pub watch: Option<u64>,
}

/// How completions are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draws {
    /// Text; `steps` 0 means one a token, `block` 0 means the whole answer.
    pub text: TextSampler,
    /// Pictures.
    pub image: ImageSampler,
}

impl Default for Draws {
    fn default() -> Self {
        Self {
            text: TextSampler {
                steps: 0,
                block: 0,
                ..TextSampler::default()
            },
            image: ImageSampler::default(),
        }
    }
}

/// A finished completion.
#[derive(Clone, Debug)]
pub struct Made {
    /// Text and picture.
    pub completion: Completion,
    /// The whole sequence, every filled span its answer.
    pub sequence: Sequence,
    /// The step that committed each answer position.
    pub commit_step: Vec<u16>,
    /// Forward passes.
    pub forwards: usize,
}

/// A tokenizer and budgets: what is needed beside an engine.
pub struct Workbench {
    builder: SequenceBuilder,
    /// Size of the pictures that the engine reads and draws, where others are made to fit.
    size: Option<PictureSize>,
    codes: Mutex<HashMap<[u8; 32], Vec<u32>>>,
}

impl Workbench {
    /// With a tokenizer and budgets.
    #[must_use]
    pub fn new(tokenizer: TextTokenizer, budgets: Budgets) -> Self {
        Self::of_builder(SequenceBuilder::new(tokenizer, budgets))
    }

    fn of_builder(builder: SequenceBuilder) -> Self {
        Self {
            builder,
            size: None,
            codes: Mutex::default(),
        }
    }

    /// The same, prompts written in this style.
    #[must_use]
    pub fn with_style(self, style: PromptStyle) -> Self {
        Self::of_builder(self.builder.with_style(style))
    }

    /// The same with the published code's ways of writing prompts, as far as these switches say.
    #[must_use]
    pub fn with_quirks(self, quirks: Quirks) -> Self {
        let size = self.size;
        Self::of_builder(self.builder.with_quirks(quirks)).sized(size)
    }

    /// The same with other lengths.
    #[must_use]
    pub fn with_budgets(&self, budgets: Budgets) -> Self {
        Self::of_builder(self.builder.clone().with_budgets(budgets)).sized(self.size)
    }

    /// The same for pictures of this size: others are made to fit before the engine reads them, and what it draws has this
    /// shape. Without a size they are read as they are, and what is drawn is square.
    #[must_use]
    pub fn sized(self, size: Option<PictureSize>) -> Self {
        Self { size, ..self }
    }

    /// The sequence builder.
    #[must_use]
    pub fn builder(&self) -> &SequenceBuilder {
        &self.builder
    }

    /// Forgets the codes of all pictures: the image tokenizer has changed.
    pub fn forget_codes(&self) {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Codes of pictures, remembered by content.
    ///
    /// # Errors
    /// The engine's.
    pub async fn codes(
        &self,
        link: &dyn EngineLink,
        pictures: &[&Picture],
    ) -> Result<Vec<Vec<u32>>, WorkError> {
        let keys: Vec<[u8; 32]> = pictures.iter().map(|picture| key(picture)).collect();
        let known: Vec<Option<Vec<u32>>> = {
            let cache = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
            keys.iter().map(|key| cache.get(key).cloned()).collect()
        };
        let missing: Vec<Picture> = pictures
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(picture, _)| match self.size {
                Some(size) => fit_picture(picture, size),
                None => (*picture).clone(),
            })
            .collect();
        let mut fresh = Vec::new();
        if !missing.is_empty() {
            match link.ask(Request::Encode { pictures: missing }, None).await? {
                Answer::Codes { codes, .. } => fresh = codes,
                other => return Err(unexpected("codes", &other).into()),
            }
        }
        let mut fresh = fresh.into_iter();
        let mut cache = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() > CODE_CACHE {
            cache.clear();
        }
        let all = keys.into_iter().zip(known).map(|(key, known)| {
            known.unwrap_or_else(|| {
                let codes = fresh.next().unwrap_or_default();
                cache.insert(key, codes.clone());
                codes
            })
        });
        Ok(all.collect())
    }

    /// The codes of each example's picture; empty where there is none.
    async fn codes_of(
        &self,
        link: &dyn EngineLink,
        examples: &[&Example],
    ) -> Result<Vec<Vec<u32>>, WorkError> {
        let pictures: Vec<&Picture> = examples
            .iter()
            .filter_map(|example| example.picture.as_ref())
            .collect();
        let mut codes = self.codes(link, &pictures).await?.into_iter();
        let all = examples.iter().map(|example| match example.picture {
            Some(_) => codes.next().unwrap_or_default(),
            None => Vec::new(),
        });
        Ok(all.collect())
    }

    /// Training sequences; an example that does not fit gives its own error, the others are made all the same.
    ///
    /// # Errors
    /// The engine's.
    pub async fn sequences(
        &self,
        link: &dyn EngineLink,
        examples: &[(Example, Mode, bool)],
    ) -> Result<Vec<Result<Sequence, SequenceError>>, WorkError> {
        let only: Vec<&Example> = examples.iter().map(|(example, _, _)| example).collect();
        let codes = self.codes_of(link, &only).await?;
        let all = examples.iter().zip(codes);
        Ok(all
            .map(|((example, mode, drop), codes)| self.builder.train(example, *mode, &codes, *drop))
            .collect())
    }

    /// Whether the prompt of an example fits its budget in this mode.
    ///
    /// # Errors
    /// It does not, with both numbers.
    pub fn fits(&self, example: &Example, mode: Mode) -> Result<(), SequenceError> {
        let codes = match asked_about(example).picture {
            Some(_) => vec![0; self.builder.budgets().of(example.task(mode)).codes],
            None => Vec::new(),
        };
        self.builder.prompt(example, mode, &codes).map(|_| ())
    }

    /// Completes: text, then (for think-then-draw) the picture.
    ///
    /// # Errors
    /// The engine's; a prompt longer than its budget, with both numbers.
    pub async fn complete(
        &self,
        link: &dyn EngineLink,
        wanted: &[Wanted],
        draws: &Draws,
        frames: Option<FrameSink>,
    ) -> Result<Vec<Made>, WorkError> {
        let asked: Vec<Example> = wanted.iter().map(|wanted| asked_about(&wanted.example)).collect();
        let codes = self.codes_of(link, &asked.iter().collect::<Vec<_>>()).await?;
        let prompts: Vec<Prompt> = wanted
            .iter()
            .zip(&codes)
            .map(|(wanted, codes)| self.builder.prompt(&wanted.example, wanted.mode, codes))
            .collect::<Result<_, _>>()?;
        let first = self.fill(link, &prompts, wanted, draws, frames.clone()).await?;
        let (mut second, mut again) = (Vec::new(), Vec::new());
        for (at, (prompt, sample)) in prompts.iter().zip(&first).enumerate() {
            if let Some(next) = self.builder.then_draw(prompt, &sample.ids) {
                second.push(next);
                again.push((at, wanted[at].clone()));
            }
        }
        let drawn = if second.is_empty() {
            Vec::new()
        } else {
            let wanted: Vec<Wanted> = again.iter().map(|(_, wanted)| wanted.clone()).collect();
            self.fill(link, &second, &wanted, draws, frames).await?
        };
        let mut drawn: HashMap<usize, Sample> = again.iter().map(|(at, _)| *at).zip(drawn).collect();
        prompts
            .iter()
            .zip(wanted)
            .zip(first)
            .enumerate()
            .map(|(at, ((prompt, wanted), sample))| self.made(prompt, wanted, sample, drawn.remove(&at)))
            .collect()
    }

    /// Draws the codes of a picture that are not `known`, one a position of the picture, row by row; the others stay
    /// (in- and outpainting).
    ///
    /// # Errors
    /// As [`Self::complete`]; another number of codes than the model's pictures have.
    pub async fn inpaint(
        &self,
        link: &dyn EngineLink,
        wanted: &Wanted,
        known: &[Option<u32>],
        draws: &Draws,
        frames: Option<FrameSink>,
    ) -> Result<Made, WorkError> {
        let mut prompt = self
            .builder
            .prompt(&asked_about(&wanted.example), wanted.mode, &[])?;
        let (expected, found) = (prompt.target.len(), known.len());
        if expected != found {
            return Err(SequenceError::Codes { expected, found }.into());
        }
        for (at, code) in known.iter().enumerate() {
            if let Some(code) = code {
                prompt.ids[prompt.target.start + at] = self.builder.image_ids(&[*code])[0];
            }
        }
        let prompts = std::slice::from_ref(&prompt);
        let samples = self
            .fill(link, prompts, std::slice::from_ref(wanted), draws, frames)
            .await?;
        let none = || unexpected("a sample", &Answer::Done);
        let sample = samples.into_iter().next().ok_or_else(none)?;
        self.made(&prompt, wanted, sample, None)
    }

    async fn fill(
        &self,
        link: &dyn EngineLink,
        prompts: &[Prompt],
        wanted: &[Wanted],
        draws: &Draws,
        frames: Option<FrameSink>,
    ) -> Result<Vec<Sample>, WorkError> {
        let requests: Vec<SampleRequest> = prompts
            .iter()
            .zip(wanted)
            .map(|(prompt, wanted)| self.request(prompt, wanted, draws))
            .collect();
        match link.ask(Request::Sample { requests }, frames).await? {
            Answer::Samples { samples, .. } => Ok(samples),
            other => Err(unexpected("samples", &other).into()),
        }
    }

    fn request(&self, prompt: &Prompt, wanted: &Wanted, draws: &Draws) -> SampleRequest {
        let picture =
            prompt.task == Task::TextToImage || (prompt.task == Task::ThinkThenDraw && prompt.then.is_none());
        let sampler = if picture {
            Sampler::Image(draws.image.clone())
        } else {
            Sampler::Text(fit(&draws.text, prompt.target.len()))
        };
        SampleRequest {
            id: wanted.watch.unwrap_or(0),
            ids: prompt.ids.clone(),
            left_pad: prompt.left_pad,
            target: prompt.target,
            sampler,
            grid: self
                .size
                .filter(|_| picture)
                .and_then(|size| Grid::under(size, prompt.target.len())),
            unconditional: if picture {
                prompt.unconditional.clone()
            } else {
                None
            },
            unconditional_left_pad: if picture {
                prompt.unconditional_left_pad
            } else {
                prompt.left_pad
            },
            seed: wanted.seed.wrapping_add(u64::from(picture) << 32),
            watch: wanted.watch.is_some(),
        }
    }

    fn made(
        &self,
        prompt: &Prompt,
        wanted: &Wanted,
        sample: Sample,
        drawn: Option<Sample>,
    ) -> Result<Made, WorkError> {
        let is_text = prompt.task != Task::TextToImage;
        let text = if is_text {
            self.builder.text(&sample.ids, prompt.target)?
        } else {
            String::new()
        };
        let filled = &sample.ids[prompt.target.start..prompt.target.end];
        let tokens = if is_text { self.builder.text_len(filled) } else { 0 };
        let mut commit_step = sample.commit_step;
        let mut forwards = sample.forwards;
        let (ids, picture) = match drawn {
            Some(drawn) => {
                // The picture was drawn after the text.
                let after = commit_step.iter().max().map_or(0, |&last| last + 1);
                commit_step.extend(drawn.commit_step.iter().map(|&step| after.saturating_add(step)));
                forwards += drawn.forwards;
                (drawn.ids, drawn.picture)
            }
            None => (sample.ids, sample.picture),
        };
        let sequence = self.builder.completed(&wanted.example.id, prompt, &ids);
        Ok(Made {
            completion: Completion {
                text,
                picture,
                tokens,
            },
            sequence,
            commit_step,
            forwards,
        })
    }

    /// The words of a target's tokens, one a position, for a frame: empty where masked.
    #[must_use]
    pub fn words(&self, tokens: &[u32]) -> Vec<String> {
        let specials = self.builder.tokenizer().specials();
        let word = |&id: &u32| {
            if id == specials.mask {
                String::new()
            } else if id == specials.eos {
                "·".to_owned()
            } else {
                self.builder.tokenizer().decode(&[id]).unwrap_or_default()
            }
        };
        tokens.iter().map(word).collect()
    }
}

/// A picture's content in short.
fn key(picture: &Picture) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(picture.width as u64).to_le_bytes());
    *hasher.update(&picture.rgb).finalize().as_bytes()
}

/// The example as the model may see it: a picture that is to be drawn is not shown.
fn asked_about(example: &Example) -> Example {
    let shown = matches!(example.kind, Kind::Caption | Kind::Scene | Kind::Question);
    Example {
        picture: example.picture.clone().filter(|_| shown),
        ..example.clone()
    }
}

/// A text sampler's settings made to fit a target: no block is longer, and steps are a multiple of the blocks.
#[must_use]
pub fn fit(sampler: &TextSampler, length: usize) -> TextSampler {
    let block = match sampler.block {
        0 => length,
        block => block.min(length),
    };
    let block = block.max(1);
    let blocks = length.div_ceil(block).max(1);
    let steps = if sampler.steps == 0 { length } else { sampler.steps };
    let steps = (steps.div_ceil(blocks) * blocks).clamp(1, blocks * block);
    TextSampler {
        steps,
        block,
        ..sampler.clone()
    }
}
