//! The command palette: every key binding and every knob, found by a few letters of its text.

use demask_storage::Knob;
use ratatui::layout::Rect;

use crate::keys::{Action, Binding};

/// The state of the palette.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Palette {
    /// The typed text.
    pub text: String,
    /// The index of the selected entry.
    pub at: usize,
}

/// An entry of the palette.
#[derive(Clone, Debug, PartialEq)]
pub struct PaletteEntry {
    /// The key, or the knob's name.
    pub key: String,
    /// The description.
    pub words: String,
    /// The effect.
    pub does: Does,
}

/// The effect of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Does {
    /// Performs the action of a key.
    Act(Action),
    /// Asks for a knob's new value.
    Turn(String),
}

/// Returns the area of the palette.
#[must_use]
pub fn place(area: Rect) -> Rect {
    let (width, height) = (72.min(area.width), 16.min(area.height));
    Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 3,
        width,
        height,
    }
}

impl Palette {
    /// Returns the first visible entry if `room` of them fit.
    #[must_use]
    pub fn first(&self, room: usize) -> usize {
        (self.at + 1).saturating_sub(room)
    }

    /// Returns the entries that contain the typed letters, best first.
    #[must_use]
    pub fn found(&self, bindings: &[Binding], knobs: &[Knob]) -> Vec<PaletteEntry> {
        let mut scored: Vec<(usize, usize, PaletteEntry)> = entries(bindings, knobs)
            .into_iter()
            .enumerate()
            .filter_map(|(number, entry)| {
                let score = score(&self.text, &format!("{} {}", entry.words, entry.key))?;
                Some((score, number, entry))
            })
            .collect();
        scored.sort_by_key(|(score, number, _)| (*score, *number));
        scored.into_iter().map(|(_, _, entry)| entry).collect()
    }
}

fn entries(bindings: &[Binding], knobs: &[Knob]) -> Vec<PaletteEntry> {
    let bound = bindings
        .iter()
        .filter(|binding| binding.action != Action::Palette)
        .map(|binding| PaletteEntry {
            key: binding.key.to_owned(),
            words: binding.help.to_owned(),
            does: Does::Act(binding.action),
        });
    let turned = knobs.iter().map(|knob| PaletteEntry {
        key: format!("set {}", knob.key),
        words: format!("{} ({}) {}", knob.value, knob.allowed(), knob.help),
        does: Does::Turn(knob.key.clone()),
    });
    bound.chain(turned).collect()
}

/// Scores a match; lower is better. The score measures how far apart the letters are, in order and ignoring case;
/// `None` if one is missing.
fn score(typed: &str, words: &str) -> Option<usize> {
    let words: Vec<char> = words.to_lowercase().chars().collect();
    let (mut at, mut first, mut gaps) = (0, None, 0);
    for letter in typed.to_lowercase().chars().filter(|letter| *letter != ' ') {
        let next = words[at..].iter().position(|&other| other == letter)?;
        if first.is_some() {
            gaps += next;
        }
        first.get_or_insert(at + next);
        at += next + 1;
    }
    Some(10 * gaps + first.unwrap_or(0))
}
