//! The screen Actors: the tree of actors with state, queue, response time, throughput and failures, the ranks of the
//! daemon's run, and the last messages of one actor.

use demask_storage::{ActorState, ActorView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState, Wrap};

use super::{Event, Screen, step_back};
use crate::keys::Action;
use crate::model::message::Effect;
use crate::model::{Model, Typing};
use crate::pictures::Pictures;
use crate::theme::{accent, bad, chosen, good, panel, quiet};

/// The lines of the last messages, with their frame, that the ranks leave free.
const MESSAGES: u16 = 5;
/// The cells of a queue's bar.
const BAR: u64 = 4;

/// The listed actors and the selected one.
#[derive(Default)]
pub(crate) struct ActorsScreen {
    /// The index of the selected actor.
    at: usize,
    /// The part of the name by which actors are filtered.
    named: String,
    /// Whether the selected actor fills the screen.
    open: bool,
}

impl Screen for ActorsScreen {
    fn title(&self) -> &'static str {
        "Actors"
    }

    fn takes(&self, action: Action) -> bool {
        action == Action::Query
    }

    fn on_event(&mut self, _: &mut Model, event: &Event) {
        match event {
            Event::Named(words) => (self.named, self.at, self.open) = (words.to_lowercase(), 0, false),
            Event::Closed => self.open = false,
            _ => {}
        }
    }

    fn on_key(&mut self, model: &mut Model, action: Action) -> Vec<Effect> {
        match action {
            Action::Query => model.typing = Some((Typing::Names, String::new())),
            Action::Up | Action::Down => {
                let last = self.listed(model).len().saturating_sub(1);
                self.at = step_back(self.at, last, action == Action::Down);
            }
            Action::Open => self.open = !self.open,
            _ => {}
        }
        Vec::new()
    }

    fn draw(&self, model: &Model, _: &Pictures, frame: &mut Frame, area: Rect) {
        let listed = self.listed(model);
        let at = self.at.min(listed.len().saturating_sub(1));
        let one = listed.get(at).map(|(_, actor)| *actor);
        if self.open
            && let Some(actor) = one
        {
            return whole(model, actor, frame, area);
        }
        let room = (listed.len() as u16 + 3)
            .min(area.height.saturating_sub(6))
            .max(4);
        // The ranks get what the actors leave, and a third of the screen at the least.
        let left = area.height.saturating_sub(room + MESSAGES).max(area.height / 3);
        let ranks = match model.ranks().len() {
            0 => 0,
            count => (count as u16 + 3).min(left),
        };
        let [upper, middle, lower] = Layout::vertical([
            Constraint::Length(room),
            Constraint::Length(ranks),
            Constraint::Min(3),
        ])
        .areas(area);
        self.table(model, &listed, at, frame, upper);
        if ranks > 0 {
            rank_table(model, frame, middle);
        }
        if let Some(actor) = one {
            last_messages(model, actor, frame, lower);
        }
    }
}

