//! The screen Denoise: masks being filled in a text or a picture, shaded by confidence.

use demask_storage::{Frame as Denoising, Record};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::Event;
use super::Screen;
use super::step_back;
use crate::keys::Action;
use crate::model::Model;
use crate::model::SAMPLES;
use crate::model::message::Effect;
use crate::pictures::Pictures;
use crate::theme::{SHADES, accent, lines, panel, quiet, sure as sure_style};

/// The approximate number of ticks in which a sample is played.
const PLAYED: usize = 20;

/// The watched sample and frame.
#[derive(Default)]
pub(crate) struct DenoiseScreen {
    /// The index of the sample, from the newest.
    sample: usize,
    /// The selected frame; `None` plays the sample.
    frame: Option<usize>,
    /// The frame that is being played.
    played: usize,
}

impl Screen for DenoiseScreen {
    fn title(&self) -> &'static str {
        "Denoise"
    }

    fn on_event(&mut self, model: &mut Model, event: &Event) {
        match event {
            Event::Begun => *self = Self::default(),
            Event::Record(Record::Frame(frame))
                if model.samples.iter().all(|(id, _)| *id != frame.sample) =>
            {
                self.keep_place(model.samples.len());
            }
            Event::Tick => {
                let last = self.last_frame(model);
                self.played = (self.played + (last / PLAYED).max(1)).min(last);
            }
            _ => {}
        }
    }

    fn on_key(&mut self, model: &mut Model, action: Action) -> Vec<Effect> {
        match action {
            Action::Back | Action::Forward => self.scrub(model, action == Action::Forward),
            Action::Close => *self = Self::default(),
            Action::Up | Action::Down => {
                let last = model.samples.len().saturating_sub(1);
                self.sample = step_back(self.sample, last, action == Action::Up);
                (self.frame, self.played) = (None, 0);
            }
            _ => {}
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, pictures: &Pictures, frame: &mut Frame, area: Rect) {
        let Some(shown) = self.present_frame(model) else {
            let text = "no sample was watched yet; n samples a prompt now";
            frame.render_widget(Paragraph::new(text).block(panel("denoising")), area);
            return;
        };
        let title = self.title(model, shown);
        let how = match self.frame {
            Some(_) => " held; left and right step, esc: the newest ",
            None => " left and right step, up and down: other samples ",
        };
        let block = panel(&title).title_bottom(Line::styled(how, quiet()));
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let room = lines(&shown.prompt, inner.width).min(inner.height / 3);
        let prompt =
            Paragraph::new(Line::styled(shown.prompt.as_str(), accent(model))).wrap(Wrap { trim: true });
        let [above, _, inner] = Layout::vertical([
            Constraint::Length(room),
            Constraint::Length(1),
            Constraint::Min(1),
        ])
        .areas(inner);
        frame.render_widget(prompt, above);
        if shown.kind == "picture" {
            picture(model, pictures, shown, frame, inner);
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
}

impl DenoiseScreen {
    /// Keeps showing an earlier sample, or one that is being scrubbed, when a new one arrives.
    fn keep_place(&mut self, samples: usize) {
        if self.sample > 0 || self.frame.is_some() {
            self.sample += 1;
        } else {
            self.played = 0;
        }
        self.sample = self.sample.min((samples + 1).min(SAMPLES) - 1);
    }

    fn scrub(&mut self, model: &Model, forward: bool) {
        let last = self.last_frame(model);
        let now = self.frame.unwrap_or(self.played).min(last);
        self.frame = Some(match forward {
            true => (now + 1).min(last),
            false => now.saturating_sub(1),
        });
    }

    /// Returns the frames of the watched sample.
    fn frames<'a>(&self, model: &'a Model) -> &'a [Denoising] {
        let newest = model.samples.len().saturating_sub(1);
        let sample = model.samples.get(newest - self.sample.min(newest));
        sample.map_or(&[], |(_, frames)| frames)
    }

    fn last_frame(&self, model: &Model) -> usize {
        self.frames(model).len().saturating_sub(1)
    }

    fn present_frame<'a>(&self, model: &'a Model) -> Option<&'a Denoising> {
        let at = self.frame.unwrap_or(self.played).min(self.last_frame(model));
        self.frames(model).get(at)
    }

    /// Describes the sample: its origin, the step, the number of masked positions, and its index.
    fn title(&self, model: &Model, shown: &Denoising) -> String {
        let masked = shown.tokens.iter().filter(|token| token.is_empty()).count();
        format!(
            "{} · step {} of at most {} · {masked} of {} masked · sample {} of {}",
            shown.origin,
            shown.step + 1,
            shown.steps,
            shown.tokens.len(),
            model.samples.len() - self.sample.min(model.samples.len().saturating_sub(1)),
            model.samples.len(),
        )
    }
}

fn word(model: &Model, token: &str, sure: u8) -> Span<'static> {
    if token.is_empty() {
        return Span::styled("░", quiet());
    }
    // The tokens run on in one paragraph, where a line's end would be left out.
    let token = token.replace('\n', "\u{21b5}");
    if model.no_color {
        return Span::raw(format!("{token}{}", SHADES[usize::from(sure) * 7 / 255]));
    }
    Span::styled(token, sure_style(model, sure))
}

/// The columns of a code with its number, and without; the least columns of the decoded picture.
const NUMBERED: usize = 5;
const SHADED: usize = 2;
const GUESS: usize = 20;

/// Draws the grid of codes, with the decoded guess at the right.
fn picture(model: &Model, pictures: &Pictures, shown: &Denoising, frame: &mut Frame, area: Rect) {
    let columns = (shown.grid as usize).clamp(1, shown.tokens.len().max(1));
    let room = usize::from(area.width).saturating_sub(GUESS);
    let cell = if NUMBERED * columns <= room {
        NUMBERED
    } else {
        SHADED
    };
    let rows = shown.tokens.len().div_ceil(columns);
    let lines: Vec<Line> = (0..rows)
        .map(|row| {
            let places = row * columns..((row + 1) * columns).min(shown.tokens.len());
            Line::from_iter(places.map(|at| code(model, shown, at, cell)))
        })
        .collect();
    let taken = u16::try_from(cell * columns + 3).unwrap_or(u16::MAX);
    let [left, right] = Layout::horizontal([Constraint::Length(taken), Constraint::Min(1)]).areas(area);
    frame.render_widget(Paragraph::new(lines), left);
    if let Some(guess) = shown.picture.as_ref().filter(|_| !model.no_color) {
        pictures.draw(frame, right, guess);
    }
}

/// Draws one code, `wide` columns wide: shaded by confidence, with its number if there is space.
fn code(model: &Model, shown: &Denoising, at: usize, wide: usize) -> Span<'static> {
    if shown.tokens[at].is_empty() {
        let text = if wide == NUMBERED {
            " ░░░░"
        } else {
            "░░"
        };
        return Span::styled(text, quiet());
    }
    let sure = shown.confidence.get(at).copied().unwrap_or(0);
    let shade = SHADES[usize::from(sure) * 7 / 255];
    let text = if wide == NUMBERED {
        format!("{:>4}{shade}", shown.tokens[at])
    } else {
        format!("{shade}{shade}")
    };
    Span::styled(text, sure_style(model, sure))
}
