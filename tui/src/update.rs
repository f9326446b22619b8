//! How events and keys change the state. Pure: what has to be done outside is returned.

use demask_storage::{Command, Envelope, Record, Reply};

use crate::keys::{Action, action};
use crate::model::{LINES, Model, POINTS, ROLLOUTS, SAMPLES, SCREENS, Typing};

/// What happened.
#[derive(Clone, Debug)]
pub enum Msg {
    /// A key, as the table names it; characters are themselves.
    Key(String),
    /// The daemon said something.
    Event(Box<Envelope>),
    /// An answer to a command.
    Reply(Box<Reply>),
    /// Events were missed.
    Lagged(u64),
    /// The connection is there.
    Connected,
    /// The connection is gone.
    Away,
    /// A quarter of a second went by.
    Tick,
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
    match msg {
        Msg::Key(key) => return key_pressed(model, &key),
        Msg::Event(envelope) => take(model, *envelope),
        Msg::Reply(reply) => answered(model, *reply),
        Msg::Lagged(missed) => model.missed += missed,
        Msg::Connected => (model.connected, model.away_ticks) = (true, 0),
        Msg::Away => model.connected = false,
        Msg::Tick => model.away_ticks = if model.connected { 0 } else { model.away_ticks + 1 },
    }
    Vec::new()
}

fn key_pressed(model: &mut Model, key: &str) -> Vec<Effect> {
    if model.typing.is_some() {
        return typed(model, key);
    }
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
                .is_some_and(|overview| overview.state == "paused");
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
        Action::Back | Action::Forward => scrub(model, action == Action::Forward),
        Action::Up | Action::Down => choose(model, action == Action::Up),
        Action::Help => model.help = !model.help,
    }
    Vec::new()
}

fn scrub(model: &mut Model, forward: bool) {
    let last = model
        .looked_at()
        .map_or(0, |(_, frames)| frames.len().saturating_sub(1));
    let now = model.frame.unwrap_or(last).min(last);
    model.frame = Some(if forward {
        (now + 1).min(last)
    } else {
        now.saturating_sub(1)
    });
}

fn choose(model: &mut Model, before: bool) {
    let step = |value: usize, limit: usize| {
        if before {
            (value + 1).min(limit)
        } else {
            value.saturating_sub(1)
        }
    };
    if model.screen == 3 {
        model.group = step(model.group, ROLLOUTS);
    } else {
        model.sample = step(model.sample, model.samples.len().saturating_sub(1));
        model.frame = None;
    }
}

fn typed(model: &mut Model, key: &str) -> Vec<Effect> {
    let Some((what, text)) = &mut model.typing else {
        return Vec::new();
    };
    match key {
        "esc" => model.typing = None,
        "backspace" => drop(text.pop()),
        "space" => text.push(' '),
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
    if text.is_empty() {
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
            return vec![Effect::Ask(Command::Query {
                sql: text.to_owned(),
                limit: 200,
            })];
        }
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
            model.rows = Some(Ok((columns, rows)));
        }
        Reply::Refused { message } => {
            if model.screen == SCREENS.len() - 1 {
                model.rows = Some(Err(message.clone()));
            }
            model.notice = message;
        }
    }
}

fn take(model: &mut Model, envelope: Envelope) {
    model.seq = model.seq.max(envelope.seq);
    match envelope.record {
        Record::Overview(overview) => model.overview = Some(overview),
        Record::Actor(actor) => drop(model.actors.insert(actor.name.clone(), actor)),
        Record::Metric(metric) => {
            for (name, value) in metric.values {
                let points = model.metrics.entry(name).or_default();
                points.push_back((metric.step as f64, value));
                while points.len() > POINTS {
                    points.pop_front();
                }
            }
        }
        Record::Frame(frame) => {
            match model.samples.iter_mut().find(|(id, _)| *id == frame.sample) {
                Some((_, frames)) => frames.push(frame),
                None => model.samples.push_back((frame.sample.clone(), vec![frame])),
            }
            while model.samples.len() > SAMPLES {
                model.samples.pop_front();
            }
        }
        Record::Sample(sample) => {
            model.rollouts.push_back(sample);
            while model.rollouts.len() > ROLLOUTS {
                model.rollouts.pop_front();
            }
        }
        Record::Verdict(verdict) => {
            let entry = model
                .funnel
                .entry((verdict.source, verdict.gate, verdict.reason))
                .or_default();
            if verdict.passed {
                entry.0 += 1
            } else {
                entry.1 += 1
            }
        }
        Record::TrainUse(used) => {
            let stage = used.stage.split('/').next().unwrap_or_default().to_owned();
            *model.trained.entry(stage).or_default() += used.subjects.len() as u64;
        }
        Record::Eval(eval) => {
            log(
                model,
                format!("benchmark {} {:.1} %", eval.suite, 100.0 * eval.value),
            );
            model.evals.push(eval);
        }
        Record::Alert(alert) => log(model, format!("alert {}: {}", alert.kind, alert.message)),
        Record::Log(line) => log(model, format!("{}: {}", line.actor, line.message)),
        Record::Lifecycle(life) => log(model, format!("{} {} {}", life.actor, life.what, life.reason)),
        Record::Checkpoint(checkpoint) if checkpoint.kept => {
            log(
                model,
                format!("checkpoint at step {} ({})", checkpoint.step, checkpoint.reason),
            );
        }
        Record::Steer(steer) => {
            let what = [Some(steer.action), steer.key, steer.new]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ");
            let when = steer
                .applied_step
                .map_or("asked".to_owned(), |step| format!("applied at step {step}"));
            model.notice = format!("{what}: {when}");
            log(model, format!("{} {what}: {when}", steer.by));
        }
        Record::RunEnd(end) => log(model, format!("run {}: {}", end.status, end.reason)),
        Record::Run(run) => log(model, format!("run {} of {}", run.id, run.profile)),
        _ => {}
    }
}

fn log(model: &mut Model, line: String) {
    model.log.push_back(line);
    while model.log.len() > LINES {
        model.log.pop_front();
    }
}
