//! Updates of the state by events and keys, as far as they concern every screen; the current screen does the rest. The
//! function is pure: effects outside are returned. `stored.rs` handles runs from the store.

mod stored;

use demask_storage::{
    Command, Eval, Frame, GateVerdict, Level, Record, Reply, RolloutSample, RunState, TrainUse,
};
use ratatui::layout::{Position, Rect};

use crate::dashboard::Dashboard;
use crate::keys::{Action, action};
use crate::model::message::{Effect, Msg};
use crate::model::{LINES, LogLine, Model, POINTS, ROLLOUTS, SAMPLES, Typing, tabs};
use crate::palette::{self, Does, Palette};
use crate::screens::Event;
use crate::view;

use self::stored::{opened, read, turned_at};

/// The lines of a page.
const PAGE: usize = 10;

/// Updates the state by a message and returns the effects.
pub fn update(board: &mut Dashboard, msg: Msg) -> Vec<Effect> {
    let (before, logged) = (board.screen, board.logged);
    let mut effects = changed(board, msg);
    if board.logged > logged {
        board.tell(&Event::Logged(board.model.logged - logged));
    }
    // A command that cannot be sent is reported, not dropped silently.
    if !board.connected && effects.iter().any(|effect| matches!(effect, Effect::Ask(_))) {
        effects.retain(|effect| *effect == Effect::Quit);
        board.notice = "the daemon is away: nothing was asked of it".into();
    }
    if board.screen != before && board.connected {
        let number = board.screen;
        let Dashboard { model, screens } = board;
        effects.extend(
            screens
                .get_mut(number)
                .map_or_else(Vec::new, |screen| screen.on_show(model)),
        );
    }
    if let Some(run) = board.opening.take() {
        effects.extend(opened(board, &run));
    }
    effects
}

fn changed(board: &mut Dashboard, msg: Msg) -> Vec<Effect> {
    match msg {
        Msg::Key(key) => return key_pressed(board, &key),
        Msg::Event(envelope) => {
            board.seq = board.seq.max(envelope.seq);
            board.now_us = board.now_us.max(envelope.at_us);
            let at_us = envelope.at_us;
            take(board, envelope.record, at_us);
        }
        Msg::Reply(reply) => answered(board, *reply),
        Msg::NoRows { sql, message } => {
            // Errors of the dashboard's own queries do not belong to the user's.
            if sql == board.asked {
                board.tell(&Event::NoRows(&message));
            }
            refused(board, message);
        }
        Msg::Lagged(missed) => board.missed += missed,
        Msg::Connected => (board.model.connected, board.model.away_ticks) = (true, 0),
        Msg::Away => board.connected = false,
        Msg::Click(column, row) => return clicked(board, column, row),
        Msg::Size(width, height) => board.size = (width, height),
        Msg::Wheel(up) if board.palette.is_some() => {
            return in_palette(board, if up { "up" } else { "down" });
        }
        Msg::Wheel(_) if board.typing.is_some() => {}
        Msg::Wheel(up) => return act(board, if up { Action::Up } else { Action::Down }),
        Msg::Tick => {
            board.away_ticks = if board.connected { 0 } else { board.away_ticks + 1 };
            board.tell(&Event::Tick);
        }
    }
    Vec::new()
}

fn key_pressed(board: &mut Dashboard, key: &str) -> Vec<Effect> {
    if board.palette.is_some() {
        return in_palette(board, key);
    }
    if board.typing.is_some() {
        return typed(board, key);
    }
    // The notice has been read: the footer shows its hints again.
    board.notice.clear();
    match action(&board.bindings(), key) {
        Some(action) => act(board, action),
        None => {
            board.help = false;
            Vec::new()
        }
    }
}

