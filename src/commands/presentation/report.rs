//! `demask report`: a run as one HTML page.

use std::process::ExitCode;

use demask_actors::home::Home;

use crate::args::RunReport;
use crate::commands::experiment::runs;
use crate::figure::file;
use crate::page::{RunPage, page};

/// Writes the page.
///
/// # Errors
/// An error if there is no such run, or if the file exists or cannot be written.
pub fn report(home: &Home, options: &RunReport) -> anyhow::Result<ExitCode> {
    file::check_output("--output", &options.output, &["html", "htm"], options.force)?;
    let run = runs::find(home, &options.run)?;
    let whole = page(&RunPage {
        home,
        run: &run,
        smooth: options.smooth,
        samples: options.samples,
    })?;
    file::write(&options.output, whole.as_bytes())?;
    println!(
        "{}: run {run}, {} KiB",
        options.output.display(),
        whole.len().div_ceil(1024)
    );
    Ok(ExitCode::SUCCESS)
}
