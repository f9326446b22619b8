//! The log, with a filter by level and words.

use demask_storage::Level;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Wrap};

use crate::model::Model;
use crate::theme::{accent, bad, lines, panel, quiet};

pub(crate) fn draw(model: &Model, frame: &mut Frame, area: Rect) {
    let room = area.height.saturating_sub(2) as usize;
    let passing: Vec<&(Level, String)> = model.lines().collect();
    let end = passing.len().saturating_sub(model.log_back);
    let first = first(&passing[..end], area.width.saturating_sub(2), room);
    let shown: Vec<Line> = passing[first..end]
        .iter()
        .map(|(level, line)| Line::styled(line.as_str(), style(model, *level)))
        .collect();
    let mut title = "log".to_owned();
    if let Some(level) = model.log_level {
        title += &format!(" · {level:?} and louder").to_lowercase();
    }
    if !model.log_words.is_empty() {
        title += &format!(" · with '{}'", model.log_words);
    }
    if model.log_back > 0 {
        title += &format!(" · {} lines back", model.log_back);
    }
    let text = Paragraph::new(shown).wrap(Wrap { trim: false });
    frame.render_widget(text.block(panel(&title)), area);
}

/// The first of the newest lines that have room, however they are wrapped; the newest in any case.
fn first(passing: &[&(Level, String)], columns: u16, room: usize) -> usize {
    let mut left = room;
    let mut first = passing.len();
    for (number, (_, line)) in passing.iter().enumerate().rev() {
        let takes = usize::from(lines(line, columns));
        if takes > left && first < passing.len() {
            break;
        }
        (first, left) = (number, left.saturating_sub(takes));
    }
    first
}

fn style(model: &Model, level: Level) -> Style {
    match level {
        Level::Error => bad(model),
        Level::Warn => accent(model),
        Level::Info => Style::new(),
        Level::Debug => quiet(),
    }
}
