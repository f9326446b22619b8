//! Keys, and the actions that they are bound to.

use demask_storage::{Command, RunState};

use super::typing::typed;
use crate::dashboard::Dashboard;
use crate::keys::{Action, action};
use crate::model::message::Effect;
use crate::model::{Model, Typing};
use crate::palette::{Does, Palette};
use crate::screens::Event;

/// The lines of a page.
const PAGE: usize = 10;

/// Handles a key: in the palette, in a text that is typed, or as the action that it is bound to.
pub(super) fn key_pressed(board: &mut Dashboard, key: &str) -> Vec<Effect> {
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

/// Carries out an action, here or on the current screen.
pub(super) fn act(board: &mut Dashboard, action: Action) -> Vec<Effect> {
    let ask = |what: Typing, model: &mut Model| model.typing = Some((what, String::new()));
    match action {
        Action::Quit if board.help => board.help = false,
        Action::Quit => return vec![Effect::Quit],
        Action::NextScreen => board.screen = (board.screen + 1) % board.screens.len(),
        Action::Screen(number) => board.screen = number,
        Action::PauseResume => {
            let run = board.daemon_run();
            let paused = run.is_some_and(|run| run.state == RunState::Paused);
            return vec![Effect::Ask(if paused { Command::Resume } else { Command::Pause })];
        }
        Action::Stop => {
            let run = board.daemon_run().map_or(String::new(), |run| run.run.clone());
            ask(Typing::Stop(run), board);
        }
        Action::Checkpoint => return vec![Effect::Ask(Command::Checkpoint)],
        Action::SetKnob => ask(Typing::Knob, board),
        Action::Sample => ask(Typing::Prompt, board),
        Action::Up | Action::Down => return move_by(board, 1, action == Action::Up),
        Action::PageUp | Action::PageDown => return move_by(board, PAGE, action == Action::PageUp),
        Action::Palette => board.palette = Some(Palette::default()),
        Action::Help => (board.model.help, board.model.help_at) = (!board.model.help, 0),
        Action::Close if board.help => board.help = false,
        Action::Close => {
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
    // Only where the selection stops is anything asked: the daemon refuses more than it can queue.
    let mut asked = Vec::new();
    for _ in 0..count {
        asked = on_screen(board, action);
    }
    asked
}

/// Handles a key in the palette.
pub(super) fn in_palette(board: &mut Dashboard, key: &str) -> Vec<Effect> {
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
