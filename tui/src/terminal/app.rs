//! The main loop: takes in keys, events and ticks, and draws the screen only when something changed.

use std::io::Write as _;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{
    self, DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event,
    KeyCode, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind,
};
use ratatui::crossterm::terminal::{Clear, ClearType};
use ratatui::crossterm::{cursor, execute};

use crate::dashboard::Dashboard;
use crate::model::Model;
use crate::model::message::{Effect, Msg};
use crate::pictures::Pictures;
use crate::terminal::signals::{Signal, Signals};
use crate::terminal::{link, signals};
use crate::update::update;
use crate::{AttachOptions, view};

/// The interval at which the keyboard is polled; also the shortest time between two drawings.
const LOOK: Duration = Duration::from_millis(40);
/// The interval of ticks.
const TICK: Duration = Duration::from_millis(250);

/// Opens the dashboard and blocks until the user leaves. The terminal is restored afterwards, also after a panic or a
/// signal; the signal then takes effect.
///
/// # Errors
/// Any error of the terminal.
pub fn attach(options: AttachOptions) -> anyhow::Result<()> {
    let signals = Signals::catch(hand_back)?;
    let mut terminal = take_over()?;
    let ended = show(options, &mut terminal, &signals);
    hand_back();
    // Dropping it would show the cursor again, as `hand_back` did, and would panic if the terminal is gone.
    std::mem::forget(terminal);
    ended
}

/// Runs the loop until the user leaves.
fn show(options: AttachOptions, terminal: &mut DefaultTerminal, signals: &Signals) -> anyhow::Result<()> {
    let mut board = Dashboard::from(Model {
        no_color: options.no_color,
        ..Model::default()
    });
    let (out, messages) = channel();
    let (ask, commands) = channel();
    link::follow(options.socket, options.by, out, commands);
    update(&mut board, size_of(terminal)?);
    // The screens are not drawn yet: a key pressed while the terminal answers could be taken for a part of its answer.
    terminal.draw(view::opening)?;
    let pictures = Pictures::open(options.images, options.no_color, Some(options.blobs));
    let mut ticked = Instant::now();
    let mut dirty = true;
    loop {
        if dirty {
            terminal.draw(|frame| view::draw(&board, &pictures, frame))?;
        }
        let mut taken = Vec::from_iter(signalled(terminal, signals)?);
        taken.extend(typed(terminal)?);
        taken.extend(messages.try_iter());
        dirty = !taken.is_empty();
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            dirty = true;
            taken.push(Msg::Tick);
        }
        let effects: Vec<Effect> = taken
            .into_iter()
            .flat_map(|msg| update(&mut board, msg))
            .collect();
        for effect in effects {
            match effect {
                Effect::Quit => return Ok(()),
                Effect::Ask(command) => drop(ask.send(command)),
            }
        }
    }
}

fn size_of(terminal: &DefaultTerminal) -> std::io::Result<Msg> {
    let size = terminal.size()?;
    Ok(Msg::Size(size.width, size.height))
}

/// Handles a signal, if one came. After a suspension this returns when the process continues; after a fatal signal it
/// does not return.
fn signalled(terminal: &mut DefaultTerminal, signals: &Signals) -> std::io::Result<Option<Msg>> {
    match signals.seen() {
        None => Ok(None),
        Some(Signal::Suspend) => suspend(terminal).map(Some),
        Some(Signal::End(signal)) => {
            hand_back();
            signals::obey(signal)?;
            Ok(None)
        }
    }
}

/// Reads a key, a click or a new size, if one comes in time.
fn typed(terminal: &mut DefaultTerminal) -> std::io::Result<Option<Msg>> {
    if !event::poll(LOOK)? {
        return Ok(None);
    }
    match event::read()? {
        event if suspends(&event) => suspend(terminal).map(Some),
        event => Ok(message_of(&event)),
    }
}

/// Takes the terminal over; a panic restores it before it is reported.
fn take_over() -> std::io::Result<DefaultTerminal> {
    let terminal = ratatui::try_init()?;
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        execute!(
            std::io::stdout(),
            DisableBracketedPaste,
            DisableMouseCapture,
            cursor::Show
        )
        .ok();
        before(panic);
    }));
    execute!(std::io::stdout(), EnableMouseCapture, EnableBracketedPaste)?;
    Ok(terminal)
}

fn hand_back() {
    execute!(std::io::stdout(), DisableBracketedPaste, DisableMouseCapture).ok();
    // Not `restore`, which prints errors: if the terminal is gone, printing fails too.
    ratatui::try_restore().ok();
    execute!(std::io::stdout(), cursor::Show).ok();
    std::io::stdout().flush().ok();
}

/// Suspends this process like Ctrl-Z, and takes the terminal over again when it continues; returns the new size.
fn suspend(terminal: &mut DefaultTerminal) -> std::io::Result<Msg> {
    hand_back();
    signals::stop()?;
    *terminal = ratatui::try_init()?;
    // Not `Terminal::clear`, which queries the cursor's position: a terminal that does not answer would end the
    // dashboard.
    execute!(
        std::io::stdout(),
        EnableMouseCapture,
        EnableBracketedPaste,
        Clear(ClearType::All)
    )?;
    size_of(terminal)
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
        Event::Paste(text) => Some(Msg::Paste(text.clone())),
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
        // Some terminals send it for the backspace key.
        KeyCode::Char('h') if key.modifiers.contains(KeyModifiers::CONTROL) => "backspace".into(),
        // It is not the letter: Ctrl-X is no cancellation, and Ctrl-U types nothing.
        KeyCode::Char(_) if key.modifiers.contains(KeyModifiers::CONTROL) => return None,
        KeyCode::Char(' ') => "space".into(),
        KeyCode::Char(sign) => sign.to_string(),
        KeyCode::F(number) => format!("f{number}"),
        KeyCode::Tab => "tab".into(),
        KeyCode::Left => "left".into(),
        KeyCode::Right => "right".into(),
        KeyCode::Up => "up".into(),
        KeyCode::Down => "down".into(),
        KeyCode::PageUp => "pgup".into(),
        KeyCode::PageDown => "pgdn".into(),
        KeyCode::Enter => "enter".into(),
        KeyCode::Esc => "esc".into(),
        KeyCode::Backspace => "backspace".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn a_letter_with_control_is_not_the_letter() {
        let named = |sign, modifiers| key_of(&Event::Key(KeyEvent::new(KeyCode::Char(sign), modifiers)));
        assert_eq!(named('x', KeyModifiers::NONE).as_deref(), Some("x"));
        assert_eq!(named('X', KeyModifiers::SHIFT).as_deref(), Some("X"));
        for sign in ['x', 'u', 'q', 'n', ' '] {
            assert_eq!(named(sign, KeyModifiers::CONTROL), None, "{sign}");
        }
        for (sign, name) in [('c', "ctrl-c"), ('p', "ctrl-p"), ('h', "backspace")] {
            assert_eq!(named(sign, KeyModifiers::CONTROL).as_deref(), Some(name));
        }
    }
}
