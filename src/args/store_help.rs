//! What can be asked of the store: the views with their columns, and three questions.

use demask_storage::query::COLUMNS;

/// Three questions that people ask.
const EXAMPLES: [&str; 3] = [
    "SELECT name, step, value FROM v_latest",
    "SELECT step, value FROM v_metric WHERE name = 'train/loss' ORDER BY step DESC LIMIT 20",
    "SELECT suite, step, value, low, high FROM v_eval ORDER BY at_us DESC",
];

/// What can be asked: examples, and the views with their columns.
pub fn help() -> String {
    let examples = EXAMPLES.map(|sql| format!("  demask query \"{sql}\"\n")).concat();
    let views = views().map(|(view, columns)| format!("  {view:13} {columns}\n"));
    format!(
        "Examples:\n{examples}\nViews and their columns:\n{}",
        views.collect::<String>()
    )
}

/// Each view and its columns.
pub fn views() -> impl Iterator<Item = (&'static str, &'static str)> {
    COLUMNS.lines().filter_map(|line| line.split_once(": "))
}
