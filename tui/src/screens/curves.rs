//! The screen Curves: the run's metrics, overlaid with those of other runs, with axes, range, smoothing and marks of
//! turned knobs.

use std::collections::{BTreeMap, BTreeSet};

use demask_storage::query::curves::{self, CURVE, Curve, CurvePoint, KnobTurn};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use super::Event;
use super::Screen;
use super::step_back;
use crate::chart::draw::{draw, said};
use crate::chart::{Along, Chart, ChartStyle, longest, unit};
use crate::keys::Action;
use crate::model::Model;
use crate::model::clock::RunClock;
use crate::model::message::Effect;
use crate::model::past;
use crate::pictures::Pictures;
use crate::theme::{accent, chosen, panel, quiet};

/// The weights of smoothing that the key cycles through.
const SMOOTHING: [f64; 4] = [0.0, 0.6, 0.9, 0.98];
/// The columns of the list of metrics, and the least rows of a chart.
const LISTED: u16 = 34;
const LEAST: u16 = 8;
/// The metrics that are drawn by default; the first that exists is taken.
const FIRST: [&str; 3] = ["reward/total", "train/loss", "tokenizer/loss"];
/// The smallest visible share of the horizontal axis.
const CLOSEST: f64 = 1.0 / 256.0;

/// The drawn metrics, and how they are drawn.
#[derive(Default)]
pub(crate) struct CurvesScreen {
    /// The selected metric; `None` for the default.
    chosen: Option<String>,
    /// Further metrics to draw.
    marked: BTreeSet<String>,
    /// The index of the weight of smoothing.
    smooth: usize,
    /// Whether the scale is logarithmic.
    log: bool,
    /// The quantity of the horizontal axis.
    along: Along,
    /// The start times of the drawn runs, in microseconds since the Unix epoch.
    began: BTreeMap<String, i64>,
    /// The visible part of the horizontal axis, as shares of it; `None` for all.
    window: Option<(f64, f64)>,
    /// Stored curves, by run and metric.
    stored: BTreeMap<(String, String), Curve>,
    /// The knobs that were turned in overlaid runs.
    turns: Vec<KnobTurn>,
}

impl Screen for CurvesScreen {
    fn title(&self) -> &'static str {
        "Curves"
    }

    fn on_show(&mut self, model: &Model) -> Vec<Effect> {
        self.ask(model)
    }

    fn on_event(&mut self, _: &mut Model, event: &Event) {
        match event {
            Event::Begun => (self.window, self.stored) = (None, BTreeMap::new()),
            Event::Rows(columns, rows) => match columns.first().map(String::as_str) {
                Some(CURVE) => {
                    for curve in curves::curves_of(rows) {
                        self.stored.insert((curve.run.clone(), curve.name.clone()), curve);
                    }
                }
                Some(curves::TURNED) => self.turns = curves::turns_of(rows),
                Some(past::BEGAN) => self.began.extend(past::beginnings_of(rows)),
                _ => {}
            },
            _ => {}
        }
    }

    fn on_key(&mut self, model: &mut Model, action: Action) -> Vec<Effect> {
        match action {
            Action::Up | Action::Down => {
                let last = model.metrics.len().saturating_sub(1);
                let at = step_back(self.at(model), last, action == Action::Down);
                self.chosen = model.metrics.keys().nth(at).cloned();
                // What the store has answered is kept, and live values come by themselves.
                if !self.is_known(model) {
                    return self.ask(model);
                }
            }
            Action::Mark => {
                if let Some(name) = self.name(model) {
                    let name = name.to_owned();
                    if !self.marked.remove(&name) {
                        self.marked.insert(name);
                    }
                }
            }
            Action::Smooth => self.smooth = (self.smooth + 1) % SMOOTHING.len(),
            Action::Scale => self.log = !self.log,
            Action::Across => {
                (self.along, self.window) = match self.along {
                    Along::Step => (Along::Time, None),
                    Along::Time => (Along::Step, None),
                };
            }
            Action::ZoomIn => self.zoom(0.5),
            Action::ZoomOut => self.zoom(2.0),
            Action::Back => self.pan(-0.25),
            Action::Forward => self.pan(0.25),
            Action::Close => self.window = None,
            _ => {}
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, _: &Pictures, frame: &mut Frame, area: Rect) {
        let [left, right] = parts(area);
        self.list(model, frame, left);
        let block = panel("curves").title_bottom(self.said());
        let inner = block.inner(right);
        frame.render_widget(block, right);
        let names = self.drawn(model, usize::from((inner.height / LEAST).max(1)));
        if names.is_empty() {
            frame.render_widget(Paragraph::new("no values yet").style(quiet()), inner);
            return;
        }
        let rows = Layout::vertical(vec![Constraint::Fill(1); names.len()]).split(inner);
        for (name, place) in names.iter().zip(rows.iter()) {
            self.chart(model, name, frame, *place);
        }
    }
}

