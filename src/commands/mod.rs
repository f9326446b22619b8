//! The commands, one a file, in rooms: `experiment/` runs and their store, `sampling/` one model asked, `checkpoints/` models
//! fetched, made and compared, `evaluation/` benchmarks, `presentation/` runs as charts and pages; `score.rs` recorded predictions graded.
//!
//! Not here: what can be typed (`args`), the model that a one-off command works with (`model`).

mod checkpoints;
mod doctor;
mod evaluation;
mod experiment;
mod presentation;
mod sampling;
mod score;

use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::Command as Order;

use self::checkpoints::{convert, grow, merge, pull, verify};
use self::evaluation::eval;
use self::experiment::{ask, control, daemon, profile, query, queue, resume, run, runs, study};
use self::presentation::{plot, report};
use self::sampling::{describe, fill, generate, imagine};
use crate::args::{Cli, Command};

/// Does what was typed.
///
/// # Errors
/// The command's own.
pub fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let home = Home::open(cli.home)?;
    match cli.command {
        Command::Run(options) => run::run(&home, options),
        Command::Profile(options) => profile::profile(options),
        Command::Daemon(options) => daemon::daemon(&home, options),
        Command::Attach(options) => daemon::attach(&home, options.images),
        Command::Ps(output) => control::ps(&home, output.json),
        Command::Pause(output) => control::send(&home, Order::Pause, output.json),
        Command::Resume(options) => resume::resume(&home, &options),
        Command::Stop(output) => control::send(&home, Order::Stop, output.json),
        Command::Checkpoint(output) => control::send(&home, Order::Checkpoint, output.json),
        Command::Ask(options) => ask::ask(&home, &options),
        Command::Set(options) => control::set(&home, &options.assignment, options.output.json),
        Command::Generate(options) => generate::generate(&home, options),
        Command::Fill(options) => fill::fill(&home, &options),
        Command::Imagine(options) => imagine::imagine(&home, options),
        Command::Describe(options) => describe::describe(&home, options),
        Command::Eval(options) => eval::eval(&home, options),
        Command::Score(options) => score::score(&options),
        Command::Pull(options) => pull::pull(options),
        Command::Query(options) => query::query(&home, options),
        Command::Runs(options) => runs::runs(&home, options),
        Command::Queue(options) => queue::queue(&home, options),
        Command::Study(options) => study::study(&home, &options),
        Command::Plot(options) => plot::plot(&home, &options),
        Command::Report(options) => report::report(&home, &options),
        Command::Verify(options) => verify::verify(&home, options),
        Command::Convert(options) => convert::convert(options),
        Command::Merge(options) => merge::merge(&home, &options),
        Command::Grow(options) => grow::grow(&home, &options),
        Command::Doctor(output) => doctor::doctor(&home, output.json),
    }
}
