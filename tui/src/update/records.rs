//! The records of a run, as they change the model.

use demask_storage::query::curves::KnobTurn;
use demask_storage::{Eval, Frame, GateVerdict, Level, Record, RolloutSample, RunState, TrainUse};

use crate::dashboard::Dashboard;
use crate::model::{LINES, LogLine, Model, POINTS, ROLLOUTS, SAMPLES};
use crate::screens::Event;

/// Takes in a record that the daemon sent, for the run that is shown.
pub(super) fn take(board: &mut Dashboard, record: Record, at_us: i64) {
    if board.is_past {
        match record {
            Record::Overview(overview) => board.live = Some(overview),
            Record::Actor(actor) => drop(board.actors.insert(actor.name.clone(), actor)),
            _ => {}
        }
        return;
    }
    if let Some(run) = run_of(&record).filter(|run| !run.is_empty() && *run != board.run) {
        board.model.begin(run);
        board.tell(&Event::Begun);
    }
    board.tell(&Event::Record(&record));
    keep(&mut board.model, record, at_us);
}

/// Keeps a record as far as it is shown.
pub(super) fn keep(model: &mut Model, record: Record, at_us: i64) {
    match record {
        Record::Overview(overview) => model.overview = Some(overview),
        Record::Actor(actor) => drop(model.actors.insert(actor.name.clone(), actor)),
        Record::Metric(metric) => {
            timed(model, metric.step as f64, at_us);
            for (name, value) in metric.values {
                let points = model.metrics.entry(name).or_default();
                // The step was repeated after a crash, or came both from the store and live.
                while points.back().is_some_and(|&(step, _)| step >= metric.step as f64) {
                    points.pop_back();
                }
                points.push_back((metric.step as f64, value));
                while points.len() > POINTS {
                    points.pop_front();
                }
            }
        }
        Record::Frame(frame) => match model.samples.iter_mut().find(|(id, _)| *id == frame.sample) {
            // A frame that came both from the store and live is kept once.
            Some((_, frames)) => match frames.iter_mut().find(|known| known.step == frame.step) {
                Some(known) => *known = frame,
                None => frames.push(frame),
            },
            None => sampled(model, frame),
        },
        Record::Sample(sample) => drawn(model, sample),
        Record::Verdict(verdict) => judged(model, verdict),
        Record::TrainUse(used) => trained(model, &used),
        Record::Eval(eval) => benchmarked(model, at_us, eval),
        Record::Alert(alert) => log(
            model,
            at_us,
            alert.level,
            format!("alert {}: {}", alert.kind, alert.message),
        ),
        Record::Lifecycle(life) => log(
            model,
            at_us,
            Level::Info,
            match life.reason.as_str() {
                "" => format!("{}: {}", life.actor, life.what),
                why => format!("{}: {}, {why}", life.actor, life.what),
            },
        ),
        Record::Checkpoint(checkpoint) if checkpoint.kept => {
            log(
                model,
                at_us,
                Level::Info,
                format!("checkpoint at step {} ({})", checkpoint.step, checkpoint.reason),
            );
        }
        Record::Steer(steer) => {
            if let (Some(key), Some(new), Some(step)) = (&steer.key, &steer.new, steer.applied_step) {
                turned_at(model, step, format!("{key}={new}"));
            }
            let what = [Some(steer.action.to_string()), steer.key, steer.new]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ");
            let when = steer
                .applied_step
                .map_or("asked".to_owned(), |step| format!("applied at step {step}"));
            model.notice = format!("{what}: {when}");
            log(model, at_us, Level::Info, format!("{} {what}: {when}", steer.by));
        }
        Record::RunEnd(end) => {
            let level = if end.status == RunState::Failed {
                Level::Error
            } else {
                Level::Info
            };
            log(model, at_us, level, format!("run {}: {}", end.status, end.reason));
        }
        Record::Run(run) => {
            let how = if run.generation > 0 { "goes on" } else { "begins" };
            log(
                model,
                at_us,
                Level::Info,
                format!("{} {how}, run {}", run.profile, run.id),
            );
        }
        _ => {}
    }
}