/// Returns the areas of the list and of the charts.
fn parts(area: Rect) -> [Rect; 2] {
    let listed = LISTED.min(area.width / 3);
    Layout::horizontal([Constraint::Length(listed), Constraint::Min(20)]).areas(area)
}

impl CurvesScreen {
    /// Returns the index of the selected metric.
    fn at(&self, model: &Model) -> usize {
        let place = |wanted: &str| model.metrics.keys().position(|name| name == wanted);
        let chosen = self.chosen.as_deref().and_then(place);
        chosen.or_else(|| FIRST.into_iter().find_map(place)).unwrap_or(0)
    }

    /// Returns the selected metric.
    fn name<'a>(&self, model: &'a Model) -> Option<&'a str> {
        model.metrics.keys().nth(self.at(model)).map(String::as_str)
    }

    /// Whether the store has answered about the selected metric of every drawn run.
    fn is_known(&self, model: &Model) -> bool {
        let Some(name) = self.name(model) else { return true };
        let overlaid = model.overlaid.iter().map(|(run, _)| run);
        std::iter::once(&model.run)
            .chain(overlaid)
            .all(|run| self.stored.contains_key(&(run.clone(), name.to_owned())))
    }

    /// Queries the selected metric of every drawn run.
    fn ask(&self, model: &Model) -> Vec<Effect> {
        let Some(name) = self.name(model) else {
            return Vec::new();
        };
        let overlaid = model.overlaid.iter().map(|(run, _)| run.clone());
        let runs: Vec<String> = std::iter::once(model.run.clone()).chain(overlaid).collect();
        let mut effects = vec![
            Effect::Ask(past::points(&runs, name)),
            Effect::Ask(past::beginnings(&runs)),
        ];
        if runs.len() > 1 {
            effects.push(Effect::Ask(past::turns(&runs)));
        }
        effects
    }

    /// Returns the drawn metrics, the selected one first, as many as fit.
    fn drawn(&self, model: &Model, room: usize) -> Vec<String> {
        let chosen = self.name(model).map(str::to_owned);
        let others = self
            .marked
            .iter()
            .filter(|name| Some(*name) != chosen.as_ref())
            .cloned();
        chosen.iter().cloned().chain(others).take(room).collect()
    }

    /// Returns the style of the curves; the visible part refers to the longest curve.
    fn style(&self, model: &Model, found: &[Curve]) -> ChartStyle {
        let along = self.along;
        let steps = model.metrics.values().filter_map(|points| Some(points.back()?.0));
        let laid_over = found.iter().filter_map(|curve| Some(curve.points.last()?.step));
        let steps = steps.chain(laid_over);
        let all: Vec<&Curve> = found.iter().collect();
        let (last, least) = match along {
            Along::Step => (steps.fold(0.0, f64::max), 1.0),
            Along::Time => (longest(&all) / unit(&all, along).0, 1e-6),
        };
        ChartStyle {
            smooth: SMOOTHING[self.smooth],
            log: self.log,
            along,
            window: self
                .window
                .map(|(low, high)| (low * last, (high * last).max(low * last + least))),
        }
    }

    /// Describes how the curves are drawn.
    fn said(&self) -> Line<'static> {
        let mut words = vec![match SMOOTHING[self.smooth] {
            0.0 => "not smoothed".to_owned(),
            weight => format!("smoothed {weight}"),
        }];
        words.push(if self.log { "logarithmic" } else { "linear" }.to_owned());
        let across = match self.along {
            Along::Step => "of the steps",
            Along::Time => "of the time",
        };
        match self.window {
            Some((low, high)) => words.push(format!("{:.0} to {:.0} % {across}", 100.0 * low, 100.0 * high)),
            None if self.along == Along::Time => words.push("along time".to_owned()),
            None => {}
        }
        Line::styled(format!(" {} ", words.join(" · ")), quiet())
    }

    fn zoom(&mut self, factor: f64) {
        let (low, high) = self.window.unwrap_or((0.0, 1.0));
        let width = ((high - low) * factor).max(CLOSEST);
        if width >= 1.0 {
            self.window = None;
            return;
        }
        // Zooming keeps the newest values visible.
        let high = if high >= 1.0 {
            1.0
        } else {
            f64::midpoint(low, high) + width / 2.0
        };
        let high = high.clamp(width, 1.0);
        self.window = Some((high - width, high));
    }

    fn pan(&mut self, share: f64) {
        let Some((low, high)) = self.window else { return };
        let way = ((high - low) * share).clamp(-low, 1.0 - high);
        self.window = Some((low + way, high + way));
    }

    /// Returns the curve of a run: the stored points, then the live ones.
    fn curve(&self, model: &Model, run: &str, name: &str) -> Option<Curve> {
        let mut curve = self
            .stored
            .get(&(run.to_owned(), name.to_owned()))
            .cloned()
            .unwrap_or(Curve {
                run: run.to_owned(),
                name: name.to_owned(),
                points: Vec::new(),
            });
        if run == model.run
            && let Some(live) = model.metrics.get(name)
        {
            let clock = RunClock {
                stored: std::mem::take(&mut curve.points),
                began: self.began.get(run).copied(),
                times: &model.times,
            };
            let first = live.front().map_or(0.0, |point| point.0);
            let before = clock.stored.iter().filter(|point| point.step < first);
            let after = live.iter().map(|&(step, value)| CurvePoint {
                step,
                seconds: clock.seconds(step),
                value,
            });
            curve.points = before.copied().chain(after).collect();
        }
        (!curve.points.is_empty()).then_some(curve)
    }

    fn chart(&self, model: &Model, name: &str, frame: &mut Frame, area: Rect) {
        let overlaid = model.overlaid.iter().map(|(run, _)| run.as_str());
        let runs = std::iter::once(model.run.as_str()).chain(overlaid);
        let found: Vec<Curve> = runs.filter_map(|run| self.curve(model, run, name)).collect();
        let alone = found.len() < 2;
        let named = |curve: &Curve| match model.overlaid.iter().find(|(run, _)| *run == curve.run) {
            Some((_, name)) => name.clone(),
            None if alone => String::new(),
            None => "this run".to_owned(),
        };
        let style = self.style(model, &found);
        let mut turns = model.turns.clone();
        // Live records of turned knobs have a step but no time.
        if let Some(own) = found.iter().find(|curve| curve.run == model.run) {
            for turn in turns.iter_mut().filter(|turn| turn.seconds == 0.0) {
                let at = own.points.iter().find(|point| point.step >= turn.step);
                turn.seconds = at.map_or(turn.seconds, |point| point.seconds);
            }
        }
        turns.extend(self.turns.iter().filter(|turn| turn.run != model.run).cloned());
        let all: Vec<&Curve> = found.iter().collect();
        match Chart::of(&all, &turns, named, style) {
            Some(chart) => draw(&chart, frame.buffer_mut(), area, !model.no_color),
            None => {
                let words = format!("{name}: nothing to draw here");
                frame.render_widget(Paragraph::new(words).style(quiet()), area);
            }
        }
    }

    fn list(&self, model: &Model, frame: &mut Frame, area: Rect) {
        let narrow = area.width < LISTED;
        let rows = model.metrics.iter().map(|(name, points)| {
            let mark = if self.marked.contains(name) { "▪" } else { " " };
            let last = points
                .back()
                .filter(|_| !narrow)
                .map_or(String::new(), |point| said(point.1));
            Row::new([format!("{mark}{name}"), last])
        });
        let widths = [
            Constraint::Min(10),
            Constraint::Length(if narrow { 0 } else { 8 }),
        ];
        let table = Table::new(rows, widths)
            .row_highlight_style(chosen())
            .style(accent(model))
            .block(panel("metrics"));
        let mut state = TableState::default().with_selected(self.at(model));
        frame.render_stateful_widget(table, area, &mut state);
    }
}
