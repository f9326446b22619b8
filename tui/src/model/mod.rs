//! What the daemon told and what a person is typing: what every screen may show. What a person looks at on a screen is the
//! screen's own.
//!
//! `message.rs` is what happens to it and what it asks for outside; `past.rs` a run as the store tells of it; `seen.rs` what was
//! counted already; `clock.rs` when a run's steps were.

pub(crate) mod clock;
pub mod message;
pub mod past;
pub mod seen;

use std::collections::{BTreeMap, VecDeque};

use demask_storage::query::curves::KnobTurn;
use demask_storage::{ActorView, Eval, Frame, Knob, Level, Overview, RolloutSample};

use crate::keys::screen_key;
use crate::model::seen::Seen;
use crate::palette::Palette;

/// Points kept of one metric.
pub const POINTS: usize = 2000;
/// Lines kept of the log.
pub const LINES: usize = 500;
/// Samples kept with their frames.
pub const SAMPLES: usize = 40;
/// Rollout samples kept.
pub const ROLLOUTS: usize = 400;

/// The screens' names as they stand in a row of so many columns: closer together where it is narrow, without any space after
/// the number where it is narrower, and only the present one's in full where that is too wide too.
#[must_use]
pub fn tabs(titles: &[&str], present: usize, columns: usize) -> Vec<String> {
    let named = |gap: &str, all: bool| -> Vec<String> {
        let tab = |(number, name): (usize, &&str)| match all || number == present {
            true => format!(" {} {name}{gap}", screen_key(number)),
            false => format!(" {}{gap}", screen_key(number)),
        };
        titles.iter().enumerate().map(tab).collect()
    };
    let fits = |tabs: &Vec<String>| tabs.iter().map(String::len).sum::<usize>() <= columns;
    let close = |(number, name): (usize, &&str)| {
        let space = if number == 0 { "" } else { " " };
        format!("{space}{}{name}", screen_key(number))
    };
    let close = titles.iter().enumerate().map(close).collect();
    let wide = [named(" ", true), named("", true), close];
    wide.into_iter().find(fits).unwrap_or_else(|| named(" ", false))
}

/// What is being typed, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typing {
    /// A knob and its value.
    Knob,
    /// A prompt.
    Prompt,
    /// SQL.
    Sql,
    /// `yes` to end the run.
    Stop,
    /// The value of this knob.
    Value(String),
    /// Words that log lines must hold.
    Filter,
    /// A part of actors' names.
    Names,
}

/// A line of the funnel: source, gate and reason.
pub type Gate = (String, String, String);

/// A query's column names and rows.
pub type Rows = (Vec<String>, Vec<Vec<String>>);

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
    /// How loud it is.
    pub level: Level,
    /// What happened.
    pub text: String,
}

/// The state of the dashboard.
#[derive(Debug, Default)]
pub struct Model {
    /// Connected to the daemon.
    pub connected: bool,
    /// Seconds since the daemon went away.
    pub away_ticks: u64,
    /// The last event's sequence number.
    pub seq: u64,
    /// Events that were missed.
    pub missed: u64,
    /// Which screen.
    pub screen: usize,
    /// The run that the screens are about.
    pub run: String,
    /// That run is over and was opened; what the daemon tells of the present one is not shown.
    pub is_past: bool,
    /// Where the daemon's run is while another one is looked at.
    pub live: Option<Overview>,
    /// The run that a person has just asked to look at; empty: the daemon's.
    pub opening: Option<String>,
    /// Runs whose curves are laid over the present one's, each with its name.
    pub overlaid: Vec<(String, String)>,
    /// Knobs that were turned in the run.
    pub turns: Vec<KnobTurn>,
    /// When the last event came, in microseconds since the Unix epoch.
    pub now_us: i64,
    /// Where the run is.
    pub overview: Option<Overview>,
    /// The actors, by name.
    pub actors: BTreeMap<String, ActorView>,
    /// Metrics: step and value.
    pub metrics: BTreeMap<String, VecDeque<(f64, f64)>>,
    /// When the run's last steps were, in microseconds since the Unix epoch.
    pub times: VecDeque<(f64, i64)>,
    /// Log lines.
    pub log: VecDeque<LogLine>,
    /// Lines that were ever added to the log.
    pub logged: usize,
    /// Benchmarks in order.
    pub evals: Vec<Eval>,
    /// Watched samples, oldest first.
    pub samples: VecDeque<(String, Vec<Frame>)>,
    /// Rollout samples, oldest first.
    pub rollouts: VecDeque<RolloutSample>,
    /// Verdicts by source, gate and reason: how many passed, how many did not.
    pub funnel: BTreeMap<Gate, (u64, u64)>,
    /// Where in the funnel the verdict of a subject at a gate was counted, and whether it passed.
    pub verdicts: Seen<(String, String), (Gate, bool)>,
    /// Sequences trained on, by stage.
    pub trained: BTreeMap<String, u64>,
    /// How many of them were counted at a step of a stage.
    pub trained_at: Seen<(u64, String), u64>,
    /// The palette, when it is open.
    pub palette: Option<Palette>,
    /// Being typed.
    pub typing: Option<(Typing, String)>,
    /// The last query.
    pub asked: String,
    /// The last reply to a command.
    pub notice: String,
    /// The help is shown.
    pub help: bool,
    /// Lines of it that are scrolled away.
    pub help_at: usize,
    /// Draw without colours.
    pub no_color: bool,
    /// The terminal's columns and rows, for clicks.
    pub size: (u16, u16),
}

impl Model {
    /// What can be steered.
    #[must_use]
    pub fn knobs(&self) -> &[Knob] {
        self.overview.as_ref().map_or(&[], |overview| &overview.knobs)
    }

    /// Step and group of the rollouts, oldest first.
    #[must_use]
    pub fn groups(&self) -> Vec<(u64, u64)> {
        let mut keys: Vec<(u64, u64)> = self
            .rollouts
            .iter()
            .map(|sample| (sample.step, sample.group))
            .collect();
        keys.dedup();
        keys
    }

    /// The actors, each under its parent.
    #[must_use]
    pub fn tree(&self) -> Vec<(usize, &ActorView)> {
        let known = |actor: &ActorView| self.actors.contains_key(&actor.parent) && actor.parent != actor.name;
        let mut open: Vec<(usize, &ActorView)> = self
            .actors
            .values()
            .rev()
            .filter(|actor| !known(actor))
            .map(|actor| (0, actor))
            .collect();
        let mut tree = Vec::with_capacity(self.actors.len());
        while let Some((depth, actor)) = open.pop() {
            tree.push((depth, actor));
            let children = self
                .actors
                .values()
                .rev()
                .filter(|child| known(child) && child.parent == actor.name);
            open.extend(children.map(|child| (depth + 1, child)));
        }
        tree
    }

    /// Another run began: what was on the screens was of the one before.
    pub fn begin(&mut self, run: &str) {
        run.clone_into(&mut self.run);
        self.metrics.clear();
        self.times.clear();
        self.turns.clear();
        self.evals.clear();
        self.samples.clear();
        self.rollouts.clear();
        self.funnel.clear();
        self.verdicts.clear();
        self.trained.clear();
        self.trained_at.clear();
    }
}