fn act(board: &mut Dashboard, action: Action) -> Vec<Effect> {
    let ask = |what: Typing, model: &mut Model| model.typing = Some((what, String::new()));
    match action {
        Action::Quit if board.help => board.help = false,
        Action::Quit => return vec![Effect::Quit],
        Action::NextScreen => board.screen = (board.screen + 1) % board.screens.len(),
        Action::Screen(number) => board.screen = number,
        Action::PauseResume => {
            let overview = board.overview.as_ref();
            let paused = overview.is_some_and(|overview| overview.state == RunState::Paused);
            return vec![Effect::Ask(if paused { Command::Resume } else { Command::Pause })];
        }
        Action::Stop => ask(Typing::Stop, board),
        Action::Checkpoint => return vec![Effect::Ask(Command::Checkpoint)],
        Action::SetKnob => ask(Typing::Knob, board),
        Action::Sample => ask(Typing::Prompt, board),
        Action::Up | Action::Down => return move_by(board, 1, action == Action::Up),
        Action::PageUp | Action::PageDown => return move_by(board, PAGE, action == Action::PageUp),
        Action::Palette => board.palette = Some(Palette::default()),
        Action::Help => (board.model.help, board.model.help_at) = (!board.model.help, 0),
        Action::Close => {
            board.help = false;
            board.tell(&Event::Closed);
            return on_screen(board, action);
        }
        // The other actions have a meaning on a screen only.
        _ => {
            let present = board.screens.get(board.screen);
            if !present.is_some_and(|screen| screen.takes(action)) {
                let claiming = board.screens.iter().position(|screen| screen.claims(action));
                board.screen = claiming.unwrap_or(board.screen);
            }
            return on_screen(board, action);
        }
    }
    Vec::new()
}

/// Passes an action to the current screen.
fn on_screen(board: &mut Dashboard, action: Action) -> Vec<Effect> {
    let Dashboard { model, screens } = board;
    let screen = screens.get_mut(model.screen);
    screen.map_or_else(Vec::new, |screen| screen.on_key(model, action))
}

/// Moves up or down in the help, else on the current screen.
fn move_by(board: &mut Dashboard, count: usize, up: bool) -> Vec<Effect> {
    if board.help {
        board.help_at = match up {
            true => board.help_at.saturating_sub(count),
            false => (board.help_at + count).min(board.bindings().len()),
        };
        return Vec::new();
    }
    let action = if up { Action::Up } else { Action::Down };
    (0..count).flat_map(|_| on_screen(board, action)).collect()
}

