//! `demask queue`: lists, reorders and cancels the waiting runs.

use std::process::ExitCode;

use demask_actors::control::client::who;
use demask_actors::home::Home;
use demask_actors::runtime::ids;
use demask_storage::query::{self, Format};
use demask_storage::runs::queue::{self, WaitingRun};
use demask_storage::{Command, QueueAction, QueueChange, Record, Writer, store};

use crate::args::Queue;
use crate::commands::experiment::control;
use crate::connection::append::append;
use crate::connection::reach::reach;
use crate::terminal::print;

/// Runs the subcommand of `demask queue`.
///
/// # Errors
/// An error if the name matches no run or several, or if the daemon does not answer; any error of the store.
pub fn queue(home: &Home, options: Queue) -> anyhow::Result<ExitCode> {
    match options {
        Queue::List(output) => {
            let waiting = query::query(&home.database(), control::WAITING, 0)?;
            let format = if output.json { Format::Json } else { Format::Table };
            print!("{}", waiting.print(format));
            if waiting.rows.is_empty() && !output.json {
                print::note("the queue is empty; `demask run PROFILE --queue` adds a run");
            }
            Ok(ExitCode::SUCCESS)
        }
        Queue::Move { run, place, output } => {
            let order = |waiting: &[WaitingRun], run: &str| {
                let ids: Vec<String> = waiting.iter().map(|one| one.run.clone()).collect();
                let runs = queue::moved(&ids, run, place.get());
                QueueAction::Order { runs }
            };
            let command = Command::QueueMove {
                run: run.clone(),
                place: place.get() as u64,
            };
            change(home, &run, command, order, output.json)
        }
        Queue::Cancel { run, output } => {
            let cancel = |_: &[WaitingRun], run: &str| QueueAction::Cancel {
                run: run.to_owned(),
                reason: "the user cancelled it".to_owned(),
            };
            let command = Command::QueueCancel { run: run.clone() };
            change(home, &run, command, cancel, output.json)
        }
    }
}

/// Changes the queue through the daemon. Without a daemon, this process changes it and holds the home's lock meanwhile,
/// because a starting daemon would begin the first run at once.
fn change(
    home: &Home,
    named: &str,
    command: Command,
    action: impl Fn(&[WaitingRun], &str) -> QueueAction,
    json: bool,
) -> anyhow::Result<ExitCode> {
    if reach(home)?.is_some() {
        return control::send(home, command, json);
    }
    let waiting = queue::waiting(&store::open_read_only(&home.database())?)?;
    let run = queue::named(&waiting, named)
        .map_err(anyhow::Error::msg)?
        .run
        .clone();
    let lock = home.lock()?;
    let change = QueueChange {
        id: ids::new_id().to_string(),
        by: who("cli"),
        change: action(&waiting, &run),
    };
    append(&mut Writer::open(&home.database())?, &[Record::Queue(change)])?;
    drop(lock);
    if json {
        print::json(&serde_json::json!({ "changed": run }))?;
    } else {
        println!("the queue was changed: run {run}");
    }
    Ok(ExitCode::SUCCESS)
}
