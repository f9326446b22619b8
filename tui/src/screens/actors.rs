//! The tree of actors: state, queue, restarts, last message.

use demask_storage::ActorState;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Span;
use ratatui::widgets::{Row, Table};

use super::Screen;
use crate::model::Model;
use crate::pictures::Pictures;
use crate::theme::{accent, bad, good, panel, quiet};

/// The tree of actors.
#[derive(Default)]
pub(crate) struct ActorsScreen;

impl Screen for ActorsScreen {
    fn title(&self) -> &'static str {
        "Actors"
    }

    fn draw(&self, model: &Model, _: &Pictures, frame: &mut Frame, area: Rect) {
        let rows = model.tree().into_iter().map(|(depth, actor)| {
            let indent = "  ".repeat(depth.min(4));
            let state = format!("{:?}", actor.state).to_lowercase();
            Row::new([
                Span::raw(format!("{indent}{}", actor.name)),
                Span::styled(state, style(model, actor.state)),
                Span::raw(format!("{}/{}", actor.queue.0, actor.queue.1)),
                Span::raw(actor.restarts.to_string()),
                Span::raw(actor.handled.to_string()),
                Span::raw(actor.last_message.clone()),
                Span::raw(actor.detail.clone()),
            ])
        });
        let widths = [14, 8, 7, 8, 7, 12]
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
}

fn style(model: &Model, state: ActorState) -> Style {
    match state {
        ActorState::Busy => good(model),
        ActorState::Waiting | ActorState::Paused | ActorState::Starting => accent(model),
        ActorState::Failed => bad(model),
        ActorState::Stopped => quiet(),
        ActorState::Idle => Style::new(),
    }
}
