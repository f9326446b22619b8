//! The screen Benchmarks: first and last result of each suite with intervals. A result opens into its categories and
//! items (`parts.rs`, `items.rs`) and can be compared with another (`comparison.rs`).

pub(super) mod comparison;
pub(super) mod items;
mod parts;

use std::collections::BTreeSet;

use demask_storage::{Decision, Eval, Record};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use self::comparison::ResultComparison;
use self::items::OpenedResult;
use self::parts::interval;
use super::{Event, Screen, step_back};
use crate::keys::Action;
use crate::model::Model;
use crate::model::message::Effect;
use crate::pictures::Pictures;
use crate::theme::{accent, bad, chosen, good, panel, quiet};

/// The columns of an interval's bar: 0 to 100 %.
const BAR: usize = 40;

/// The scroll position and the opened result.
#[derive(Default)]
pub(crate) struct BenchmarksScreen {
    /// The results that are scrolled away, newest first.
    away: usize,
    /// The result whose items are shown.
    opened: Option<OpenedResult>,
    /// The comparison of that result.
    comparison: Option<ResultComparison>,
}

impl Screen for BenchmarksScreen {
    fn title(&self) -> &'static str {
        "Benchmarks"
    }

    fn on_event(&mut self, model: &mut Model, event: &Event) {
        match event {
            Event::Begun => *self = Self::default(),
            Event::Rows(columns, rows) => {
                if let Some(opened) = &mut self.opened {
                    opened.read(columns, rows);
                }
                if let Some(comparison) = &mut self.comparison {
                    comparison.read(columns, rows);
                }
            }
            // A scrolled list keeps showing the same results when a new one arrives.
            Event::Record(Record::Eval(eval)) if self.away > 0 => {
                let is_same = |known: &Eval| (known.step, &known.suite) == (eval.step, &eval.suite);
                self.away += usize::from(!model.evals.iter().any(is_same));
            }
            _ => {}
        }
    }

    fn on_key(&mut self, model: &mut Model, action: Action) -> Vec<Effect> {
        if let Some(comparison) = &mut self.comparison {
            match action {
                Action::Up | Action::Down => comparison.step(action == Action::Down),
                Action::Open => return comparison.ask().into_iter().collect(),
                Action::Close if !comparison.close_pair() => self.comparison = None,
                _ => {}
            }
            return Vec::new();
        }
        if let Some(opened) = &mut self.opened {
            match action {
                Action::Mark if !opened.shows_item() => {
                    let (comparison, asked) = opened.compare();
                    self.comparison = Some(comparison);
                    return vec![asked];
                }
                Action::Up | Action::Down => {
                    opened.step(action == Action::Down);
                    if opened.shows_item() {
                        return opened.ask().into_iter().collect();
                    }
                }
                Action::Wrong => opened.toggle_wrong(),
                Action::Open => return opened.ask().into_iter().collect(),
                Action::Close if !opened.close_item() => self.opened = None,
                _ => {}
            }
            return Vec::new();
        }
        match action {
            Action::Up | Action::Down => {
                let last = model.evals.len().saturating_sub(1);
                self.away = step_back(self.away, last, action == Action::Down);
            }
            Action::Open => {
                if let Some(eval) = model.evals.iter().rev().nth(self.away) {
                    let (opened, asked) = OpenedResult::open(eval);
                    self.opened = Some(opened);
                    return vec![asked];
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, pictures: &Pictures, frame: &mut Frame, area: Rect) {
        if let Some(comparison) = &self.comparison {
            return comparison.draw(model, frame, area);
        }
        if let Some(opened) = &self.opened {
            return opened.draw(model, pictures, frame, area);
        }
        let suites: BTreeSet<&str> = model.evals.iter().map(|eval| eval.suite.as_str()).collect();
        if suites.is_empty() {
            frame.render_widget(
                Paragraph::new("no benchmark yet").block(panel("benchmarks")),
                area,
            );
            return;
        }
        let lines: Vec<Line> = suites.iter().flat_map(|suite| compared(model, suite)).collect();
        let room = (lines.len() as u16 + 2).min(area.height.saturating_sub(5));
        let [upper, lower] = Layout::vertical([Constraint::Length(room), Constraint::Min(3)]).areas(area);
        frame.render_widget(Paragraph::new(lines).block(panel("before and after")), upper);
        all(model, self.away, frame, lower);
    }
}

/// Whether the run still has an evaluation before it.
fn to_come(model: &Model) -> bool {
    let stages = model.overview.as_ref().map_or(&[][..], |run| &run.stages);
    stages
        .iter()
        .any(|stage| stage.kind == "evaluate" && stage.done < stage.total)
}

/// Draws the first and the last result of a suite, each with its interval as a bar.
fn compared<'a>(model: &'a Model, suite: &str) -> Vec<Line<'a>> {
    let of_suite: Vec<&Eval> = model.evals.iter().filter(|eval| eval.suite == suite).collect();
    let (Some(first), Some(last)) = (of_suite.first(), of_suite.last()) else {
        return Vec::new();
    };
    let decision = Span::styled(
        format!("  {}", last.decision.map_or("", Decision::word).replace('_', " ")),
        quiet(),
    );
    let name = Span::styled(format!("{suite:<16}"), accent(model));
    if of_suite.len() == 1 {
        let name = Line::from(vec![name, decision]);
        if !to_come(model) {
            return vec![name, bar("once", first)];
        }
        let after = Line::styled("  after  not measured yet", quiet());
        return vec![name, bar("before", first), after];
    }
    let change = format!("{:+.1} points", 100.0 * (last.value - first.value));
    let change = if last.low > first.high {
        Span::styled(change, good(model))
    } else if last.high < first.low {
        Span::styled(change, bad(model))
    } else {
        Span::raw(format!("{change}, the intervals overlap"))
    };
    vec![
        Line::from(vec![name, change, decision]),
        bar("before", first),
        bar("after", last),
    ]
}

