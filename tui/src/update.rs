//! How events and keys change the state. Pure: what has to be done outside is returned.

use demask_storage::RunState;
use demask_storage::{
    Command, Envelope, Eval, Frame, Level, Record, Reply, RolloutSample, TrainUse, Verdict,
};
use ratatui::layout::{Position, Rect};

use crate::keys::{Action, BINDINGS, action};
use crate::lineage;
use crate::model::{LINES, Model, POINTS, ROLLOUTS, Rows, SAMPLES, SCREENS, Typing, tabs};
use crate::palette::{self, Does, Palette};
use crate::screens::data;
use crate::view;

/// The Denoise screen.
const DENOISE: usize = 2;
/// The Rollouts screen.
const ROLLOUT: usize = 3;
/// The Data screen.
const DATA: usize = 4;
/// The Benchmarks screen.
const BENCHMARKS: usize = 5;
/// The Log screen.
const LOG: usize = 6;
/// The Query screen.
const QUERY: usize = 7;

/// How far a page goes.
const PAGE: usize = 10;
/// Ticks that a sample is played for at most, about.
const PLAYED: usize = 20;

/// What happened.
#[derive(Clone, Debug)]
pub enum Msg {
    /// A key, as the table names it; characters are themselves.
    Key(String),
    /// The daemon said something.
    Event(Box<Envelope>),
    /// An answer to a command.
    Reply(Box<Reply>),
    /// A query was refused.
    NoRows {
        /// Which.
        sql: String,
        /// Why.
        message: String,
    },
    /// Events were missed.
    Lagged(u64),
    /// The connection is there.
    Connected,
    /// The connection is gone.
    Away,
    /// A quarter of a second went by.
    Tick,
    /// The mouse was pressed at this column and row.
    Click(u16, u16),
    /// The wheel was turned, up or down.
    Wheel(bool),
    /// The terminal has so many columns and rows.
    Size(u16, u16),
}

/// What has to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the daemon.
    Ask(Command),
    /// Leave.
    Quit,
}

/// Takes a message in.
pub fn update(model: &mut Model, msg: Msg) -> Vec<Effect> {
    let before = model.screen;
    let mut effects = changed(model, msg);
    // What cannot be sent is said, not swallowed.
    if !model.connected && effects.iter().any(|effect| matches!(effect, Effect::Ask(_))) {
        effects.retain(|effect| *effect == Effect::Quit);
        model.notice = "the daemon is away: nothing was asked of it".into();
    }
    // Who comes to the Data screen sees what was trained on last.
    if model.screen == DATA && before != DATA && model.connected && model.story.is_none() {
        effects.push(Effect::Ask(lineage::list()));
    }
    effects
}

fn changed(model: &mut Model, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Key(key) => return key_pressed(model, &key),
        Msg::Event(envelope) => take(model, *envelope),
        Msg::Reply(reply) => answered(model, *reply),
        Msg::NoRows { sql, message } => {
            // The dashboard has queries of its own too: what they came to does not belong there.
            if sql == model.asked {
                (model.rows, model.rows_at) = (Some(Err(message.clone())), 0);
            }
            refused(model, message);
        }
        Msg::Lagged(missed) => model.missed += missed,
        Msg::Connected => (model.connected, model.away_ticks) = (true, 0),
        Msg::Away => model.connected = false,
        Msg::Click(column, row) => return clicked(model, column, row),
        Msg::Size(width, height) => model.size = (width, height),
        Msg::Wheel(up) if model.palette.is_some() => {
            return in_palette(model, if up { "up" } else { "down" });
        }
        Msg::Wheel(_) if model.typing.is_some() => {}
        Msg::Wheel(up) => return act(model, if up { Action::Up } else { Action::Down }),
        Msg::Tick => {
            model.away_ticks = if model.connected { 0 } else { model.away_ticks + 1 };
            let last = last_frame(model);
            model.played = (model.played + (last / PLAYED).max(1)).min(last);
        }
    }
    Vec::new()
}

fn key_pressed(model: &mut Model, key: &str) -> Vec<Effect> {
    if model.palette.is_some() {
        return in_palette(model, key);
    }
    if model.typing.is_some() {
        return typed(model, key);
    }
    // What was answered has been read: the footer's hints come back.
    model.notice.clear();
    match action(key) {
        Some(action) => act(model, action),
        None => {
            model.help = false;
            Vec::new()
        }
    }
}

