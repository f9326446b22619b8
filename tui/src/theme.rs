//! Colours and frames shared by all screens.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Widget as _, Wrap};

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

/// The most lines that are counted; no screen has more.
const MOST_LINES: usize = 200;

/// Returns the number of lines of a text that is wrapped between words, by drawing it: wide characters take two columns,
/// and spaces in a row are kept.
pub(crate) fn lines(text: &str, columns: u16) -> u16 {
    let (text, columns) = (Line::raw(text), columns.max(1));
    // Two successive lines together are wider than one.
    let most = (2 * text.width() / usize::from(columns) + 2).min(MOST_LINES);
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, u16::try_from(most).unwrap_or(u16::MAX)));
    let area = buffer.area;
    Paragraph::new(text)
        .wrap(Wrap { trim: false })
        .render(area, &mut buffer);
    let drawn = buffer.content.iter().rposition(|cell| cell.symbol() != " ");
    let last = drawn.map_or(0, |at| at / usize::from(columns));
    u16::try_from(last + 1).unwrap_or(u16::MAX)
}
