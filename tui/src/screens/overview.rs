//! The screen Overview: stages, activity and speed, devices, knobs, metrics, benchmarks.

use demask_storage::RunState;
use demask_storage::{DeviceView, Overview};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Gauge, Paragraph, Sparkline};

use super::Screen;
use crate::model::Model;
use crate::pictures::Pictures;
use crate::theme::{accent, panel, quiet};

/// The curves in order, as far as the run has them.
const CURVES: [&str; 7] = [
    "train/loss",
    "reward/total",
    "reward/text",
    "reward/ask",
    "reward/draw",
    "policy/kl",
    "tokenizer/reconstruction",
];
/// The columns of a curve's name and last value.
const NAMED: u16 = 24;
/// The columns of a knob's name and value.
const KNOB: usize = 26;
/// The benchmarks that are listed.
const LISTED: usize = 6;

/// The first screen, which shows the run at a glance.
#[derive(Default)]
pub(crate) struct OverviewScreen;

impl Screen for OverviewScreen {
    fn title(&self) -> &'static str {
        "Overview"
    }

    fn draw(&self, model: &Model, _: &Pictures, frame: &mut Frame, area: Rect) {
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]).areas(area);
        let count = model.overview.as_ref().map_or(0, |run| run.stages.len()) as u16;
        let room = (count + 2).min(left.height / 2);
        let [top, bottom] = Layout::vertical([Constraint::Length(room), Constraint::Min(3)]).areas(left);
        stages(model, frame, top);
        run(model, frame, bottom);
        let listed = model.evals.len().clamp(1, LISTED) as u16;
        let [upper, lower] =
            Layout::vertical([Constraint::Min(3), Constraint::Length(listed + 2)]).areas(right);
        curves(model, frame, upper);
        benchmarks(model, frame, lower);
    }
}

fn stages(model: &Model, frame: &mut Frame, area: Rect) {
    let block = panel("stages");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let Some(run) = &model.overview else { return };
    // The current stage stays visible if there are more stages than rows.
    let first = (run.stage + 1).saturating_sub(usize::from(inner.height));
    for (stage, row) in run.stages.iter().skip(first).zip(inner.rows()) {
        let ratio = stage.done as f64 / stage.total.max(1) as f64;
        let gauge = Gauge::default()
            .ratio(ratio.clamp(0.0, 1.0))
            .label(format!("{} {}/{}", stage.name, stage.done, stage.total))
            .gauge_style(accent(model));
        frame.render_widget(gauge, row);
    }
}

/// Draws the activity, speed, devices and knobs.
fn run(model: &Model, frame: &mut Frame, area: Rect) {
    let block = panel("run, device, knobs");
    let inner = block.inner(area);
    let mut lines: Vec<Line> = Vec::new();
    if let Some(run) = &model.overview {
        lines.extend(pace(model, run));
        lines.extend(run.devices.iter().flat_map(|device| on(run, device)));
        lines.push(Line::from(""));
        let room = usize::from(inner.height).saturating_sub(lines.len());
        lines.extend(knobs(model, run, room, inner.width));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn pace<'a>(model: &Model, run: &'a Overview) -> Vec<Line<'a>> {
    let stage = run.stages.get(run.stage);
    let going_on = match (run.detail.as_str(), stage) {
        ("", Some(stage)) if run.state == RunState::Running => format!("{}: {}", stage.name, stage.kind),
        ("", _) => run.state.word().replace('_', " "),
        (detail, _) => detail.to_owned(),
    };
    let second = model.metrics.get("rate/step_seconds").and_then(|all| all.back());
    let mut speed: Vec<String> = Vec::new();
    if run.state == RunState::Running {
        if run.tokens_per_s > 0.0 {
            speed.push(format!("{:.0} tokens/s", run.tokens_per_s));
        }
        speed.extend(second.map(|(_, seconds)| format!("{seconds:.1} s a step")));
    }
    if let Some(left) = run.time_left() {
        speed.push(format!("{left} left"));
    }
    let saved = run
        .last_checkpoint
        .map_or("no checkpoint yet".to_owned(), |step| {
            format!("last checkpoint at step {step}")
        });
    let words = [going_on, speed.join(" · "), saved];
    words
        .into_iter()
        .filter(|line| !line.is_empty())
        .map(Line::from)
        .collect()
}

