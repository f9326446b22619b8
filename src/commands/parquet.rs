//! `demask read-parquet`, which is called by programs. It reads the Parquet files that arrive as frames on standard
//! input within a memory limit (law L9). Beyond the limit this process ends, and the caller can tell why.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use demask_datasets::formats::parquet::process::MOST_MEMORY;
use demask_datasets::formats::parquet::serving;

use crate::helper_process;

/// Reads one file after another until the input ends.
///
/// # Errors
/// Any error of the pipes; an error if the memory limit cannot be set.
pub fn serve() -> anyhow::Result<ExitCode> {
    helper_process::begin(MOST_MEMORY)?;
    // Not through the buffer of standard output, which looks for lines.
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    serving::serve(&mut std::io::stdin().lock(), &mut BufWriter::new(output))?;
    Ok(ExitCode::SUCCESS)
}
