//! The model's outputs in a run: rollouts with their rewards and benchmark items with their verdicts, both with
//! pictures.

use std::fmt::Write as _;

use demask_storage::query::curves::quoted;
use serde_json::Value;

use super::RunPage;
use super::html::{cell, picture, text};

/// Puts cards into one container.
fn cards(cards: &[String]) -> String {
    match cards.is_empty() {
        true => String::new(),
        false => format!("<div class=\"cards\">{}</div>", cards.concat()),
    }
}

/// Returns the rollouts of the last step that has some, group by group.
pub(super) fn rollouts(subject: &RunPage) -> anyhow::Result<String> {
    let run = quoted(subject.run);
    let sql = format!(
        "SELECT prompt, text, picture, asked, reference, total, advantage, step, \
         (SELECT group_concat(name || ' ' || round(value, 2), ', ') FROM v_reward WHERE v_reward.sample = v_rollout.sample) AS parts \
         FROM v_rollout WHERE run = {run} AND step = (SELECT max(step) FROM v_rollout WHERE run = {run}) \
         ORDER BY \"group\", number LIMIT {}",
        subject.samples
    );
    let rows = subject.rows(&sql)?;
    let blobs = subject.blobs();
    let card = |row: &Vec<Value>| {
        let mut card = text("b", "", &cell(&row[0]));
        for (at, what) in [(3, "asked about"), (2, "drawn")] {
            if let Some(hash) = row[at].as_str() {
                write!(card, "<div>{}</div>", picture(&blobs, hash, what)).ok();
            }
        }
        card += &text("p", "", &cell(&row[1]));
        if !cell(&row[4]).is_empty() {
            card += &text("p", "quiet", &format!("right: {}", cell(&row[4])));
        }
        let advantage = row[6].as_f64().unwrap_or(0.0);
        let class = if advantage > 0.0 { "right" } else { "wrong" };
        let rewards = format!("reward {} (advantage {advantage:+.2})", cell(&row[5]));
        card += &text("p", if advantage == 0.0 { "quiet" } else { class }, &rewards);
        card += &text("p", "quiet", &cell(&row[8]));
        format!("<div class=\"card\">{card}</div>")
    };
    let all: Vec<String> = rows.rows.iter().map(card).collect();
    Ok(cards(&all))
}

/// Returns items of the last result of each suite, wrong ones first.
pub(super) fn items(subject: &RunPage) -> anyhow::Result<String> {
    let run = quoted(subject.run);
    let suites = subject.rows(&format!(
        "SELECT suite, max(step) FROM v_item WHERE run = {run} GROUP BY suite ORDER BY suite"
    ))?;
    let mut all = String::new();
    for suite in &suites.rows {
        let (name, step) = (cell(&suite[0]), cell(&suite[1]));
        let sql = format!(
            "SELECT prompt, output, answer, reference, credit, picture, drawn, category FROM v_item WHERE run = {run} AND \
             suite = {} AND step = {step} ORDER BY credit, number LIMIT {}",
            quoted(&name),
            subject.samples
        );
        let found: Vec<String> = subject
            .rows(&sql)?
            .rows
            .iter()
            .map(|row| item(subject, row))
            .collect();
        write!(
            all,
            "{}{}",
            text("h3", "", &format!("{name} at step {step}, wrong ones first")),
            cards(&found)
        )
        .ok();
    }
    Ok(all)
}

fn item(subject: &RunPage, row: &[Value]) -> String {
    let blobs = subject.blobs();
    let mut card = text("b", "", &cell(&row[0]));
    for (at, what) in [(5, "asked about"), (6, "drawn")] {
        if let Some(hash) = row[at].as_str() {
            write!(card, "<div>{}</div>", picture(&blobs, hash, what)).ok();
        }
    }
    card += &text("p", "", &cell(&row[1]));
    let credit = row[4].as_f64().unwrap_or(0.0);
    let (class, word) = if credit >= 1.0 {
        ("right", "right")
    } else {
        ("wrong", "not right")
    };
    card += &text(
        "p",
        class,
        &format!("{word}: {} for {}", cell(&row[2]), cell(&row[3])),
    );
    card += &text("p", "quiet", &cell(&row[7]));
    format!("<div class=\"card\">{card}</div>")
}
