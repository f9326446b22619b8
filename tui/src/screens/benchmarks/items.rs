//! The items of a benchmark result: the categories as a tree with intervals, the items with their verdicts, and one
//! item in full.

use demask_storage::query::curves::quoted;
use demask_storage::{Command, Eval};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use super::comparison::ResultComparison;
use super::parts::{self, credit};
use crate::model::Model;
use crate::model::message::Effect;
use crate::pictures::Pictures;
use crate::screens::described;
use crate::theme::{accent, bad, chosen, good, panel, quiet};

/// The column that marks a result as the items of a benchmark result.
pub(crate) const ITEMS: &str = "items";
/// The column that marks a result as one item.
pub(crate) const ITEM: &str = "item_of";
/// The most items that are listed.
const LISTED: u64 = 5000;
/// The note on a result that was cut at [`LISTED`].
const FIRST_ITEMS: &str = " of the first 5,000 items alone";

/// An opened benchmark result.
#[derive(Debug)]
pub(super) struct OpenedResult {
    run: String,
    step: u64,
    suite: String,
    /// Number, category, counted, credit, prompt, answer, reference; `None` until the store has answered.
    items: Option<Vec<Vec<String>>>,
    /// The index of the selected item among the shown ones.
    at: usize,
    /// Whether only items that are not right are shown.
    wrong: bool,
    /// The opened item: names and values.
    item: Option<Vec<Vec<String>>>,
}

impl OpenedResult {
    /// Opens a result of a run; returns the query for it.
    pub(super) fn open(eval: &Eval) -> (Self, Effect) {
        let opened = Self {
            run: eval.run.clone(),
            step: eval.step,
            suite: eval.suite.clone(),
            items: None,
            at: 0,
            wrong: false,
            item: None,
        };
        let sql = format!(
            "SELECT number AS {ITEMS}, category, counted, credit, replace(prompt, char(10), ' ') AS prompt, \
             replace(answer, char(10), ' ') AS answer, replace(reference, char(10), ' ') AS reference \
             FROM v_item WHERE {} ORDER BY number LIMIT {LISTED}",
            opened.which()
        );
        (opened, Effect::Ask(Command::Query { sql, limit: LISTED }))
    }

    fn which(&self) -> String {
        let (run, suite) = (quoted(&self.run), quoted(&self.suite));
        format!("run = {run} AND step = {} AND suite = {suite}", self.step)
    }

    /// Takes in a result of a query.
    pub(super) fn read(&mut self, columns: &[String], rows: &[Vec<String>]) {
        match columns.first().map(String::as_str) {
            Some(ITEMS) => self.items = Some(rows.to_vec()),
            Some(ITEM) => {
                let pairs = rows.first().map_or(Vec::new(), |row| {
                    let pairs = columns.iter().zip(row).skip(1);
                    pairs
                        .map(|(name, value)| vec![name.clone(), value.clone()])
                        .collect()
                });
                self.item = Some(pairs);
            }
            _ => {}
        }
    }

    /// Returns the shown items.
    fn shown(&self) -> Vec<&Vec<String>> {
        let all = self.items.iter().flatten();
        all.filter(|item| !self.wrong || credit(item) < 1.0).collect()
    }

    /// Selects the previous or next item.
    pub(super) fn step(&mut self, is_down: bool) {
        let last = self.shown().len().saturating_sub(1);
        self.at = match is_down {
            true => (self.at + 1).min(last),
            false => self.at.min(last).saturating_sub(1),
        };
    }

    /// Toggles between all items and those that are not right.
    pub(super) fn toggle_wrong(&mut self) {
        (self.wrong, self.at) = (!self.wrong, 0);
    }

    /// Queries the selected item.
    pub(super) fn ask(&self) -> Option<Effect> {
        let shown = self.shown();
        let number = shown.get(self.at)?.first()?.parse::<u64>().ok()?;
        let sql = format!(
            "SELECT number AS {ITEM}, number, category, prompt, picture, output, drawn, answer, reference, credit, tokens, forwards, \
             round(seconds, 3) AS seconds FROM v_item WHERE {} AND number = {number}",
            self.which()
        );
        Some(Effect::Ask(Command::Query { sql, limit: 1 }))
    }

    /// Closes the item; true if one was open.
    pub(super) fn close_item(&mut self) -> bool {
        self.item.take().is_some()
    }

    /// Whether an item is open.
    pub(super) fn shows_item(&self) -> bool {
        self.item.is_some()
    }

