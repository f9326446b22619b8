//! Guards against reward hacking by length or by repetition.

use std::collections::HashSet;

/// 1 up to `soft` tokens, falling to 0 at `hard`.
#[must_use]
pub fn length(tokens: usize, soft: usize, hard: usize) -> f64 {
    if tokens <= soft {
        return 1.0;
    }
    let over = (tokens - soft) as f64 / hard.saturating_sub(soft).max(1) as f64;
    (1.0 - over).max(0.0)
}

/// The share of distinct three-word runs: 1 when nothing is repeated.
#[must_use]
pub fn repetition(text: &str) -> f64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let runs = words.windows(3).count();
    if runs == 0 {
        return 1.0;
    }
    words.windows(3).collect::<HashSet<_>>().len() as f64 / runs as f64
}
