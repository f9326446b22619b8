//! The sections of the page with measurements and events of a run.

use std::fmt::Write as _;

use anyhow::Context as _;
use demask_api::PictureSize;
use demask_storage::query::curves::{self, quoted};
use demask_tui::chart::{Along, Chart, ChartStyle};
use serde_json::Value;

use super::RunPage;
use super::html::{cell, escaped, table, text};
use crate::figure::paper;

/// Size of a curve in pixels.
const SIZE: PictureSize = PictureSize {
    width: 860,
    height: 300,
};
/// Metrics that are drawn, in this order; the others are only in the store.
const DRAWN: [&str; 6] = [
    "train/loss*",
    "tokenizer/*",
    "reward/*",
    "reward_part/*",
    "policy/*",
    "reason/*",
];

/// Returns the heading: the run in a few lines.
pub(super) fn head(subject: &RunPage) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT run, profile, status, reason, step, seed, generation, host, version, \
         datetime(started_us / 1000000, 'unixepoch') AS \"began (UTC)\", \
         datetime(ended_us / 1000000, 'unixepoch') AS \"ended (UTC)\" FROM v_run WHERE run = {}",
        quoted(subject.run)
    );
    let rows = subject.rows(&sql)?;
    let row = rows.rows.first().context("the run is no longer in the store")?;
    let mut lines = String::new();
    for (name, value) in rows
        .columns
        .iter()
        .zip(row)
        .filter(|(_, value)| !cell(value).is_empty())
    {
        write!(
            lines,
            "<tr>{}{}</tr>",
            text("th", "", name),
            text("td", "", &cell(value))
        )
        .ok();
    }
    let title = format!("{} {}", cell(&row[1]), cell(&row[2]));
    Ok(format!("{}<table>{lines}</table>", text("h1", "", &title)))
}

/// Returns the curves of training, reward and policy metrics, with marks where a knob was turned.
pub(super) fn curves(subject: &RunPage) -> anyhow::Result<String> {
    let (database, runs) = (subject.home.database(), [subject.run.to_owned()]);
    let turns = curves::turns(&database, &runs)?;
    let style = ChartStyle {
        smooth: subject.smooth,
        log: false,
        along: Along::Step,
        window: None,
    };
    let mut all = String::new();
    for pattern in DRAWN {
        let found = curves::curves(&database, &runs, &[pattern.to_owned()])?;
        for chart in Chart::each(&found, &turns, |_| String::new(), style) {
            all.push_str(&paper::svg(&[chart], SIZE)?);
        }
    }
    Ok(all)
}

/// Returns every benchmark result with its interval, as numbers and as a bar.
pub(super) fn benchmarks(subject: &RunPage) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT step, suite, value, low, high, n, decision, gain, gain_low, gain_high, parts FROM v_eval WHERE run = {} \
         ORDER BY suite, step",
        quoted(subject.run)
    );
    let rows = subject.rows(&sql)?;
    if rows.rows.is_empty() {
        return Ok(String::new());
    }
    let mut lines = String::new();
    for row in &rows.rows {
        let number = |at: usize| row[at].as_f64();
        let percent = |at: usize| number(at).map_or(String::new(), |value| format!("{:.1}", 100.0 * value));
        let gain = number(7).map_or(String::new(), |gain| {
            format!("{:+.1} [{}, {}]", 100.0 * gain, percent(8), percent(9))
        });
        let value = (
            number(2).unwrap_or(0.0),
            number(3).unwrap_or(0.0),
            number(4).unwrap_or(0.0),
        );
        let cells = [
            text("td", "number", &cell(&row[0])),
            text("td", "", &cell(&row[1])),
            text("td", "number", &percent(2)),
            text("td", "", &format!("[{}, {}]", percent(3), percent(4))),
            format!("<td>{}</td>", bar(value)),
            text("td", "number", &cell(&row[5])),
            text("td", "", &gain),
            text("td", "", &cell(&row[6])),
            text("td", "quiet", &parts(&row[10])),
        ];
        writeln!(lines, "<tr>{}</tr>", cells.concat()).ok();
    }
    let heads = [
        "step",
        "benchmark",
        "%",
        "95 % interval",
        "",
        "items",
        "gain over the best, same items",
        "decision",
        "parts",
    ];
    let heads: String = heads.iter().map(|head| text("th", "", head)).collect();
    Ok(format!(
        "<div class=\"scroll\"><table><tr>{heads}</tr>\n{lines}</table></div>"
    ))
}

