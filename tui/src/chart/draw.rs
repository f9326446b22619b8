//! Draws a chart in characters: labelled axes, lines, marks of turned knobs, a legend.

use std::fmt::Write as _;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::axis::number;
use super::raster::{Raster, sign};
use super::{Chart, Series};

/// The colours of the lines as RGB, distinguishable by colour-blind readers (Okabe and Ito, 2008).
pub const COLOURS: [(u8, u8, u8); 7] = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (120, 120, 120),
];
/// The rows between two labels of the vertical axis, and the columns between two of the horizontal one.
const APART: (usize, usize) = (2, 14);

/// Returns the colour of a line.
#[must_use]
pub fn colour(number: usize) -> (u8, u8, u8) {
    COLOURS[number % COLOURS.len()]
}

fn style(number: usize, coloured: bool) -> Style {
    // Brighter than in files, because most terminals have a dark background.
    let (red, green, blue) = colour(number);
    let bright = |part: u8| part.saturating_add((255 - part) / 3);
    match coloured {
        true => Style::new().fg(Color::Rgb(bright(red), bright(green), bright(blue))),
        false => Style::new(),
    }
}

/// Draws a chart with its title into an area; nothing if the area has less than 20 columns or 5 rows.
pub(crate) fn draw(chart: &Chart, buffer: &mut Buffer, area: Rect, coloured: bool) {
    if area.width < 20 || area.height < 5 {
        return;
    }
    let rows = usize::from(area.height) - 2;
    let up = chart.y.ticks((rows / APART.0).max(2));
    let gutter = up
        .iter()
        .map(|tick| tick.1.chars().count())
        .max()
        .unwrap_or(0)
        .min(10);
    let columns = usize::from(area.width).saturating_sub(gutter + 1);
    let left = area.x + u16::try_from(gutter).unwrap_or(0) + 1;
    let plot = Rect::new(
        left,
        area.y + 1,
        u16::try_from(columns).unwrap_or(0),
        area.height - 2,
    );
    title(chart, buffer, area, coloured);
    let quiet = if coloured {
        Style::new().fg(Color::DarkGray)
    } else {
        Style::new()
    };
    for row in plot.rows() {
        buffer.set_string(left - 1, row.y, "│", quiet);
    }
    for (value, words) in &up {
        let Some(place) = chart.y.place(*value) else {
            continue;
        };
        let row = plot.y + part(1.0 - place, rows);
        buffer.set_string(area.x, row, format!("{words:>gutter$}┤"), Style::new());
    }
    turned(chart, buffer, plot, quiet);
    let mut raster = Raster::new(columns, rows, !coloured && chart.series.len() > 1);
    for (at, series) in chart.series.iter().enumerate() {
        let place = |&(x, y): &(f64, f64)| Some((chart.x.place(x)?, chart.y.place(y)?));
        raster.line(at, series.points.iter().filter_map(place));
    }
    for (column, row, sign, line) in raster.drawn() {
        let at = (
            plot.x + u16::try_from(column).unwrap_or(0),
            plot.y + u16::try_from(row).unwrap_or(0),
        );
        if let Some(cell) = buffer.cell_mut(at) {
            cell.set_char(sign).set_style(style(line, coloured));
        }
    }
    across(chart, buffer, plot);
}

/// Converts a position between 0 and 1 to a cell index.
fn part(place: f64, cells: usize) -> u16 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let cell = (place * cells.saturating_sub(1) as f64).round() as u16;
    cell
}

