//! Simple commands to the daemon: `ps`, `pause`, `resume`, `stop`, `checkpoint`, `set`.

use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::{ActorView, Command, Knob, Overview, RankView, Reply, query};

use crate::connection::reach;
use crate::exit::UsageError;
use crate::terminal::print;

/// The query for the waiting runs, the next one first.
pub const WAITING: &str =
    "SELECT place, run, name, profile, by, datetime(at_us / 1000000, 'unixepoch') AS since
                           FROM v_queue ORDER BY place";

/// Sends a command and prints the daemon's reply.
///
/// # Errors
/// An error if there is no daemon.
pub fn send(home: &Home, command: Command, json: bool) -> anyhow::Result<ExitCode> {
    let reply = reach::connect(home)?.ask(command)?;
    if json {
        print::json(&reply)?;
    }
    match reply {
        Reply::Refused { message } => {
            if !json {
                print::note(&format!("demask: {message}"));
            }
            Ok(ExitCode::from(crate::exit::FAILED))
        }
        Reply::Accepted { message, step } if !json => {
            print::say(&format!("{message} (requested at step {step})"));
            Ok(ExitCode::SUCCESS)
        }
        Reply::Taken { message, step } => {
            if !json {
                print::note(&format!("{message} (requested at step {step})"));
            }
            Ok(ExitCode::from(crate::exit::TAKEN))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Runs `demask set KEY=VALUE`.
///
/// # Errors
/// An error if the argument is not KEY=VALUE with a number, or if there is no daemon.
pub fn set(home: &Home, assignment: &str, json: bool) -> anyhow::Result<ExitCode> {
    let (key, value) = assignment.split_once('=').ok_or_else(|| {
        UsageError(format!(
            "'{assignment}': expected KEY=VALUE, for example learning_rate=0.0003"
        ))
    })?;
    send(home, Command::set(key, value).map_err(UsageError)?, json)
}

/// Runs `demask ps`.
///
/// # Errors
/// An error if there is no daemon.
pub fn ps(home: &Home, json: bool) -> anyhow::Result<ExitCode> {
    let mut client = reach::connect(home)?;
    let (status, actors) = (client.ask(Command::Status)?, client.ask(Command::Actors)?);
    let (Reply::Status(overview), Reply::Actors { actors }) = (status, actors) else {
        anyhow::bail!("the daemon did not answer with its status");
    };
    let waiting = query::query(&home.database(), WAITING, 0)?;
    if json {
        let queue = waiting.objects();
        print::json(&serde_json::json!({ "overview": overview, "actors": actors, "queue": queue }))?;
        return Ok(ExitCode::SUCCESS);
    }
    show(&overview);
    if !waiting.rows.is_empty() {
        println!(
            "\nqueued runs\n{}",
            waiting.print(query::Format::Table).trim_end()
        );
    }
    if !overview.ranks.is_empty() {
        println!();
        print_ranks(&overview.ranks)?;
    }
    println!();
    print_actors(&actors)?;
    if !overview.knobs.is_empty() {
        println!();
        print_knobs(&overview.knobs)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line an actor.
fn print_actors(actors: &[ActorView]) -> anyhow::Result<()> {
    let row = |actor: &ActorView| {
        vec![
            actor.name.clone(),
            format!("{:?}", actor.state).to_lowercase(),
            format!("{}/{}", actor.queue.0, actor.queue.1),
            actor.restarts.to_string(),
            actor.handled.to_string(),
            actor.detail.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = actors.iter().map(row).collect();
    let columns = ["actor", "state", "queue", "restarts", "handled", "doing"];
    print::table(&columns, &rows)
}

/// Prints a line a knob.
fn print_knobs(knobs: &[Knob]) -> anyhow::Result<()> {
    let row = |knob: &Knob| {
        vec![
            knob.key.clone(),
            knob.value.to_string(),
            knob.allowed(),
            knob.help.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = knobs.iter().map(row).collect();
    print::table(&["knob", "value", "allowed", ""], &rows)
}

/// Prints a line a rank.
fn print_ranks(ranks: &[RankView]) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = ranks
        .iter()
        .enumerate()
        .map(|(number, rank)| {
            let (memory, peak) = rank.memory_in_use();
            vec![
                number.to_string(),
                rank.device.clone(),
                format!("{} {}", rank.host, rank.pid),
                format!("{:.2} GB", memory as f64 / 1e9),
                format!("{:.2} GB", peak as f64 / 1e9),
                format!("{:.2} s", rank.seconds),
                format!("{:.0} %", 100.0 * rank.waiting()),
                format!("{:.1} MB", rank.bytes as f64 / 1e6),
                rank.restarts.to_string(),
            ]
        })
        .collect();
    let columns = [
        "rank", "device", "process", "memory", "peak", "a step", "waiting", "received", "restarts",
    ];
    print::table(&columns, &rows)
}

/// Returns one line about the state of a run.
pub fn line(overview: &Overview) -> String {
    if overview.run.is_empty() {
        return "no run".to_owned();
    }
    overview.headline()
}

fn show(overview: &Overview) {
    print::say(&line(overview));
    if !overview.run.is_empty() {
        print::say(&format!(
            "run {}{}",
            overview.run,
            if overview.detail.is_empty() {
                String::new()
            } else {
                format!(": {}", overview.detail)
            }
        ));
    }
}