impl ActorsScreen {
    /// Returns the listed actors in tree order.
    fn listed<'a>(&self, model: &'a Model) -> Vec<(usize, &'a ActorView)> {
        let fits =
            |actor: &ActorView| self.named.is_empty() || actor.name.to_lowercase().contains(&self.named);
        model
            .tree()
            .into_iter()
            .filter(|(_, actor)| fits(actor))
            .collect()
    }

    fn table(&self, model: &Model, listed: &[(usize, &ActorView)], at: usize, frame: &mut Frame, area: Rect) {
        // Columns are dropped when space is short, because a truncated number would be wrong.
        let narrow = area.width < 110;
        let rows = listed.iter().map(|(depth, actor)| {
            let indent = "  ".repeat((*depth).min(4));
            let state = format!("{:?}", actor.state).to_lowercase();
            let deaths = if actor.restarts > 0 {
                bad(model)
            } else {
                Style::new()
            };
            Row::new([
                Span::raw(format!("{indent}{}", actor.name)),
                Span::styled(state, style(model, actor.state)),
                Span::raw(if narrow {
                    format!("{}/{}", actor.queue.0, actor.queue.1)
                } else {
                    queue(actor)
                }),
                Span::raw(waited(actor)),
                Span::raw(rate(model, actor)),
                Span::styled(actor.restarts.to_string(), deaths),
                Span::raw(doing(actor)),
            ])
        });
        // Wide enough for the longest, because the first digits of a number would be another number.
        let queues = listed.iter().map(|(_, actor)| queue(actor).chars().count());
        let queues = u16::try_from(queues.max().unwrap_or(0)).unwrap_or(u16::MAX);
        let bar = BAR as u16 + 1;
        let lengths = if narrow {
            [13, 8, queues.saturating_sub(bar).max(6), 8, 8, 4]
        } else {
            [22, 9, queues.max(14), 9, 10, 8]
        };
        let widths = lengths
            .map(Constraint::Length)
            .into_iter()
            .chain([Constraint::Min(10)]);
        let died = if narrow { "died" } else { "restarts" };
        let head = Row::new([
            "actor",
            "state",
            "queue",
            "answers",
            "handles",
            died,
            "doing, or waiting for",
        ]);
        let title = match self.named.as_str() {
            "" => "actors: enter opens one, / only some".to_owned(),
            named => format!("actors with '{named}' in their names; / and enter: all"),
        };
        let table = Table::new(rows, widths)
            .header(head.style(accent(model)))
            .row_highlight_style(chosen())
            .block(panel(&title));
        frame.render_stateful_widget(table, area, &mut TableState::default().with_selected(at));
    }
}

/// Draws a line a rank; those without room are counted in the title.
fn rank_table(model: &Model, frame: &mut Frame, area: Rect) {
    let all = model.ranks();
    let shown = all.len().min(usize::from(area.height.saturating_sub(3)));
    let rows = all.iter().take(shown).enumerate().map(|(number, rank)| {
        let (memory, peak) = rank.memory_in_use();
        let restarts = if rank.restarts > 0 {
            bad(model)
        } else {
            Style::new()
        };
        Row::new([
            Span::raw(number.to_string()),
            Span::raw(rank.device.clone()),
            Span::raw(format!("{:.2} GB", memory as f64 / 1e9)),
            Span::raw(format!("{:.2} GB", peak as f64 / 1e9)),
            Span::raw(format!("{:.2} s", rank.seconds)),
            Span::raw(format!("{:.0} %", 100.0 * rank.waiting())),
            Span::styled(rank.restarts.to_string(), restarts),
            Span::raw(format!("{} {}", rank.host, rank.pid)),
        ])
    });
    let widths = [5, 8, 10, 10, 9, 8, 9]
        .map(Constraint::Length)
        .into_iter()
        .chain([Constraint::Min(6)]);
    let head = Row::new([
        "rank", "device", "memory", "peak", "a step", "waiting", "restarts", "process",
    ]);
    let title = match all.len() - shown {
        0 => "ranks".to_owned(),
        more => format!("ranks; {more} more: demask ps"),
    };
    let table = Table::new(rows, widths)
        .header(head.style(accent(model)))
        .block(panel(&title));
    frame.render_widget(table, area);
}

/// Formats the number of waiting messages and the capacity.
fn queue(actor: &ActorView) -> String {
    let (waiting, room) = actor.queue;
    if room == 0 {
        return waiting.to_string();
    }
    let filled = (waiting * BAR).div_ceil(room).min(BAR);
    let bar: String = (0..BAR).map(|at| if at < filled { '▮' } else { '▯' }).collect();
    format!("{bar} {waiting}/{room}")
}

/// Formats the time of the last reply that someone waited for.
fn waited(actor: &ActorView) -> String {
    match actor.answered_us {
        0 => String::new(),
        us => time(us),
    }
}

/// Formats microseconds in a suitable unit.
fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.1} s", us as f64 / 1e6),
        _ => format!("{} s", us / 1_000_000),
    }
}

