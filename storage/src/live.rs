//! What is true now: the state that a watcher sees besides the records.

use serde::{Deserialize, Serialize};

use crate::vocabulary::RunState;

/// What an actor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// Being made.
    Starting,
    /// Waiting for a message.
    Idle,
    /// Handling one.
    Busy,
    /// Held by a person.
    Paused,
    /// Waiting for room downstream (law L2).
    Waiting,
    /// Dead; the supervisor is about to make another.
    Failed,
    /// Ended.
    Stopped,
}

/// One row of the actor tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorView {
    /// Its name: `trainer`, `engine/0`.
    pub name: String,
    /// Its parent's name; empty for the root.
    pub parent: String,
    /// Doing what.
    pub state: ActorState,
    /// What it is busy with, in a few words.
    pub detail: String,
    /// Messages or work items waiting, and how many may.
    pub queue: (u64, u64),
    /// Lives so far, less one.
    pub restarts: u64,
    /// Messages handled.
    pub handled: u64,
    /// The last message's type.
    pub last_message: String,
    /// Microseconds since the epoch of the last message.
    pub last_at_us: i64,
    /// The last few messages: time, type, microseconds, outcome (the flight recorder).
    pub recent: Vec<(i64, String, u64, String)>,
    /// Microseconds from the last question to its answer, its time in the queue among them.
    #[serde(default)]
    pub answered_us: u64,
    /// The last few deaths: microseconds since the epoch, and the reason.
    #[serde(default)]
    pub deaths: Vec<(i64, String)>,
}

/// One stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageView {
    /// Its name in the profile.
    pub name: String,
    /// `pretrain`, `finetune`, `reason`, `align`, `evaluate`, `tokenizer`.
    pub kind: String,
    /// Steps done.
    pub done: u64,
    /// Steps in all.
    pub total: u64,
}

/// A device as its engine sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// `cpu`, `cuda:0`.
    pub name: String,
    /// Compute dtype and why.
    pub compute: String,
    /// Threads, 0 for a GPU.
    pub threads: u64,
    /// Engine process id.
    pub pid: u64,
    /// Resident memory of the engine's process in bytes, when this was said.
    pub memory: u64,
    /// The most that was resident since the process began, in bytes.
    #[serde(default)]
    pub peak: u64,
    /// Share of the last interval that the engine computed, 0..1.
    pub busy: f64,
}

/// Something that can be turned in a run: a number within a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knob {
    /// Its key for `set`: `learning_rate`, `temperature`, `kl`, `mix.SOURCE`, `reward.NAME`.
    pub key: String,
    /// Present value.
    pub value: f64,
    /// Smallest allowed.
    pub low: f64,
    /// Largest allowed.
    pub high: f64,
    /// One line of help.
    pub help: String,
}

impl Knob {
    /// What is allowed, in words: `0 to 1`.
    #[must_use]
    pub fn allowed(&self) -> String {
        format!("{} to {}", self.low, self.high)
    }
}

/// Where the run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// The run, or empty when none.
    pub run: String,
    /// The profile.
    pub profile: String,
    /// Where it is.
    pub state: RunState,
    /// In words what is going on.
    pub detail: String,
    /// The run's step.
    pub step: u64,
    /// Steps of all stages.
    pub total_steps: u64,
    /// The stages, in order.
    pub stages: Vec<StageView>,
    /// Index of the present one.
    pub stage: usize,
    /// Training tokens a second of the present stage, smoothed; 0 where it has none.
    pub tokens_per_s: f64,
    /// Seconds to the end of the present stage at its pace, if known.
    pub eta_s: Option<f64>,
    /// Seconds since the start of this life of the run.
    pub elapsed_s: f64,
    /// Devices.
    pub devices: Vec<DeviceView>,
    /// What can be steered.
    pub knobs: Vec<Knob>,
    /// The last checkpoint's step, if any.
    pub last_checkpoint: Option<u64>,
}

