//! The `demask` command: it parses the arguments, runs the command, and prints the result.
//!
//! - `args/`: the arguments; `commands/`: the commands;
//! - `model/`: the model that a one-off command works with; `connection/`: the connection to the daemon;
//! - `figure/`: charts in files; `page/`: a run as an HTML page;
//! - `terminal/`: output for the user; `exit.rs`: exit codes;
//! - `descriptors.rs`: the limit on open files; `helper_process.rs`: a process that works for another one.

mod args;
mod commands;
mod connection;
mod descriptors;
mod exit;
mod figure;
mod helper_process;
mod model;
mod page;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use demask_actors::control::client::ClientError;
use demask_datasets::formats::parquet::process as parquet_process;
use demask_datasets::prompts::template_worker;

use crate::args::Cli;
use crate::exit::{FAILED, USAGE, UsageError};
use crate::terminal::print;

fn main() -> ExitCode {
    end_quietly_with_the_pipe();
    if let Err(words) = descriptors::enough() {
        print::note(&format!("demask: {words}"));
        return ExitCode::from(FAILED);
    }
    // clap counts a home in the environment as an argument, so without arguments it would not print the help by itself.
    if std::env::args_os().len() < 2 {
        print::note(Cli::command().render_help().to_string().trim_end_matches('\n'));
        return ExitCode::from(USAGE);
    }
    if let Some(own) = own_program() {
        template_worker::use_program(own.clone());
        parquet_process::use_program(own);
    }
    let cli = Cli::parse();
    match commands::dispatch(cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            print::note(&format!("demask: {error:#}"));
            ExitCode::from(if error.is::<UsageError>() { USAGE } else { FAILED })
        }
    }
}

/// Returns the program of this process, for processes that work for it. On Linux this is the file that was started,
/// also when another version has replaced it since, whose frames may differ.
fn own_program() -> Option<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    match running.exists() {
        true => Some(running),
        false => std::env::current_exe().ok(),
    }
}

/// Makes the program end quietly when its output pipe closes, as in `demask … | head`: no panic and no failure. If
/// standard error is closed, a panic cannot be reported, and the exit code says that the command may not have finished.
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

/// Returns whether the error is that the reader of the output has gone. A broken connection to the daemon is a failure
/// instead.
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
