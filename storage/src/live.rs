//! Live state: what watchers see besides the stored records.

use serde::{Deserialize, Serialize};

use crate::vocabulary::RunState;

/// The state of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// Being created.
    Starting,
    /// Waiting for a message.
    Idle,
    /// Handling a message.
    Busy,
    /// Paused by the user.
    Paused,
    /// Waiting for space downstream (law L2).
    Waiting,
    /// Failed; the supervisor is about to restart it.
    Failed,
    /// The actor has ended.
    Stopped,
}

/// A row of the actor tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActorView {
    /// The actor's name, such as `trainer` or `engine/0`.
    pub name: String,
    /// The name of the actor's parent; empty for the root.
    pub parent: String,
    /// The actor's state.
    pub state: ActorState,
    /// What the actor is doing, in a few words.
    pub detail: String,
    /// The number of waiting messages or work items, and the capacity.
    pub queue: (u64, u64),
    /// The number of restarts.
    pub restarts: u64,
    /// The number of handled messages.
    pub handled: u64,
    /// The type of the last message.
    pub last_message: String,
    /// The time of the last message, in microseconds since the epoch.
    pub last_at_us: i64,
    /// The last few messages: time, type, duration in microseconds, outcome (the flight recorder).
    pub recent: Vec<(i64, String, u64, String)>,
    /// The time of the last request to its reply in microseconds, including its time in the queue.
    #[serde(default)]
    pub answered_us: u64,
    /// The last few failures: time in microseconds since the epoch, and reason.
    #[serde(default)]
    pub deaths: Vec<(i64, String)>,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageView {
    /// The stage's name in the profile.
    pub name: String,
    /// `pretrain`, `finetune`, `reason`, `align`, `evaluate`, `tokenizer`.
    pub kind: String,
    /// Completed steps.
    pub done: u64,
    /// Total steps.
    pub total: u64,
}

/// A device as its engine reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// `cpu`, `cuda:0`.
    pub name: String,
    /// The compute dtype, and why it was chosen.
    pub compute: String,
    /// The number of threads; 0 for a GPU.
    pub threads: u64,
    /// The engine's process id.
    pub pid: u64,
    /// The engine's resident memory in bytes, at the time of the report.
    pub memory: u64,
    /// The engine's peak resident memory in bytes.
    #[serde(default)]
    pub peak: u64,
    /// The share of the last interval in which the engine computed, 0 to 1.
    pub busy: f64,
}

/// A rank of a run that several processes train together, by its last report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankView {
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// The name of its machine.
    pub host: String,
    /// The rank's process id on that machine.
    pub pid: u32,
    /// The resident memory of its process in bytes.
    pub memory: u64,
    /// The peak of `memory`.
    pub peak: u64,
    /// The memory of its GPU that tensors use, in bytes; 0 on a CPU.
    pub device_memory: u64,
    /// The peak of `device_memory`.
    pub device_peak: u64,
    /// The seconds that the last step took.
    pub seconds: f64,
    /// The part of `seconds` in which it waited for the other ranks or the network.
    pub wait_seconds: f64,
    /// The bytes received from other ranks in the step.
    pub bytes: u64,
    /// The number of times that the run's ranks were restarted.
    pub restarts: u64,
    /// The time at which its process joined the world, in microseconds since the epoch.
    pub began_us: i64,
}

impl RankView {
    /// Returns the share of the step in which it waited, 0 to 1.
    #[must_use]
    pub fn waiting(&self) -> f64 {
        match self.wait_seconds / self.seconds {
            share if share.is_finite() => share.clamp(0.0, 1.0),
            _ => 0.0,
        }
    }

    /// Returns the memory that limits it, and its peak: the GPU's, or the process's on a CPU.
    #[must_use]
    pub fn memory_in_use(&self) -> (u64, u64) {
        match self.device_peak {
            0 => (self.memory, self.peak),
            _ => (self.device_memory, self.device_peak),
        }
    }
}

/// A setting that can be changed during a run: a number within a range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knob {
    /// The knob's key for `set`: `learning_rate`, `temperature`, `kl`, `mix.SOURCE`, `reward.NAME`.
    pub key: String,
    /// The current value.
    pub value: f64,
    /// The smallest allowed value.
    pub low: f64,
    /// The largest allowed value.
    pub high: f64,
    /// One line of help.
    pub help: String,
}

impl Knob {
    /// Describes the allowed range: `0 to 1`.
    #[must_use]
    pub fn allowed(&self) -> String {
        format!("{} to {}", self.low, self.high)
    }
}

/// The state of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overview {
    /// The run's id; empty if there is none.
    pub run: String,
    /// The profile's name.
    pub profile: String,
    /// The run's state.
    pub state: RunState,
    /// A description of the run's present work.
    pub detail: String,
    /// The current step.
    pub step: u64,
    /// The number of steps of all stages.
    pub total_steps: u64,
    /// The stages, in order.
    pub stages: Vec<StageView>,
    /// The index of the current stage.
    pub stage: usize,
    /// The training tokens per second of the current stage, smoothed; 0 if it has none.
    pub tokens_per_s: f64,
    /// The estimated seconds to the end of the current stage, if known.
    pub eta_s: Option<f64>,
    /// Seconds since the run last started or resumed.
    pub elapsed_s: f64,
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// The ranks by their last reports; empty if one process trains alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranks: Vec<RankView>,
    /// The knobs.
    pub knobs: Vec<Knob>,
    /// The step of the last checkpoint, if there is one.
    pub last_checkpoint: Option<u64>,
}

impl Overview {
    /// Describes the run in one line: its state, its speed, and the remaining time of the stage.
    #[must_use]
    pub fn headline(&self) -> String {
        self.headline_within(usize::MAX)
    }

    /// Describes the run like [`Self::headline`], in at most `columns` columns if possible: first the words about the
    /// remaining time are shortened, then the speed is dropped, then the time.
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
        // A paused run has no speed.
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

    /// Describes the time to the end of the current stage; `None` if it is unknown or the run is not running.
    #[must_use]
    pub fn time_left(&self) -> Option<String> {
        let left = self.eta_s.filter(|left| left.is_finite() && *left > 0.0)?;
        (self.state == RunState::Running).then(|| duration(left))
    }
}

/// Formats a duration for the user.
fn duration(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let all = seconds.clamp(0.0, 1e9) as u64;
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// A denoising step of a watched sample, as the dashboard draws it: with words instead of token ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The run's id; may be empty.
    pub run: String,
    /// The sample's id, which all its frames carry.
    pub sample: String,
    /// The origin of the sample: `rollout`, `evaluation`, `person`.
    pub origin: String,
    /// The prompt.
    pub prompt: String,
    /// `text` or `picture`.
    pub kind: String,
    /// The denoising step, from 0.
    pub step: u64,
    /// The largest number of steps as known so far: a picture adds steps after its reasoning, and confident tokens may
    /// need fewer.
    pub steps: u64,
    /// The text of each target position; empty if it is masked. For a picture, the code.
    pub tokens: Vec<String>,
    /// The confidence of each target position, 0 to 255.
    pub confidence: Vec<u8>,
    /// For a picture: the codes in a row of the code grid, row-major; else 0.
    pub grid: u64,
    /// For a picture: width, height and RGB bytes (hex) of the current guess.
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
            ranks: Vec::new(),
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
