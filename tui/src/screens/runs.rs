//! The screen Runs: the runs of the store, to be opened or overlaid on the curves, below the queue of waiting runs,
//! which can be reordered.

use ratatui::Frame;
use ratatui::layout::{Constraint, Position, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Row, Table, TableState};

use demask_storage::Command;

use super::Event;
use super::Screen;
use super::step_back;
use crate::keys::Action;
use crate::model::Model;
use crate::model::message::Effect;
use crate::pictures::Pictures;
use crate::theme::{accent, chosen, panel};

/// The column that marks a result as the list of runs.
pub(crate) const RUNS: &str = "runs";
/// The most runs that are listed, newest first, and the most waiting ones.
const LISTED: u64 = 500;
/// The prefix of a waiting run's status, before its place.
const WAITS: &str = "waits ";

/// The list and the selected row.
#[derive(Default)]
pub(crate) struct RunsScreen {
    /// Id, name, status, step, seed, start, last results.
    rows: Vec<Vec<String>>,
    /// The index of the selected row.
    at: usize,
    /// The run that is cancelled if the key is pressed again.
    cancelling: Option<String>,
}

impl Screen for RunsScreen {
    fn title(&self) -> &'static str {
        "Runs"
    }

    fn on_show(&mut self, _: &Model) -> Vec<Effect> {
        // Who has looked at another screen is asked again.
        self.cancelling = None;
        vec![Effect::Ask(Command::Query {
            sql: format!(
                "SELECT * FROM (SELECT run AS {RUNS}, coalesce(name, profile) AS profile, '{WAITS}' || place AS status, '' AS step, \
                 '' AS seed, '' AS began, '' AS benchmarks FROM v_queue ORDER BY v_queue.place LIMIT {LISTED}) \
                 UNION ALL SELECT * FROM (SELECT run, profile, status, step, seed, datetime(started_us / 1000000, 'unixepoch') AS began, \
                 coalesce((SELECT group_concat(suite || ' ' || round(100 * value, 1), ', ') FROM (SELECT suite, value, max(step) \
                 FROM v_eval WHERE v_eval.run = v_run.run GROUP BY suite)), '') AS benchmarks \
                 FROM v_run ORDER BY started_us DESC LIMIT {LISTED})"
            ),
            limit: 2 * LISTED,
        })]
    }

    fn on_event(&mut self, _: &mut Model, event: &Event) {
        if let Event::Rows(columns, rows) = event
            && columns.first().is_some_and(|column| column == RUNS)
        {
            self.rows = rows.to_vec();
            self.at = self.at.min(rows.len().saturating_sub(1));
        }
    }

    fn on_key(&mut self, model: &mut Model, action: Action) -> Vec<Effect> {
        let cancelling = self.cancelling.take();
        match action {
            Action::Cancel => return self.cancelled(model, cancelling.as_deref()),
            Action::Up | Action::Down => {
                let last = self.rows.len().saturating_sub(1);
                self.at = step_back(self.at, last, action == Action::Down);
            }
            Action::ZoomIn | Action::ZoomOut => return self.moved(model, action == Action::ZoomIn),
            Action::Open | Action::Mark if self.place().is_some() => {
                model.notice =
                    "that run waits for its turn: + and - put it earlier or later, X cancels it".into();
            }
            Action::Open => model.opening = self.chosen().map(|(run, _)| run),
            Action::Close if model.is_past => model.opening = Some(String::new()),
            Action::Mark => {
                let Some((run, name)) = self.chosen() else {
                    return Vec::new();
                };
                match model.overlaid.iter().position(|(known, _)| *known == run) {
                    Some(at) => drop(model.overlaid.remove(at)),
                    None if run == model.run => model.notice = "that run is drawn already".into(),
                    None => model.overlaid.push((run, name)),
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn on_click(&mut self, body: Rect, at: Position) -> Vec<Effect> {
        // Two lines above (frame and heading) and one below (frame).
        let room = usize::from(body.height).saturating_sub(3);
        let line =
            at.y.checked_sub(body.y + 2)
                .map(usize::from)
                .filter(|line| *line < room);
        let number = line.map(|line| (self.at + 1).saturating_sub(room) + line);
        if let Some(number) = number.filter(|number| *number < self.rows.len()) {
            self.at = number;
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, _: &Pictures, frame: &mut Frame, area: Rect) {
        let narrow = area.width < 110;
        let rows = self.rows.iter().map(|row| {
            let id = row.first().map_or("", String::as_str);
            let mark = match () {
                () if id == model.run => "▸",
                () if model.overlaid.iter().any(|(run, _)| run == id) => "▪",
                () => " ",
            };
            let cell = |at: usize| row.get(at).cloned().unwrap_or_default();
            // Only month, day, hour and minute if space is short.
            let began = if narrow {
                cell(5).get(5..16).unwrap_or_default().to_owned()
            } else {
                cell(5)
            };
            Row::new([
                format!("{mark}{}", ending(id)),
                cell(1),
                cell(2),
                cell(3),
                cell(4),
                began,
                cell(6),
            ])
        });
        let lengths = if narrow {
            [13, 14, 11, 6, 0, 11]
        } else {
            [13, 22, 11, 7, 6, 19]
        };
        let widths = lengths
            .map(Constraint::Length)
            .into_iter()
            .chain([Constraint::Min(12)]);
        let seed = if narrow { "" } else { "seed" };
        let head = Row::new([
            "run",
            "profile",
            "status",
            "step",
            seed,
            "began (UTC)",
            "benchmarks",
        ])
        .style(accent(model));
        let words = match area.width < 100 {
            true => " ▸ shown ▪ laid over · enter opens, space lays over; waiting: + - X ",
            false => {
                " ▸ shown ▪ laid over · enter opens, space lays over, esc: the daemon's run · + - move what waits, X cancels it "
            }
        };
        let table = Table::new(rows, widths)
            .header(head)
            .row_highlight_style(chosen())
            .block(panel("runs, those that wait first, then the newest").title_bottom(Line::from(words)));
        let mut state = TableState::default().with_selected(self.at);
        frame.render_stateful_widget(table, area, &mut state);
    }
}

impl RunsScreen {
    /// Returns the selected run's place in the queue, from 1, if it is waiting.
    fn place(&self) -> Option<u64> {
        self.place_of(self.at)
    }

    /// Returns the place in the queue of a row's run.
    fn place_of(&self, row: usize) -> Option<u64> {
        self.rows.get(row)?.get(2)?.strip_prefix(WAITS)?.parse().ok()
    }

    /// Moves the selected run one place earlier or later, and queries the queue.
    fn moved(&mut self, model: &Model, earlier: bool) -> Vec<Effect> {
        let (Some(place), Some((run, _))) = (self.place(), self.chosen()) else {
            return Vec::new();
        };
        let place = if earlier { place - 1 } else { place + 1 };
        let last = self
            .rows
            .iter()
            .filter(|row| row.get(2).is_some_and(|status| status.starts_with(WAITS)));
        if place == 0 || place > last.count() as u64 {
            return Vec::new();
        }
        // The rows are swapped at once, so that pressing the key again means the same run; the store's rows arrive
        // later.
        let other = step_back(self.at, self.rows.len().saturating_sub(1), !earlier);
        self.rows.swap(self.at, other);
        for (row, place) in [(self.at, self.place_of(other)), (other, self.place_of(self.at))] {
            if let (Some(row), Some(place)) = (self.rows.get_mut(row), place) {
                row[2] = format!("{WAITS}{place}");
            }
        }
        self.at = other;
        let mut effects = vec![Effect::Ask(Command::QueueMove { run, place })];
        effects.extend(self.on_show(model));
        effects
    }

    /// Cancels the selected run if this is asked twice, and queries the queue.
    fn cancelled(&mut self, model: &mut Model, asked: Option<&str>) -> Vec<Effect> {
        let Some((run, name)) = self.chosen().filter(|_| self.place().is_some()) else {
            model.notice = "only a run that waits can be cancelled; S ends the present one".into();
            return Vec::new();
        };
        if asked != Some(run.as_str()) {
            model.notice = format!("X again cancels {name}");
            self.cancelling = Some(run);
            return Vec::new();
        }
        let mut effects = vec![Effect::Ask(Command::QueueCancel { run })];
        effects.extend(self.on_show(model));
        effects
    }

    /// Returns the selected run's id and its name in legends.
    fn chosen(&self) -> Option<(String, String)> {
        let row = self.rows.get(self.at)?;
        let (run, profile) = (row.first()?, row.get(1)?);
        Some((run.clone(), format!("{profile} {}", ending(run))))
    }
}

/// Returns the end of an id, which distinguishes runs of the same minute.
fn ending(run: &str) -> &str {
    run.rsplit('-').next().unwrap_or(run)
}