fn bar<'a>(name: &str, eval: &Eval) -> Line<'a> {
    let marks = interval(eval.low, eval.value, eval.high, BAR);
    Line::from(format!(
        "  {name:<7}{marks} {:>5.1} %  {:.1}–{:.1}  step {}",
        100.0 * eval.value,
        100.0 * eval.low,
        100.0 * eval.high,
        eval.step
    ))
}

fn all(model: &Model, away: usize, frame: &mut Frame, area: Rect) {
    // Newest first; the oldest result stays visible.
    let away = away.min(model.evals.len().saturating_sub(1));
    let rows = model.evals.iter().rev().skip(away).map(|eval| {
        let first = model
            .evals
            .iter()
            .find(|other| other.suite == eval.suite)
            .map_or(eval.value, |other| other.value);
        let parts: Vec<String> = eval
            .parts
            .iter()
            .map(|(name, value)| format!("{name} {:.0}", 100.0 * value))
            .collect();
        Row::new([
            eval.step.to_string(),
            eval.suite.clone(),
            format!("{:.1}", 100.0 * eval.value),
            format!("{:.1}–{:.1}", 100.0 * eval.low, 100.0 * eval.high),
            format!("{:+.1}", 100.0 * (eval.value - first)),
            parts.join(", "),
            eval.decision.map_or("", Decision::word).replace('_', " "),
        ])
    });
    let widths = [6, 15, 6, 12, 7]
        .map(Constraint::Length)
        .into_iter()
        .chain([Constraint::Min(10), Constraint::Length(10)]);
    let head = Row::new(["step", "suite", "%", "95 %", "since", "parts", "decision"]).style(accent(model));
    frame.render_stateful_widget(
        Table::new(rows, widths)
            .header(head)
            .row_highlight_style(chosen())
            .block(panel(
                "every result, newest first: up and down choose, enter opens its items",
            )),
        area,
        &mut TableState::default().with_selected(0),
    );
}
