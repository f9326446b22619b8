//! Where examples come from and go: the funnel, what was trained on, and the lineage of each sequence.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState, Wrap};

use crate::model::Model;
use crate::theme::{accent, chosen, panel, quiet};

/// Where the funnel and the lineage are drawn.
pub(crate) fn parts(area: Rect) -> [Rect; 2] {
    Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area)
}

pub(crate) fn draw(model: &Model, frame: &mut Frame, area: Rect) {
    let [upper, lower] = parts(area);
    let rows = model
        .funnel
        .iter()
        .map(|((source, gate, reason), (passed, rejected))| {
            Row::new([
                source.clone(),
                gate.clone(),
                passed.to_string(),
                rejected.to_string(),
                reason.clone(),
            ])
        });
    let widths = [
        Constraint::Length(16),
        Constraint::Length(13),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Min(10),
    ];
    let head = Row::new(["source", "gate", "passed", "rejected", "why"]).style(accent(model));
    let block = panel("funnel").title_bottom(trained_on(model));
    frame.render_widget(Table::new(rows, widths).header(head).block(block), upper);
    lineage(model, frame, lower);
}

/// How many sequences each stage was trained on.
fn trained_on(model: &Model) -> Line<'static> {
    if model.trained.is_empty() {
        return Line::from("");
    }
    let counts: Vec<String> = model
        .trained
        .iter()
        .map(|(stage, count)| format!("{stage} {count}"))
        .collect();
    Line::from(format!(" sequences trained on: {} ", counts.join(" · ")))
}

fn lineage(model: &Model, frame: &mut Frame, area: Rect) {
    if let Some(story) = &model.story {
        let lines: Vec<Line> = story
            .iter()
            .filter_map(|pair| Some((pair.first()?, pair.get(1)?)))
            .map(|(name, value)| {
                Line::from(vec![
                    Span::styled(format!("{name:<11}"), accent(model)),
                    value.replace('\n', " ").into(),
                ])
            })
            .collect();
        let text = Paragraph::new(lines).wrap(Wrap { trim: false });
        frame.render_widget(
            text.block(panel("one sequence; enter: its parent, esc: back")),
            area,
        );
        return;
    }
    let Some((columns, rows)) = &model.lineage else {
        let text = Paragraph::new("nothing was trained on yet; enter looks again").style(quiet());
        frame.render_widget(text.wrap(Wrap { trim: true }).block(panel("lineage")), area);
        return;
    };
    let fixed = [6, 10, 11, 14, 9, 6].map(Constraint::Length);
    let widths = [Constraint::Min(12)]
        .into_iter()
        .chain(fixed)
        .take(columns.len().max(1));
    let head = Row::new(columns.clone()).style(accent(model));
    // A run's own sequences begin with its id, which says nothing here.
    let own = format!("{}/", model.run);
    let short = |cell: &String| match cell.strip_prefix(&own) {
        Some(rest) => format!("…/{rest}"),
        None => cell.clone(),
    };
    let table = Table::new(rows.iter().map(|row| Row::new(row.iter().map(short))), widths)
        .header(head)
        .row_highlight_style(chosen())
        .block(panel("lineage: up and down choose, enter opens"));
    let mut state = TableState::default().with_selected(model.lineage_at);
    frame.render_stateful_widget(table, area, &mut state);
}
