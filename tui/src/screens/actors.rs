//! The tree of actors: state, queue, restarts, last message.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::widgets::{Row, Table};

use crate::model::Model;
use crate::theme::{accent, panel};

pub(crate) fn draw(model: &Model, frame: &mut Frame, area: Rect) {
    let rows = model.tree().into_iter().map(|(depth, actor)| {
        let indent = "  ".repeat(depth.min(4));
        Row::new([
            format!("{indent}{}", actor.name),
            format!("{:?}", actor.state).to_lowercase(),
            format!("{}/{}", actor.queue.0, actor.queue.1),
            actor.restarts.to_string(),
            actor.handled.to_string(),
            actor.last_message.clone(),
            actor.detail.clone(),
        ])
    });
    let widths = [18, 9, 9, 9, 9, 16]
        .map(Constraint::Length)
        .into_iter()
        .chain([Constraint::Min(10)]);
    let head = Row::new([
        "actor",
        "state",
        "queue",
        "restarts",
        "handled",
        "last message",
        "doing",
    ])
    .style(accent(model));
    frame.render_widget(Table::new(rows, widths).header(head).block(panel("actors")), area);
}
