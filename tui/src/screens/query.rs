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
            let widths = vec![Constraint::Fill(1); columns.len().max(1)];
            let body = rows.iter().skip(model.rows_at).map(|row| Row::new(row.clone()));
            let table = Table::new(body, widths).header(Row::new(columns.clone()).style(accent(model)));
            frame.render_widget(table.block(panel(&title)), area);
        }
    }
}
