//! One SELECT, answered as a table.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::widgets::{Paragraph, Row, Table, Wrap};

use crate::model::Model;
use crate::theme::{accent, panel};

pub(crate) fn draw(model: &Model, frame: &mut Frame, area: Rect) {
    match &model.rows {
        None => {
            let text = "/ asks the store: one SELECT over v_run v_metric v_latest v_rollout v_trace v_lineage v_steer v_funnel v_eval v_event";
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
            let widths = vec![Constraint::Fill(1); columns.len().max(1)];
            let body = rows.iter().map(|row| Row::new(row.clone()));
            let table = Table::new(body, widths).header(Row::new(columns.clone()).style(accent(model)));
            frame.render_widget(table.block(panel("query")), area);
        }
    }
}
