//! The categories of a benchmark result as a tree, each with its mean and 95 % interval as a bar.

use std::collections::BTreeMap;

use ratatui::text::{Line, Span};

use crate::model::Model;
use crate::theme::{accent, quiet};

/// The columns of a category's bar.
const BAR: usize = 24;

/// Returns the credit of an item row.
pub(super) fn credit(item: &[String]) -> f64 {
    item.get(3).and_then(|credit| credit.parse().ok()).unwrap_or(0.0)
}

/// Draws the tree of categories: `counting/two` is a child of `counting`. Each has the mean credit of its items and the
/// Wilson interval.
pub(super) fn tree<'a>(model: &Model, items: &[Vec<String>]) -> Vec<Line<'a>> {
    let mut parts: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for item in items {
        for name in names(item) {
            let (sum, count) = parts.entry(name).or_default();
            (*sum, *count) = (*sum + credit(item), *count + 1.0);
        }
    }
    let line = |(name, (sum, count)): (String, (f64, f64))| {
        let (low, high) = wilson(sum / count, count);
        Line::from(vec![
            Span::styled(format!("{:<26}", label(&name)), accent(model)),
            Span::raw(format!("{:>7}", format!("n {count}"))),
            Span::raw(format!(
                "  {} {:>5.1} %",
                interval(low, sum / count, high, BAR),
                100.0 * sum / count
            )),
            Span::styled(format!("  {:.0} to {:.0}", 100.0 * low, 100.0 * high), quiet()),
        ])
    };
    parts.into_iter().map(line).collect()
}

/// Returns the categories in which an item counts; the whole has an empty name.
pub(super) fn names(item: &[String]) -> Vec<String> {
    let is_counted = item.get(2).is_some_and(|counted| counted == "1");
    let category = item.get(1).map_or("", String::as_str);
    let category = match is_counted {
        true => category.to_owned(),
        false => format!("held out/{category}"),
    };
    let mut names = vec![String::new()];
    let ends = category.match_indices('/');
    names.extend(ends.map(|(at, _)| category[..at].to_owned()));
    names.push(category);
    names.dedup();
    // Held-out items count only in their own category.
    names.retain(|name| is_counted || !name.is_empty());
    names
}

/// Returns a category's own name, indented by its depth.
pub(super) fn label(name: &str) -> String {
    let Some(last) = name.rsplit('/').next().filter(|last| !last.is_empty()) else {
        return "all".to_owned();
    };
    let depth = 1 + name.matches('/').count();
    format!("{}{}", "  ".repeat(depth), last.replace('_', " "))
}

/// Computes the 95 % interval of a share of `count` items (Wilson, 1927).
fn wilson(share: f64, count: f64) -> (f64, f64) {
    const Z: f64 = 1.959_964;
    let whole = 1.0 + Z * Z / count;
    let middle = (share + Z * Z / (2.0 * count)) / whole;
    let half = Z / whole
        * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count))
            .max(0.0)
            .sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// Draws a value and its interval between 0 and 100 %.
pub(super) fn interval(low: f64, value: f64, high: f64, columns: usize) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let column = |value: f64| (value.clamp(0.0, 1.0) * columns.saturating_sub(1) as f64).round() as usize;
    let (low, at, high) = (column(low), column(value), column(high));
    let mark = |place: usize| match place {
        _ if place == at => '●',
        _ if (low..=high).contains(&place) => '━',
        _ => '·',
    };
    (0..columns).map(mark).collect()
}
