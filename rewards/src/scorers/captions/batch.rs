//! Captions tokenised as a batch, as in the official evaluation, which passes all captions of a list, one per line.
//! Rules with lookahead therefore see the next line.
//!
//! Observed in CoreNLP 3.4.1: the full stop of a single letter at the end of a caption is dropped if the next caption
//! begins with one of the sentence-initial words, or with a tag. The full stop of `No.` and its like is kept if the
//! next caption begins with a digit.

use super::tokens::tokens;

/// The sentence-initial words after a single letter, each followed by white space or the end of the line.
#[rustfmt::skip]
const BEGINNINGS: [&str; 46] = [
    "a", "about", "according", "additionally", "after", "an", "as", "at", "but", "earlier", "he", "her", "here", "however",
    "if", "in", "it", "last", "many", "more", "mr.", "ms.", "now", "once", "one", "other", "our", "she", "since", "so",
    "some", "such", "that", "the", "their", "then", "there", "these", "they", "this", "we", "what", "when", "while",
    "yet", "you",
];
/// The words that keep their full stop before a number.
const NUMBERED: [&str; 9] = ["no", "nos", "art", "fig", "figs", "pp", "ca", "op", "prop"];

/// Below this number of captions, one thread tokenises all.
const FEW: usize = 2000;

/// Tokenises captions as one batch, on all processors.
pub fn all_tokens(captions: &[&str]) -> Vec<String> {
    let part = |range: std::ops::Range<usize>| -> Vec<String> {
        let each = range.map(|at| before(captions[at], captions.get(at + 1).copied()));
        each.collect()
    };
    if captions.len() < FEW {
        return part(0..captions.len());
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let size = captions.len().div_ceil(workers);
    std::thread::scope(|scope| {
        let starts = (0..captions.len()).step_by(size);
        let ranges = starts.map(|start| start..(start + size).min(captions.len()));
        let part = &part;
        let parts: Vec<_> = ranges
            .map(|range| (range.clone(), scope.spawn(move || part(range))))
            .collect();
        let tokens = parts
            .into_iter()
            .flat_map(|(range, tokens)| tokens.join().unwrap_or_else(|_| part(range)));
        tokens.collect()
    })
}

/// Tokenises a caption that is followed by `next`.
fn before(caption: &str, next: Option<&str>) -> String {
    let mut text = tokens(caption);
    let is_end = matches!(caption.trim_end().as_bytes(), [.., letter, b'.'] if letter.is_ascii_alphabetic());
    let Some(next) = next.filter(|_| is_end) else {
        return text;
    };
    let last = text.rsplit(' ').next().unwrap_or_default();
    let is_letter = matches!(last.as_bytes(), [letter, b'.'] if letter.is_ascii_lowercase());
    if is_letter && begins_sentence(next) {
        text.pop();
    } else if NUMBERED.contains(&last) && next.starts_with(|sign: char| sign.is_ascii_digit()) {
        text.push('.');
    }
    text
}

/// Whether a caption begins like a sentence after a single letter.
fn begins_sentence(caption: &str) -> bool {
    let first = caption.split_whitespace().next().unwrap_or_default();
    let is_tag =
        first.starts_with('<') && first.ends_with('>') && !first[1..first.len() - 1].contains(['<', '>']);
    let is_word = first.starts_with(|sign: char| sign.is_ascii_uppercase())
        && BEGINNINGS.contains(&first.to_ascii_lowercase().as_str());
    is_word || (is_tag && first.len() > 2)
}
