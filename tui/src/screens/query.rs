//! One SELECT, answered as a table.

use demask_storage::query::VIEWS;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::widgets::{Paragraph, Row, Table, Wrap};

use crate::model::Model;
use crate::theme::{accent, panel};

pub(crate) fn draw(model: &Model, frame: &mut Frame, area: Rect) {
    match &model.rows {
        None => {
            let text = format!("/ asks the store: one SELECT over {}", VIEWS.join(" "));
            frame.render_widget(
                Paragraph::new(text)
                    .wrap(Wrap { trim: true })
                    .block(panel("query")),
                area,
            );
        }
        Some(Err(message)) => {
            frame.render_widget(
                Paragraph::new(message.as_str())
                    .wrap(Wrap { trim: true })
                    .block(panel("query")),
                area,
            );
        }
        Some(Ok((columns, rows))) => {
            let title = format!("query: {} rows, up and down scroll", rows.len());
            let widths = widths(columns, rows, usize::from(area.width.saturating_sub(2)));
            let body = rows.iter().skip(model.rows_at).map(|row| Row::new(row.clone()));
            let table = Table::new(body, widths).header(Row::new(columns.clone()).style(accent(model)));
            frame.render_widget(table.block(panel(&title)), area);
        }
    }
}

/// What each column needs; where that is more than there is, the wide ones share what the narrow ones leave.
fn widths(columns: &[String], rows: &[Vec<String>], room: usize) -> Vec<Constraint> {
    let needs = |number: usize| {
        let cells = rows.iter().filter_map(|row| row.get(number));
        cells
            .chain(columns.get(number))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(1)
    };
    let wanted: Vec<usize> = (0..columns.len()).map(needs).collect();
    let mut narrowest_first: Vec<usize> = (0..columns.len()).collect();
    narrowest_first.sort_by_key(|number| wanted[*number]);
    let mut left = room.saturating_sub(columns.len().saturating_sub(1));
    let mut given = vec![0; columns.len()];
    for (before, number) in narrowest_first.into_iter().enumerate() {
        given[number] = wanted[number].min(left / (columns.len() - before)).max(1);
        left = left.saturating_sub(given[number]);
    }
    given
        .into_iter()
        .map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)))
        .collect()
}
