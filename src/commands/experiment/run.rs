//! `demask run`: a run from a profile, watched on the dashboard or followed line by line.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use demask_actors::home::Home;
use demask_actors::profile::{self, Profile};
use demask_datasets::hub::{Cache, checkpoint_folder};
use demask_storage::RunState;
use demask_storage::{Command, Overview, Record, Reply, journal, query, store};
use serde_json::Value;

use crate::args::{Images, Run};
use crate::commands::experiment::control;
use crate::commands::experiment::daemon;
use crate::connection::line::{Line, connect};
use crate::exit::UsageError;
use crate::terminal::dashboard;
use crate::terminal::print;

/// Between two lines on a run that only goes on.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// Checks the profile, starts what is needed, watches.
///
/// # Errors
/// A wrong profile (nothing is started then), a daemon that does not start, a run that fails.
pub fn run(home: &Home, options: Run) -> anyhow::Result<ExitCode> {
    let (text, origin) = Profile::find(options.name.as_deref().unwrap_or(&options.profile)).map_err(usage)?;
    let mut set = options.set;
    if let Some(checkpoint) = &options.checkpoint {
        set.push(start_from(checkpoint)?);
    }
    let text = assigned(&text, &origin, &set)?;
    let text = Profile::anchored(&text, &origin, options.from_scratch).map_err(usage)?;
    let asked = Profile::parse(&text, &origin).map_err(usage)?;
    daemon::ensure(home)?;
    let headless = options.headless || !std::io::stdout().is_terminal();
    let mut client = connect(home)?;
    let reply = client.ask(Command::Run {
        profile: text,
        origin,
        from_scratch: options.from_scratch,
    })?;
    match reply {
        Reply::Started { run } if headless => {
            if options.output.json {
                println!("{}", serde_json::json!({ "started": run }));
            } else {
                println!("run {run}");
            }
            watched(home, &run, Since::Beginning, options.detach, options.output.json)
        }
        Reply::Started { .. } => dashboard::open(home, Images::Auto),
        Reply::Refused { message } if headless => {
            // A daemon that begins goes on with the run that the one before it had left.
            let same = same_under_way(home, &asked, options.from_scratch)?;
            let Some(run) = same.filter(|run| message.contains(run)) else {
                anyhow::bail!(message);
            };
            let name = &asked.name;
            print::note(&format!(
                "{message}; it has this configuration ({name}), and is followed here"
            ));
            if options.output.json {
                println!("{}", serde_json::json!({ "under_way": run }));
            }
            watched(home, &run, Since::Now, options.detach, options.output.json)
        }
        Reply::Refused { message } => {
            print::note(&message);
            dashboard::open(home, Images::Auto)
        }
        other => anyhow::bail!("the daemon answered {other:?}"),
    }
}

/// The run that is under way, if its whole configuration is the one that is asked for and no new start is.
fn same_under_way(home: &Home, asked: &Profile, from_scratch: bool) -> anyhow::Result<Option<String>> {
    if from_scratch {
        return Ok(None);
    }
    let found = journal::unfinished(&store::open_read_only(&home.database())?)?;
    let Some(found) = found else { return Ok(None) };
    Ok(same(&found.config, asked)?.then_some(found.run))
}

/// Whether a stored configuration is that of a profile, however the run began.
fn same(stored: &str, asked: &Profile) -> anyhow::Result<bool> {
    let mut stored: Value = serde_json::from_str(stored)?;
    if let Some(keys) = stored.as_object_mut() {
        keys.remove("from_scratch");
    }
    // Through text as the stored one: a number that is read may differ in its last bit from the one that was written.
    let asked: Value = serde_json::from_str(&serde_json::to_string(asked)?)?;
    Ok(stored == asked)
}

/// The daemon works elsewhere, so the folder is named whole; one that no run can start from is told before anything starts.
fn start_from(checkpoint: &Path) -> anyhow::Result<String> {
    let dir = checkpoint_folder(checkpoint, &Cache::of_environment())
        .map_err(|error| usage(format!("--checkpoint {error}")))?;
    profile::can_start(&dir)
        .map_err(|wrong| usage(format!("--checkpoint {}: {wrong}", checkpoint.display())))?;
    Ok(format!("start_from={}", serde_json::to_string(&dir)?))
}

