//! The model: what the daemon sent and what the user is typing, shared by all screens. Selections and scroll positions
//! belong to the screens.
//!
//! `message.rs` holds messages and effects; `past.rs` the queries of a stored run; `seen.rs` what was counted already;
//! `clock.rs` the times of a run's steps.

pub(crate) mod clock;
pub mod message;
pub mod past;
pub mod seen;

use std::collections::{BTreeMap, VecDeque};

use demask_storage::query::curves::KnobTurn;
use demask_storage::{ActorView, Eval, Frame, Knob, Level, Overview, RankView, RolloutSample};

use crate::keys::screen_key;
use crate::model::seen::Seen;
use crate::palette::Palette;

/// The points that are kept per metric.
pub const POINTS: usize = 2000;
/// The log lines that are kept.
pub const LINES: usize = 500;
/// The watched samples that are kept with their frames.
pub const SAMPLES: usize = 40;
/// The rollout samples that are kept.
pub const ROLLOUTS: usize = 400;
/// The most rows of the user's query.
pub const ASKED_ROWS: u64 = 200;

/// Writes the tabs of the screens into `columns` columns: with narrower gaps if necessary, then without gaps after the
/// number, then with only the current screen's name in full.
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

/// The purpose of the text that is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typing {
    /// A knob and its value.
    Knob,
    /// A prompt.
    Prompt,
    /// A SQL query.
    Sql,
    /// `yes` to stop this run, the daemon's; empty if it has none.
    Stop(String),
    /// The value of this knob.
    Value(String),
    /// Words to filter log lines by.
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
    /// The severity.
    pub level: Level,
    /// What happened.
    pub text: String,
}

/// The shared state of the dashboard.
#[derive(Debug, Default)]
pub struct Model {
    /// Whether the daemon is connected.
    pub connected: bool,
    /// Ticks since the connection to the daemon was lost.
    pub away_ticks: u64,
    /// Ticks since the last word of a daemon that is connected.
    pub silent_ticks: u64,
    /// The last event's sequence number.
    pub seq: u64,
    /// The number of missed events.
    pub missed: u64,
    /// The index of the current screen.
    pub screen: usize,
    /// The run that the screens show.
    pub run: String,
    /// Whether that run was opened from the store; the daemon's current run is then not shown.
    pub is_past: bool,
    /// The state of the daemon's run while another one is shown.
    pub live: Option<Overview>,
    /// The run that the user just asked to open; empty for the daemon's.
    pub opening: Option<String>,
    /// The runs whose curves are overlaid, each with its name.
    pub overlaid: Vec<(String, String)>,
    /// The knobs that were turned in the run.
    pub turns: Vec<KnobTurn>,
    /// The time of the last event, in microseconds since the Unix epoch.
    pub now_us: i64,
    /// The state of the run.
    pub overview: Option<Overview>,
    /// The actors, by name.
    pub actors: BTreeMap<String, ActorView>,
    /// Points of the metrics: step and value.
    pub metrics: BTreeMap<String, VecDeque<(f64, f64)>>,
    /// The times of the run's last steps, in microseconds since the Unix epoch.
    pub times: VecDeque<(f64, i64)>,
    /// The log lines.
    pub log: VecDeque<LogLine>,
    /// The number of lines ever added to the log.
    pub logged: usize,
    /// Benchmark results in order.
    pub evals: Vec<Eval>,
    /// Watched samples, oldest first.
    pub samples: VecDeque<(String, Vec<Frame>)>,
    /// Rollout samples, oldest first.
    pub rollouts: VecDeque<RolloutSample>,
    /// Verdicts by source, gate and reason: the numbers that passed and that failed.
    pub funnel: BTreeMap<Gate, (u64, u64)>,
    /// By subject and gate, the line of the funnel in which the verdict was counted, whether it passed, and the number of
    /// rows that it stands for.
    pub verdicts: Seen<(String, String), (Gate, bool, u64)>,
    /// The number of sequences trained on, by stage.
    pub trained: BTreeMap<String, u64>,
    /// The number of those counted at a step of a stage.
    pub trained_at: Seen<(u64, String), u64>,
    /// The palette, if it is open.
    pub palette: Option<Palette>,
    /// The text that is being typed, with its purpose.
    pub typing: Option<(Typing, String)>,
    /// The last query of the user.
    pub asked: String,
    /// The last reply to a command.
    pub notice: String,
    /// Whether the help is shown.
    pub help: bool,
    /// Help lines that are scrolled away.
    pub help_at: usize,
    /// Whether to draw without colours.
    pub no_color: bool,
    /// The terminal's columns and rows, for clicks.
    pub size: (u16, u16),
}

impl Model {
    /// Returns the state of the daemon's run, to which all commands go, whichever run is shown.
    #[must_use]
    pub fn daemon_run(&self) -> Option<&Overview> {
        if self.is_past {
            self.live.as_ref()
        } else {
            self.overview.as_ref()
        }
    }

    /// Returns the knobs of the daemon's run.
    #[must_use]
    pub fn knobs(&self) -> &[Knob] {
        self.daemon_run().map_or(&[], |overview| &overview.knobs)
    }

    /// Returns the ranks of the daemon's run, as the actors are the daemon's too.
    #[must_use]
    pub fn ranks(&self) -> &[RankView] {
        self.daemon_run().map_or(&[], |overview| &overview.ranks)
    }

    /// Returns the step and group of the rollouts, oldest first.
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

    /// Returns the actors in tree order, each with its depth.
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

    /// Starts showing another run; clears everything of the previous one.
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
