//! Runs from the store: the queries that open one, and how their results are taken in.

use demask_storage::Record;
use demask_storage::query::curves;

use super::records::{keep, run_of};
use crate::dashboard::Dashboard;
use crate::model::message::Effect;
use crate::model::{Model, past};
use crate::screens::Event;

/// Opens a stored run; an empty name returns to the daemon's run.
pub(super) fn opened(board: &mut Dashboard, run: &str) -> Vec<Effect> {
    let model = &mut board.model;
    let live = model
        .live
        .take()
        .or_else(|| model.overview.take().filter(|_| !model.is_past));
    let present = live
        .as_ref()
        .map_or(String::new(), |overview| overview.run.clone());
    model.is_past = !run.is_empty() && run != present;
    (model.overview, model.live) = if model.is_past { (None, live) } else { (live, None) };
    let run = if model.is_past { run.to_owned() } else { present };
    model.begin(&run);
    model.log.clear();
    board.tell(&Event::Begun);
    if run.is_empty() {
        return Vec::new();
    }
    past::questions(&run).into_iter().map(Effect::Ask).collect()
}

/// Takes in a query's result about the opened run.
pub(super) fn read(board: &mut Dashboard, columns: &[String], rows: &[Vec<String>]) {
    match columns.first().map(String::as_str) {
        Some(past::EVENTS) => read_events(board, rows),
        Some(past::FUNNEL) => read_funnel(&mut board.model, rows),
        Some(curves::CURVE) => read_points(&mut board.model, rows),
        Some(curves::TURNED) => {
            let turns = curves::turns_of(rows).into_iter();
            board.model.turns = turns.filter(|turn| turn.run == board.model.run).collect();
        }
        _ => {}
    }
}

fn read_events(board: &mut Dashboard, rows: &[Vec<String>]) {
    let mut records = Vec::new();
    for row in rows {
        let Some(Ok(record)) = row.first().map(|body| serde_json::from_str::<Record>(body)) else {
            continue;
        };
        let at_us = row.get(1).and_then(|at| at.parse().ok()).unwrap_or(0);
        records.push((at_us, record));
    }
    let all: Vec<Record> = records.iter().map(|(_, record)| record.clone()).collect();
    let step = rows.last().and_then(|row| row.get(2)?.parse().ok()).unwrap_or(0);
    // The user may have opened another run meanwhile.
    let run = all.iter().filter_map(run_of).find(|run| !run.is_empty());
    if run.is_some_and(|run| run != board.run) {
        return;
    }
    if board.is_past
        && let Some(overview) = past::overview(&all, step)
    {
        board.overview = Some(overview);
    }
    for (at_us, record) in records {
        board.tell(&Event::Record(&record));
        keep(&mut board.model, record, at_us);
    }
    // Notices among the old events are not shown.
    board.notice.clear();
}

fn read_funnel(model: &mut Model, rows: &[Vec<String>]) {
    // The user may have opened another run meanwhile.
    if rows.first().and_then(|row| row.get(5)) != Some(&model.run) {
        return;
    }
    model.funnel.clear();
    for row in rows {
        let [source, gate, reason, passed, rejected, _] = row.as_slice() else {
            continue;
        };
        let count = |text: &String| text.parse().unwrap_or(0);
        let line = (source.clone(), gate.clone(), reason.clone());
        model.funnel.insert(line, (count(passed), count(rejected)));
    }
}

/// Puts the stored points of the run before the live ones.
fn read_points(model: &mut Model, rows: &[Vec<String>]) {
    for curve in curves::curves_of(rows) {
        if curve.run != model.run {
            continue;
        }
        let live = model.metrics.entry(curve.name).or_default();
        let first = live.front().map_or(f64::INFINITY, |point| point.0);
        let before = curve.points.iter().filter(|point| point.step < first);
        for point in before.rev() {
            live.push_front((point.step, point.value));
        }
    }
}
