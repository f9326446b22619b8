//! The screen Query: the result of one SELECT as a table.

use demask_storage::query::VIEWS;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::widgets::{Paragraph, Row, Table, Wrap};

use super::{Event, Screen, step_back};
use crate::keys::Action;
use crate::model::Model;
use crate::model::message::Effect;
use crate::model::{ASKED_ROWS, Rows, Typing};
use crate::pictures::Pictures;
use crate::theme::{accent, panel};

/// The last result and its scroll position.
#[derive(Default)]
pub(crate) struct QueryScreen {
    /// The last query's result, or the error.
    rows: Option<Result<Rows, String>>,
    /// The rows that are scrolled away.
    away: usize,
}

impl Screen for QueryScreen {
    fn title(&self) -> &'static str {
        "Query"
    }

    fn claims(&self, action: Action) -> bool {
        action == Action::Query
    }

    fn on_event(&mut self, _: &mut Model, event: &Event) {
        match event {
            Event::Answered(columns, rows) => {
                (self.rows, self.away) = (Some(Ok((columns.to_vec(), rows.to_vec()))), 0);
            }
            Event::NoRows(message) => (self.rows, self.away) = (Some(Err((*message).to_owned())), 0),
            _ => {}
        }
    }

    fn on_key(&mut self, model: &mut Model, action: Action) -> Vec<Effect> {
        match action {
            Action::Query => model.typing = Some((Typing::Sql, String::new())),
            Action::Up | Action::Down => {
                let last = match &self.rows {
                    Some(Ok((_, rows))) => rows.len().saturating_sub(1),
                    _ => 0,
                };
                self.away = step_back(self.away, last, action == Action::Down);
            }
            _ => {}
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, _: &Pictures, frame: &mut Frame, area: Rect) {
        match &self.rows {
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
                let first = if rows.len() as u64 >= ASKED_ROWS {
                    "the first "
                } else {
                    ""
                };
                let title = format!("query: {first}{} rows, up and down scroll", rows.len());
                let widths = widths(columns, rows, usize::from(area.width.saturating_sub(2)));
                let body = rows.iter().skip(self.away).map(|row| Row::new(row.clone()));
                let table = Table::new(body, widths).header(Row::new(columns.clone()).style(accent(model)));
                frame.render_widget(table.block(panel(&title)), area);
            }
        }
    }
}

/// Returns the width of each column; if space is short, the wide ones share what the narrow ones leave.
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
