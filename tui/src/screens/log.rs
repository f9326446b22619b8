//! The log, with a filter by level and words.

use demask_storage::Level;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use crate::model::Model;
use crate::theme::{accent, bad, panel, quiet};

pub(crate) fn draw(model: &Model, frame: &mut Frame, area: Rect) {
    let room = area.height.saturating_sub(2) as usize;
    let passing: Vec<&(Level, String)> = model.lines().collect();
    let end = passing.len().saturating_sub(model.log_back);
    let lines: Vec<Line> = passing[end.saturating_sub(room)..end]
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
    frame.render_widget(Paragraph::new(lines).block(panel(&title)), area);
}

fn style(model: &Model, level: Level) -> Style {
    match level {
        Level::Error => bad(model),
        Level::Warn => accent(model),
        Level::Info => Style::new(),
        Level::Debug => quiet(),
    }
}
