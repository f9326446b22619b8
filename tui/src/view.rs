//! The screens. Pure: the same state draws the same picture.

use demask_storage::Frame as Denoising;
use ratatui::Frame;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Gauge, Paragraph, Row, Sparkline, Table, Wrap};

use crate::keys::BINDINGS;
use crate::model::{Model, SCREENS, Typing};

/// The smallest terminal that is drawn on.
const SMALLEST: (u16, u16) = (60, 16);
/// Confidence from low to high, for those who see no colours.
const SHADES: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws the whole screen.
pub fn draw(model: &Model, frame: &mut Frame) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!(
            "too small: {} × {}, at least {} × {}",
            area.width, area.height, SMALLEST.0, SMALLEST.1
        );
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(area);
    header(model, frame, head);
    screen_names(model, frame, tabs);
    match model.screen {
        0 => overview(model, frame, body),
        1 => actors(model, frame, body),
        2 => denoise(model, frame, body),
        3 => rollouts(model, frame, body),
        4 => data(model, frame, body),
        5 => benchmarks(model, frame, body),
        6 => log(model, frame, body),
        _ => query(model, frame, body),
    }
    footer(model, frame, foot);
    if model.help {
        help(frame, area);
    }
}

/// Draws on a terminal that is only text, for tests and captures.
///
/// # Errors
/// Never, for a size that fits into memory.
pub fn render_to_string(model: &Model, width: u16, height: u16) -> Result<String, std::convert::Infallible> {
    let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| draw(model, frame))?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width)
            .filter_map(|x| buffer.cell((x, y)))
            .map(|cell| cell.symbol())
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

fn quiet() -> Style {
    Style::new().fg(Color::DarkGray)
}

fn accent(model: &Model) -> Style {
    if model.no_color {
        Style::new().add_modifier(Modifier::BOLD)
    } else {
        Style::new().fg(Color::Cyan)
    }
}

fn panel(title: &str) -> Block<'_> {
    Block::bordered()
        .border_style(quiet())
        .title(format!(" {title} "))
}

fn header(model: &Model, frame: &mut Frame, area: Rect) {
    let state = match &model.overview {
        _ if !model.connected => format!("daemon away {} s", model.away_ticks / 4),
        None => "connecting".into(),
        Some(overview) if overview.run.is_empty() => "no run".into(),
        Some(overview) => format!(
            "{} · {} · step {}/{} · {:.0} tokens/s",
            overview.profile, overview.state, overview.step, overview.total_steps, overview.tokens_per_s
        ),
    };
    let missed = if model.missed > 0 {
        format!(" · missed {}", model.missed)
    } else {
        String::new()
    };
    let line = Line::from(vec![
        Span::styled(" demask ", accent(model).add_modifier(Modifier::REVERSED)),
        format!(" {state}{missed}").into(),
    ]);
    frame.render_widget(Paragraph::new(line), area);
}

fn screen_names(model: &Model, frame: &mut Frame, area: Rect) {
    let names = SCREENS.iter().enumerate().map(|(number, name)| {
        let style = if number == model.screen {
            accent(model).add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
        } else {
            quiet()
        };
        Span::styled(format!(" {} {name} ", number + 1), style)
    });
    frame.render_widget(Paragraph::new(Line::from_iter(names)), area);
}

