//! A group's samples: rewards part by part, advantages, pictures side by side.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::widgets::{Paragraph, Row, Table};

use crate::model::Model;
use crate::pictures::Pictures;
use crate::theme::{accent, bad, good, panel};

/// Rows of a thumbnail.
const THUMBNAIL: u16 = 8;

pub(crate) fn draw(model: &Model, pictures: &Pictures, frame: &mut Frame, area: Rect) {
    let keys = model.groups();
    let Some(&(step, group)) = keys
        .iter()
        .rev()
        .nth(model.group.min(keys.len().saturating_sub(1)))
    else {
        frame.render_widget(Paragraph::new("no rollouts yet").block(panel("rollouts")), area);
        return;
    };
    let of_group: Vec<_> = model
        .rollouts
        .iter()
        .filter(|sample| (sample.step, sample.group) == (step, group))
        .collect();
    let prompt = of_group.first().map_or("", |sample| sample.prompt.as_str());
    let title = format!("step {step} group {group}: {prompt}");
    let rows = of_group.iter().map(|sample| {
        let parts: Vec<String> = sample
            .parts
            .iter()
            .map(|(name, value, _)| format!("{name} {value:.2}"))
            .collect();
        let bar = "█".repeat((sample.advantage.abs() * 3.0).min(9.0) as usize);
        let sign = if sample.advantage < 0.0 { '-' } else { '+' };
        Row::new([
            sample.number.to_string(),
            format!("{:.2}", sample.total),
            format!("{sign}{:.2} {bar}", sample.advantage.abs()),
            parts.join(" "),
            sample.text.clone(),
        ])
        .style(match sample.advantage {
            plus if plus > 0.0 => good(model),
            minus if minus < 0.0 => bad(model),
            _ => ratatui::style::Style::new(),
        })
    });
    let widths = [
        Constraint::Length(3),
        Constraint::Length(6),
        Constraint::Length(16),
        Constraint::Length(44),
        Constraint::Min(10),
    ];
    let head = Row::new(["", "total", "advantage", "rewards", "sample"]).style(accent(model));
    let drawn: Vec<&str> = of_group
        .iter()
        .filter_map(|sample| sample.picture.as_deref())
        .collect();
    let room = if drawn.is_empty() || !pictures.shown() {
        0
    } else {
        THUMBNAIL
    };
    let [upper, lower] = Layout::vertical([Constraint::Min(4), Constraint::Length(room)]).areas(area);
    frame.render_widget(Table::new(rows, widths).header(head).block(panel(&title)), upper);
    let columns = Layout::horizontal(vec![Constraint::Length(2 * THUMBNAIL + 1); drawn.len()]).split(lower);
    for (hash, place) in drawn.iter().zip(columns.iter()) {
        pictures.draw_blob(frame, *place, hash);
    }
}
