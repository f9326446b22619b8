//! The commands, one per file:
//!
//! - `experiment/`: runs, the daemon and the store; `evaluation/`: benchmarks;
//! - `sampling/`: sampling from one model; `checkpoints/`: models that are fetched, made and compared;
//! - `presentation/`: runs as charts and pages; `doctor/`: the state of the machine;
//! - `score.rs`: grading of recorded predictions; `plan/`: the memory of a run; `slurm.rs`: a run as a Slurm job;
//! - `templates.rs`, `parquet.rs`: rendering of templates and reading of Parquet files, within a memory limit.
//!
//! Not here: the arguments (`args`), and the model that a one-off command works with (`model`).

mod checkpoints;
mod doctor;
mod evaluation;
mod experiment;
mod parquet;
mod plan;
mod presentation;
mod sampling;
mod score;
mod slurm;
mod templates;

use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::Command as Order;

use self::checkpoints::{convert, grow, merge, pull, verify};
use self::evaluation::eval;
use self::experiment::{ask, control, daemon, profile, query, queue, resume, run, runs, study};
use self::presentation::{plot, report};
use self::sampling::{describe, fill, generate, imagine};
use crate::args::{Cli, DemaskCommand};

/// Runs the command of the arguments.
///
/// # Errors
/// Any error of the command.
pub fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        DemaskCommand::RenderTemplates => return templates::serve(),
        DemaskCommand::ReadParquet => return parquet::serve(),
        _ => {}
    }
    let home = Home::open(cli.home)?;
    match cli.command {
        DemaskCommand::RenderTemplates => templates::serve(),
        DemaskCommand::ReadParquet => parquet::serve(),
        DemaskCommand::Run(options) => run::run(&home, options),
        DemaskCommand::Profile(options) => profile::profile(options),
        DemaskCommand::Plan(options) => plan::plan(&options),
        DemaskCommand::Slurm(options) => slurm::slurm(&options),
        DemaskCommand::Daemon(options) => daemon::daemon(&home, options),
        DemaskCommand::Attach(options) => daemon::attach(&home, options.images),
        DemaskCommand::Ps(output) => control::ps(&home, output.json),
        DemaskCommand::Pause(output) => control::send(&home, Order::Pause, output.json),
        DemaskCommand::Resume(options) => resume::resume(&home, &options),
        DemaskCommand::Stop(output) => control::send(&home, Order::Stop, output.json),
        DemaskCommand::Checkpoint(output) => control::send(&home, Order::Checkpoint, output.json),
        DemaskCommand::Ask(options) => ask::ask(&home, &options),
        DemaskCommand::Set(options) => control::set(&home, &options.assignment, options.output.json),
        DemaskCommand::Generate(options) => generate::generate(&home, options),
        DemaskCommand::Fill(options) => fill::fill(&home, &options),
        DemaskCommand::Imagine(options) => imagine::imagine(&home, options),
        DemaskCommand::Describe(options) => describe::describe(&home, options),
        DemaskCommand::Eval(options) => eval::eval(&home, options),
        DemaskCommand::Score(options) => score::score(&options),
        DemaskCommand::Pull(options) => pull::pull(options),
        DemaskCommand::Query(options) => query::query(&home, options),
        DemaskCommand::Runs(options) => runs::runs(&home, options),
        DemaskCommand::Queue(options) => queue::queue(&home, options),
        DemaskCommand::Study(options) => study::study(&home, &options),
        DemaskCommand::Plot(options) => plot::plot(&home, &options),
        DemaskCommand::Report(options) => report::report(&home, &options),
        DemaskCommand::Verify(options) => verify::verify(&home, options),
        DemaskCommand::Convert(options) => convert::convert(options),
        DemaskCommand::Merge(options) => merge::merge(&home, &options),
        DemaskCommand::Grow(options) => grow::grow(&home, &options),
        DemaskCommand::Doctor(options) => doctor::doctor(&home, &options),
    }
}
