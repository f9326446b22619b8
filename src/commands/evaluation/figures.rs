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

fn parts(result: &SuiteResult) -> String {
    let shown = result.parts.iter().take(PARTS);
    let mut shown: Vec<String> = shown
        .map(|(name, value)| format!("{name} {}", percent(*value)))
        .collect();
    if result.parts.len() > PARTS {
        shown.push(format!("and {} more", result.parts.len() - PARTS));
    }
    shown.join(", ")
}

/// Formats a mean with its interval.
fn said(mean: Option<&Mean>) -> String {
    let Some(mean) = mean else { return String::new() };
    match (mean.low, mean.high) {
        (Some(low), Some(high)) => format!("{:.2} [{low:.2}, {high:.2}]", mean.value),
        _ => format!("{:.2}", mean.value),
    }
}
