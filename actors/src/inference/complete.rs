//! Completions and training sequences: an example becomes a request to the engine, and the engine's answer becomes a
//! completion. Rollouts, evaluations, reasoning and the one-off commands share this file.

use std::collections::HashMap;

use demask_api::sequence::Task;
use demask_api::{
    Answer, Grid, Picture, PictureSize, Quirks, Request, Sample, SampleRequest, Sampler, Sequence,
};
use demask_datasets::example::{Example, Kind, Mode};
use demask_datasets::prompts::sequences::{Budgets, Prompt, SequenceBuilder, SequenceError};
use demask_datasets::prompts::style::PromptStyle;
use demask_datasets::prompts::text_tokenizer::TextTokenizer;
use demask_rewards::judge::Completion;

use super::code_cache::CodeCache;
use super::error::WorkError;
use super::settings::{SamplerSettings, fit};
use crate::engine::actor::FrameSink;
use crate::engine::link::EngineLink;
use crate::engine::process::unexpected;

/// A request for one completion.
#[derive(Clone, Debug)]
pub struct CompletionRequest {
    /// The example: prompt, picture, kind.
    pub example: Example,
    /// Whether to reason before the answer.
    pub mode: Mode,
    /// Seed of the sampling noise.
    pub seed: u64,
    /// Id under which denoising frames are streamed; absent: none are.
    pub watch: Option<u64>,
}

/// A finished completion.
#[derive(Clone, Debug)]
pub struct CompletionResult {
    /// The text and the picture.
    pub completion: Completion,
    /// The whole sequence; every filled span is its answer.
    pub sequence: Sequence,
    /// Sampling step that committed each answer position.
    pub commit_step: Vec<u16>,
    /// Number of forward passes.
    pub forwards: usize,
}

/// A tokenizer and budgets: what a completion needs besides an engine.
pub struct Inference {
    builder: SequenceBuilder,
    /// Size of the model's pictures; others are resized to it. `None`: pictures are used as they are.
    size: Option<PictureSize>,
    codes: CodeCache,
}

impl Inference {
    /// Makes an inference from a tokenizer and budgets.
    #[must_use]
    pub fn new(tokenizer: TextTokenizer, budgets: Budgets) -> Self {
        Self::of_builder(SequenceBuilder::new(tokenizer, budgets))
    }

    fn of_builder(builder: SequenceBuilder) -> Self {
        Self {
            builder,
            size: None,
            codes: CodeCache::default(),
        }
    }

    /// Returns this inference with another prompt style.
    #[must_use]
    pub fn with_style(self, style: PromptStyle) -> Self {
        Self::of_builder(self.builder.with_style(style))
    }

    /// Returns this inference with those quirks of the published code in its prompts that the switches enable.
    #[must_use]
    pub fn with_quirks(self, quirks: Quirks) -> Self {
        let size = self.size;
        Self::of_builder(self.builder.with_quirks(quirks)).sized(size)
    }

    /// Returns this inference with other budgets.
    #[must_use]
    pub fn with_budgets(&self, budgets: Budgets) -> Self {
        Self::of_builder(self.builder.clone().with_budgets(budgets)).sized(self.size)
    }

    /// Returns this inference for pictures of this size: others are resized before the engine reads them, and drawings
    /// have this shape. With `None`, pictures are read as they are, and drawings are square.
    #[must_use]
    pub fn sized(self, size: Option<PictureSize>) -> Self {
        Self { size, ..self }
    }

    /// Returns the size of the pictures, where it is known.
    #[must_use]
    pub const fn size(&self) -> Option<PictureSize> {
        self.size
    }

    /// Returns this inference with text answers of this many tokens.
    ///
    /// Published models have one length for prompt and answer together, so a longer answer leaves less room for the
    /// prompt. Demask's models have a length for each, and an answer cannot be longer than theirs.
    #[must_use]
    pub fn with_answers(&self, tokens: usize) -> Self {
        let mut budgets = *self.builder.budgets();
        let is_padded = self.builder.style().is_padded();
        for budget in [&mut budgets.text, &mut budgets.understand] {
            let whole = budget.prompt + budget.answer;
            let tokens = match is_padded {
                true => tokens.min(budget.answer.max(budget.direct_answer)),
                false => tokens,
            };
            if !is_padded {
                budget.prompt = whole.saturating_sub(tokens);
            }
            (budget.answer, budget.direct_answer) = (tokens, tokens);
        }
        self.with_budgets(budgets)
    }

    /// Returns the sequence builder.
    #[must_use]
    pub fn builder(&self) -> &SequenceBuilder {
        &self.builder
    }

    /// Empties the code cache, after the image tokenizer has changed.
    pub fn forget_codes(&self) {
        self.codes.clear();
    }