/// Draws a value and its interval on a scale from 0 to 100 %.
fn bar((value, low, high): (f64, f64, f64)) -> String {
    let at = |share: f64| 4.0 + 152.0 * share.clamp(0.0, 1.0);
    format!(
        "<svg width=\"160\" height=\"14\" role=\"img\"><rect x=\"4\" y=\"6\" width=\"152\" height=\"2\" fill=\"#ddd\"/>\
         <rect x=\"{:.1}\" y=\"5\" width=\"{:.1}\" height=\"4\" fill=\"#56b4e9\"/><circle cx=\"{:.1}\" cy=\"7\" r=\"3.5\" fill=\"#0072b2\"/></svg>",
        at(low),
        (at(high) - at(low)).max(0.0),
        at(value)
    )
}

/// Formats the parts of a result from their JSON.
fn parts(value: &Value) -> String {
    let pairs: Vec<(String, f64)> = value
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let words: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name} {:.0}", 100.0 * value))
        .collect();
    words.join(", ")
}

/// Returns the numbers of examples that were kept and rejected at each gate, with reasons.
pub(super) fn funnel(subject: &RunPage) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT source, gate, sum(passed) AS passed, sum(rejected) AS rejected, count(nullif(reason, '')) AS reasons, \
         coalesce(max(nullif(reason, '')), '') AS \"one of them\" FROM v_funnel WHERE run = {} GROUP BY source, gate",
        quoted(subject.run)
    );
    let clean = format!(
        "SELECT source, benchmark, rule, checked, overlapped FROM v_clean WHERE run = {} ORDER BY 1, 2",
        quoted(subject.run)
    );
    let (funnel, clean) = (table(&subject.rows(&sql)?), table(&subject.rows(&clean)?));
    Ok(match clean.is_empty() {
        true => funnel,
        false => format!("{funnel}<h3>Checked against benchmarks</h3>{clean}"),
    })
}

/// Returns the orders: who asked for what, and where it took effect.
pub(super) fn steering(subject: &RunPage) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT datetime(at_us / 1000000, 'unixepoch') AS \"when (UTC)\", by AS who, action, key, old, new, asked_step AS asked, \
         applied_step AS \"took effect\" FROM v_steer WHERE run = {} ORDER BY at_us",
        quoted(subject.run)
    );
    Ok(table(&subject.rows(&sql)?))
}

/// Returns the checkpoints, and the sequences that they were trained on, by stage, source, generator and verifier.
pub(super) fn lineage(subject: &RunPage) -> anyhow::Result<String> {
    let run = quoted(subject.run);
    let checkpoints = format!(
        "SELECT step, weights, reason, bytes, kept, hash, path FROM v_checkpoint WHERE run = {run} ORDER BY step"
    );
    let trained = format!(
        "SELECT stage, source, CASE WHEN generator LIKE 'weights:%' THEN 'the model itself' ELSE generator END AS \"made by\", \
         verifier, count(*) AS sequences, count(DISTINCT subject) AS different, min(step) AS \"first step\", max(step) AS \"last step\", \
         avg(score) AS \"mean score\" FROM v_lineage WHERE run = {run} GROUP BY 1, 2, 3, 4 ORDER BY min(step)"
    );
    let (checkpoints, trained) = (subject.rows(&checkpoints)?, subject.rows(&trained)?);
    Ok(format!("{}{}", table(&trained), table(&checkpoints)))
}

/// Returns the alerts.
pub(super) fn alerts(subject: &RunPage) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT step, level, kind, message FROM v_alert WHERE run = {} ORDER BY at_us",
        quoted(subject.run)
    );
    Ok(table(&subject.rows(&sql)?))
}

/// Returns the whole configuration, with every default filled in.
pub(super) fn configuration(subject: &RunPage) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT json_extract(body, '$.config') FROM v_event WHERE run = {} AND kind = 'run' ORDER BY seq LIMIT 1",
        quoted(subject.run)
    );
    let rows = subject.rows(&sql)?;
    let Some(said) = rows.rows.first().and_then(|row| row[0].as_str()) else {
        return Ok(String::new());
    };
    let config: Value = serde_json::from_str(said)?;
    let pretty = serde_json::to_string_pretty(&config)?;
    Ok(format!(
        "<details><summary>every value</summary><pre>{}</pre></details>",
        escaped(&pretty)
    ))
}
