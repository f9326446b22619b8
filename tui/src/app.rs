//! The loop: keys, events and a tick in, the screen out, drawn only when something changed.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::model::Model;
use crate::update::{Effect, Msg, update};
use crate::{AttachOptions, ImageMode, link, view};

/// Between two looks at the keyboard; also the shortest time between two drawings.
const LOOK: Duration = Duration::from_millis(40);
/// Between two ticks.
const TICK: Duration = Duration::from_millis(250);

/// Opens the dashboard and blocks until the person leaves. The terminal is left as it was, on a panic too.
///
/// # Errors
/// The terminal's.
pub fn attach(options: AttachOptions) -> anyhow::Result<()> {
    let pictures = options.images != ImageMode::Off;
    let mut model = Model {
        no_color: options.no_color,
        pictures,
        ..Model::default()
    };
    let (out, messages) = channel();
    let (ask, commands) = channel();
    link::follow(options.socket, options.by, out, commands);
    // Installs a panic hook that restores the terminal.
    let mut terminal = ratatui::try_init()?;
    let mut ticked = Instant::now();
    let mut dirty = true;
    let ended = loop {
        if dirty && let Err(error) = terminal.draw(|frame| view::draw(&model, frame)) {
            break Err(error.into());
        }
        let mut taken: Vec<Msg> = Vec::new();
        match event::poll(LOOK) {
            Ok(true) => taken.extend(event::read().ok().and_then(|event| key_of(&event)).map(Msg::Key)),
            Ok(false) => {}
            Err(error) => break Err(error.into()),
        }
        taken.extend(messages.try_iter());
        dirty = !taken.is_empty();
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            dirty = true;
            taken.push(Msg::Tick);
        }
        let effects: Vec<Effect> = taken
            .into_iter()
            .flat_map(|msg| update(&mut model, msg))
            .collect();
        if effects.contains(&Effect::Quit) {
            break Ok(());
        }
        for effect in effects {
            if let Effect::Ask(command) = effect {
                ask.send(command).ok();
            }
        }
    };
    ratatui::restore();
    ended
}

fn key_of(event: &Event) -> Option<String> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => "q".into(),
        KeyCode::Char(' ') => "space".into(),
        KeyCode::Char(sign) => sign.to_string(),
        KeyCode::Tab => "tab".into(),
        KeyCode::Left => "left".into(),
        KeyCode::Right => "right".into(),
        KeyCode::Up => "up".into(),
        KeyCode::Down => "down".into(),
        KeyCode::Enter => "enter".into(),
        KeyCode::Esc => "esc".into(),
        KeyCode::Backspace => "backspace".into(),
        _ => return None,
    })
}