    /// Returns the codes of pictures, from the cache where possible.
    ///
    /// # Errors
    /// Any failure of the engine.
    pub async fn codes(
        &self,
        link: &dyn EngineLink,
        pictures: &[&Picture],
    ) -> Result<Vec<Vec<u32>>, WorkError> {
        self.codes.of(link, pictures, self.size).await
    }

    /// Returns the codes of each example's picture; empty for an example without one.
    pub(super) async fn codes_of(
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

    /// Makes training sequences. An example that does not fit its budget gives an error of its own, and the others are
    /// still made.
    ///
    /// # Errors
    /// Any failure of the engine.
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

    /// Checks that the prompt of an example fits its budget in this mode.
    ///
    /// # Errors
    /// An error with both lengths if it does not fit.
    pub fn fits(&self, example: &Example, mode: Mode) -> Result<(), SequenceError> {
        let codes = self.placeholder_codes(example, mode);
        self.builder.prompt(example, mode, &codes).map(|_| ())
    }

    /// Returns as many placeholder codes as the picture of an example has, if the prompt shows one.
    pub(super) fn placeholder_codes(&self, example: &Example, mode: Mode) -> Vec<u32> {
        match asked_about(example).picture {
            Some(_) => vec![0; self.builder.budgets().of(example.task(mode)).codes],
            None => Vec::new(),
        }
    }

    /// Makes completions: the text, and then, for think-then-draw, the picture.
    ///
    /// # Errors
    /// Any failure of the engine; an error with both lengths if a prompt is longer than its budget.
    pub async fn complete(
        &self,
        link: &dyn EngineLink,
        wanted: &[CompletionRequest],
        samplers: &SamplerSettings,
        frames: Option<FrameSink>,
    ) -> Result<Vec<CompletionResult>, WorkError> {
        let asked: Vec<Example> = wanted.iter().map(|wanted| asked_about(&wanted.example)).collect();
        let codes = self.codes_of(link, &asked.iter().collect::<Vec<_>>()).await?;
        let prompts: Vec<Prompt> = wanted
            .iter()
            .zip(&codes)
            .map(|(wanted, codes)| self.builder.prompt(&wanted.example, wanted.mode, codes))
            .collect::<Result<_, _>>()?;
        let first = self
            .fill(link, &prompts, wanted, samplers, frames.clone())
            .await?;
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
            let wanted: Vec<CompletionRequest> = again.iter().map(|(_, wanted)| wanted.clone()).collect();
            self.fill(link, &second, &wanted, samplers, frames).await?
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

    pub(super) async fn fill(
        &self,
        link: &dyn EngineLink,
        prompts: &[Prompt],
        wanted: &[CompletionRequest],
        samplers: &SamplerSettings,
        frames: Option<FrameSink>,
    ) -> Result<Vec<Sample>, WorkError> {
        let requests: Vec<SampleRequest> = prompts
            .iter()
            .zip(wanted)
            .map(|(prompt, wanted)| self.request(prompt, wanted, samplers))
            .collect();
        match link.ask(Request::Sample { requests }, frames).await? {
            Answer::Samples { samples, .. } => Ok(samples),
            other => Err(unexpected("samples", &other).into()),
        }
    }

    fn request(
        &self,
        prompt: &Prompt,
        wanted: &CompletionRequest,
        samplers: &SamplerSettings,
    ) -> SampleRequest {
        let picture =
            prompt.task == Task::TextToImage || (prompt.task == Task::ThinkThenDraw && prompt.then.is_none());
        let sampler = if picture {
            Sampler::Image(samplers.image.clone())
        } else {
            Sampler::Text(fit(&samplers.text, prompt.target.len()))
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

    pub(super) fn made(
        &self,
        prompt: &Prompt,
        wanted: &CompletionRequest,
        sample: Sample,
        drawn: Option<Sample>,
    ) -> Result<CompletionResult, WorkError> {
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
                // The picture was drawn after the text, so its steps count on from the text's last step.
                let after = commit_step.iter().max().map_or(0, |&last| last + 1);
                commit_step.extend(drawn.commit_step.iter().map(|&step| after.saturating_add(step)));
                forwards += drawn.forwards;
                (drawn.ids, drawn.picture)
            }
            None => (sample.ids, sample.picture),
        };
        let sequence = self.builder.completed(&wanted.example.id, prompt, &ids);
        Ok(CompletionResult {
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

    /// Returns the words of a target's tokens for a frame, one per position; empty where masked.
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

/// Returns the example as the prompt may show it: without the picture if that is what the model has to draw.
pub(super) fn asked_about(example: &Example) -> Example {
    let shown = matches!(
        example.kind,
        Kind::Caption | Kind::Scene | Kind::Question | Kind::PictureInstruction
    );
    Example {
        picture: example.picture.clone().filter(|_| shown),
        ..example.clone()
    }
}
