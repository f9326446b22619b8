//! The comparison of a result with another of the same suite: item by item where both have the same items, and category
//! by category with the interval of the difference.

use std::collections::BTreeMap;

use demask_storage::Command;
use demask_storage::query::curves::quoted;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use super::parts;
use crate::model::Model;
use crate::model::message::Effect;
use crate::theme::{accent, bad, chosen, good, panel, quiet};

/// The column that marks a result as the list of comparable results.
pub(crate) const OTHERS: &str = "others";
/// The column that marks a result as the items that two results share.
pub(crate) const PAIRS: &str = "pairs";
/// The most results that are listed.
const LISTED: u64 = 500;
/// The most pairs of items that are compared.
const PAIRED: u64 = 20_000;
/// The note on a comparison that was cut at [`PAIRED`].
const FIRST_PAIRS: &str = ", the first 20,000 items alone";

/// A result, the other results of its suite, and the one it is compared with.
#[derive(Debug)]
pub(super) struct ResultComparison {
    run: String,
    step: u64,
    suite: String,
    /// Run, step, percentage, interval, items, checkpoint; `None` until the store has answered.
    others: Option<Vec<Vec<String>>>,
    /// The index of the selected row.
    at: usize,
    /// Whether the selected result is being compared.
    is_compared: bool,
    /// The pairs of each category, all of them first; `None` until the store has answered.
    parts: Option<BTreeMap<String, PartPair>>,
    /// Whether there are more pairs than are compared.
    is_cut: bool,
}

/// Sums over the item pairs of a category.
#[derive(Clone, Copy, Debug, Default)]
struct PartPair {
    items: f64,
    first: f64,
    second: f64,
    squares: f64,
    first_alone: usize,
    second_alone: usize,
}

impl PartPair {
    fn add(&mut self, first: f64, second: f64) {
        self.items += 1.0;
        self.first += first;
        self.second += second;
        self.squares += (second - first).powi(2);
        self.first_alone += usize::from(first >= 1.0 && second < 1.0);
        self.second_alone += usize::from(second >= 1.0 && first < 1.0);
    }

    /// Returns the mean difference with its normal 95 % interval; with a single item, the widest possible one.
    fn difference(&self) -> (f64, f64, f64) {
        const Z: f64 = 1.959_964;
        let mean = (self.second - self.first) / self.items;
        if self.items < 2.0 {
            return (mean, -1.0, 1.0);
        }
        let variance = (self.squares - self.items * mean * mean).max(0.0) / (self.items - 1.0);
        let half = Z * (variance / self.items).sqrt();
        (mean, (mean - half).max(-1.0), (mean + half).min(1.0))
    }
}

impl ResultComparison {
    /// Starts with the list of the suite's other results; returns the query for it.
    pub(super) fn begin(run: &str, step: u64, suite: &str) -> (Self, Effect) {
        let begun = Self {
            run: run.to_owned(),
            step,
            suite: suite.to_owned(),
            others: None,
            at: 0,
            is_compared: false,
            parts: None,
            is_cut: false,
        };
        let sql = format!(
            "SELECT run AS {OTHERS}, step, round(100 * value, 1), round(100 * low, 1), round(100 * high, 1), n, checkpoint \
             FROM v_eval WHERE suite = {} AND NOT (run = {} AND step = {step}) ORDER BY at_us DESC LIMIT {LISTED}",
            quoted(suite),
            quoted(run)
        );
        (begun, Effect::Ask(Command::Query { sql, limit: LISTED }))
    }

    /// Takes in a result of a query.
    pub(super) fn read(&mut self, columns: &[String], rows: &[Vec<String>]) {
        match columns.first().map(String::as_str) {
            Some(OTHERS) => self.others = Some(rows.to_vec()),
            Some(PAIRS) if self.is_compared => {
                self.parts = Some(parts_of(rows));
                self.is_cut = rows.len() as u64 >= PAIRED;
            }
            _ => {}
        }
    }

    /// Selects the previous or next row of the list.
    pub(super) fn step(&mut self, is_down: bool) {
        if self.is_compared {
            return;
        }
        let last = self.others.as_ref().map_or(0, Vec::len).saturating_sub(1);
        self.at = match is_down {
            true => (self.at + 1).min(last),
            false => self.at.saturating_sub(1),
        };
    }

    /// Compares with the selected result; returns the query for it.
    pub(super) fn ask(&mut self) -> Option<Effect> {
        let (run, step) = self.chosen()?;
        let sql = format!(
            "SELECT a.number AS {PAIRS}, a.category, a.counted, a.credit, b.credit FROM v_item a JOIN v_item b \
             ON b.run = {} AND b.step = {step} AND b.suite = a.suite AND b.number = a.number AND b.item = a.item \
             WHERE a.run = {} AND a.step = {} AND a.suite = {} ORDER BY a.number LIMIT {PAIRED}",
            quoted(&run),
            quoted(&self.run),
            self.step,
            quoted(&self.suite)
        );
        (self.is_compared, self.parts) = (true, None);
        Some(Effect::Ask(Command::Query { sql, limit: PAIRED }))
    }

