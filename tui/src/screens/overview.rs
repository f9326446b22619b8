//! Stages, devices, knobs, values, benchmarks.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Gauge, Paragraph, Sparkline};

use crate::model::Model;
use crate::theme::{accent, panel};

pub(crate) fn draw(model: &Model, frame: &mut Frame, area: Rect) {
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]).areas(area);
    let stages = model
        .overview
        .as_ref()
        .map_or(&[][..], |overview| &overview.stages);
    let [top, bottom] =
        Layout::vertical([Constraint::Length(stages.len() as u16 + 2), Constraint::Min(3)]).areas(left);
    frame.render_widget(panel("stages"), top);
    let inner = panel("").inner(top);
    for (number, stage) in stages.iter().enumerate().take(inner.height as usize) {
        let row = Rect {
            y: inner.y + number as u16,
            height: 1,
            ..inner
        };
        let ratio = if stage.total == 0 {
            0.0
        } else {
            stage.done as f64 / stage.total as f64
        };
        let label = format!("{} {}/{}", stage.name, stage.done, stage.total);
        let gauge = Gauge::default()
            .ratio(ratio.clamp(0.0, 1.0))
            .label(label)
            .gauge_style(accent(model));
        frame.render_widget(gauge, row);
    }
    let mut lines: Vec<Line> = Vec::new();
    if let Some(overview) = &model.overview {
        for device in &overview.devices {
            let memory = device.memory as f64 / 1e9;
            lines.push(
                format!(
                    "{} · {} · {memory:.2} GB · {:.0} % busy",
                    device.name,
                    device.compute,
                    100.0 * device.busy
                )
                .into(),
            );
        }
        lines.push(Line::from(""));
        lines.extend(
            overview
                .knobs
                .iter()
                .map(|knob| Line::from(format!("{:<20}{:>10}  {}", knob.key, knob.value, knob.allowed))),
        );
    }
    frame.render_widget(Paragraph::new(lines).block(panel("device and knobs")), bottom);
    charts(model, frame, right);
}

fn charts(model: &Model, frame: &mut Frame, area: Rect) {
    let wanted = [
        "train/loss",
        "reward/total",
        "reward/text",
        "reward/ask",
        "reward/draw",
        "policy/kl",
        "tokenizer/reconstruction",
    ];
    let shown: Vec<&str> = wanted
        .into_iter()
        .filter(|name| model.metrics.contains_key(*name))
        .collect();
    let [upper, lower] = Layout::vertical([Constraint::Min(3), Constraint::Length(8)]).areas(area);
    let rows = Layout::vertical(vec![Constraint::Fill(1); shown.len().max(1)]).split(upper);
    if shown.is_empty() {
        frame.render_widget(Paragraph::new("no values yet").block(panel("values")), upper);
    }
    for (name, row) in shown.iter().zip(rows.iter()) {
        let points = &model.metrics[*name];
        let last = points.back().map_or(0.0, |point| point.1);
        let title = format!("{name} {last:.4}");
        let block = panel(&title);
        let columns = block.inner(*row).width as usize;
        let line = Sparkline::default()
            .data(columns_of(points.iter().map(|point| point.1).collect(), columns))
            .style(accent(model));
        frame.render_widget(line.block(block), *row);
    }
    let evals = model.evals.iter().rev().take(6).map(|eval| {
        Line::from(format!(
            "step {:>5}  {:<15}{:>6.1} %  of {}",
            eval.step,
            eval.suite,
            100.0 * eval.value,
            eval.n
        ))
    });
    frame.render_widget(
        Paragraph::new(evals.collect::<Vec<_>>()).block(panel("benchmarks, newest first")),
        lower,
    );
}

/// The newest values in so many columns, scaled to 0..=100; a column of several values shows the largest.
fn columns_of(values: Vec<f64>, columns: usize) -> Vec<u64> {
    let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    let low = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let high = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let per = finite.len().div_ceil(columns.max(1)).max(1);
    let scale = |value: f64| {
        if high > low {
            5.0 + 95.0 * (value - low) / (high - low)
        } else {
            50.0
        }
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    finite
        .chunks(per)
        .map(|chunk| scale(chunk.iter().copied().fold(f64::NEG_INFINITY, f64::max)) as u64)
        .collect()
}
