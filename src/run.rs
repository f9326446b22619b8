//! `demask run`: a run from a profile, watched on the dashboard or followed line by line.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use demask_actors::home::Home;
use demask_actors::profile::Profile;
use demask_datasets::hub::{Cache, checkpoint_folder};
use demask_storage::{Command, Overview, Record, Reply};

use crate::args::{Images, Run};
use crate::{UsageError, control, daemon, dashboard, print};

/// Between two lines on a run that only goes on.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// Checks the profile, starts what is needed, watches.
///
/// # Errors
/// A wrong profile (nothing is started then), a daemon that does not start, a run that fails.
pub fn run(home: &Home, options: Run) -> anyhow::Result<ExitCode> {
    let (text, origin) = Profile::find(&options.profile).map_err(usage)?;
    let mut set = options.set;
    if let Some(checkpoint) = &options.checkpoint {
        set.push(start_from(checkpoint)?);
    }
    let text = assigned(&text, &origin, &set)?;
    let text = Profile::anchored(&text, &origin, options.from_scratch).map_err(usage)?;
    let name = Profile::parse(&text, &origin).map_err(usage)?.name;
    daemon::ensure(home)?;
    let headless = options.headless || !std::io::stdout().is_terminal();
    let mut client = control::connect(home)?;
    let reply = client.ask(Command::Run {
        profile: text,
        origin,
        from_scratch: options.from_scratch,
    })?;
    match reply {
        Reply::Started { run } if headless => {
            say_started(&run, options.output.json)?;
            if options.detach {
                Ok(ExitCode::SUCCESS)
            } else {
                follow(home, &run, options.output.json)
            }
        }
        Reply::Started { .. } => dashboard::open(home, Images::Auto),
        Reply::Refused { message } if headless => {
            // A daemon that begins goes on with the run that the one before it had left.
            let Some(run) = same_under_way(&mut client, &name, options.from_scratch)? else {
                anyhow::bail!(message);
            };
            print::note(&format!(
                "{message}; it is of the profile {name}, and followed here"
            ));
            if options.detach {
                Ok(ExitCode::SUCCESS)
            } else {
                follow(home, &run, options.output.json)
            }
        }
        Reply::Refused { message } => {
            print::note(&message);
            dashboard::open(home, Images::Auto)
        }
        other => anyhow::bail!("the daemon answered {other:?}"),
    }
}

/// The run that is under way, if it is of that profile and no other was asked for.
fn same_under_way(
    client: &mut control::Line,
    profile: &str,
    from_scratch: bool,
) -> anyhow::Result<Option<String>> {
    let Reply::Status(overview) = client.ask(Command::Status)? else {
        return Ok(None);
    };
    let same = overview.profile == profile && !from_scratch;
    Ok(same.then_some(overview.run))
}

/// The daemon works elsewhere, so the folder is named whole; one that is no checkpoint is told before anything starts.
fn start_from(checkpoint: &Path) -> anyhow::Result<String> {
    let dir =
        checkpoint_folder(checkpoint, &Cache::of_environment()).map_err(|error| usage(error.to_string()))?;
    if !dir.join("manifest.json").is_file() {
        return Err(usage(format!(
            "--checkpoint {}: expected a checkpoint folder, found no manifest.json in it",
            checkpoint.display()
        ))
        .into());
    }
    Ok(format!("start_from={}", serde_json::to_string(&dir)?))
}

/// The profile's text with every `--set` applied, checked. A flag that makes a right profile wrong is named itself: the
/// profile's lines are not to blame.
fn assigned(text: &str, origin: &str, flags: &[String]) -> anyhow::Result<String> {
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

fn usage(error: impl std::fmt::Display) -> UsageError {
    UsageError(error.to_string())
}

fn say_started(run: &str, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::json!({ "started": run }));
    } else {
        println!("run {run}");
    }
    Ok(())
}

/// Prints where the run is until it ends; Ctrl-C leaves it running.
fn follow(home: &Home, run: &str, json: bool) -> anyhow::Result<ExitCode> {
    let mut client = control::connect(home)?;
    client.ask(Command::Subscribe { since: 0 })?;
    let mut told = Told::default();
    loop {
        let envelope = client.event()?;
        if json {
            if !matches!(envelope.record, Record::Actor(_) | Record::Frame(_)) {
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
            return Ok(if end.status == "failed" {
                ExitCode::from(crate::FAILED)
            } else {
                ExitCode::SUCCESS
            });
        }
    }
}

/// What was said of where the run is, and when.
#[derive(Default)]
struct Told {
    line: String,
    place: (String, usize, String),
    at: Option<Instant>,
}

impl Told {
    /// Says where the run is: at once when its state, stage or detail changes, else now and then.
    fn overview(&mut self, overview: &Overview) {
        let mut line = control::line(overview);
        if !overview.detail.is_empty() {
            line = format!("{line} · {}", overview.detail);
        }
        let place = (overview.state.clone(), overview.stage, overview.detail.clone());
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
