//! `demask run`: starts a run from a profile, shown on the dashboard or followed line by line, or queues it.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use demask_actors::home::Home;
use demask_actors::profile::Profile;
use demask_storage::{Command, Reply, RunRequest, journal, store};
use serde_json::Value;

use crate::args::{Images, RunArgs};
use crate::commands::experiment::daemon;
use crate::commands::experiment::follow::{Since, watched};
use crate::commands::experiment::request;
use crate::connection::line::connect;
use crate::exit::FAILED;
use crate::terminal::dashboard;
use crate::terminal::print;

/// Checks the profile, starts the daemon if necessary and the run, and shows it.
///
/// # Errors
/// An error if the profile is wrong, before anything is started; an error if the daemon does not start, or if the run
/// fails.
pub fn run(home: &Home, options: RunArgs) -> anyhow::Result<ExitCode> {
    let (request, asked) = request::of_flags(home, &options)?;
    daemon::ensure(home)?;
    if options.queue {
        return queue(home, request, options.output.json);
    }
    // JSON and the dashboard do not share a terminal.
    let headless = options.headless || options.output.json || !std::io::stdout().is_terminal();
    let mut client = connect(home)?;
    let reply = client.ask(Command::Run(request))?;
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
        Reply::Refused { message } => {
            // A starting daemon continues the run that the previous daemon left.
            let same = same_under_way(home, &asked, options.from_scratch)?;
            let same = same.filter(|run| message.contains(run));
            if !headless {
                print::note(&message);
                let shown = dashboard::open(home, Images::Auto)?;
                // What was asked for was not started, whatever the dashboard showed.
                return Ok(same.map_or(ExitCode::from(FAILED), |_| shown));
            }
            let Some(run) = same else {
                anyhow::bail!(message);
            };
            let name = &asked.name;
            print::note(&format!(
                "{message}; it has this configuration ({name}) and is followed here"
            ));
            if options.output.json {
                println!("{}", serde_json::json!({ "under_way": run }));
            }
            watched(home, &run, Since::Now, options.detach, options.output.json)
        }
        other => anyhow::bail!("unexpected answer of the daemon: {other:?}"),
    }
}

/// Puts the run into the daemon's queue.
fn queue(home: &Home, request: RunRequest, json: bool) -> anyhow::Result<ExitCode> {
    match connect(home)?.ask(Command::Enqueue(request))? {
        Reply::Queued { run, ahead } if json => {
            println!("{}", serde_json::json!({ "queued": run, "ahead": ahead }));
        }
        Reply::Queued { run, ahead: 0 } => println!("run {run} starts at once, because no run is before it"),
        Reply::Queued { run, ahead } => {
            println!("run {run} is queued, {ahead} before it (`demask queue list`)");
        }
        Reply::Refused { message } => anyhow::bail!(message),
        other => anyhow::bail!("unexpected answer of the daemon: {other:?}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the run that is under way, if it has the requested configuration and no start from scratch is requested.
fn same_under_way(home: &Home, asked: &Profile, from_scratch: bool) -> anyhow::Result<Option<String>> {
    if from_scratch {
        return Ok(None);
    }
    let found = journal::unfinished(&store::open_read_only(&home.database())?)?;
    let Some(found) = found else { return Ok(None) };
    Ok(same(found.config, asked)?.then_some(found.id))
}

/// Returns whether a stored configuration is that of a profile, whatever the run started from.
fn same(mut stored: Value, asked: &Profile) -> anyhow::Result<bool> {
    if let Some(keys) = stored.as_object_mut() {
        keys.remove("from_scratch");
    }
    // The requested configuration passes through text as the stored one did, because a parsed number may differ in its
    // last bit from the written one.
    let asked: Value = serde_json::from_str(&serde_json::to_string(asked)?)?;
    Ok(stored == asked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use demask_actors::profile::TABLETOP;

    fn profile(flags: &[&str]) -> Profile {
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let text = Profile::set(TABLETOP, "tabletop", &flags).unwrap();
        Profile::parse(&text, "tabletop").unwrap()
    }

    /// Makes the configuration as the daemon records it.
    fn stored(profile: &Profile, from_scratch: bool) -> Value {
        let mut config = serde_json::to_value(profile).unwrap();
        config["from_scratch"] = from_scratch.into();
        serde_json::from_str(&config.to_string()).unwrap()
    }

    #[test]
    fn a_configuration_is_the_same_however_the_run_began_and_another_in_any_value() {
        let one = profile(&["ema=0.1", "optimizer.beta1=0.899999999999999911"]);
        assert!(same(stored(&one, true), &one).unwrap() && same(stored(&one, false), &one).unwrap());
        for flag in [
            "seed=77",
            "ema=0.2",
            "start_from=\"/elsewhere\"",
            "source.0.weight=9",
        ] {
            assert!(
                !same(stored(&one, false), &profile(&["ema=0.1", flag])).unwrap(),
                "{flag}"
            );
        }
    }
}
