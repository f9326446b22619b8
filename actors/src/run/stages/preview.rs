//! Completions that a person watches: each denoising step as a frame, in words, as it is taken.

use std::sync::Arc;

use demask_api::{Grid, SampleFrame};
use demask_datasets::example::{Example, Kind, Mode};
use demask_storage::{Frame, Level, Record};

use super::state::StageRun;
use crate::engine::actor::FrameSink;
use crate::engine::process::EngineFailure;
use crate::inference::complete::{CompletionRequest, Inference};
use crate::inference::error::WorkError;
use crate::inference::settings::SamplerSettings;
use crate::inference::typed_prompt::plain_example;
use crate::pipeline::curation::training_example::TrainingExample;
use crate::pipeline::run_error::RunError;
use crate::runtime::seeds::seed_of;

/// Frames that may wait to be shown; more are left out.
const FRAMES: usize = 256;
/// Which kinds are watched in turn while training.
const TURNS: [Kind; 4] = [
    Kind::TextToImage,
    Kind::WordProblem,
    Kind::TextToImage,
    Kind::Question,
];

impl StageRun {
    /// One example of a batch, completed and watched, so that a person sees what the model makes of it now.
    pub(crate) async fn watch_one(&self, used: &[TrainingExample], turn: u64) -> Result<(), RunError> {
        let kind = TURNS[(turn % TURNS.len() as u64) as usize];
        let of_kind = used.iter().find(|picked| picked.example.kind == kind);
        let Some(picked) = of_kind.or(used.first()) else {
            return Ok(());
        };
        let id = format!("{}/{}/watch", self.context.run, self.cursor.step);
        self.complete_watched(&picked.example, picked.mode, &self.samplers(None), &id, "rollout")
            .await
    }

    /// An item of each suite before the benchmarks begin, another at another step: a person sees at once what is measured.
    pub(crate) async fn watch_benchmarks(&self, suites: &[String], limit: usize) -> Result<(), RunError> {
        for name in suites {
            // What is wrong with a suite, its evaluation says.
            let Some(items) = self
                .suites
                .find(name)
                .and_then(|suite| suite.examples(Some(limit)).ok())
            else {
                continue;
            };
            let at = self.cursor.step as usize % items.len().max(1);
            let Some(example) = items.get(at) else { continue };
            let mode = match example.reasoning {
                Some(_) => Mode::Think,
                None => Mode::Direct,
            };
            if self.inference.fits(example, mode).is_err() {
                continue;
            }
            let id = format!("{}/{}/{name}", self.context.run, self.cursor.step);
            self.complete_watched(example, mode, &self.samplers(None), &id, "evaluation")
                .await?;
        }
        Ok(())
    }

    /// What a person asked for: a prompt, completed as well as the model can (a token a step, the likeliest) and watched.
    ///
    /// # Errors
    /// The engine's death; what else goes wrong is an alert.
    pub async fn sample_now(&self, order: &str, prompt: &str, picture: bool) -> Result<(), RunError> {
        let kind = if picture {
            Kind::TextToImage
        } else {
            Kind::WordProblem
        };
        let example = plain_example(kind, prompt, None);
        let id = format!("{}/asked/{order}", self.context.run);
        let mut samplers = self.samplers(None);
        (samplers.text.steps, samplers.text.temperature) = (0, 0.0);
        self.complete_watched(&example, Mode::Think, &samplers, &id, "person")
            .await
    }

    async fn complete_watched(
        &self,
        example: &Example,
        mode: Mode,
        samplers: &SamplerSettings,
        id: &str,
        origin: &str,
    ) -> Result<(), RunError> {
        let wanted = [CompletionRequest {
            example: example.clone(),
            mode,
            seed: seed_of(self.context.profile.seed, self.cursor.step, 2),
            watch: Some(1),
        }];
        let (sender, mut frames) = tokio::sync::mpsc::channel(FRAMES);
        // L2: whoever watches is never waited for.
        let sink: FrameSink = Arc::new(move |frame| drop(sender.try_send(frame)));
        let made = self
            .inference
            .complete(&self.context.engine, &wanted, samplers, Some(sink));
        // While it is drawn: a large model takes seconds a step.
        let show = async {
            // A picture that follows its reasoning is a second part.
            let (mut step, mut part) = (0, 0);
            while let Some(frame) = frames.recv().await {
                if frame.step == 0 {
                    part = step;
                }
                let steps = part + frame.steps as u64;
                let mut shown = in_words(&self.inference, frame);
                shown.run.clone_from(&self.context.run);
                id.clone_into(&mut shown.sample);
                origin.clone_into(&mut shown.origin);
                shown.prompt.clone_from(&example.prompt);
                (shown.step, shown.steps) = (step, steps);
                step += 1;
                self.context.recorder.offer(Record::Frame(shown));
            }
        };
        match tokio::join!(made, show).0 {
            Ok(_) => Ok(()),
            Err(WorkError::Engine(failure @ EngineFailure::Died { .. })) => Err(failure.into()),
            Err(error) => self.alert(Level::Warn, "sample", error.to_string()).await,
        }
    }
}

/// A frame as the dashboard draws it; whose it is, is yet to be filled in.
fn in_words(inference: &Inference, frame: SampleFrame) -> Frame {
    let is_picture = frame.picture.is_some();
    let grid = frame
        .picture
        .as_ref()
        .and_then(|picture| Grid::under(picture.size(), frame.tokens.len()));
    Frame {
        run: String::new(),
        sample: String::new(),
        origin: String::new(),
        prompt: String::new(),
        kind: if is_picture { "picture" } else { "text" }.to_owned(),
        step: 0,
        steps: 0,
        grid: grid.map_or(0, |grid| grid.columns as u64),
        tokens: if is_picture {
            code_words(inference, &frame.tokens)
        } else {
            inference.words(&frame.tokens)
        },
        confidence: frame.confidence,
        picture: frame
            .picture
            .map(|picture| (picture.width as u64, picture.height as u64, hex(&picture.rgb))),
    }
}

fn code_words(inference: &Inference, tokens: &[u32]) -> Vec<String> {
    let mask = inference.builder().tokenizer().specials().mask;
    let codes = inference.builder().codes(tokens);
    let word = |(&id, code): (&u32, u32)| {
        if id == mask {
            String::new()
        } else {
            code.to_string()
        }
    };
    tokens.iter().zip(codes).map(word).collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").ok();
            text
        })
}