fn act(model: &mut Model, action: Action) -> Vec<Effect> {
    let ask = |what: Typing, model: &mut Model| model.typing = Some((what, String::new()));
    match action {
        Action::Quit if model.help => model.help = false,
        Action::Quit => return vec![Effect::Quit],
        Action::NextScreen => model.screen = (model.screen + 1) % SCREENS.len(),
        Action::Screen(number) => model.screen = number,
        Action::PauseResume => {
            let paused = model
                .overview
                .as_ref()
                .is_some_and(|overview| overview.state == RunState::Paused);
            return vec![Effect::Ask(if paused { Command::Resume } else { Command::Pause })];
        }
        Action::Stop => ask(Typing::Stop, model),
        Action::Checkpoint => return vec![Effect::Ask(Command::Checkpoint)],
        Action::SetKnob => ask(Typing::Knob, model),
        Action::Sample => ask(Typing::Prompt, model),
        Action::Query => {
            model.screen = SCREENS.len() - 1;
            ask(Typing::Sql, model);
        }
        Action::Up | Action::Down => move_by(model, 1, action == Action::Up),
        Action::PageUp | Action::PageDown => move_by(model, PAGE, action == Action::PageUp),
        Action::Back | Action::Forward if model.screen == DENOISE => {
            scrub(model, action == Action::Forward);
        }
        Action::Back | Action::Forward => {}
        Action::Close => close(model),
        Action::Open => return open(model),
        Action::Filter => {
            model.screen = LOG;
            ask(Typing::Filter, model);
        }
        Action::Level => {
            model.screen = LOG;
            model.log_back = 0;
            model.log_level = match model.log_level {
                None => Some(Level::Warn),
                Some(Level::Warn) => Some(Level::Error),
                Some(_) => None,
            };
        }
        Action::Palette => model.palette = Some(Palette::default()),
        Action::Help => (model.help, model.help_at) = (!model.help, 0),
    }
    Vec::new()
}

/// Closes the help or the story of a sequence; what is looked at in Denoise is the newest again.
fn close(model: &mut Model) {
    (model.help, model.story) = (false, None);
    if model.screen == DENOISE {
        (model.sample, model.frame, model.played) = (0, None, 0);
    }
}

/// Up or down in the help, else in the present screen's list.
fn move_by(model: &mut Model, count: usize, up: bool) {
    if model.help {
        model.help_at = match up {
            true => model.help_at.saturating_sub(count),
            false => (model.help_at + count).min(BINDINGS.len()),
        };
        return;
    }
    (0..count).for_each(|_| choose(model, up));
}

/// The Data screen's list of sequences, or the story of the one that is chosen.
fn open(model: &mut Model) -> Vec<Effect> {
    if model.screen != DATA {
        return Vec::new();
    }
    if let Some(story) = &model.story {
        let parent = story
            .iter()
            .find(|pair| pair.first().is_some_and(|name| name == lineage::PARENT))
            .and_then(|pair| pair.get(1));
        let asked = parent.map(|parent| Effect::Ask(lineage::story(parent)));
        return asked.into_iter().collect();
    }
    let subject = |(_, rows): &Rows| rows.get(model.lineage_at)?.first().cloned();
    let command = match model.lineage.as_ref().and_then(subject) {
        Some(subject) => lineage::story(&subject),
        None => lineage::list(),
    };
    vec![Effect::Ask(command)]
}

fn in_palette(model: &mut Model, key: &str) -> Vec<Effect> {
    let found = model
        .palette
        .as_ref()
        .map_or_else(Vec::new, |palette| palette.found(model.knobs()));
    let Some(palette) = &mut model.palette else {
        return Vec::new();
    };
    match key {
        "esc" | "ctrl-c" | "ctrl-p" => model.palette = None,
        "up" => palette.at = palette.at.saturating_sub(1),
        "down" | "tab" => palette.at = (palette.at + 1).min(found.len().saturating_sub(1)),
        "backspace" => {
            palette.text.pop();
            palette.at = 0;
        }
        "space" => palette.text.push(' '),
        "enter" => {
            let entry = found.into_iter().nth(palette.at);
            model.palette = None;
            return match entry.map(|entry| entry.does) {
                Some(Does::Act(action)) => act(model, action),
                Some(Does::Turn(key)) => {
                    model.typing = Some((Typing::Value(key), String::new()));
                    Vec::new()
                }
                None => Vec::new(),
            };
        }
        _ if key.chars().count() == 1 => {
            palette.text.push_str(key);
            palette.at = 0;
        }
        _ => {}
    }
    Vec::new()
}