/// Draws the metric's name, and the lines' names with their last values.
fn title(chart: &Chart, buffer: &mut Buffer, area: Rect, coloured: bool) {
    let end = area.x + area.width;
    let (mut at, _) = buffer.set_stringn(
        area.x,
        area.y,
        &chart.title,
        usize::from(area.width),
        Style::new(),
    );
    let entries = |with_values: bool| -> Vec<String> {
        let entry = |(number, series): (usize, &Series)| {
            let last = series.points.last().map_or(0.0, |point| point.1);
            let mark = if coloured || chart.series.len() == 1 {
                '━'
            } else {
                sign(number)
            };
            let value = if with_values {
                format!(" {}", said(last))
            } else {
                String::new()
            };
            format!("  {mark} {}{value}", series.name)
        };
        chart.series.iter().enumerate().map(entry).collect()
    };
    let room = usize::from(end - at);
    let whole = entries(true);
    let fits = whole.iter().map(|entry| entry.chars().count()).sum::<usize>() <= room;
    let entries = if fits { whole } else { entries(false) };
    for (number, words) in entries.iter().enumerate() {
        if usize::from(at) + words.chars().count() > usize::from(end) {
            return;
        }
        (at, _) = buffer.set_stringn(at, area.y, words, usize::from(end - at), style(number, coloured));
    }
}

/// Formats a value with four digits; one from a million on or below a ten-thousandth with two and its power of ten.
#[must_use]
pub fn said(value: f64) -> String {
    let size = value.abs().max(1e-12);
    number(
        value,
        if (1e-4..1e6).contains(&size) {
            size / 1e3
        } else {
            size
        },
    )
}

/// Draws a vertical line with the knob's name and value where one was turned.
fn turned(chart: &Chart, buffer: &mut Buffer, plot: Rect, quiet: Style) {
    for (number, (at, words)) in chart.turns.iter().enumerate() {
        let Some(place) = chart.x.place(*at) else { continue };
        let column = plot.x + part(place, usize::from(plot.width));
        for row in plot.rows() {
            buffer.set_string(column, row.y, "┊", quiet);
        }
        // The texts of successive turns are staggered over the rows.
        let row = plot.y + u16::try_from(number).unwrap_or(0) % plot.height.max(1);
        let room = usize::from(plot.x + plot.width - column).saturating_sub(1);
        buffer.set_stringn(column + 1, row, words, room, Style::new());
    }
}

/// Draws the labels and the name of the horizontal axis.
fn across(chart: &Chart, buffer: &mut Buffer, plot: Rect) {
    let row = plot.y + plot.height;
    let name = format!(" {}", chart.across);
    let room = usize::from(plot.width).saturating_sub(name.chars().count());
    let mut free = plot.x.saturating_sub(1);
    for (value, words) in chart.x.ticks((usize::from(plot.width) / APART.1).max(2)) {
        let Some(place) = chart.x.place(value) else {
            continue;
        };
        let (at, wide) = (
            plot.x + part(place, usize::from(plot.width)),
            words.chars().count(),
        );
        let at = at
            .saturating_sub(u16::try_from(wide / 2).unwrap_or(0))
            .max(plot.x.saturating_sub(1));
        if at < free || usize::from(at - plot.x.min(at)) + wide > room {
            continue;
        }
        (free, _) = buffer.set_stringn(at, row, &words, wide, Style::new());
        free += 1;
    }
    let at = plot.x + u16::try_from(room).unwrap_or(0);
    buffer.set_stringn(at, row, &name, usize::from(plot.width), Style::new());
}

/// Draws a chart as lines of text, optionally with terminal colours.
#[must_use]
pub fn chart_text(chart: &Chart, width: u16, height: u16, coloured: bool) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(chart, &mut buffer, area, coloured);
    let mut text = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut present = None;
        for cell in (0..width).filter_map(|x| buffer.cell((x, y))) {
            let wanted = match cell.fg {
                Color::Rgb(red, green, blue) => Some((red, green, blue)),
                _ => None,
            };
            if wanted != present {
                match wanted {
                    Some((red, green, blue)) => write!(line, "\x1b[38;2;{red};{green};{blue}m").ok(),
                    None => write!(line, "\x1b[0m").ok(),
                };
                present = wanted;
            }
            line.push_str(cell.symbol());
        }
        if present.is_some() {
            line.push_str("\x1b[0m");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
