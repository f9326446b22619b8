//! The screens, a file each, and the one list of them; what the Benchmarks screen opens is in its folder.
//!
//! A screen owns what a person looks at on it: which row, how far back, which words. What the daemon told is in `model.rs`,
//! the frame around the screens in `view.rs`, and keys that mean the same on every screen in `update/`.

use demask_storage::Record;
use demask_storage::query::curves::{CURVE, TURNED};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use crate::keys::Action;
use crate::lineage;
use crate::model::Model;
use crate::model::message::Effect;
use crate::model::past;
use crate::pictures::Pictures;
use crate::theme::{accent, panel};

/// A screen. Its state is its own fields.
pub(crate) trait Screen {
    /// The name in the row of screens; the file has it too.
    fn title(&self) -> &'static str;

    /// Whether a key with this meaning leads to the screen from any other.
    fn claims(&self, _action: Action) -> bool {
        false
    }

    /// Whether this screen does something with a key that else leads to another.
    fn takes(&self, _action: Action) -> bool {
        false
    }

    /// What is asked of the daemon when a person comes to the screen.
    fn on_show(&mut self, _model: &Model) -> Vec<Effect> {
        Vec::new()
    }

    /// Takes in what happened, whichever screen is shown. A record is told before the model takes it.
    fn on_event(&mut self, _model: &mut Model, _event: &Event) {}

    /// Does what a key means on this screen.
    fn on_key(&mut self, _model: &mut Model, _action: Action) -> Vec<Effect> {
        Vec::new()
    }

    /// Does what a click at this place means, where the screen fills `body`.
    fn on_click(&mut self, _body: Rect, _at: Position) -> Vec<Effect> {
        Vec::new()
    }

    /// Draws the screen.
    fn draw(&self, model: &Model, pictures: &Pictures, frame: &mut Frame, area: Rect);
}

/// What every screen is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// Another run began.
    Begun,
    /// The daemon recorded this.
    Record(&'a Record),
    /// So many lines were added to the log.
    Logged(usize),
    /// A query was answered with these columns and rows.
    Rows(&'a [String], &'a [Vec<String>]),
    /// The query that a person typed was refused.
    NoRows(&'a str),
    /// A person typed words to filter log lines by.
    Words(&'a str),
    /// A person typed a part of actors' names.
    Named(&'a str),
    /// A person closed what was open.
    Closed,
    /// A quarter of a second went by.
    Tick,
}

/// Declares the files of this folder and lists their screens, so that a screen is added by one line.
macro_rules! screens {
    ($($file:ident::$screen:ident),* $(,)?) => {
        $(mod $file;)*

        /// Every screen, in the order of their number keys.
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

/// Whether these are the columns of an answer to the dashboard's own questions.
fn is_own(columns: &[String]) -> bool {
    const OWN: [&str; 11] = [
        lineage::LIST,
        lineage::STORY,
        CURVE,
        TURNED,
        past::EVENTS,
        past::FUNNEL,
        runs::RUNS,
        benchmarks::items::ITEMS,
        benchmarks::items::ITEM,
        benchmarks::comparison::OTHERS,
        benchmarks::comparison::PAIRS,
    ];
    columns
        .first()
        .is_some_and(|column| OWN.contains(&column.as_str()))
}

/// An index one further from the newest, or one nearer.
fn step_back(at: usize, limit: usize, is_back: bool) -> usize {
    match is_back {
        true => (at + 1).min(limit),
        false => at.saturating_sub(1),
    }
}

/// All that is known of one thing under a title: names with their words, and its pictures by their names beside them.
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
