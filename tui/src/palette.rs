//! The command palette: every binding and every knob, found by a few letters of its words.

use demask_storage::Knob;
use ratatui::layout::Rect;

use crate::keys::{Action, Binding};

/// What the palette is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Palette {
    /// Typed so far.
    pub text: String,
    /// Which of the found entries.
    pub at: usize,
}

/// One thing that can be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct PaletteEntry {
    /// Key, or what would be typed.
    pub key: String,
    /// In words.
    pub words: String,
    /// What it does.
    pub does: Does,
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq)]
pub enum Does {
    /// What a key does.
    Act(Action),
    /// Asks for a knob's new value.
    Turn(String),
}

/// Where the palette is drawn.
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
    /// The first entry that is shown where so many have room.
    #[must_use]
    pub fn first(&self, room: usize) -> usize {
        (self.at + 1).saturating_sub(room)
    }

    /// The entries that the typed letters are found in, best first.
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

/// Lower is better: how far apart the letters stand, in order, whatever their case; none when one is missing.
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
