//! The screens. Pure: the same state draws the same picture.

use ratatui::Frame;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use crate::keys::BINDINGS;
use crate::model::{Model, SCREENS, Typing, tab};
use crate::pictures::Pictures;
use crate::screens;
use crate::theme::{accent, chosen, panel, quiet};

/// The smallest terminal that is drawn on.
const SMALLEST: (u16, u16) = (60, 16);

/// Draws the whole screen.
pub fn draw(model: &Model, pictures: &Pictures, frame: &mut Frame) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!(
            "too small: {} × {}, at least {} × {}",
            area.width, area.height, SMALLEST.0, SMALLEST.1
        );
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let [head, tabs, body, foot] = parts(area);
    header(model, frame, head);
    screen_names(model, frame, tabs);
    match model.screen {
        0 => screens::overview::draw(model, frame, body),
        1 => screens::actors::draw(model, frame, body),
        2 => screens::denoise::draw(model, pictures, frame, body),
        3 => screens::rollouts::draw(model, pictures, frame, body),
        4 => screens::data::draw(model, frame, body),
        5 => screens::benchmarks::draw(model, frame, body),
        6 => screens::log::draw(model, frame, body),
        _ => screens::query::draw(model, frame, body),
    }
    footer(model, frame, foot);
    if model.help {
        help(frame, area);
    }
    palette(model, frame, area);
}

/// Header, screen names, screen, footer.
pub(crate) fn parts(area: Rect) -> [Rect; 4] {
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(area)
}

/// The end of what is being typed, as much as has room: that is where the cursor stands.
fn tail(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(length + 1 - room.max(1)).collect();
    format!("…{kept}")
}

/// Draws on a terminal that is only text, for tests and captures.
///
/// # Errors
/// Never, for a size that fits into memory.
pub fn render_to_string(model: &Model, width: u16, height: u16) -> Result<String, std::convert::Infallible> {
    let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height))?;
    let pictures = Pictures::default();
    terminal.draw(|frame| draw(model, &pictures, frame))?;
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

fn header(model: &Model, frame: &mut Frame, area: Rect) {
    let state = match &model.overview {
        _ if !model.connected => format!("daemon away {} s", model.away_ticks / 4),
        None => "connecting".into(),
        Some(overview) if overview.run.is_empty() => "no run".into(),
        Some(overview) => overview.headline(),
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
        Span::styled(tab(number, name), style)
    });
    frame.render_widget(Paragraph::new(Line::from_iter(names)), area);
}

fn footer(model: &Model, frame: &mut Frame, area: Rect) {
    if let Some((what, text)) = &model.typing {
        let prompt = match what {
            Typing::Knob => "KEY=VALUE".to_owned(),
            Typing::Prompt => "prompt ('draw …' for a picture)".to_owned(),
            Typing::Sql => "SELECT".to_owned(),
            Typing::Stop => "end the run? type yes".to_owned(),
            Typing::Filter => "words".to_owned(),
            Typing::Value(key) => {
                let knob = model.knobs().iter().find(|knob| knob.key == *key);
                let (now, allowed) = knob.map_or(("?", "?"), |knob| (&knob.value, &knob.allowed));
                format!("{key} is {now}, allowed {allowed}")
            }
        };
        let room = usize::from(area.width).saturating_sub(prompt.chars().count() + 4);
        let line = Line::from(vec![
            Span::styled(format!(" {prompt}: "), accent(model)),
            format!("{}▏", tail(text, room)).into(),
        ]);
        frame.render_widget(Paragraph::new(line), area);
        return;
    }
    let hints = BINDINGS
        .iter()
        .filter(|binding| !binding.footer.is_empty())
        .flat_map(|binding| {
            [
                Span::styled(format!(" {} ", binding.key), accent(model)),
                Span::styled(binding.footer, quiet()),
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

/// What can be done, found by a few letters.
fn palette(model: &Model, frame: &mut Frame, area: Rect) {
    let Some(open) = &model.palette else { return };
    let place = crate::palette::place(area);
    let found = open.found(model.knobs());
    let room = usize::from(place.height).saturating_sub(3);
    let first = open.first(room);
    let mut lines = vec![Line::from(vec![
        Span::styled(" › ", accent(model)),
        format!("{}▏", open.text).into(),
    ])];
    lines.extend(
        found
            .iter()
            .enumerate()
            .skip(first)
            .take(room)
            .map(|(number, entry)| {
                let line = Line::from(vec![
                    Span::styled(format!(" {:<22}", entry.key), accent(model)),
                    entry.words.clone().into(),
                ]);
                if number == open.at {
                    line.style(chosen())
                } else {
                    line
                }
            }),
    );
    if found.is_empty() {
        lines.push(Line::styled(" nothing is called that", quiet()));
    }
    frame.render_widget(Clear, place);
    frame.render_widget(
        Paragraph::new(lines).block(panel("enter does it, esc leaves")),
        place,
    );
}
