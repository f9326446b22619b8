//! The results of suites as a table: the value, its protocol and its interval, with the published value where it has
//! the same protocol.

use demask_rewards::benchmarks::{Suite, SuiteResult};
use demask_rewards::rewards::REWARDS;
use demask_rewards::statistics::Mean;

use crate::terminal::print;

/// Most parts of a result in a row; `--json` has all of them.
const PARTS: usize = 14;

/// Prints one row per suite.
///
/// # Errors
/// Any error of standard output.
pub fn print_results(suites: &[Suite], results: &[SuiteResult]) -> anyhow::Result<()> {
    let mut asked: Vec<_> = REWARDS
        .iter()
        .map(|reward| (reward.name(), reward.title()))
        .collect();
    asked.retain(|(name, _)| results.iter().any(|result| result.networks.contains_key(*name)));
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|result| {
            let interval = format!("{}–{}", percent(result.low), percent(result.high));
            let figure = match result.figure.is_empty() {
                true => percent(result.value),
                false => result.figure.clone(),
            };
            let suite = result.suite.split(':').next().unwrap_or(&result.suite);
            let mut row = vec![
                suite.to_owned(),
                result.protocol.clone(),
                figure,
                interval,
                result.n.to_string(),
            ];
            row.extend(asked.iter().map(|(name, _)| said(result.networks.get(*name))));
            row.push(parts(result));
            row
        })
        .collect();
    let mut head = vec!["suite", "protocol", "%", "95 %", "items"];
    head.extend(asked.iter().map(|(_, title)| *title));
    head.push("parts");
    print::table(&head, &rows)?;
    let own_data = suites.iter().filter(|suite| !suite.is_narrowed());
    for suite in own_data {
        for figure in suite.protocol().published {
            let name = suite.name();
            print::note(&format!(
                "published result of {name}: {} {} ({})",
                figure.model, figure.value, figure.cited
            ));
        }
    }
    Ok(())
}

fn percent(value: f64) -> String {
    format!("{:.1}", 100.0 * value)
}

/// Formats the parts of a result in the order of their names. If they are more than a row shows, figures over several
/// categories come before single categories.
fn parts(result: &SuiteResult) -> String {
    let mut parts: Vec<(&String, &f64)> = result.parts.iter().collect();
    parts.sort_by_key(|(name, _)| !is_aggregate(name));
    parts.truncate(PARTS);
    parts.sort_by_key(|(name, _)| *name);
    let mut shown: Vec<String> = parts
        .into_iter()
        .map(|(name, value)| format!("{name} {}", percent(*value)))
        .collect();
    if result.parts.len() > PARTS {
        shown.push(format!("and {} more", result.parts.len() - PARTS));
    }
    shown.join(", ")
}

/// Returns whether a part is a figure over several categories: `pass@N`, or a name in parentheses.
fn is_aggregate(part: &str) -> bool {
    part.starts_with("pass@") || part.starts_with('(')
}

/// Formats a mean with its interval.
fn said(mean: Option<&Mean>) -> String {
    let Some(mean) = mean else { return String::new() };
    match (mean.low, mean.high) {
        (Some(low), Some(high)) => format!("{:.2} [{low:.2}, {high:.2}]", mean.value),
        _ => format!("{:.2}", mean.value),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_row_that_is_cut_keeps_the_figures_over_categories() {
        let categories = (0..20).map(|number| (format!("category {number:02}"), 0.5));
        let aggregates = [("pass@4", 0.75), ("(humanities)", 0.25)];
        let aggregates = aggregates.map(|(name, value)| (name.to_owned(), value));
        let result = SuiteResult {
            suite: "wide".to_owned(),
            protocol: String::new(),
            figure: String::new(),
            metric: String::new(),
            value: 0.5,
            low: 0.0,
            high: 1.0,
            n: 20,
            parts: categories.chain(aggregates).collect(),
            networks: BTreeMap::new(),
        };
        let shown = parts(&result);
        assert!(
            shown.starts_with("(humanities) 25.0, category 00 50.0, "),
            "{shown}"
        );
        assert!(
            shown.ends_with("category 11 50.0, pass@4 75.0, and 8 more"),
            "{shown}"
        );
    }
}