/// The profile's text with every `--set` applied, checked. A flag that makes a right profile wrong is named itself: the
/// profile's lines are not to blame.
pub(super) fn assigned(text: &str, origin: &str, flags: &[String]) -> anyhow::Result<String> {
    let set = |flags: &[String]| Profile::set(text, origin, flags);
    let whole = set(flags).map_err(usage)?;
    let Err(wrong) = Profile::parse(&whole, origin) else {
        return Ok(whole);
    };
    let right_so_far =
        |count: &usize| set(&flags[..*count]).is_ok_and(|text| Profile::parse(&text, origin).is_ok());
    match (0..flags.len()).rfind(right_so_far) {
        Some(last) => Err(usage(format!("--set {}: {}", flags[last], wrong.message)).into()),
        None => Err(usage(wrong).into()),
    }
}

pub(super) fn usage(error: impl std::fmt::Display) -> UsageError {
    UsageError(error.to_string())
}

/// Where a run is followed from.
#[derive(Clone, Copy)]
enum Since {
    /// Its first event, which says that it began.
    Beginning,
    /// Its newest.
    Now,
}

impl Since {
    /// The number of that event. An end is never it: a run that ended before it was followed is seen to end.
    fn event(self, home: &Home, run: &str) -> anyhow::Result<u64> {
        let which = match self {
            Self::Beginning => "min",
            Self::Now => "max",
        };
        let sql = format!("SELECT {which}(seq) FROM v_event WHERE run = '{run}' AND kind <> 'run_end'");
        let rows = query::query(&home.database(), &sql, 1)?.rows;
        let found = rows.first().and_then(|row| row.first()?.as_u64());
        found.with_context(|| format!("the store has no event of run {run}"))
    }
}

/// Leaves the run to the daemon, or follows it.
fn watched(home: &Home, run: &str, since: Since, detach: bool, json: bool) -> anyhow::Result<ExitCode> {
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    let mut client = connect(home)?;
    client.subscribe(since.event(home, run)?)?;
    follow(client, run, json)
}

/// Prints where the run is until it ends; Ctrl-C leaves it running.
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
                println!("{}: {}", end.status, end.reason);
            }
            return Ok(match end.status {
                RunState::Failed => ExitCode::from(crate::exit::FAILED),
                RunState::Stopped | RunState::Interrupted => ExitCode::from(crate::exit::STOPPED),
                _ => ExitCode::SUCCESS,
            });
        }
    }
}

/// Values that a line says beside where the run is, with the words for them.
const SAID: [(&str, &str); 2] = [("train/loss", "loss"), ("reward/total", "reward")];

/// What was said of where the run is, and when.
#[derive(Default)]
struct Told {
    line: String,
    place: (Option<RunState>, usize, String),
    at: Option<Instant>,
    /// The newest of the values that are said, as words.
    values: BTreeMap<&'static str, String>,
}

impl Told {
    /// Says where the run is: at once when its state, stage or detail changes, else now and then.
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
        println!("{line}");
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
            println!(
                "  {} {:.1} % [{:.1}, {:.1}] of {}",
                eval.suite,
                100.0 * eval.value,
                100.0 * eval.low,
                100.0 * eval.high,
                eval.n
            );
        }
        Record::Alert(alert) => println!("  {}: {}", alert.kind, alert.message),
        Record::Checkpoint(checkpoint) if checkpoint.kept => {
            println!("  checkpoint at step {} ({})", checkpoint.step, checkpoint.reason)
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use demask_actors::profile::TABLETOP;
    use demask_storage::{Lifecycle, RunEnd, Writer};

    fn profile(flags: &[&str]) -> Profile {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let text = Profile::set(TABLETOP, "tabletop", &flags).unwrap();
        Profile::parse(&text, "tabletop").unwrap()
    }

    /// As the daemon records it.
    fn stored(profile: &Profile, from_scratch: bool) -> String {
        let mut config = serde_json::to_value(profile).unwrap();
        config["from_scratch"] = from_scratch.into();
        config.to_string()
    }

    #[test]
    fn a_configuration_is_the_same_however_the_run_began_and_another_in_any_value() {
        let one = profile(&["ema=0.1", "optimizer.beta1=0.899999999999999911"]);
        assert!(same(&stored(&one, true), &one).unwrap() && same(&stored(&one, false), &one).unwrap());
        for flag in [
            "seed=77",
            "ema=0.2",
            "start_from=\"/elsewhere\"",
            "source.0.weight=9",
        ] {
            assert!(
                !same(&stored(&one, false), &profile(&["ema=0.1", flag])).unwrap(),
                "{flag}"
            );
        }
    }

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