/// Computes messages per second over the remembered messages, up to now.
fn rate(model: &Model, actor: &ActorView) -> String {
    let (Some(first), Some(last)) = (actor.recent.first(), actor.recent.last()) else {
        return String::new();
    };
    let span = (model.now_us.max(last.0) - first.0).max(1_000) as f64 / 1e6;
    match actor.recent.len() as f64 / span {
        rate if rate >= 10.0 => format!("{rate:.0}/s"),
        rate if rate >= 0.1 => format!("{rate:.1}/s"),
        rate => format!("{:.1}/min", 60.0 * rate),
    }
}

fn doing(actor: &ActorView) -> String {
    match (actor.detail.as_str(), actor.state) {
        ("", ActorState::Busy) => actor.last_message.clone(),
        ("", ActorState::Idle | ActorState::Waiting) if actor.last_message.is_empty() => {
            "a message".to_owned()
        }
        ("", ActorState::Idle | ActorState::Waiting) => format!("a message, last {}", actor.last_message),
        (detail, _) => detail.to_owned(),
    }
}

/// Draws the selected actor's last messages and last failure.
fn last_messages(model: &Model, actor: &ActorView, frame: &mut Frame, area: Rect) {
    let title = format!("{}: its last messages", actor.name);
    let block = panel(&title);
    let room = usize::from(block.inner(area).height);
    let mut lines = deaths(model, actor);
    lines.truncate(room.min(2));
    let left = room.saturating_sub(lines.len());
    lines.extend(messages(model, actor).take(left));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// Draws everything known about one actor.
fn whole(model: &Model, actor: &ActorView, frame: &mut Frame, area: Rect) {
    let state = format!("{:?}", actor.state).to_lowercase();
    let mut lines = vec![
        Line::from(format!("{state}: {}", doing(actor))),
        Line::from(format!(
            "queue {}   last answer after {}   {} messages handled, {}   {} restarts",
            queue(actor),
            waited(actor),
            actor.handled,
            rate(model, actor),
            actor.restarts
        )),
        Line::from(""),
    ];
    lines.extend(deaths(model, actor));
    lines.extend(messages(model, actor));
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    let title = format!(
        "{}, made by {}; up and down: the others, esc back",
        actor.name,
        parent(actor)
    );
    frame.render_widget(text.block(panel(&title)), area);
}

fn parent(actor: &ActorView) -> &str {
    if actor.parent.is_empty() {
        "the daemon"
    } else {
        &actor.parent
    }
}

/// Lists its failures with their reasons, the last one first.
fn deaths<'a>(model: &Model, actor: &'a ActorView) -> Vec<Line<'a>> {
    let died = |(at, reason): &'a (i64, String)| {
        Line::styled(format!("{:>9}  died: {reason}", ago(model, *at)), bad(model))
    };
    actor.deaths.iter().rev().map(died).collect()
}

/// Lists its last messages, the last one first: time, type, duration, outcome.
fn messages<'a>(model: &'a Model, actor: &'a ActorView) -> impl Iterator<Item = Line<'a>> {
    actor.recent.iter().rev().map(|(at, message, took, outcome)| {
        let style = if outcome == "ok" { quiet() } else { bad(model) };
        Line::from(vec![
            Span::styled(format!("{:>9}  ", ago(model, *at)), quiet()),
            Span::styled(format!("{message:<14}"), accent(model)),
            Span::raw(format!("{:>9}  ", time(*took))),
            Span::styled(outcome.as_str(), style),
        ])
    })
}

/// Formats how long ago something was, by the time of the daemon's events.
fn ago(model: &Model, at_us: i64) -> String {
    let seconds = (model.now_us - at_us).max(0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}

fn style(model: &Model, state: ActorState) -> Style {
    match state {
        ActorState::Busy => good(model),
        ActorState::Waiting | ActorState::Paused | ActorState::Starting => accent(model),
        ActorState::Failed => bad(model),
        ActorState::Stopped => quiet(),
        ActorState::Idle => Style::new(),
    }
}
