//! Where examples come from and go: the funnel, what was trained on, and the lineage of each sequence.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState, Wrap};

use crate::model::Model;
use crate::theme::{accent, chosen, panel, quiet};

/// Where the funnel, what was trained on, and the lineage are drawn.
pub(crate) fn parts(area: Rect) -> [Rect; 3] {
    let [upper, lower] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    let [lower, right] = Layout::horizontal([Constraint::Length(32), Constraint::Min(20)]).areas(lower);
    [upper, lower, right]
}

pub(crate) fn draw(model: &Model, frame: &mut Frame, area: Rect) {
    let [upper, lower, right] = parts(area);
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
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Min(10),
    ];
    let head = Row::new(["source", "gate", "passed", "rejected", "why"]).style(accent(model));
    frame.render_widget(
        Table::new(rows, widths).header(head).block(panel("funnel")),
        upper,
    );
    let lines: Vec<Line> = model
        .trained
        .iter()
        .map(|(stage, count)| Line::from(format!("{stage:<16}{count:>9} sequences")))
        .collect();
    frame.render_widget(Paragraph::new(lines).block(panel("trained on")), lower);
    lineage(model, frame, right);
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
        let text = Paragraph::new("enter shows what was trained on, and where each sequence comes from")
            .style(quiet());
        frame.render_widget(text.wrap(Wrap { trim: true }).block(panel("lineage")), area);
        return;
    };
    let fixed = [5, 9, 9, 12, 8, 5].map(Constraint::Length);
    let widths = [Constraint::Min(12)]
        .into_iter()
        .chain(fixed)
        .take(columns.len().max(1));
    let head = Row::new(columns.clone()).style(accent(model));
    let table = Table::new(rows.iter().map(|row| Row::new(row.clone())), widths)
        .header(head)
        .row_highlight_style(chosen())
        .block(panel("lineage: up and down choose, enter opens"));
    let mut state = TableState::default().with_selected(model.lineage_at);
    frame.render_stateful_widget(table, area, &mut state);
}