/// A click chooses what it hits: an entry of the palette, a screen's name, a sequence (once more opens it).
fn clicked(model: &mut Model, column: u16, row: u16) -> Vec<Effect> {
    let screen = Rect::new(0, 0, model.size.0, model.size.1);
    let at = Position::new(column, row);
    if let Some(palette) = &mut model.palette {
        let place = palette::place(screen);
        if !place.contains(at) {
            model.palette = None;
            return Vec::new();
        }
        let room = usize::from(place.height).saturating_sub(3);
        let Some(line) = row
            .checked_sub(place.y + 2)
            .map(usize::from)
            .filter(|line| *line < room)
        else {
            return Vec::new();
        };
        palette.at = palette.first(room) + line;
        return in_palette(model, "enter");
    }
    if model.help || model.typing.is_some() {
        return Vec::new();
    }
    if row == 1 {
        screen_clicked(model, column);
    } else if model.screen == DATA && model.story.is_none() {
        return sequence_clicked(model, screen, at);
    }
    Vec::new()
}

fn sequence_clicked(model: &mut Model, screen: Rect, at: Position) -> Vec<Effect> {
    let [_, _, body, _] = view::parts(screen);
    let [_, place] = data::parts(body);
    let Some((_, rows)) = model.lineage.as_ref().filter(|_| place.contains(at)) else {
        return Vec::new();
    };
    // Frame and heading above, frame below.
    let room = usize::from(place.height).saturating_sub(3);
    let line =
        at.y.checked_sub(place.y + 2)
            .map(usize::from)
            .filter(|line| *line < room);
    let number = line.map(|line| (model.lineage_at + 1).saturating_sub(room) + line);
    match number.filter(|number| *number < rows.len()) {
        Some(number) if number == model.lineage_at => open(model),
        Some(number) => {
            model.lineage_at = number;
            Vec::new()
        }
        None => Vec::new(),
    }
}

/// The row of screen names is the second.
fn screen_clicked(model: &mut Model, column: u16) {
    let mut right = 0;
    for (number, tab) in tabs(model.screen, usize::from(model.size.0)).iter().enumerate() {
        right += tab.chars().count();
        if usize::from(column) < right {
            model.screen = number;
            return;
        }
    }
}

fn scrub(model: &mut Model, forward: bool) {
    let last = last_frame(model);
    let now = model.frame.unwrap_or(model.played).min(last);
    model.frame = Some(if forward {
        (now + 1).min(last)
    } else {
        now.saturating_sub(1)
    });
}

/// The last frame of the sample that is looked at.
fn last_frame(model: &Model) -> usize {
    model
        .looked_at()
        .map_or(0, |(_, frames)| frames.len().saturating_sub(1))
}

fn choose(model: &mut Model, before: bool) {
    let step = |value: usize, limit: usize| {
        if before {
            (value + 1).min(limit)
        } else {
            value.saturating_sub(1)
        }
    };
    let back = |value: usize, limit: usize| {
        if before {
            value.saturating_sub(1)
        } else {
            (value + 1).min(limit)
        }
    };
    if model.screen == ROLLOUT {
        let last = model.groups().len().saturating_sub(1);
        model.group = step(model.group.min(last), last);
    } else if model.screen == DATA {
        let last = model
            .lineage
            .as_ref()
            .map_or(0, |(_, rows)| rows.len().saturating_sub(1));
        model.lineage_at = back(model.lineage_at, last);
        model.story = None;
    } else if model.screen == LOG {
        let last = model.lines().count().saturating_sub(1);
        model.log_back = step(model.log_back, last);
    } else if model.screen == QUERY {
        let last = match &model.rows {
            Some(Ok((_, rows))) => rows.len().saturating_sub(1),
            _ => 0,
        };
        model.rows_at = back(model.rows_at, last);
    } else if model.screen == BENCHMARKS {
        model.evals_at = back(model.evals_at, model.evals.len().saturating_sub(1));
    } else if model.screen == DENOISE {
        model.sample = step(model.sample, model.samples.len().saturating_sub(1));
        (model.frame, model.played) = (None, 0);
    }
}

fn typed(model: &mut Model, key: &str) -> Vec<Effect> {
    let Some((what, text)) = &mut model.typing else {
        return Vec::new();
    };
    match key {
        "esc" | "ctrl-c" => model.typing = None,
        "backspace" => drop(text.pop()),
        "space" => text.push(' '),
        "up" if *what == Typing::Sql => text.clone_from(&model.asked),
        "enter" => {
            let (what, text) = (what.clone(), std::mem::take(text));
            model.typing = None;
            return said(model, &what, text.trim());
        }
        _ if key.chars().count() == 1 => text.push_str(key),
        _ => {}
    }
    Vec::new()
}