    /// Returns to the list; true if two results were compared.
    pub(super) fn close_pair(&mut self) -> bool {
        std::mem::take(&mut self.is_compared)
    }

    fn chosen(&self) -> Option<(String, u64)> {
        let row = self.others.as_ref()?.get(self.at)?;
        Some((row.first()?.clone(), row.get(1)?.parse().ok()?))
    }

    /// Draws the list or the comparison.
    pub(super) fn draw(&self, model: &Model, frame: &mut Frame, area: Rect) {
        if self.is_compared {
            return self.pair(model, frame, area);
        }
        let Some(others) = &self.others else {
            return say("reading the other results…", &self.suite, frame, area);
        };
        if others.is_empty() {
            return say(
                "the suite has no other result in the store",
                &self.suite,
                frame,
                area,
            );
        }
        let rows = others.iter().map(|row| {
            let cell = |at: usize| row.get(at).cloned().unwrap_or_default();
            let interval = format!("{}–{}", cell(3), cell(4));
            Row::new([short(&cell(0)), cell(1), cell(2), interval, cell(5), cell(6)])
        });
        let widths = [12, 7, 6, 12, 6].map(Constraint::Length);
        let widths = widths.into_iter().chain([Constraint::Min(10)]);
        let head = Row::new(["run", "step", "%", "95 %", "items", "checkpoint"]).style(accent(model));
        let title = format!(
            "{} of {} step {} against: enter compares, esc back",
            self.suite,
            short(&self.run),
            self.step
        );
        let table = Table::new(rows, widths)
            .header(head)
            .row_highlight_style(chosen())
            .block(panel(&title));
        let mut state = TableState::default().with_selected(self.at);
        frame.render_stateful_widget(table, area, &mut state);
    }

    fn pair(&self, model: &Model, frame: &mut Frame, area: Rect) {
        let other = self.chosen().unwrap_or_default();
        let title = format!(
            "{}: A {} step {}, B {} step {}{}; 95 % of B − A; esc back",
            self.suite,
            short(&self.run),
            self.step,
            short(&other.0),
            other.1,
            if self.is_cut { FIRST_PAIRS } else { "" }
        );
        let Some(parts) = &self.parts else {
            return say("reading the items of both…", &title, frame, area);
        };
        if parts.is_empty() {
            return say("the two were asked no item in common", &title, frame, area);
        }
        let rows = parts.iter().map(|(name, pair)| row(model, name, pair));
        let widths = [20, 5, 5, 5, 6, 16, 6].map(Constraint::Length);
        let widths = widths.into_iter().chain([Constraint::Min(6)]);
        let head = ["part", "items", "A %", "B %", "B − A", "95 %", "A only", "B only"];
        let table = Table::new(rows, widths)
            .header(Row::new(head).style(accent(model)))
            .block(panel(&title));
        frame.render_widget(table, area);
    }
}

/// Sums the pairs by category, all of them first.
fn parts_of(pairs: &[Vec<String>]) -> BTreeMap<String, PartPair> {
    let mut parts: BTreeMap<String, PartPair> = BTreeMap::new();
    for item in pairs {
        let second = item.get(4).and_then(|credit| credit.parse().ok()).unwrap_or(0.0);
        for name in parts::names(item) {
            parts.entry(name).or_default().add(parts::credit(item), second);
        }
    }
    parts
}

fn row<'a>(model: &Model, name: &str, pair: &PartPair) -> Row<'a> {
    let (mean, low, high) = pair.difference();
    let style = match (low > 0.0, high < 0.0) {
        (true, _) => good(model),
        (_, true) => bad(model),
        _ => Style::default(),
    };
    let percent = |sum: f64| format!("{:.1}", 100.0 * sum / pair.items);
    Row::new([
        Line::styled(parts::label(name), accent(model)),
        Line::from(pair.items.to_string()),
        Line::from(percent(pair.first)),
        Line::from(percent(pair.second)),
        Line::styled(format!("{:+.1}", 100.0 * mean), style),
        Line::styled(format!("{:+.1} to {:+.1}", 100.0 * low, 100.0 * high), style),
        Line::from(pair.first_alone.to_string()),
        Line::from(pair.second_alone.to_string()),
    ])
}

fn say(words: &str, title: &str, frame: &mut Frame, area: Rect) {
    let words = Paragraph::new(words.to_owned()).style(quiet());
    frame.render_widget(words.block(panel(title)), area);
}

/// Returns the end of a run's id, by which other screens name it too.
fn short(run: &str) -> String {
    let count = run.chars().count();
    run.chars().skip(count.saturating_sub(8)).collect()
}
