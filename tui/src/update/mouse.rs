//! Clicks.

use ratatui::layout::{Position, Rect};

use super::actions::in_palette;
use crate::dashboard::Dashboard;
use crate::model::message::Effect;
use crate::model::tabs;
use crate::palette;
use crate::view;

/// Handles a click, which selects what it hits: an entry of the palette, a screen's tab, a sequence (a second click
/// opens it).
pub(super) fn clicked(board: &mut Dashboard, column: u16, row: u16) -> Vec<Effect> {
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