fn in_palette(board: &mut Dashboard, key: &str) -> Vec<Effect> {
    let found = board.palette.as_ref().map_or_else(Vec::new, |palette| {
        palette.found(&board.bindings(), board.knobs())
    });
    let Some(palette) = &mut board.model.palette else {
        return Vec::new();
    };
    match key {
        "esc" | "ctrl-c" | "ctrl-p" => board.model.palette = None,
        "up" => palette.at = palette.at.saturating_sub(1),
        "down" | "tab" => palette.at = (palette.at + 1).min(found.len().saturating_sub(1)),
        "backspace" => {
            palette.text.pop();
            palette.at = 0;
        }
        "space" => palette.text.push(' '),
        "enter" => {
            let entry = found.into_iter().nth(palette.at);
            board.palette = None;
            return match entry.map(|entry| entry.does) {
                Some(Does::Act(action)) => act(board, action),
                Some(Does::Turn(key)) => {
                    board.typing = Some((Typing::Value(key), String::new()));
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

/// Handles a click, which selects what it hits: an entry of the palette, a screen's tab, a sequence (a second click
/// opens it).
fn clicked(board: &mut Dashboard, column: u16, row: u16) -> Vec<Effect> {
    let screen = Rect::new(0, 0, board.size.0, board.size.1);
    let at = Position::new(column, row);
    if let Some(palette) = &mut board.model.palette {
        let place = palette::place(screen);
        if !place.contains(at) {
            board.model.palette = None;
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
        return in_palette(board, "enter");
    }
    if board.help || board.typing.is_some() {
        return Vec::new();
    }
    if row == 1 {
        screen_clicked(board, column);
        return Vec::new();
    }
    let [_, _, body, _] = view::parts(screen);
    let present = board.model.screen;
    let screen = board.screens.get_mut(present);
    screen.map_or_else(Vec::new, |screen| screen.on_click(body, at))
}

/// Handles a click on the row of tabs, the second row.
fn screen_clicked(board: &mut Dashboard, column: u16) {
    let mut right = 0;
    for (number, tab) in tabs(&board.titles(), board.screen, usize::from(board.size.0))
        .iter()
        .enumerate()
    {
        right += tab.chars().count();
        if usize::from(column) < right {
            board.screen = number;
            return;
        }
    }
}

fn typed(board: &mut Dashboard, key: &str) -> Vec<Effect> {
    let Some((what, text)) = &mut board.model.typing else {
        return Vec::new();
    };
    match key {
        "esc" | "ctrl-c" => board.model.typing = None,
        "backspace" => drop(text.pop()),
        "space" => text.push(' '),
        "up" if *what == Typing::Sql => text.clone_from(&board.model.asked),
        "enter" => {
            let (what, text) = (what.clone(), std::mem::take(text));
            board.model.typing = None;
            return said(board, &what, text.trim());
        }
        _ if key.chars().count() == 1 => text.push_str(key),
        _ => {}
    }
    Vec::new()
}

fn said(board: &mut Dashboard, what: &Typing, text: &str) -> Vec<Effect> {
    if text.is_empty() && !matches!(what, Typing::Filter | Typing::Names) {
        return Vec::new();
    }
    match what {
        Typing::Knob => match text.split_once('=') {
            Some((key, value)) => return turned(board, key, value),
            None => board.notice = format!("'{text}': expected KEY=VALUE"),
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
            text.clone_into(&mut board.asked);
            return vec![Effect::Ask(Command::Query {
                sql: text.to_owned(),
                limit: 200,
            })];
        }
        Typing::Value(key) => return turned(board, key, text),
        Typing::Filter => board.tell(&Event::Words(text)),
        Typing::Names => board.tell(&Event::Named(text)),
        Typing::Stop if text == "yes" => return vec![Effect::Ask(Command::Stop)],
        Typing::Stop => board.notice = "not stopped".into(),
    }
    Vec::new()
}

/// Returns the command that sets a knob, or reports what is wrong with the value.
fn turned(board: &mut Dashboard, key: &str, value: &str) -> Vec<Effect> {
    match Command::set(key, value) {
        Ok(command) => vec![Effect::Ask(command)],
        Err(message) => {
            board.notice = message;
            Vec::new()
        }
    }
}

fn answered(board: &mut Dashboard, reply: Reply) {
    match reply {
        Reply::Status(overview) if board.is_past => board.live = Some(*overview),
        Reply::Status(overview) => board.overview = Some(*overview),
        Reply::Actors { actors } => {
            board.actors = actors
                .into_iter()
                .map(|actor| (actor.name.clone(), actor))
                .collect();
        }
        Reply::Accepted { message, step } => board.notice = format!("{message} (at step {step})"),
        Reply::Started { run } => board.notice = format!("run {run}"),
        Reply::Queued { run, ahead } => board.notice = format!("run {run} waits, {ahead} before it"),
        Reply::Said { answer, .. } => board.notice = answer,
        Reply::Rows { columns, rows } => {
            let plain = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            let rows = rows.into_iter();
            let rows: Vec<Vec<String>> = rows.map(|row| row.into_iter().map(plain).collect()).collect();
            read(board, &columns, &rows);
            board.tell(&Event::Rows(&columns, &rows));
        }
        Reply::Refused { message } => refused(board, message),
    }
}

fn refused(model: &mut Model, message: String) {
    // The footer may be too short for the message, so it is logged as well.
    let at_us = model.now_us;
    log(model, at_us, Level::Warn, message.clone());
    model.notice = message;
}

fn take(board: &mut Dashboard, record: Record, at_us: i64) {
    if board.is_past {
        match record {
            Record::Overview(overview) => board.live = Some(overview),
            Record::Actor(actor) => drop(board.actors.insert(actor.name.clone(), actor)),
            _ => {}
        }
        return;
    }
    if let Some(run) = run_of(&record).filter(|run| !run.is_empty() && *run != board.run) {
        board.model.begin(run);
        board.tell(&Event::Begun);
    }
    board.tell(&Event::Record(&record));
    keep(&mut board.model, record, at_us);
}

/// Keeps a record as far as it is shown.
fn keep(model: &mut Model, record: Record, at_us: i64) {
    match record {
        Record::Overview(overview) => model.overview = Some(overview),
        Record::Actor(actor) => drop(model.actors.insert(actor.name.clone(), actor)),
        Record::Metric(metric) => {
            timed(model, metric.step as f64, at_us);
            for (name, value) in metric.values {
                let points = model.metrics.entry(name).or_default();
                // The step was repeated after a crash, or came both from the store and live.
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
            // A frame that came both from the store and live is kept once.
            Some((_, frames)) => match frames.iter_mut().find(|known| known.step == frame.step) {
                Some(known) => *known = frame,
                None => frames.push(frame),
            },
            None => sampled(model, frame),
        },
        Record::Sample(sample) => drawn(model, sample),
        Record::Verdict(verdict) => judged(model, verdict),
        Record::TrainUse(used) => trained(model, &used),
        Record::Eval(eval) => benchmarked(model, at_us, eval),
        Record::Alert(alert) => log(
            model,
            at_us,
            alert.level,
            format!("alert {}: {}", alert.kind, alert.message),
        ),
        Record::Lifecycle(life) => log(
            model,
            at_us,
            Level::Info,
            match life.reason.as_str() {
                "" => format!("{}: {}", life.actor, life.what),
                why => format!("{}: {}, {why}", life.actor, life.what),
            },
        ),
        Record::Checkpoint(checkpoint) if checkpoint.kept => {
            log(
                model,
                at_us,
                Level::Info,
                format!("checkpoint at step {} ({})", checkpoint.step, checkpoint.reason),
            );
        }
        Record::Steer(steer) => {
            if let (Some(key), Some(new), Some(step)) = (&steer.key, &steer.new, steer.applied_step) {
                turned_at(model, step, format!("{key}={new}"));
            }
            let what = [Some(steer.action.to_string()), steer.key, steer.new]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ");
            let when = steer
                .applied_step
                .map_or("asked".to_owned(), |step| format!("applied at step {step}"));
            model.notice = format!("{what}: {when}");
            log(model, at_us, Level::Info, format!("{} {what}: {when}", steer.by));
        }
        Record::RunEnd(end) => {
            let level = if end.status == RunState::Failed {
                Level::Error
            } else {
                Level::Info
            };
            log(model, at_us, level, format!("run {}: {}", end.status, end.reason));
        }
        Record::Run(run) => {
            let how = if run.generation > 0 { "goes on" } else { "begins" };
            log(
                model,
                at_us,
                Level::Info,
                format!("{} {how}, run {}", run.profile, run.id),
            );
        }
        _ => {}
    }
}

/// Records the time of a step; a repetition replaces the earlier time.
fn timed(model: &mut Model, step: f64, at_us: i64) {
    while model.times.back().is_some_and(|&(known, _)| known >= step) {
        model.times.pop_back();
    }
    model.times.push_back((step, at_us));
    while model.times.len() > POINTS {
        model.times.pop_front();
    }
}

/// Keeps a sample of a group; one that a resumed run draws again replaces the earlier one.
fn drawn(model: &mut Model, sample: RolloutSample) {
    if let Some(known) = model.rollouts.iter_mut().find(|known| known.id == sample.id) {
        *known = sample;
        return;
    }
    model.rollouts.push_back(sample);
    while model.rollouts.len() > ROLLOUTS {
        model.rollouts.pop_front();
    }
}

/// Counts a verdict once: the last one on a subject at a gate replaces earlier ones.
fn judged(model: &mut Model, verdict: GateVerdict) {
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

/// Counts the sequences of a step once.
fn trained(model: &mut Model, used: &TrainUse) {
    let stage = used.stage.split('/').next().unwrap_or_default().to_owned();
    let count = used.subjects.len() as u64;
    let before = model.trained_at.put((used.step, used.stage.clone()), count);
    let all = model.trained.entry(stage).or_default();
    *all = all.saturating_sub(before.unwrap_or(0)) + count;
}

/// Keeps a suite's result at a step once.
fn benchmarked(model: &mut Model, at_us: i64, eval: Eval) {
    let same = |known: &&mut Eval| (known.step, &known.suite) == (eval.step, &eval.suite);
    if let Some(known) = model.evals.iter_mut().find(same) {
        *known = eval;
        return;
    }
    let line = format!("benchmark {} {:.1} %", eval.suite, 100.0 * eval.value);
    log(model, at_us, Level::Info, line);
    model.evals.push(eval);
}

/// Keeps the first frame of a sample.
fn sampled(model: &mut Model, frame: Frame) {
    model.samples.push_back((frame.sample.clone(), vec![frame]));
    while model.samples.len() > SAMPLES {
        model.samples.pop_front();
    }
}

/// Returns the run of a record that belongs to one and is drawn.
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

fn log(model: &mut Model, at_us: i64, level: Level, text: String) {
    model.log.push_back(LogLine { at_us, level, text });
    model.logged += 1;
    while model.log.len() > LINES {
        model.log.pop_front();
    }
}