fn on<'a>(run: &Overview, device: &'a DeviceView) -> [Line<'a>; 2] {
    let [memory, peak] = [device.memory, device.peak].map(|bytes| bytes as f64 / 1e9);
    // Known only after the first step.
    let busy = match device.busy {
        share if share > 0.0 && run.state == RunState::Running => format!(" · {:.0} % busy", 100.0 * share),
        _ => String::new(),
    };
    [
        format!("{} · {memory:.2} GB, peak {peak:.2}{busy}", device.name).into(),
        Line::styled(format!("  {}", device.compute), quiet()),
    ]
}

fn knobs<'a>(model: &Model, run: &'a Overview, room: usize, columns: u16) -> Vec<Line<'a>> {
    let all = run.knobs.len();
    let shown = if all > room { room.saturating_sub(1) } else { all };
    let line = |knob: &'a demask_storage::Knob| {
        // A truncated range would be wrong, so it is left out if it does not fit.
        let allowed = format!("  {}", knob.allowed());
        let fits = KNOB + allowed.len() <= usize::from(columns);
        Line::from(vec![
            Span::raw(format!("{:<18}", knob.key)),
            Span::styled(format!("{:>8}", knob.value), accent(model)),
            Span::styled(if fits { allowed } else { String::new() }, quiet()),
        ])
    };
    let mut lines: Vec<Line> = run.knobs.iter().take(shown).map(line).collect();
    if shown < all {
        lines.push(Line::styled(format!("{} more: press :", all - shown), quiet()));
    }
    lines
}

fn curves(model: &Model, frame: &mut Frame, area: Rect) {
    let block = panel("values");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let shown: Vec<&str> = CURVES
        .into_iter()
        .filter(|name| model.metrics.contains_key(*name))
        .collect();
    if shown.is_empty() {
        frame.render_widget(Paragraph::new("no values yet").style(quiet()), inner);
    }
    let height = inner.height / (shown.len() as u16).max(1);
    let rows = Layout::vertical(vec![Constraint::Length(height.max(1)); shown.len()]).split(inner);
    for (name, row) in shown.iter().zip(rows.iter()).filter(|(_, row)| row.height > 0) {
        curve(model, name, frame, *row);
    }
}

/// Draws a curve under its name and last value, or beside them if space is short.
fn curve(model: &Model, name: &str, frame: &mut Frame, area: Rect) {
    let points = &model.metrics[name];
    let last = points.back().map_or(0.0, |point| point.1);
    let [named, drawn] = if area.height > 2 {
        Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area)
    } else {
        Layout::horizontal([Constraint::Length(NAMED), Constraint::Min(1)]).areas(area)
    };
    let short = name.strip_prefix("tokenizer/").unwrap_or(name);
    let label = Line::from(vec![
        Span::raw(format!("{short:<14}")),
        Span::styled(format!("{last:>9.3}"), accent(model)),
    ]);
    frame.render_widget(Paragraph::new(label), named);
    let values = points.iter().map(|point| point.1).collect();
    let line = Sparkline::default()
        .data(columns_of(values, usize::from(drawn.width)))
        .max(100)
        .style(accent(model));
    frame.render_widget(line, drawn);
}

fn benchmarks(model: &Model, frame: &mut Frame, area: Rect) {
    let mut lines: Vec<Line> = model
        .evals
        .iter()
        .rev()
        .take(LISTED)
        .map(|eval| {
            let (step, value) = (eval.step, 100.0 * eval.value);
            let whole = format!("step {step:>5}  {:<15}{value:>6.1} %  of {}", eval.suite, eval.n);
            // A truncated number would be wrong: if space is short, words are left out.
            let room = usize::from(area.width.saturating_sub(2));
            match whole.chars().count() > room {
                true => Line::from(format!(
                    "{step:>5} {:<15}{value:>6.1} % of {}",
                    eval.suite, eval.n
                )),
                false => Line::from(whole),
            }
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::styled("none yet", quiet()));
    }
    let panel = panel("benchmarks, newest first");
    frame.render_widget(Paragraph::new(lines).block(panel), area);
}

/// Returns values for `columns` columns, scaled to 5..=100; a column of several values shows their mean.
fn columns_of(values: Vec<f64>, columns: usize) -> Vec<u64> {
    let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    let per = finite.len().div_ceil(columns.max(1)).max(1);
    let means: Vec<f64> = finite
        .chunks(per)
        .map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64)
        .collect();
    let low = means.iter().copied().fold(f64::INFINITY, f64::min);
    let high = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let scale = |value: f64| {
        if high > low {
            5.0 + 95.0 * (value - low) / (high - low)
        } else {
            50.0
        }
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    means.into_iter().map(|value| scale(value) as u64).collect()
}
