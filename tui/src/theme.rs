//! Colours and frames that every screen shares.

use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::Block;

use crate::model::Model;

/// Confidence from low to high, for those who see no colours.
pub(crate) const SHADES: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What stands behind.
pub(crate) fn quiet() -> Style {
    Style::new().fg(Color::DarkGray)
}

/// What is chosen, and headings.
pub(crate) fn accent(model: &Model) -> Style {
    coloured(model, Color::Cyan)
}

/// What is well.
pub(crate) fn good(model: &Model) -> Style {
    coloured(model, Color::Green)
}

/// What is not.
pub(crate) fn bad(model: &Model) -> Style {
    coloured(model, Color::LightRed)
}

/// The line that keys act on.
pub(crate) fn chosen() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// From unsure (warm) to sure (cool).
pub(crate) fn sure(model: &Model, confidence: u8) -> Style {
    if model.no_color {
        Style::new()
    } else {
        Style::new().fg(Color::Rgb(255 - confidence / 2, 120 + confidence / 2, 120))
    }
}

fn coloured(model: &Model, colour: Color) -> Style {
    if model.no_color {
        Style::new().add_modifier(Modifier::BOLD)
    } else {
        Style::new().fg(colour)
    }
}

/// A frame with a title.
pub(crate) fn panel(title: &str) -> Block<'_> {
    Block::bordered()
        .border_style(quiet())
        .title(format!(" {title} "))
}

/// Lines that a text takes where it is wrapped between words.
pub(crate) fn lines(text: &str, columns: u16) -> u16 {
    let (mut count, mut at) = (1, 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if at > 0 && at + 1 + length > usize::from(columns) {
            (count, at) = (count + 1, length);
        } else {
            at += length + usize::from(at > 0);
        }
    }
    count
}
