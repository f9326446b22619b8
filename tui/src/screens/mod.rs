//! The screens, one per file, and the list of them ([`all`]); what the Benchmarks screen opens is in its folder.
//!
//! A screen owns its selections, scroll positions and filters. What the daemon sent is in `model/`, the frame around
//! the screens in `view.rs`, and keys with the same meaning on every screen in `update/`.

use demask_storage::Record;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use crate::keys::Action;
use crate::model::Model;
use crate::model::message::Effect;
use crate::pictures::Pictures;
use crate::theme::{accent, panel};

/// A screen. Its fields are its state.
pub(crate) trait Screen {
    /// Returns the name in the row of tabs, after which the file is named.
    fn title(&self) -> &'static str;

    /// Whether a key with this meaning switches to this screen from any other.
    fn claims(&self, _action: Action) -> bool {
        false
    }

    /// Whether this screen handles a key that would otherwise switch to another.
    fn takes(&self, _action: Action) -> bool {
        false
    }

    /// Returns the commands to be sent when the screen is shown.
    fn on_show(&mut self, _model: &Model) -> Vec<Effect> {
        Vec::new()
    }

    /// Takes in an event, whichever screen is shown. A record is passed before the model takes it in.
    fn on_event(&mut self, _model: &mut Model, _event: &Event) {}

    /// Handles a key.
    fn on_key(&mut self, _model: &mut Model, _action: Action) -> Vec<Effect> {
        Vec::new()
    }

    /// Handles a click, where the screen fills `body`.
    fn on_click(&mut self, _body: Rect, _at: Position) -> Vec<Effect> {
        Vec::new()
    }

    /// Draws the screen.
    fn draw(&self, model: &Model, pictures: &Pictures, frame: &mut Frame, area: Rect);
}

/// An event that every screen receives.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// Another run began.
    Begun,
    /// The daemon recorded this.
    Record(&'a Record),
    /// The number of lines that were added to the log.
    Logged(usize),
    /// The columns and rows of a query's result.
    Rows(&'a [String], &'a [Vec<String>]),
    /// The columns and rows of the result of the user's query.
    Answered(&'a [String], &'a [Vec<String>]),
    /// The user's query was refused.
    NoRows(&'a str),
    /// The user typed words to filter log lines by.
    Words(&'a str),
    /// The user typed a part of actors' names.
    Named(&'a str),
    /// The user closed what was open.
    Closed,
    /// A quarter of a second passed.
    Tick,
}

/// Declares the files of this folder and lists their screens, so that adding one takes one line.
macro_rules! screens {
    ($($file:ident::$screen:ident),* $(,)?) => {
        $(mod $file;)*

        /// Returns every screen, in the order of the number keys.
        pub(crate) fn all() -> Vec<Box<dyn Screen>> {
            vec![$(Box::<$file::$screen>::default()),*]
        }
    };
}

screens! {
    overview::OverviewScreen,
    actors::ActorsScreen,
    denoise::DenoiseScreen,
    rollouts::RolloutsScreen,
    data::DataScreen,
    benchmarks::BenchmarksScreen,
    log::LogScreen,
    query::QueryScreen,
    curves::CurvesScreen,
    runs::RunsScreen,
}

/// Moves an index one further from the newest, or one nearer.
fn step_back(at: usize, limit: usize, is_back: bool) -> usize {
    match is_back {
        true => (at + 1).min(limit),
        false => at.saturating_sub(1),
    }
}

/// Draws everything known about something under a title: names with values, and pictures beside them.
fn described(
    (model, pictures): (&Model, &Pictures),
    title: &str,
    words: &[(&str, String)],
    shown: &[(&str, &str)],
    frame: &mut Frame,
    area: Rect,
) {
    let beside = if shown.is_empty() || !pictures.shown() {
        0
    } else {
        (area.width / 3).clamp(18, 66)
    };
    let [left, right] = Layout::horizontal([Constraint::Min(20), Constraint::Length(beside)]).areas(area);
    let mut lines = Vec::new();
    for (name, words) in words {
        for (number, text) in words.lines().enumerate() {
            let name = if number == 0 { name } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!("{name:<11}"), accent(model)),
                Span::raw(text),
            ]));
        }
    }
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(text.block(panel(title)), left);
    if beside == 0 {
        return;
    }
    let places = Layout::vertical(vec![Constraint::Fill(1); shown.len()]).split(right);
    for ((name, hash), place) in shown.iter().zip(places.iter()) {
        let block = panel(name);
        let inner = block.inner(*place);
        frame.render_widget(block, *place);
        pictures.draw_blob(frame, inner, hash);
    }
}
