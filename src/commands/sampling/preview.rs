//! The display of a completion on standard error, step by step.

use std::io::IsTerminal as _;
use std::sync::Arc;

use demask_actors::engine::actor::FrameSink;
use demask_actors::inference::complete::Inference;
use demask_api::SampleFrame;

use crate::terminal::picture::{half_blocks, room, within};
use crate::terminal::print;

/// Shows text while it is filled in, one line per step; masked positions are shaded.
pub fn show_text(inference: &Inference) -> FrameSink {
    let inference = inference.with_budgets(*inference.builder().budgets());
    Arc::new(move |frame: SampleFrame| {
        let words = inference.words(&frame.tokens);
        let line: String = words
            .iter()
            .map(|word| if word.is_empty() { "░" } else { word.as_str() })
            .collect();
        print::note(&format!("{:>3}/{} {line}", frame.step + 1, frame.steps));
    })
}

/// Shows pictures while they are filled in. Reasoning before them, whose frames have no picture, is shown as text.
pub fn show_picture(words: FrameSink) -> FrameSink {
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
            print::drawn(half_blocks(&within(picture, width, height)).trim_end_matches('\n'));
        }
    })
}