fn said(model: &mut Model, what: &Typing, text: &str) -> Vec<Effect> {
    if text.is_empty() && *what != Typing::Filter {
        return Vec::new();
    }
    match what {
        Typing::Knob => match text.split_once('=') {
            Some((key, value)) => {
                let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                return vec![Effect::Ask(Command::Set { key, value })];
            }
            None => model.notice = format!("'{text}': expected KEY=VALUE"),
        },
        Typing::Prompt => {
            let picture = text.strip_prefix("draw ");
            let prompt = picture.unwrap_or(text).to_owned();
            return vec![Effect::Ask(Command::Sample {
                prompt,
                picture: picture.is_some(),
            })];
        }
        Typing::Sql => {
            text.clone_into(&mut model.asked);
            return vec![Effect::Ask(Command::Query {
                sql: text.to_owned(),
                limit: 200,
            })];
        }
        Typing::Value(key) => {
            let (key, value) = (key.clone(), text.to_owned());
            return vec![Effect::Ask(Command::Set { key, value })];
        }
        Typing::Filter => (model.log_words, model.log_back) = (text.to_owned(), 0),
        Typing::Stop if text == "yes" => return vec![Effect::Ask(Command::Stop)],
        Typing::Stop => model.notice = "not stopped".into(),
    }
    Vec::new()
}

fn answered(model: &mut Model, reply: Reply) {
    match reply {
        Reply::Status(overview) => model.overview = Some(*overview),
        Reply::Actors { actors } => {
            model.actors = actors
                .into_iter()
                .map(|actor| (actor.name.clone(), actor))
                .collect();
        }
        Reply::Accepted { message, step } => model.notice = format!("{message} (at step {step})"),
        Reply::Started { run } => model.notice = format!("run {run}"),
        Reply::Rows { columns, rows } => {
            let plain = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            let rows = rows
                .into_iter()
                .map(|row| row.into_iter().map(plain).collect())
                .collect();
            let rows: Vec<Vec<String>> = rows;
            match columns.first().map(String::as_str) {
                Some(lineage::LIST) => {
                    (model.lineage, model.lineage_at) = (Some((columns, rows)), 0);
                }
                Some(lineage::STORY) => model.story = Some(rows),
                _ => (model.rows, model.rows_at) = (Some(Ok((columns, rows))), 0),
            }
        }
        Reply::Refused { message } => refused(model, message),
    }
}

fn refused(model: &mut Model, message: String) {
    // A line in the footer may be too short for it.
    log(model, Level::Warn, message.clone());
    model.notice = message;
}

fn take(model: &mut Model, envelope: Envelope) {
    model.seq = model.seq.max(envelope.seq);
    if let Some(run) = run_of(&envelope.record).filter(|run| !run.is_empty() && *run != model.run) {
        let run = run.to_owned();
        model.begin(&run);
    }
    match envelope.record {
        Record::Overview(overview) => model.overview = Some(overview),
        Record::Actor(actor) => drop(model.actors.insert(actor.name.clone(), actor)),
        Record::Metric(metric) => {
            for (name, value) in metric.values {
                let points = model.metrics.entry(name).or_default();
                // A step that was done again after a crash, or that came both from the store and live.
                while points.back().is_some_and(|&(step, _)| step >= metric.step as f64) {
                    points.pop_back();
                }
                points.push_back((metric.step as f64, value));
                while points.len() > POINTS {
                    points.pop_front();
                }
            }
        }
        Record::Frame(frame) => match model.samples.iter_mut().find(|(id, _)| *id == frame.sample) {
            // What came both from the store and live is there once.
            Some((_, frames)) => match frames.iter_mut().find(|known| known.step == frame.step) {
                Some(known) => *known = frame,
                None => frames.push(frame),
            },
            None => sampled(model, frame),
        },
        Record::Sample(sample) => drawn(model, sample),
        Record::Verdict(verdict) => judged(model, verdict),
        Record::TrainUse(used) => trained(model, &used),
        Record::Eval(eval) => benchmarked(model, eval),
        Record::Alert(alert) => log(
            model,
            alert.level,
            format!("alert {}: {}", alert.kind, alert.message),
        ),
        Record::Lifecycle(life) => log(
            model,
            Level::Info,
            match life.reason.as_str() {
                "" => format!("{}: {}", life.actor, life.what),
                why => format!("{}: {}, {why}", life.actor, life.what),
            },
        ),
        Record::Checkpoint(checkpoint) if checkpoint.kept => {
            log(
                model,
                Level::Info,
                format!("checkpoint at step {} ({})", checkpoint.step, checkpoint.reason),
            );
        }
        Record::Steer(steer) => {
            let what = [Some(steer.action.to_string()), steer.key, steer.new]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ");
            let when = steer
                .applied_step
                .map_or("asked".to_owned(), |step| format!("applied at step {step}"));
            model.notice = format!("{what}: {when}");
            log(model, Level::Info, format!("{} {what}: {when}", steer.by));
        }
        Record::RunEnd(end) => {
            let level = if end.status == RunState::Failed {
                Level::Error
            } else {
                Level::Info
            };
            log(model, level, format!("run {}: {}", end.status, end.reason));
        }
        Record::Run(run) => {
            let how = if run.generation > 0 { "goes on" } else { "begins" };
            log(
                model,
                Level::Info,
                format!("{} {how}, run {}", run.profile, run.id),
            );
        }
        _ => {}
    }
}

