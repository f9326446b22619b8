//! Updates of the state by events and keys, as far as they concern every screen; the current screen does the rest. The
//! function is pure: effects outside are returned.
//!
//! - `actions.rs`, `typing.rs`, `mouse.rs`: keys and their actions, texts that are typed, clicks;
//! - `records.rs`: the records of a run; `stored.rs`: runs from the store.

mod actions;
mod mouse;
mod records;
mod stored;
mod typing;

use demask_storage::{Level, Reply};

use crate::dashboard::Dashboard;
use crate::keys::Action;
use crate::model::Model;
use crate::model::message::{AWAY, Effect, Msg};
use crate::screens::Event;

use self::actions::{act, in_palette, key_pressed};
use self::mouse::clicked;
use self::records::{log, take};
use self::stored::{opened, read};
use self::typing::pasted;

/// Updates the state by a message and returns the effects.
pub fn update(board: &mut Dashboard, msg: Msg) -> Vec<Effect> {
    let (before, logged, was_connected) = (board.screen, board.logged, board.connected);
    let mut effects = changed(board, msg);
    if board.logged > logged {
        board.tell(&Event::Logged(board.model.logged - logged));
    }
    // A command that cannot be sent is reported, not dropped silently.
    if !board.connected && effects.iter().any(|effect| matches!(effect, Effect::Ask(_))) {
        effects.retain(|effect| *effect == Effect::Quit);
        board.notice = AWAY.into();
    }
    // What a screen had asked for is old when the daemon comes back.
    if board.connected && (board.screen != before || !was_connected) {
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
    if matches!(
        msg,
        Msg::Event(_)
            | Msg::Reply(_)
            | Msg::Rows { .. }
            | Msg::NoRows { .. }
            | Msg::Lagged(_)
            | Msg::Connected
    ) {
        board.silent_ticks = 0;
    }
    match msg {
        Msg::Key(key) => return key_pressed(board, &key),
        Msg::Paste(text) => pasted(board, &text),
        Msg::Event(envelope) => {
            board.seq = board.seq.max(envelope.seq);
            board.now_us = board.now_us.max(envelope.at_us);
            let at_us = envelope.at_us;
            take(board, envelope.record, at_us);
        }
        Msg::Reply(reply) => answered(board, *reply),
        Msg::Rows { sql, columns, rows } => {
            let rows = texts(rows);
            // Not recognised by its columns: the user may name one like those of the dashboard's own queries.
            if sql == board.asked {
                board.tell(&Event::Answered(&columns, &rows));
            } else {
                found(board, &columns, &rows);
            }
        }
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
            let (away, silent) = (board.away_ticks, board.silent_ticks);
            (board.model.away_ticks, board.model.silent_ticks) = match board.connected {
                true => (0, silent + 1),
                false => (away + 1, 0),
            };
            board.tell(&Event::Tick);
        }
    }
    Vec::new()
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
        Reply::Accepted { message, step } | Reply::Taken { message, step } => {
            board.notice = format!("{message} (at step {step})");
        }
        Reply::Started { run } => board.notice = format!("run {run}"),
        Reply::Queued { run, ahead } => board.notice = format!("run {run} waits, {ahead} before it"),
        Reply::Said { answer, .. } => board.notice = answer,
        Reply::Rows { columns, rows } => found(board, &columns, &texts(rows)),
        Reply::Refused { message } => refused(board, message),
    }
}

/// Converts the values of a result to texts.
fn texts(rows: Vec<Vec<serde_json::Value>>) -> Vec<Vec<String>> {
    let plain = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let rows = rows.into_iter();
    rows.map(|row| row.into_iter().map(plain).collect()).collect()
}

/// Takes in a result that its columns describe.
fn found(board: &mut Dashboard, columns: &[String], rows: &[Vec<String>]) {
    read(board, columns, rows);
    board.tell(&Event::Rows(columns, rows));
}

fn refused(model: &mut Model, message: String) {
    // The footer may be too short for the message, so it is logged as well.
    let at_us = model.now_us;
    log(model, at_us, Level::Warn, message.clone());
    model.notice = message;
}
