//! The screen Rollouts: a group's samples with rewards, advantages, texts, and pictures side by side.

use demask_storage::{Record, RolloutSample};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};

use super::Event;
use super::Screen;
use super::step_back;
use crate::keys::Action;
use crate::model::Model;
use crate::model::message::Effect;
use crate::pictures::Pictures;
use crate::theme::{accent, bad, good, lines, panel};

/// The columns of the largest thumbnail, including the gap beside it.
const THUMBNAIL: u16 = 17;

/// The shown group.
#[derive(Default)]
pub(crate) struct RolloutsScreen {
    /// The index of the group, from the newest.
    group: usize,
}

impl Screen for RolloutsScreen {
    fn title(&self) -> &'static str {
        "Rollouts"
    }

    fn on_event(&mut self, model: &mut Model, event: &Event) {
        match event {
            Event::Begun => self.group = 0,
            // An earlier group stays shown when a new one arrives.
            Event::Record(Record::Sample(sample)) if self.group > 0 => {
                let is_known = model.rollouts.iter().any(|known| known.id == sample.id);
                let newest = model.rollouts.back().map(|last| (last.step, last.group));
                let is_of_newest = newest == Some((sample.step, sample.group));
                self.group += usize::from(!is_known && !is_of_newest);
            }
            _ => {}
        }
    }

    fn on_key(&mut self, model: &mut Model, action: Action) -> Vec<Effect> {
        if let Action::Up | Action::Down = action {
            let last = model.groups().len().saturating_sub(1);
            self.group = step_back(self.group.min(last), last, action == Action::Up);
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, pictures: &Pictures, frame: &mut Frame, area: Rect) {
        let keys = model.groups();
        let back = self.group.min(keys.len().saturating_sub(1));
        let Some(&(step, group)) = keys.iter().rev().nth(back) else {
            let text = "no rollouts yet: they are drawn in stages of kind align";
            frame.render_widget(Paragraph::new(text).block(panel("rollouts")), area);
            return;
        };
        let of_group: Vec<&RolloutSample> = model
            .rollouts
            .iter()
            .filter(|sample| (sample.step, sample.group) == (step, group))
            .collect();
        let drawn: Vec<&RolloutSample> = of_group
            .iter()
            .copied()
            .filter(|sample| sample.picture.is_some() && pictures.shown())
            .collect();
        let width = (area.width / (drawn.len() as u16).max(1)).min(THUMBNAIL);
        let room = if drawn.is_empty() { 0 } else { width / 2 + 1 };
        let [upper, lower] = Layout::vertical([Constraint::Min(4), Constraint::Length(room)]).areas(area);
        let title = format!(
            "step {step} · group {group}, {} of {} · up and down: other groups",
            keys.len() - back,
            keys.len()
        );
        let block = panel(&title);
        let inner = block.inner(upper);
        frame.render_widget(block, upper);
        samples(model, &of_group, frame, inner);
        thumbnails(model, pictures, &drawn, frame, lower, width);
    }
}

/// Draws the prompt and the samples, in two lines each if they fit: the rewards, and the text.
fn samples(model: &Model, all: &[&RolloutSample], frame: &mut Frame, area: Rect) {
    let prompt = all.first().map_or("", |sample| sample.prompt.as_str());
    let room = lines(prompt, area.width).min(area.height / 3);
    let prompt = Paragraph::new(Line::styled(prompt, accent(model))).wrap(Wrap { trim: true });
    let [above, below] = Layout::vertical([Constraint::Length(room), Constraint::Min(1)]).areas(area);
    frame.render_widget(prompt, above);
    let two = usize::from(below.height) >= 2 * all.len();
    let shown = all.iter().flat_map(|sample| {
        let (rewards, text) = (rewards(model, sample), sample.text.replace('\n', " "));
        if two {
            vec![rewards, Line::from(format!("    {text}"))]
        } else {
            let text = Span::raw(format!("  {text}"));
            vec![Line::from_iter(rewards.spans.into_iter().chain([text]))]
        }
    });
    frame.render_widget(Paragraph::new(shown.collect::<Vec<_>>()), below);
}

/// Formats the number, the advantage with its bar, the weighted sum and the value of every reward.
fn rewards(model: &Model, sample: &RolloutSample) -> Line<'static> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bar = "█".repeat((sample.advantage.abs() * 3.0).min(9.0) as usize);
    let parts: Vec<String> = sample
        .parts
        .iter()
        .map(|(name, value, _)| format!("{name} {value:.2}"))
        .collect();
    let advantage = format!("{:>2}  {:+.2} {bar:<9}", sample.number, sample.advantage);
    Line::from(vec![
        Span::styled(advantage, style(model, sample.advantage)),
        Span::raw(format!(" {:>5.2} = {}", sample.total, parts.join(" · "))),
    ])
}

/// Draws the pictures, each under its number.
fn thumbnails(
    model: &Model,
    pictures: &Pictures,
    drawn: &[&RolloutSample],
    frame: &mut Frame,
    area: Rect,
    width: u16,
) {
    let places = Layout::horizontal(vec![Constraint::Length(width); drawn.len()]).split(area);
    for (sample, place) in drawn.iter().zip(places.iter()) {
        let [above, below] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(*place);
        let label = format!("{} {:+.2}", sample.number, sample.advantage);
        frame.render_widget(Paragraph::new(label).style(style(model, sample.advantage)), above);
        let picture = Rect {
            width: below.width.saturating_sub(1),
            ..below
        };
        pictures.draw_blob(frame, picture, sample.picture.as_deref().unwrap_or_default());
    }
}

fn style(model: &Model, advantage: f64) -> Style {
    match advantage {
        plus if plus > 0.0 => good(model),
        minus if minus < 0.0 => bad(model),
        _ => Style::new(),
    }
}