/// A sample of a group, once, also when a new life of the run draws it again.
fn drawn(model: &mut Model, sample: RolloutSample) {
    if let Some(known) = model.rollouts.iter_mut().find(|known| known.id == sample.id) {
        *known = sample;
        return;
    }
    // Who looks at an earlier group goes on looking at it.
    let newest = model.rollouts.back().map(|last| (last.step, last.group));
    if model.group > 0 && newest != Some((sample.step, sample.group)) {
        model.group += 1;
    }
    model.rollouts.push_back(sample);
    while model.rollouts.len() > ROLLOUTS {
        model.rollouts.pop_front();
    }
}

/// A verdict, counted once: the last one on a subject at a gate holds.
fn judged(model: &mut Model, verdict: Verdict) {
    let line = (verdict.source, verdict.gate.to_string(), verdict.reason);
    let name = (verdict.subject, verdict.gate.to_string());
    let before = model.verdicts.put(name, (line.clone(), verdict.passed));
    if let Some((line, passed)) = before
        && let Some(counts) = model.funnel.get_mut(&line)
    {
        let count = if passed { &mut counts.0 } else { &mut counts.1 };
        *count = count.saturating_sub(1);
        if *counts == (0, 0) {
            model.funnel.remove(&line);
        }
    }
    let counts = model.funnel.entry(line).or_default();
    *(if verdict.passed {
        &mut counts.0
    } else {
        &mut counts.1
    }) += 1;
}

/// Sequences of a step, counted once.
fn trained(model: &mut Model, used: &TrainUse) {
    let stage = used.stage.split('/').next().unwrap_or_default().to_owned();
    let count = used.subjects.len() as u64;
    let before = model.trained_at.put((used.step, used.stage.clone()), count);
    let all = model.trained.entry(stage).or_default();
    *all = all.saturating_sub(before.unwrap_or(0)) + count;
}

/// A result of a suite at a step, once. Who has scrolled goes on reading the same results.
fn benchmarked(model: &mut Model, eval: Eval) {
    let same = |known: &&mut Eval| (known.step, &known.suite) == (eval.step, &eval.suite);
    if let Some(known) = model.evals.iter_mut().find(same) {
        *known = eval;
        return;
    }
    let line = format!("benchmark {} {:.1} %", eval.suite, 100.0 * eval.value);
    log(model, Level::Info, line);
    model.evals.push(eval);
    if model.evals_at > 0 {
        model.evals_at += 1;
    }
}

/// The first frame of a sample. Who looks at an earlier one, or is scrubbing, goes on looking at that.
fn sampled(model: &mut Model, frame: Frame) {
    if model.sample > 0 || model.frame.is_some() {
        model.sample += 1;
    } else {
        model.played = 0;
    }
    model.samples.push_back((frame.sample.clone(), vec![frame]));
    while model.samples.len() > SAMPLES {
        model.samples.pop_front();
    }
    model.sample = model.sample.min(model.samples.len() - 1);
}

/// The run that a record is of, if it is of one and drawn.
fn run_of(record: &Record) -> Option<&str> {
    match record {
        Record::Run(run) => Some(&run.id),
        Record::Metric(metric) => Some(&metric.run),
        Record::Frame(frame) => Some(&frame.run),
        Record::Sample(sample) => Some(&sample.run),
        Record::Verdict(verdict) => Some(&verdict.run),
        Record::TrainUse(used) => Some(&used.run),
        Record::Eval(eval) => Some(&eval.run),
        _ => None,
    }
}

fn log(model: &mut Model, level: Level, line: String) {
    model.log.push_back((level, line));
    while model.log.len() > LINES {
        model.log.pop_front();
    }
    // Who has scrolled back goes on reading the same lines, as long as they are kept.
    if model.log_back > 0 && model.passes(model.log.len() - 1) {
        let last = model.lines().count().saturating_sub(1);
        model.log_back = (model.log_back + 1).min(last);
    }
}
