//! Colours and frames shared by all screens.

use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::Block;

use crate::model::Model;

/// Confidence from low to high, without colours.
pub(crate) const SHADES: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Returns the style of secondary text.
pub(crate) fn quiet() -> Style {
    Style::new().fg(Color::DarkGray)
}

/// Returns the style of selected text and headings.
pub(crate) fn accent(model: &Model) -> Style {
    coloured(model, Color::Cyan)
}

/// Returns the style of good values.
pub(crate) fn good(model: &Model) -> Style {
    coloured(model, Color::Green)
}

/// Returns the style of bad values.
pub(crate) fn bad(model: &Model) -> Style {
    coloured(model, Color::LightRed)
}

/// Returns the style of the line that keys act on.
pub(crate) fn chosen() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// Returns the style of a confidence, from low (warm) to high (cool).
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

/// Makes a frame with a title.
pub(crate) fn panel(title: &str) -> Block<'_> {
    Block::bordered()
        .border_style(quiet())
        .title(format!(" {title} "))
}

/// Returns the number of lines of a text that is wrapped between words.
pub(crate) fn lines(text: &str, columns: u16) -> u16 {
    let (mut count, mut at) = (1, 0);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        let columns = usize::from(columns.max(1));
        if at > 0 && at + 1 + length > columns {
            (count, at) = (count + 1, 0);
        }
        at += length + usize::from(at > 0);
        // A word longer than a line is broken.
        while at > columns {
            (count, at) = (count + 1, at - columns);
        }
    }
    count
}
