//! The help of `demask query`: the views with their columns, and three example queries.

use demask_storage::query::COLUMNS;

/// Three common queries.
const EXAMPLES: [&str; 3] = [
    "SELECT name, step, value FROM v_latest",
    "SELECT step, value FROM v_metric WHERE name = 'train/loss' ORDER BY step DESC LIMIT 20",
    "SELECT suite, step, value, low, high FROM v_eval ORDER BY at_us DESC",
];

/// Returns the help: examples, and the views with their columns.
pub fn help() -> String {
    let examples = EXAMPLES.map(|sql| format!("  demask query \"{sql}\"\n")).concat();
    let views = views().map(|(view, columns)| format!("  {view:13} {columns}\n"));
    format!(
        "Examples:\n{examples}\nViews and their columns:\n{}",
        views.collect::<String>()
    )
}

/// Iterates over the views with their columns.
pub fn views() -> impl Iterator<Item = (&'static str, &'static str)> {
    COLUMNS.lines().filter_map(|line| line.split_once(": "))
}