/// Records the time of a step; a repetition replaces the earlier time.
fn timed(model: &mut Model, step: f64, at_us: i64) {
    while model.times.back().is_some_and(|&(known, _)| known >= step) {
        model.times.pop_back();
    }
    model.times.push_back((step, at_us));
    while model.times.len() > POINTS {
        model.times.pop_front();
    }
}

/// Keeps a sample of a group; one that a resumed run draws again replaces the earlier one.
fn drawn(model: &mut Model, sample: RolloutSample) {
    if let Some(known) = model.rollouts.iter_mut().find(|known| known.id == sample.id) {
        *known = sample;
        return;
    }
    model.rollouts.push_back(sample);
    while model.rollouts.len() > ROLLOUTS {
        model.rollouts.pop_front();
    }
}

/// Counts a verdict once: the last one on a subject at a gate replaces earlier ones.
fn judged(model: &mut Model, verdict: GateVerdict) {
    // As in `v_funnel`: a note on what passed is no reason, and a verdict may stand for many rows.
    let (passed, rows) = (verdict.passed, verdict.count);
    let reason = if passed { String::new() } else { verdict.reason };
    let line = (verdict.source, verdict.gate.to_string(), reason);
    let name = (verdict.subject, verdict.gate.to_string());
    let before = model.verdicts.put(name, (line.clone(), passed, rows));
    if let Some((line, passed, rows)) = before
        && let Some(counts) = model.funnel.get_mut(&line)
    {
        let count = if passed { &mut counts.0 } else { &mut counts.1 };
        *count = count.saturating_sub(rows);
        if *counts == (0, 0) {
            model.funnel.remove(&line);
        }
    }
    let counts = model.funnel.entry(line).or_default();
    let count = if passed { &mut counts.0 } else { &mut counts.1 };
    *count = count.saturating_add(rows);
}

/// Counts the sequences of a step once.
fn trained(model: &mut Model, used: &TrainUse) {
    let stage = used.stage.split('/').next().unwrap_or_default().to_owned();
    let count = used.subjects.len() as u64;
    let before = model.trained_at.put((used.step, used.stage.clone()), count);
    let all = model.trained.entry(stage).or_default();
    *all = all.saturating_sub(before.unwrap_or(0)) + count;
}

/// Keeps a suite's result at a step once.
fn benchmarked(model: &mut Model, at_us: i64, eval: Eval) {
    let same = |known: &&mut Eval| (known.step, &known.suite) == (eval.step, &eval.suite);
    if let Some(known) = model.evals.iter_mut().find(same) {
        *known = eval;
        return;
    }
    let line = format!("benchmark {} {:.1} %", eval.suite, 100.0 * eval.value);
    log(model, at_us, Level::Info, line);
    model.evals.push(eval);
}

/// Keeps the first frame of a sample.
fn sampled(model: &mut Model, frame: Frame) {
    model.samples.push_back((frame.sample.clone(), vec![frame]));
    while model.samples.len() > SAMPLES {
        model.samples.pop_front();
    }
}

/// Returns the run of a record that belongs to one and is drawn.
pub(super) fn run_of(record: &Record) -> Option<&str> {
    match record {
        Record::Run(run) => Some(&run.id),
        Record::Metric(metric) => Some(&metric.run),
        Record::Frame(frame) => Some(&frame.run),
        Record::Sample(sample) => Some(&sample.run),
        Record::Verdict(verdict) => Some(&verdict.run),
        Record::TrainUse(used) => Some(&used.run),
        Record::Eval(eval) => Some(&eval.run),
        _ => None,
    }
}

/// Adds a line to the log.
pub(super) fn log(model: &mut Model, at_us: i64, level: Level, text: String) {
    // A terminal leaves such characters out, so that the words around them would be one.
    let text = text.replace(char::is_control, " ");
    model.log.push_back(LogLine { at_us, level, text });
    model.logged += 1;
    while model.log.len() > LINES {
        model.log.pop_front();
    }
}

/// Records a turned knob once, even if both the store and the daemon report it.
fn turned_at(model: &mut Model, step: u64, words: String) {
    let (run, step) = (model.run.clone(), step as f64);
    if !model
        .turns
        .iter()
        .any(|turn| turn.step == step && turn.words == words)
    {
        let seconds = 0.0;
        model.turns.push(KnobTurn {
            run,
            step,
            seconds,
            words,
        });
    }
}
