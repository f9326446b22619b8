//! Where examples come from and go: the funnel, what was trained on, and the lineage of each sequence.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState, Wrap};

use super::Event;
use super::Screen;
use super::step_back;
use crate::keys::Action;
use crate::lineage;
use crate::model::Model;
use crate::model::Rows;
use crate::model::message::Effect;
use crate::pictures::Pictures;
use crate::theme::{accent, chosen, panel, quiet};

/// Where the funnel and the lineage are drawn.
fn parts(area: Rect) -> [Rect; 2] {
    Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area)
}

/// The sequences that were trained on, and the one that is chosen or opened.
#[derive(Default)]
pub(crate) struct DataScreen {
    /// What was trained on, newest first: columns and rows.
    lineage: Option<Rows>,
    /// Which row of it is chosen.
    at: usize,
    /// All that is known of one sequence.
    story: Option<Vec<Vec<String>>>,
}

impl Screen for DataScreen {
    fn title(&self) -> &'static str {
        "Data"
    }

    fn on_show(&mut self) -> Option<Effect> {
        // Who comes to the screen sees what was trained on last.
        self.story.is_none().then(|| Effect::Ask(lineage::list()))
    }

    fn on_event(&mut self, _: &mut Model, event: &Event) {
        match event {
            Event::Begun => *self = Self::default(),
            Event::Closed => self.story = None,
            Event::Rows(columns, rows) => match columns.first().map(String::as_str) {
                Some(lineage::LIST) => {
                    (self.lineage, self.at) = (Some((columns.to_vec(), rows.to_vec())), 0);
                }
                Some(lineage::STORY) => self.story = Some(rows.to_vec()),
                _ => {}
            },
            _ => {}
        }
    }

    fn on_key(&mut self, _: &mut Model, action: Action) -> Vec<Effect> {
        match action {
            Action::Open => return self.open(),
            Action::Up | Action::Down => {
                let rows = self.lineage.as_ref().map_or(0, |(_, rows)| rows.len());
                self.at = step_back(self.at, rows.saturating_sub(1), action == Action::Down);
                self.story = None;
            }
            _ => {}
        }
        Vec::new()
    }

    fn on_click(&mut self, body: Rect, at: Position) -> Vec<Effect> {
        let [_, place] = parts(body);
        let Some((_, rows)) = self
            .lineage
            .as_ref()
            .filter(|_| self.story.is_none() && place.contains(at))
        else {
            return Vec::new();
        };
        // Frame and heading above, frame below.
        let room = usize::from(place.height).saturating_sub(3);
        let line =
            at.y.checked_sub(place.y + 2)
                .map(usize::from)
                .filter(|line| *line < room);
        let number = line.map(|line| (self.at + 1).saturating_sub(room) + line);
        match number.filter(|number| *number < rows.len()) {
            Some(number) if number == self.at => return self.open(),
            Some(number) => self.at = number,
            None => {}
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, _: &Pictures, frame: &mut Frame, area: Rect) {
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
        self.draw_lineage(model, frame, lower);
    }
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

impl DataScreen {
    /// Asks for the story of the chosen sequence, of a story's parent, or for the list of sequences.
    fn open(&self) -> Vec<Effect> {
        if let Some(story) = &self.story {
            let parent = story
                .iter()
                .find(|pair| pair.first().is_some_and(|name| name == lineage::PARENT))
                .and_then(|pair| pair.get(1));
            let asked = parent.map(|parent| Effect::Ask(lineage::story(parent)));
            return asked.into_iter().collect();
        }
        let subject = |(_, rows): &Rows| rows.get(self.at)?.first().cloned();
        let command = match self.lineage.as_ref().and_then(subject) {
            Some(subject) => lineage::story(&subject),
            None => lineage::list(),
        };
        vec![Effect::Ask(command)]
    }

    fn draw_lineage(&self, model: &Model, frame: &mut Frame, area: Rect) {
        if let Some(story) = &self.story {
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
        let Some((columns, rows)) = &self.lineage else {
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
        let mut state = TableState::default().with_selected(self.at);
        frame.render_stateful_widget(table, area, &mut state);
    }
}
