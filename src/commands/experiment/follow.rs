//! Following a run, line by line, from an event until its end.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use demask_actors::home::Home;
use demask_storage::{Overview, Record, RunState, query};

use crate::commands::experiment::control;
use crate::connection::line::{Line, connect};
use crate::terminal::print;

/// Time between two lines while nothing but the step changes.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// The event from which a run is followed.
#[derive(Clone, Copy)]
pub enum Since {
    /// The run's first event.
    Beginning,
    /// The run's newest event.
    Now,
}

impl Since {
    /// Returns the sequence number of that event. The end of the run is excluded, so that the end is seen even if it
    /// came before.
    fn event(self, home: &Home, run: &str) -> anyhow::Result<u64> {
        let which = match self {
            Self::Beginning => "min",
            Self::Now => "max",
        };
        let sql = format!("SELECT {which}(seq) FROM v_event WHERE run = '{run}' AND kind <> 'run_end'");
        let rows = query::query(&home.database(), &sql, 1)?.rows;
        let found = rows.first().and_then(|row| row.first()?.as_u64());
        found.with_context(|| format!("the store has no events of run {run}"))
    }
}

/// Follows the run, or leaves it to the daemon with `detach`.
///
/// # Errors
/// An error if the daemon goes away, or if the store lacks the run.
pub fn watched(home: &Home, run: &str, since: Since, detach: bool, json: bool) -> anyhow::Result<ExitCode> {
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    let mut client = connect(home)?;
    client.subscribe(since.event(home, run)?)?;
    follow(client, run, json)
}

/// Prints the progress of a run until it ends. Ctrl-C leaves it running.
fn follow(mut client: Line, run: &str, json: bool) -> anyhow::Result<ExitCode> {
    let mut told = Told::default();
    loop {
        let envelope = client.event()?;
        if json {
            if !matches!(
                envelope.record,
                Record::Actor(_) | Record::Frame(_) | Record::Item(_)
            ) {
                println!("{}", serde_json::to_string(&envelope)?);
            }
        } else {
            tell(&envelope.record, &mut told);
        }
        if let Record::RunEnd(end) = &envelope.record
            && end.run == run
        {
            if !json {
                print::say(&format!("{}: {}", end.status, end.reason));
            }
            return Ok(match end.status {
                RunState::Failed => ExitCode::from(crate::exit::FAILED),
                RunState::Stopped | RunState::Interrupted => ExitCode::from(crate::exit::STOPPED),
                _ => ExitCode::SUCCESS,
            });
        }
    }
}

/// Metrics that a line shows beside the progress, with their labels.
const SAID: [(&str, &str); 2] = [("train/loss", "loss"), ("reward/total", "reward")];

/// The last line that was printed, and its time.
#[derive(Default)]
struct Told {
    line: String,
    place: (Option<RunState>, usize, String),
    at: Option<Instant>,
    /// The newest values of the shown metrics, as text.
    values: BTreeMap<&'static str, String>,
}

impl Told {
    /// Prints the progress: at once if the state, the stage or the detail changes, else every few seconds.
    fn overview(&mut self, overview: &Overview) {
        let mut line = control::line(overview);
        for value in self.values.values() {
            line = format!("{line} · {value}");
        }
        if !overview.detail.is_empty() {
            line = format!("{line} · {}", overview.detail);
        }
        let place = (Some(overview.state), overview.stage, overview.detail.clone());
        let early = self.at.is_some_and(|at| at.elapsed() < BETWEEN_LINES);
        if line == self.line || (early && place == self.place) {
            return;
        }
        print::say(&line);
        (self.line, self.place, self.at) = (line, place, Some(Instant::now()));
    }
}

fn tell(record: &Record, told: &mut Told) {
    match record {
        Record::Metric(metric) => {
            for (name, value) in &metric.values {
                if let Some((key, word)) = SAID.iter().find(|(said, _)| said == name) {
                    told.values.insert(key, format!("{word} {value:.3}"));
                }
            }
        }
        Record::Overview(overview) => told.overview(overview),
        Record::Eval(eval) => {
            print::say(&format!(
                "  {} {:.1} % [{:.1}, {:.1}] of {}",
                eval.suite,
                100.0 * eval.value,
                100.0 * eval.low,
                100.0 * eval.high,
                eval.n
            ));
        }
        Record::Alert(alert) => print::say(&format!("  {}: {}", alert.kind, alert.message)),
        Record::Checkpoint(checkpoint) if checkpoint.kept => {
            print::say(&format!(
                "  checkpoint at step {} ({})",
                checkpoint.step, checkpoint.reason
            ));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use demask_storage::{Lifecycle, RunEnd, Writer};

    #[test]
    fn the_end_of_a_run_is_among_what_follows_though_it_came_before_the_follower() {
        let root = std::env::temp_dir().join(format!("demask-followed-{}", std::process::id()));
        let home = Home::open(Some(root.clone())).unwrap();
        let life = |run: &str, what: &str| {
            let [run, actor, what] = [run, "trainer", what].map(str::to_owned);
            let (generation, reason) = (0, String::new());
            Record::Lifecycle(Lifecycle {
                run,
                actor,
                generation,
                what,
                reason,
            })
        };
        let [run, reason] = ["one", ""].map(str::to_owned);
        let status = RunState::Done;
        let end = Record::RunEnd(RunEnd { run, status, reason });
        let events = [
            life("before", "started"),
            life("one", "started"),
            life("one", "stopped"),
            end,
        ];
        std::fs::create_dir_all(&root).unwrap();
        Writer::open(&home.database())
            .unwrap()
            .append(&events, 0)
            .unwrap();
        let from = |since: Since| since.event(&home, "one").unwrap();
        assert_eq!((from(Since::Beginning), from(Since::Now)), (2, 3));
        assert!(Since::Now.event(&home, "none").is_err());
        std::fs::remove_dir_all(root).unwrap();
    }
}
