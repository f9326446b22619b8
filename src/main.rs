//! The `demask` command: read what was typed, do it, print it.
//!
//! - `args.rs`: what can be typed;
//! - `run.rs`, `daemon.rs`, `control.rs`, `dashboard.rs`: runs, the background process, commands to it, the live view;
//! - `line.rs`, `reach.rs`: a connection to the daemon; the daemon found, also while it starts;
//! - `studio.rs`, `chosen.rs`: one-off drawing, answering and describing; which model does it, and how;
//! - `named.rs`, `adapter.rs`: the folder that a flag names; what `--adapter` may name;
//! - `fill.rs`, `inpaint.rs`: holes in a text; parts of a picture;
//! - `eval.rs`, `verify.rs`: scoring and comparing;
//! - `pull.rs`, `convert.rs`: models and data sets from the hub; PyTorch's checkpoints to safetensors;
//! - `merge.rs`, `grow.rs`: checkpoints made of others, which `derived.rs` reads and writes;
//! - `query.rs`, `runs.rs`: reading the experiment store; `doctor.rs`: what this machine has;
//! - `print.rs`: tables, JSON, progress; `values.rs`: what flags may be.

mod adapter;
mod args;
mod chosen;
mod control;
mod convert;
mod daemon;
mod dashboard;
mod derived;
mod doctor;
mod drawn;
mod eval;
mod fill;
mod grow;
mod inpaint;
mod line;
mod merge;
mod named;
mod print;
mod pull;
mod query;
mod reach;
mod run;
mod runs;
mod studio;
mod values;
mod verify;
mod views;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use demask_actors::control::client::ClientError;

use crate::args::{Cli, Command};

/// Exit code of a command that ran and failed.
const FAILED: u8 = 1;
/// Exit code of a command that was typed wrongly.
const USAGE: u8 = 2;

/// A wrong usage that clap cannot see: an unknown profile key, a suite that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

fn main() -> ExitCode {
    end_quietly_with_the_pipe();
    // A home in the environment is an argument to clap, so it would not show the help by itself.
    if std::env::args_os().len() < 2 {
        print::note(Cli::command().render_help().to_string().trim_end_matches('\n'));
        return ExitCode::from(USAGE);
    }
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print::note(&format!("demask: {error:#}"));
            ExitCode::from(if error.is::<UsageError>() { USAGE } else { FAILED })
        }
    }
}

/// `demask … | head` ends when `head` has seen enough: not a panic, and no failure. Where standard error is closed there is
/// nobody to tell of a panic; what was asked for may not be done then.
fn end_quietly_with_the_pipe() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload_as_str().unwrap_or_default();
        if words.contains("Broken pipe") {
            if words.starts_with("failed printing to stdout") {
                std::process::exit(0);
            }
            if words.starts_with("failed printing to stderr") {
                std::process::exit(i32::from(FAILED));
            }
        }
        before(panic);
    }));
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let home = demask_actors::home::Home::open(cli.home)?;
    match cli.command {
        Command::Run(options) => run::run(&home, options),
        Command::Daemon(options) => daemon::daemon(&home, options),
        Command::Attach(options) => daemon::attach(&home, options.images),
        Command::Ps(output) => control::ps(&home, output.json),
        Command::Pause(output) => control::send(&home, control::pause(), output.json),
        Command::Resume(output) => control::send(&home, control::resume(), output.json),
        Command::Stop(output) => control::send(&home, control::stop(), output.json),
        Command::Checkpoint(output) => control::send(&home, control::checkpoint(), output.json),
        Command::Set(options) => control::set(&home, &options.assignment, options.output.json),
        Command::Generate(options) => studio::generate(&home, options),
        Command::Fill(options) => fill::fill(&home, &options),
        Command::Imagine(options) => studio::imagine(&home, options),
        Command::Describe(options) => studio::describe(&home, options),
        Command::Eval(options) => eval::eval(&home, options),
        Command::Pull(options) => pull::pull(options),
        Command::Query(options) => query::query(&home, options),
        Command::Runs(options) => runs::runs(&home, options),
        Command::Verify(options) => verify::verify(&home, options),
        Command::Convert(options) => convert::convert(options),
        Command::Merge(options) => merge::merge(&home, &options),
        Command::Grow(options) => grow::grow(&home, &options),
        Command::Doctor(output) => doctor::doctor(&home, output.json),
    }
}

/// Whether whoever read what is printed has gone. That the daemon has is a failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    if error.chain().any(|cause| cause.is::<ClientError>()) {
        return false;
    }
    error
        .chain()
        .filter_map(|cause| {
            let plain = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            plain.or_else(|| cause.downcast_ref::<serde_json::Error>()?.io_error_kind())
        })
        .any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}
