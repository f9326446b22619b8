//! The frame around the screens: header, tabs, footer, help, palette. Drawing is pure: equal states give equal
//! pictures.

use demask_storage::Overview;
use ratatui::Frame;
use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use crate::dashboard::Dashboard;
use crate::keys::Action;
use crate::model::{Model, Typing, tabs};
use crate::pictures::Pictures;
use crate::theme::{accent, chosen, panel, quiet};

/// The smallest terminal size that is supported.
const SMALLEST: (u16, u16) = (60, 16);

/// The ticks without a word after which the daemon counts as silent (L10). It tells its state four times a second.
const SILENT: u64 = 20;

/// Draws the whole screen.
pub fn draw(board: &Dashboard, pictures: &Pictures, frame: &mut Frame) {
    let model = &board.model;
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
    screen_names(board, frame, tabs);
    if let Some(screen) = board.screens.get(model.screen) {
        screen.draw(model, pictures, frame, body);
    }
    footer(board, frame, foot);
    if model.help {
        help(board, frame, area);
    }
    palette(board, frame, area);
}

/// Draws the text that is shown while the terminal is queried for its picture support.
pub(crate) fn opening(frame: &mut Frame) {
    let text = Paragraph::new("demask: asking the terminal what pictures it can draw…");
    frame.render_widget(text, frame.area());
}

/// Returns the areas of header, tabs, screen and footer.
pub(crate) fn parts(area: Rect) -> [Rect; 4] {
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(area)
}

/// Returns the end of the typed text that fits, because the cursor is there.
fn tail(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().skip(length + 1 - room.max(1)).collect();
    format!("…{kept}")
}

/// Draws the dashboard as text, for tests and captures.
///
/// # Errors
/// Never, for a size that fits into memory.
pub fn render_to_string(
    board: &Dashboard,
    width: u16,
    height: u16,
) -> Result<String, std::convert::Infallible> {
    let mut terminal = ratatui::Terminal::new(TestBackend::new(width, height))?;
    let pictures = Pictures::default();
    terminal.draw(|frame| draw(board, &pictures, frame))?;
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
    let missed = if model.missed > 0 {
        format!(" · missed {}", model.missed)
    } else {
        String::new()
    };
    let state = match &model.overview {
        _ if model.silent_ticks >= SILENT => format!(
            "daemon silent {} s: what is shown is older; see `demask daemon logs`",
            model.silent_ticks / 4
        ),
        None if model.away_ticks < 4 => "connecting".into(),
        _ if !model.connected => format!(
            "daemon away {} s · `demask daemon start` brings it back",
            model.away_ticks / 4
        ),
        None => "connecting".into(),
        Some(overview) if overview.run.is_empty() => "no run · `demask run` begins one".into(),
        Some(overview) => headline(
            overview,
            usize::from(area.width).saturating_sub(missed.chars().count()),
        ),
    };
    let state = match model.is_past {
        true => earlier(&state, usize::from(area.width)),
        false => state,
    };
    let line = Line::from(vec![
        Span::styled(" demask ", accent(model).add_modifier(Modifier::REVERSED)),
        format!(" {state}{missed}").into(),
    ]);
    frame.render_widget(Paragraph::new(line), area);
}

/// Describes a finished run, with how to leave it if there is space.
fn earlier(state: &str, columns: usize) -> String {
    let line = format!("an earlier run: {state}");
    let way_back = " (esc on Runs goes back)";
    match " demask  ".len() + line.chars().count() + way_back.len() <= columns {
        true => format!("{line}{way_back}"),
        false => line,
    }
}

/// Describes the run in one line. A running run's activity is left out if it does not fit; the Overview shows it too.
fn headline(overview: &Overview, columns: usize) -> String {
    let room = columns.saturating_sub(" demask  ".len());
    let (line, detail) = (overview.headline_within(room), &overview.detail);
    let fits = line.chars().count() + 3 + detail.chars().count() <= room;
    match (detail.is_empty(), overview.state.word()) {
        (true, _) => line,
        (false, "running") if !fits => line,
        _ => format!("{line} · {detail}"),
    }
}