fn footer(model: &Model, frame: &mut Frame, area: Rect) {
    if let Some((what, text)) = &model.typing {
        let prompt = match what {
            Typing::Knob => "KEY=VALUE",
            Typing::Prompt => "prompt ('draw …' for a picture)",
            Typing::Sql => "SELECT",
            Typing::Stop => "end the run? type yes",
        };
        let line = Line::from(vec![
            Span::styled(format!(" {prompt}: "), accent(model)),
            format!("{text}▏").into(),
        ]);
        frame.render_widget(Paragraph::new(line), area);
        return;
    }
    let hints = BINDINGS
        .iter()
        .filter(|binding| binding.footer)
        .flat_map(|binding| {
            let short = binding.help.split([';', ':']).next().unwrap_or_default();
            [
                Span::styled(format!(" {} ", binding.key), accent(model)),
                Span::styled(short.to_owned(), quiet()),
            ]
        });
    let line = if model.notice.is_empty() {
        Line::from_iter(hints)
    } else {
        Line::from(format!(" {}", model.notice))
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn help(frame: &mut Frame, area: Rect) {
    let height = (BINDINGS.len() as u16 + 2).min(area.height);
    let width = 64.min(area.width);
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<Line> = BINDINGS
        .iter()
        .map(|binding| Line::from(format!(" {:<7}{}", binding.key, binding.help)))
        .collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(panel("keys")), place);
}

fn overview(model: &Model, frame: &mut Frame, area: Rect) {
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
            lines.push(format!("{} · {} · {memory:.2} GB", device.name, device.compute).into());
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

fn actors(model: &Model, frame: &mut Frame, area: Rect) {
    let rows = model.actors.values().map(|actor| {
        let indent = if actor.parent.is_empty() { "" } else { "  " };
        Row::new([
            format!("{indent}{}", actor.name),
            format!("{:?}", actor.state).to_lowercase(),
            format!("{}/{}", actor.queue.0, actor.queue.1),
            actor.restarts.to_string(),
            actor.handled.to_string(),
            actor.last_message.clone(),
            actor.detail.clone(),
        ])
    });
    let widths = [18, 9, 9, 9, 9, 16]
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

fn denoise(model: &Model, frame: &mut Frame, area: Rect) {
    let Some(shown) = model.present_frame() else {
        let text = "no sample was watched yet; n samples a prompt now";
        frame.render_widget(Paragraph::new(text).block(panel("denoising")), area);
        return;
    };
    let title = format!(
        "{} · {} · step {}/{}",
        shown.origin,
        shown.prompt,
        shown.step + 1,
        shown.steps
    );
    let block = panel(&title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if shown.kind == "picture" {
        picture(model, shown, frame, inner);
    } else {
        let words = shown
            .tokens
            .iter()
            .zip(&shown.confidence)
            .map(|(token, &sure)| word(model, token, sure));
        frame.render_widget(
            Paragraph::new(Line::from_iter(words)).wrap(Wrap { trim: false }),
            inner,
        );
    }
}

fn word(model: &Model, token: &str, sure: u8) -> Span<'static> {
    if token.is_empty() {
        return Span::styled("░", quiet());
    }
    if model.no_color {
        return Span::raw(format!("{token}{}", SHADES[usize::from(sure) * 7 / 255]));
    }
    Span::styled(
        token.to_owned(),
        Style::new().fg(Color::Rgb(255 - sure / 2, 120 + sure / 2, 120)),
    )
}

fn picture(model: &Model, shown: &Denoising, frame: &mut Frame, area: Rect) {
    let side = shown.grid.max(1) as usize;
    let mut lines: Vec<Line> = Vec::new();
    for row in 0..side {
        let cells = (0..side).map(|column| {
            let at = row * side + column;
            let (masked, sure) = (
                shown.tokens.get(at).is_none_or(String::is_empty),
                shown.confidence.get(at).copied().unwrap_or(0),
            );
            if masked {
                Span::styled(" ░░░░", quiet())
            } else {
                let style = if model.no_color {
                    Style::new()
                } else {
                    Style::new().fg(Color::Rgb(255 - sure / 2, 120 + sure / 2, 120))
                };
                Span::styled(
                    format!("{:>4}{}", shown.tokens[at], SHADES[usize::from(sure) * 7 / 255]),
                    style,
                )
            }
        });
        lines.push(Line::from_iter(cells));
    }
    lines.push(Line::from(""));
    let [left, right] =
        Layout::horizontal([Constraint::Length(5 * side as u16 + 3), Constraint::Min(1)]).areas(area);
    frame.render_widget(Paragraph::new(lines), left);
    if let Some((width, height, hex)) = shown
        .picture
        .as_ref()
        .filter(|_| model.pictures && !model.no_color)
    {
        frame.render_widget(
            Paragraph::new(half_blocks(*width as usize, *height as usize, hex)),
            right,
        );
    }
}

fn half_blocks(width: usize, height: usize, hex: &str) -> Vec<Line<'static>> {
    let byte = |at: usize| {
        hex.get(2 * at..2 * at + 2)
            .and_then(|text| u8::from_str_radix(text, 16).ok())
            .unwrap_or(0)
    };
    let colour = |x: usize, y: usize| {
        let at = 3 * (y * width + x);
        Color::Rgb(byte(at), byte(at + 1), byte(at + 2))
    };
    let line = |y: usize| {
        Line::from_iter((0..width).map(|x| {
            Span::styled(
                "▀",
                Style::new()
                    .fg(colour(x, y))
                    .bg(colour(x, (y + 1).min(height - 1))),
            )
        }))
    };
    (0..height).step_by(2).map(line).collect()
}

fn rollouts(model: &Model, frame: &mut Frame, area: Rect) {
    let mut keys: Vec<(u64, u64)> = model
        .rollouts
        .iter()
        .map(|sample| (sample.step, sample.group))
        .collect();
    keys.dedup();
    let Some(&(step, group)) = keys
        .iter()
        .rev()
        .nth(model.group.min(keys.len().saturating_sub(1)))
    else {
        frame.render_widget(Paragraph::new("no rollouts yet").block(panel("rollouts")), area);
        return;
    };
    let of_group: Vec<_> = model
        .rollouts
        .iter()
        .filter(|sample| (sample.step, sample.group) == (step, group))
        .collect();
    let prompt = of_group.first().map_or("", |sample| sample.prompt.as_str());
    let title = format!("step {step} group {group}: {prompt}");
    let rows = of_group.iter().map(|sample| {
        let parts: Vec<String> = sample
            .parts
            .iter()
            .map(|(name, value, _)| format!("{name} {value:.2}"))
            .collect();
        let bar = "█".repeat((sample.advantage.abs() * 3.0).min(9.0) as usize);
        let sign = if sample.advantage < 0.0 { '-' } else { '+' };
        Row::new([
            sample.number.to_string(),
            format!("{:.2}", sample.total),
            format!("{sign}{:.2} {bar}", sample.advantage.abs()),
            parts.join(" "),
            sample.text.clone(),
        ])
    });
    let widths = [
        Constraint::Length(3),
        Constraint::Length(6),
        Constraint::Length(16),
        Constraint::Length(44),
        Constraint::Min(10),
    ];
    let head = Row::new(["", "total", "advantage", "rewards", "sample"]).style(accent(model));
    frame.render_widget(Table::new(rows, widths).header(head).block(panel(&title)), area);
}

fn data(model: &Model, frame: &mut Frame, area: Rect) {
    let [upper, lower] = Layout::vertical([Constraint::Fill(2), Constraint::Fill(1)]).areas(area);
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
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Min(10),
    ];
    let head = Row::new(["source", "gate", "passed", "rejected", "why"]).style(accent(model));
    frame.render_widget(
        Table::new(rows, widths).header(head).block(panel("funnel")),
        upper,
    );
    let lines: Vec<Line> = model
        .trained
        .iter()
        .map(|(stage, count)| Line::from(format!("{stage:<16}{count:>9} sequences")))
        .collect();
    frame.render_widget(Paragraph::new(lines).block(panel("trained on")), lower);
}

fn benchmarks(model: &Model, frame: &mut Frame, area: Rect) {
    let rows = model.evals.iter().map(|eval| {
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
        ])
    });
    let widths = [6, 15, 6, 12, 7]
        .map(Constraint::Length)
        .into_iter()
        .chain([Constraint::Min(10)]);
    let head = Row::new(["step", "suite", "%", "95 %", "since", "parts"]).style(accent(model));
    frame.render_widget(
        Table::new(rows, widths).header(head).block(panel("benchmarks")),
        area,
    );
}

