//! The screen Log, with a filter by severity and words.

use demask_storage::Level;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::Event;
use super::Screen;
use super::step_back;
use crate::keys::Action;
use crate::model::message::Effect;
use crate::model::{LogLine, Model, Typing};
use crate::pictures::Pictures;
use crate::theme::{accent, bad, lines, panel, quiet};

/// The filter and the scroll position.
#[derive(Default)]
pub(crate) struct LogScreen {
    /// The least severity.
    level: Option<Level>,
    /// Words that lines must contain, ignoring case.
    words: String,
    /// The number of lines scrolled back.
    back: usize,
}

impl Screen for LogScreen {
    fn title(&self) -> &'static str {
        "Log"
    }

    fn claims(&self, action: Action) -> bool {
        matches!(action, Action::Filter | Action::Level)
    }

    fn on_event(&mut self, model: &mut Model, event: &Event) {
        match event {
            Event::Begun if model.log.is_empty() => self.back = 0,
            Event::Words(words) => (self.words, self.back) = ((*words).to_owned(), 0),
            // A scrolled log keeps showing the same lines, as long as they are kept.
            Event::Logged(count) if self.back > 0 => {
                let words = self.words.to_lowercase();
                let newest = model.log.iter().rev().take(*count);
                let passing = newest.filter(|line| self.lets_through(&words, line)).count();
                if passing > 0 {
                    let last = self.lines(model).count().saturating_sub(1);
                    self.back = (self.back + passing).min(last);
                }
            }
            _ => {}
        }
    }

    fn on_key(&mut self, model: &mut Model, action: Action) -> Vec<Effect> {
        match action {
            Action::Filter => model.typing = Some((Typing::Filter, String::new())),
            Action::Level => {
                self.back = 0;
                self.level = match self.level {
                    None => Some(Level::Warn),
                    Some(Level::Warn) => Some(Level::Error),
                    Some(_) => None,
                };
            }
            Action::Up | Action::Down => {
                let last = self.lines(model).count().saturating_sub(1);
                self.back = step_back(self.back, last, action == Action::Up);
            }
            _ => {}
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, _: &Pictures, frame: &mut Frame, area: Rect) {
        let room = area.height.saturating_sub(2) as usize;
        let passing: Vec<&LogLine> = self.lines(model).collect();
        let end = passing.len().saturating_sub(self.back);
        let first = first(&passing[..end], area.width.saturating_sub(2), room);
        let shown: Vec<Line> = passing[first..end]
            .iter()
            .map(|line| shown(model, line))
            .collect();
        let mut title = "log, times in UTC".to_owned();
        if let Some(level) = self.level {
            title += &format!(" · {level:?} and louder").to_lowercase();
        }
        if !self.words.is_empty() {
            title += &format!(" · with '{}'", self.words);
        }
        if self.back > 0 {
            title += &format!(" · {} lines back", self.back);
        }
        let text = Paragraph::new(shown).wrap(Wrap { trim: false });
        frame.render_widget(text.block(panel(&title)), area);
    }
}

impl LogScreen {
    /// Returns the log lines that pass the filter.
    fn lines<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = &'a LogLine> {
        let words = self.words.to_lowercase();
        model
            .log
            .iter()
            .filter(move |line| self.lets_through(&words, line))
    }

    fn lets_through(&self, words: &str, line: &LogLine) -> bool {
        self.level.is_none_or(|least| line.level >= least)
            && (words.is_empty() || line.text.to_lowercase().contains(words))
    }
}

/// Returns the index of the first line of the newest ones that fit after wrapping; the newest line is always included.
fn first(passing: &[&LogLine], columns: u16, room: usize) -> usize {
    let mut left = room;
    let mut first = passing.len();
    for (number, line) in passing.iter().enumerate().rev() {
        let takes = usize::from(lines(&format!("{}{}", head(line), line.text), columns));
        if takes > left && first < passing.len() {
            break;
        }
        (first, left) = (number, left.saturating_sub(takes));
    }
    first
}

/// Formats the time and severity of a line.
fn head(line: &LogLine) -> String {
    let seconds = line.at_us.div_euclid(1_000_000).rem_euclid(86_400);
    let level = match line.level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    format!(
        "{:02}:{:02}:{:02} {level:<5} ",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

fn shown<'a>(model: &Model, line: &'a LogLine) -> Line<'a> {
    Line::from(vec![
        Span::styled(head(line), quiet()),
        Span::styled(line.text.as_str(), style(model, line.level)),
    ])
}

fn style(model: &Model, level: Level) -> Style {
    match level {
        Level::Error => bad(model),
        Level::Warn => accent(model),
        Level::Info => Style::new(),
        Level::Debug => quiet(),
    }
}