fn screen_names(board: &Dashboard, frame: &mut Frame, area: Rect) {
    let model = &board.model;
    let tabs = tabs(&board.titles(), model.screen, usize::from(area.width));
    let names = tabs.into_iter().enumerate().map(|(number, tab)| {
        let style = if number == model.screen {
            accent(model).add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
        } else {
            quiet()
        };
        Span::styled(tab, style)
    });
    frame.render_widget(Paragraph::new(Line::from_iter(names)), area);
}

fn footer(board: &Dashboard, frame: &mut Frame, area: Rect) {
    let model = &board.model;
    if let Some((what, text)) = &model.typing {
        let prompt = match what {
            Typing::Knob => "KEY=VALUE".to_owned(),
            Typing::Prompt => "prompt ('draw …' for a picture)".to_owned(),
            Typing::Sql => "SELECT".to_owned(),
            // While an earlier run is shown, the question says which run is meant.
            Typing::Stop(_) => match model.daemon_run().filter(|_| model.is_past) {
                Some(run) => format!("end the daemon's run of {}? type yes", run.profile),
                None => "end the run? type yes".to_owned(),
            },
            Typing::Filter => "words".to_owned(),
            Typing::Names => "actors whose names hold".to_owned(),
            Typing::Value(key) => {
                let knob = model.knobs().iter().find(|knob| knob.key == *key);
                knob.map_or_else(
                    || format!("{key} is not known"),
                    |knob| format!("{key} is {}, allowed {}", knob.value, knob.allowed()),
                )
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
    let line = if model.notice.is_empty() {
        hints(board, usize::from(area.width))
    } else {
        Line::from(format!(" {}", model.notice))
    };
    frame.render_widget(Paragraph::new(line), area);
}

/// Returns the key hints that fit. The last two, commands and help, are always shown because they lead to all others.
fn hints(board: &Dashboard, columns: usize) -> Line<'static> {
    let model = &board.model;
    let mut shown: Vec<(String, &str)> = board
        .bindings()
        .iter()
        .filter(|binding| !binding.footer.is_empty())
        .map(|binding| (format!(" {} ", binding.key), binding.footer))
        .collect();
    let width = |shown: &[(String, &str)]| -> usize {
        shown
            .iter()
            .map(|(key, word)| key.chars().count() + word.chars().count())
            .sum()
    };
    while width(&shown) > columns && shown.len() > 2 {
        shown.remove(shown.len() - 3);
    }
    let spans = shown
        .into_iter()
        .flat_map(|(key, word)| [Span::styled(key, accent(model)), Span::styled(word, quiet())]);
    Line::from_iter(spans)
}

/// Draws the table of keys; the screens' numbers share a line, because the tabs show them.
fn help(board: &Dashboard, frame: &mut Frame, area: Rect) {
    let bindings = board.bindings();
    let screens = |binding: &&crate::keys::Binding| matches!(binding.action, Action::Screen(_));
    let numbers: Vec<&str> = bindings
        .iter()
        .filter(screens)
        .map(|binding| binding.key)
        .collect();
    let mut lines: Vec<Line> = bindings
        .iter()
        .filter(|binding| !screens(binding))
        .map(|binding| Line::from(format!(" {:<7}{}", binding.key, binding.help)))
        .collect();
    if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
        let line = format!(" {:<7}the screen of that number", format!("{first}–{last}"));
        lines.insert(3.min(lines.len()), Line::from(line));
    }
    let height = (lines.len() as u16 + 2).min(area.height);
    let width = 64.min(area.width);
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    let room = usize::from(height).saturating_sub(2);
    let hidden = lines.len().saturating_sub(room);
    let title = if hidden > 0 {
        "keys: up and down scroll"
    } else {
        "keys"
    };
    let shown: Vec<Line> = lines.into_iter().skip(board.help_at.min(hidden)).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(shown).block(panel(title)), place);
}

/// Draws the palette.
fn palette(board: &Dashboard, frame: &mut Frame, area: Rect) {
    let model = &board.model;
    let Some(open) = &model.palette else { return };
    let place = crate::palette::place(area);
    let found = open.found(&board.bindings(), model.knobs());
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
