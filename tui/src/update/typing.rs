//! Texts that the user types: knobs, prompts, queries, filters.

use demask_storage::Command;

use crate::dashboard::Dashboard;
use crate::model::message::Effect;
use crate::model::{ASKED_ROWS, Typing};
use crate::screens::Event;

/// Handles a key while a text is typed.
pub(super) fn typed(board: &mut Dashboard, key: &str) -> Vec<Effect> {
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

/// Adds a pasted text to what is being typed. Its lines become one and it is never taken for keys: the end of a line would
/// send the text, and the letters after it would pause the run or leave.
pub(super) fn pasted(board: &mut Dashboard, text: &str) {
    let line = text.trim_end().replace(char::is_control, " ");
    let model = &mut board.model;
    if let Some(palette) = &mut model.palette {
        palette.text.push_str(&line);
        palette.at = 0;
    } else if let Some((_, typed)) = &mut model.typing {
        typed.push_str(&line);
    } else {
        model.notice = "a text is pasted where one is typed: first press n, / or k".into();
    }
}

/// Carries out what was typed.
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
                limit: ASKED_ROWS,
            })];
        }
        Typing::Value(key) => return turned(board, key, text),
        Typing::Filter => board.tell(&Event::Words(text)),
        Typing::Names => board.tell(&Event::Named(text)),
        Typing::Stop(_) if text != "yes" => board.notice = "not stopped".into(),
        Typing::Stop(run) if board.daemon_run().map_or("", |run| run.run.as_str()) != run => {
            board.notice = "not stopped: another run has begun meanwhile".into();
        }
        Typing::Stop(_) => return vec![Effect::Ask(Command::Stop)],
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
