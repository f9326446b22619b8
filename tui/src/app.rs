//! The loop: keys, events and a tick in, the screen out, drawn only when something changed.

use std::io::Write as _;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{
    self, DisableMouseCapture, EnableMouseCapture, Event, KeyCode, KeyEventKind, KeyModifiers, MouseButton,
    MouseEventKind,
};
use ratatui::crossterm::terminal::{Clear, ClearType};
use ratatui::crossterm::{cursor, execute};

use crate::model::Model;
use crate::pictures::Pictures;
use crate::signals::{Signal, Signals};
use crate::update::{Effect, Msg, update};
use crate::{AttachOptions, link, signals, view};

/// Between two looks at the keyboard; also the shortest time between two drawings.
const LOOK: Duration = Duration::from_millis(40);
/// Between two ticks.
const TICK: Duration = Duration::from_millis(250);

/// Opens the dashboard and blocks until the person leaves. The terminal is left as it was, on a panic and on a signal too: the
/// signal is then obeyed.
///
/// # Errors
/// The terminal's.
pub fn attach(options: AttachOptions) -> anyhow::Result<()> {
    let mut model = Model {
        no_color: options.no_color,
        ..Model::default()
    };
    let (out, messages) = channel();
    let (ask, commands) = channel();
    link::follow(options.socket, options.by, out, commands);
    let signals = Signals::catch(hand_back)?;
    let mut terminal = take_over()?;
    let size = terminal.size()?;
    update(&mut model, Msg::Size(size.width, size.height));
    // No screen yet: a key that is pressed while the terminal answers may be taken for a part of its answer.
    terminal.draw(view::opening)?;
    let pictures = Pictures::open(options.images, Some(options.blobs));
    let mut ticked = Instant::now();
    let mut dirty = true;
    let ended = loop {
        if dirty && let Err(error) = terminal.draw(|frame| view::draw(&model, &pictures, frame)) {
            break Err(error.into());
        }
        match signals.seen() {
            Some(Signal::Suspend) => match suspend() {
                Ok(again) => terminal = again,
                Err(error) => break Err(error.into()),
            },
            Some(Signal::End(signal)) => {
                hand_back();
                signals::obey(signal)?;
            }
            None => {}
        }
        let mut taken: Vec<Msg> = Vec::new();
        match event::poll(LOOK) {
            Ok(true) => match event::read() {
                Ok(event) if suspends(&event) => match suspend() {
                    Ok(again) => {
                        terminal = again;
                        dirty = true;
                        continue;
                    }
                    Err(error) => break Err(error.into()),
                },
                Ok(event) => taken.extend(message_of(&event)),
                Err(error) => break Err(error.into()),
            },
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
    hand_back();
    ended
}

/// Takes the terminal over; a panic gives it back before it is reported.
fn take_over() -> std::io::Result<ratatui::DefaultTerminal> {
    let terminal = ratatui::try_init()?;
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        execute!(std::io::stdout(), DisableMouseCapture, cursor::Show).ok();
        before(panic);
    }));
    execute!(std::io::stdout(), EnableMouseCapture)?;
    Ok(terminal)
}

fn hand_back() {
    execute!(std::io::stdout(), DisableMouseCapture).ok();
    ratatui::restore();
    execute!(std::io::stdout(), cursor::Show).ok();
    std::io::stdout().flush().ok();
}

/// Stops this process as Ctrl-Z does anywhere, and takes the terminal over again when it goes on.
fn suspend() -> std::io::Result<ratatui::DefaultTerminal> {
    hand_back();
    signals::stop()?;
    let terminal = ratatui::try_init()?;
    // Not `Terminal::clear`, which asks for the cursor's place: a terminal that does not answer would end the dashboard.
    execute!(std::io::stdout(), EnableMouseCapture, Clear(ClearType::All))?;
    Ok(terminal)
}

fn suspends(event: &Event) -> bool {
    matches!(event, Event::Key(key) if key.code == KeyCode::Char('z') && key.modifiers.contains(KeyModifiers::CONTROL))
}

fn message_of(event: &Event) -> Option<Msg> {
    match event {
        Event::Mouse(mouse) => match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) => Some(Msg::Click(mouse.column, mouse.row)),
            MouseEventKind::ScrollUp => Some(Msg::Wheel(true)),
            MouseEventKind::ScrollDown => Some(Msg::Wheel(false)),
            _ => None,
        },
        Event::Resize(width, height) => Some(Msg::Size(*width, *height)),
        other => key_of(other).map(Msg::Key),
    }
}

fn key_of(event: &Event) -> Option<String> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => "ctrl-c".into(),
        KeyCode::Char('p') if key.modifiers.contains(KeyModifiers::CONTROL) => "ctrl-p".into(),
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