    /// Starts a comparison of this result with others; returns the query for it.
    pub(super) fn compare(&self) -> (ResultComparison, Effect) {
        ResultComparison::begin(&self.run, self.step, &self.suite)
    }

    /// Draws the categories and items, or the opened item.
    pub(super) fn draw(&self, model: &Model, pictures: &Pictures, frame: &mut Frame, area: Rect) {
        if let Some(item) = &self.item {
            return one(model, pictures, item, frame, area);
        }
        let Some(items) = &self.items else {
            let words = Paragraph::new("reading the items…").style(quiet());
            return frame.render_widget(words.block(panel(&self.suite)), area);
        };
        if items.is_empty() {
            let words = Paragraph::new("no item of this result is in the store").style(quiet());
            return frame.render_widget(words.block(panel(&self.suite)), area);
        }
        let lines = parts::tree(model, items);
        let room = (lines.len() as u16 + 2).min(area.height / 2).max(3);
        let [upper, lower] = Layout::vertical([Constraint::Length(room), Constraint::Min(4)]).areas(area);
        let title = format!(
            "{} at step {}: parts{}, each with its 95 % interval",
            self.suite,
            self.step,
            if items.len() as u64 >= LISTED {
                FIRST_ITEMS
            } else {
                ""
            }
        );
        frame.render_widget(Paragraph::new(lines).block(panel(&title)), upper);
        self.list(model, frame, lower);
    }

    fn list(&self, model: &Model, frame: &mut Frame, area: Rect) {
        let shown = self.shown();
        let all = self.items.as_ref().map_or(0, Vec::len);
        let rows = shown.iter().map(|item| {
            let cell = |at: usize| item.get(at).cloned().unwrap_or_default();
            let (word, style) = match credit(item) {
                right if right >= 1.0 => ("right".to_owned(), good(model)),
                wrong if wrong <= 0.0 => ("wrong".to_owned(), bad(model)),
                part => (format!("{part:.2}"), accent(model)),
            };
            let category = if cell(2) == "1" {
                cell(1)
            } else {
                format!("{} (held out)", cell(1))
            };
            Row::new([
                Line::from(cell(0)),
                Line::styled(word, style),
                Line::from(category),
                Line::from(cell(5)),
                Line::from(cell(6)),
                Line::from(cell(4)),
            ])
        });
        let [short, long] = if area.width > 140 { [20, 40] } else { [12, 14] };
        let widths = [
            Constraint::Length(5),
            Constraint::Length(6),
            Constraint::Length(short),
            Constraint::Length(long),
            Constraint::Length(long),
            Constraint::Min(12),
        ];
        let head = Row::new(["item", "", "part", "answer", "right answer", "asked"]).style(accent(model));
        let which = if self.wrong { "not right" } else { "all" };
        let title = format!(
            "items, {which}: {} of {all}; enter opens, w only wrong, space compares, esc back",
            shown.len()
        );
        let table = Table::new(rows, widths)
            .header(head)
            .row_highlight_style(chosen())
            .block(panel(&title));
        let mut state = TableState::default().with_selected(self.at);
        frame.render_stateful_widget(table, area, &mut state);
    }
}

/// Draws everything known about an item, with its pictures beside it.
fn one(model: &Model, pictures: &Pictures, item: &[Vec<String>], frame: &mut Frame, area: Rect) {
    let value = |wanted: &str| {
        let found = item
            .iter()
            .find(|pair| pair.first().is_some_and(|name| name == wanted));
        found.and_then(|pair| pair.get(1)).map_or("", String::as_str)
    };
    let shown: Vec<(&str, &str)> = [("asked about", value("picture")), ("drawn", value("drawn"))]
        .into_iter()
        .filter(|(_, hash)| !hash.is_empty() && *hash != "null")
        .collect();
    let mut words = Vec::new();
    for (name, value) in item.iter().filter_map(|pair| Some((pair.first()?, pair.get(1)?))) {
        if ["picture", "drawn"].contains(&name.as_str()) || value == "null" {
            continue;
        }
        // An empty value is shown too, because it is informative.
        let value = if value.is_empty() {
            "(nothing)"
        } else {
            value.as_str()
        };
        let verdict = match (name.as_str(), value.parse::<f64>()) {
            ("credit", Ok(credit)) if credit >= 1.0 => " (right)",
            ("credit", Ok(credit)) if credit <= 0.0 => " (wrong)",
            _ => "",
        };
        words.push((name.as_str(), format!("{value}{verdict}")));
    }
    let title = "one item; up and down: the others, esc back";
    described((model, pictures), title, &words, &shown, frame, area);
}