fn log(model: &Model, frame: &mut Frame, area: Rect) {
    let room = area.height.saturating_sub(2) as usize;
    let from = model.log.len().saturating_sub(room);
    let lines: Vec<Line> = model
        .log
        .iter()
        .skip(from)
        .map(|line| Line::from(line.as_str()))
        .collect();
    frame.render_widget(Paragraph::new(lines).block(panel("log")), area);
}

fn query(model: &Model, frame: &mut Frame, area: Rect) {
    match &model.rows {
        None => {
            let text = "/ asks the store: one SELECT over v_run v_metric v_latest v_rollout v_trace v_lineage v_steer v_funnel v_eval v_event";
            frame.render_widget(
                Paragraph::new(text)
                    .wrap(Wrap { trim: true })
                    .block(panel("query")),
                area,
            );
        }
        Some(Err(message)) => {
            frame.render_widget(
                Paragraph::new(message.as_str())
                    .wrap(Wrap { trim: true })
                    .block(panel("query")),
                area,
            );
        }
        Some(Ok((columns, rows))) => {
            let widths = vec![Constraint::Fill(1); columns.len().max(1)];
            let body = rows.iter().map(|row| Row::new(row.clone()));
            let table = Table::new(body, widths).header(Row::new(columns.clone()).style(accent(model)));
            frame.render_widget(table.block(panel("query")), area);
        }
    }
}
