//! Completions that the user watches: each denoising step is published as a frame with the tokens' words.

use std::sync::Arc;

use demask_api::{Grid, SampleFrame};
use demask_storage::{Frame, Record};

use super::complete::{CompletionRequest, CompletionResult, Inference};
use super::error::WorkError;
use super::settings::SamplerSettings;
use crate::engine::actor::FrameSink;
use crate::engine::link::EngineLink;
use crate::engine::process::EngineFailure;
use crate::runtime::recorder::Recorder;

/// Frames that may wait to be shown; further ones are dropped.
const FRAMES: usize = 256;

/// The identity of a watched completion, and the recorder that publishes its frames.
pub struct Watched<'a> {
    /// The run.
    pub run: &'a str,
    /// Id of the sample.
    pub id: &'a str,
    /// Purpose of the sample: `rollout`, `evaluation`, `person`.
    pub origin: &'a str,
    /// Publisher of the frames.
    pub recorder: &'a Recorder,
}

impl Watched<'_> {
    /// Makes the completion and publishes its frames on the way.
    ///
    /// # Errors
    /// As [`Inference::complete`].
    pub async fn complete(
        &self,
        inference: &Inference,
        link: &dyn EngineLink,
        wanted: CompletionRequest,
        samplers: &SamplerSettings,
    ) -> Result<CompletionResult, WorkError> {
        let prompt = wanted.example.prompt.clone();
        let wanted = [CompletionRequest {
            watch: Some(1),
            ..wanted
        }];
        let (sender, mut frames) = tokio::sync::mpsc::channel(FRAMES);
        // L2: sampling never waits for a watcher.
        let sink: FrameSink = Arc::new(move |frame| drop(sender.try_send(frame)));
        let made = inference.complete(link, &wanted, samplers, Some(sink));
        // Frames are shown while sampling goes on, because one step of a large model takes seconds.
        let show = async {
            // A picture that follows reasoning starts its step count anew; it is counted on as a second part.
            let (mut step, mut part) = (0, 0);
            while let Some(frame) = frames.recv().await {
                if frame.step == 0 {
                    part = step;
                }
                let steps = part + frame.steps as u64;
                let mut shown = in_words(inference, frame);
                self.run.clone_into(&mut shown.run);
                self.id.clone_into(&mut shown.sample);
                self.origin.clone_into(&mut shown.origin);
                shown.prompt.clone_from(&prompt);
                (shown.step, shown.steps) = (step, steps);
                step += 1;
                self.recorder.offer(Record::Frame(shown));
            }
        };
        let mut made = tokio::join!(made, show).0?;
        made.pop().ok_or_else(|| {
            WorkError::from(EngineFailure::Unexpected {
                expected: "samples",
                found: "none".to_owned(),
            })
        })
    }
}

/// Converts an engine's frame to the dashboard's. The caller fills in the run, the sample and the step.
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
