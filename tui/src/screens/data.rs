//! The screen Data: the curation funnel, what was trained on, and the lineage of each sequence.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table, TableState, Wrap};

use super::{Event, Screen, described, step_back};
use crate::keys::Action;
use crate::lineage;
use crate::model::message::Effect;
use crate::model::{Gate, Model, Rows, past};
use crate::pictures::Pictures;
use crate::theme::{accent, chosen, panel, quiet};

/// Returns the areas of the funnel and of the lineage.
fn parts(area: Rect) -> [Rect; 2] {
    Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area)
}

/// The trained sequences, and the selected or opened one.
#[derive(Default)]
pub(crate) struct DataScreen {
    /// The sequences that were trained on, newest first: columns and rows.
    lineage: Option<Rows>,
    /// The index of the selected row.
    at: usize,
    /// Everything known about the opened sequence.
    story: Option<Vec<Vec<String>>>,
    /// The run of the list.
    run: String,
}

impl Screen for DataScreen {
    fn title(&self) -> &'static str {
        "Data"
    }

    fn on_show(&mut self, model: &Model) -> Vec<Effect> {
        if self.story.is_some() {
            return Vec::new();
        }
        // Showing the screen queries the latest trained sequences and the whole funnel, of which live events have only
        // the end.
        let mut asked = vec![Effect::Ask(lineage::list(&model.run))];
        if !model.run.is_empty() {
            asked.push(Effect::Ask(past::funnel(&model.run)));
        }
        asked
    }

    fn on_event(&mut self, model: &mut Model, event: &Event) {
        self.run.clone_from(&model.run);
        match event {
            Event::Begun => (self.lineage, self.at, self.story) = (None, 0, None),
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

    fn on_key(&mut self, model: &mut Model, action: Action) -> Vec<Effect> {
        match action {
            Action::Open => return self.open(&model.run),
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
        // Two lines above (frame and heading) and one below (frame).
        let room = usize::from(place.height).saturating_sub(3);
        let line =
            at.y.checked_sub(place.y + 2)
                .map(usize::from)
                .filter(|line| *line < room);
        let number = line.map(|line| (self.at + 1).saturating_sub(room) + line);
        match number.filter(|number| *number < rows.len()) {
            Some(number) if number == self.at => return self.open(&self.run),
            Some(number) => self.at = number,
            None => {}
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, pictures: &Pictures, frame: &mut Frame, area: Rect) {
        let [upper, lower] = parts(area);
        if let Some(story) = &self.story {
            // An opened sequence takes the whole screen.
            return told(model, pictures, story, frame, area);
        }
        let rows = grouped(model).into_iter().map(|((source, gate, kind), group)| {
            let why = match group.reasons {
                _ if kind.is_empty() => String::new(),
                1 => group.example,
                reasons => format!("{reasons} like: {}", group.example),
            };
            Row::new([
                source,
                gate,
                group.passed.to_string(),
                group.rejected.to_string(),
                why,
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

/// Lists the number of trained sequences by stage.
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

/// Verdicts of one source at one gate with reasons of one kind.
#[derive(Default)]
struct ReasonGroup {
    passed: u64,
    rejected: u64,
    reasons: usize,
    example: String,
}

/// Groups the funnel's reasons that differ only in numbers, places and quoted words.
fn grouped(model: &Model) -> BTreeMap<Gate, ReasonGroup> {
    let mut groups: BTreeMap<Gate, ReasonGroup> = BTreeMap::new();
    for ((source, gate, reason), (passed, rejected)) in &model.funnel {
        let group = groups
            .entry((source.clone(), gate.clone(), kind(reason)))
            .or_default();
        group.passed += passed;
        group.rejected += rejected;
        group.reasons += 1;
        if group.example.is_empty() {
            group.example.clone_from(reason);
        }
    }
    groups
}

/// Reduces a reason to its kind: without numbers, file names with lines, and quoted words.
fn kind(reason: &str) -> String {
    let word = |word: &str| match word
        .chars()
        .any(|sign| sign.is_ascii_digit() || "'\"`/".contains(sign))
    {
        true => "#".to_owned(),
        false => word.to_owned(),
    };
    reason.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Draws everything known about a sequence, with its pictures beside it.
fn told(model: &Model, pictures: &Pictures, story: &[Vec<String>], frame: &mut Frame, area: Rect) {
    let pairs = || {
        story
            .iter()
            .filter_map(|pair| Some((pair.first()?.as_str(), pair.get(1)?.as_str())))
    };
    let shown: Vec<(&str, &str)> = pairs()
        .filter(|(name, _)| lineage::PICTURES.contains(name))
        .collect();
    let words: Vec<(&str, String)> = pairs()
        .filter(|(name, _)| !lineage::PICTURES.contains(name))
        .map(|(name, words)| (name, words.to_owned()))
        .collect();
    let title = "one sequence; enter: its parent, esc: back";
    described((model, pictures), title, &words, &shown, frame, area);
}

impl DataScreen {
    /// Queries the selected sequence, an opened sequence's parent, or the list of sequences.
    fn open(&self, run: &str) -> Vec<Effect> {
        if let Some(story) = &self.story {
            let parent = story
                .iter()
                .find(|pair| pair.first().is_some_and(|name| name == lineage::PARENT))
                .and_then(|pair| pair.get(1));
            let asked = parent.map(|parent| Effect::Ask(lineage::story(run, parent)));
            return asked.into_iter().collect();
        }
        let subject = |(_, rows): &Rows| rows.get(self.at)?.first().cloned();
        let command = match self.lineage.as_ref().and_then(subject) {
            Some(subject) => lineage::story(run, &subject),
            None => lineage::list(run),
        };
        vec![Effect::Ask(command)]
    }

    fn draw_lineage(&self, model: &Model, frame: &mut Frame, area: Rect) {
        let Some((columns, rows)) = &self.lineage else {
            let text = Paragraph::new("nothing was trained on yet; enter looks again").style(quiet());
            frame.render_widget(text.wrap(Wrap { trim: true }).block(panel("lineage")), area);
            return;
        };
        let wide = if area.width > 140 { 34 } else { 16 };
        let fixed = [wide, 6, 10, 11, 9, 6].map(Constraint::Length);
        let widths = fixed
            .into_iter()
            .chain([Constraint::Min(10)])
            .take(columns.len().max(1));
        let head = Row::new(columns.clone()).style(accent(model));
        // The ids of a run's own sequences begin with its id, which is left out here.
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