impl Overview {
    /// The run in a line: where it is, how fast it goes, when the present stage ends.
    #[must_use]
    pub fn headline(&self) -> String {
        self.headline_within(usize::MAX)
    }

    /// The same in so many columns, if it can be: the words about the time that is left become fewer, then the pace is left out,
    /// then the time.
    #[must_use]
    pub fn headline_within(&self, columns: usize) -> String {
        let mut parts = vec![
            self.profile.clone(),
            self.state.to_string(),
            format!("step {}/{}", self.step, self.total_steps),
        ];
        if let Some(stage) = self.stages.get(self.stage) {
            parts.push(format!("{} {}/{}", stage.name, stage.done, stage.total));
        }
        // A run that is held has no pace.
        if self.state != RunState::Running {
            return parts.join(" · ");
        }
        let pace = (self.tokens_per_s > 0.0).then(|| format!("{:.0} tokens/s", self.tokens_per_s));
        let left = self.time_left();
        let time = |words: &str| left.as_ref().map(|left| format!("{left} {words}"));
        let line = |pace: Option<&String>, time: Option<String>| {
            let more = pace.cloned().into_iter().chain(time);
            parts.iter().cloned().chain(more).collect::<Vec<_>>().join(" · ")
        };
        let lines = [
            line(pace.as_ref(), time("left in it")),
            line(pace.as_ref(), time("left")),
            line(None, time("left")),
        ];
        let fits = |line: &String| line.chars().count() <= columns;
        lines.into_iter().find(fits).unwrap_or_else(|| line(None, None))
    }

    /// The time to the end of the present stage as a person says it; none while it is not known or the run is held.
    #[must_use]
    pub fn time_left(&self) -> Option<String> {
        let left = self.eta_s.filter(|left| left.is_finite() && *left > 0.0)?;
        (self.state == RunState::Running).then(|| duration(left))
    }
}

/// Seconds as a person says them.
fn duration(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let all = seconds.clamp(0.0, 1e9) as u64;
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// A denoising step of a watched sample, as the dashboard draws it: words, not token ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The run, or empty.
    pub run: String,
    /// The sample: all its frames carry this id.
    pub sample: String,
    /// What asked for it: `rollout`, `evaluation`, `person`.
    pub origin: String,
    /// The prompt.
    pub prompt: String,
    /// `text` or `picture`.
    pub kind: String,
    /// Denoising step, from 0.
    pub step: u64,
    /// Of at most how many so far: a picture follows its reasoning, and sure tokens need fewer.
    pub steps: u64,
    /// Each target position's text (empty string: masked). For a picture the code, or empty.
    pub tokens: Vec<String>,
    /// Each target position's confidence, 0..=255.
    pub confidence: Vec<u8>,
    /// For a picture: codes across the code grid, whose rows follow one another; else 0.
    pub grid: u64,
    /// For a picture: width, height and RGB bytes (hex) of the present guess.
    pub picture: Option<(u64, u64, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_headline_is_shortened_by_whole_words() {
        let overview = Overview {
            profile: "tabletop".to_owned(),
            state: RunState::Running,
            step: 172,
            total_steps: 213,
            tokens_per_s: 9134.0,
            eta_s: Some(29.0),
            run: String::new(),
            detail: String::new(),
            stages: Vec::new(),
            stage: 0,
            elapsed_s: 0.0,
            devices: Vec::new(),
            knobs: Vec::new(),
            last_checkpoint: None,
        };
        let begun = "tabletop · running · step 172/213";
        for (columns, rest) in [
            (67, " · 9134 tokens/s · 29 s left in it"),
            (61, " · 9134 tokens/s · 29 s left"),
            (60, " · 29 s left"),
            (44, ""),
            (10, ""),
        ] {
            assert_eq!(overview.headline_within(columns), format!("{begun}{rest}"));
        }
    }
}
