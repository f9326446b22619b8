//! `demask convert`: converts a PyTorch checkpoint to safetensors.

use std::process::ExitCode;

use demask_datasets::torch_file::{self, ConvertOptions, Converted, Dtype, TorchFileError};

use crate::args::{Convert, Floating};
use crate::exit::UsageError;
use crate::terminal::print;

/// Most names of skipped entries in a line.
const SHOWN: usize = 5;

/// Converts, and prints one line per file.
///
/// # Errors
/// As [`torch_file::convert`]. A wrong output name is a usage error.
pub fn convert(options: Convert) -> anyhow::Result<ExitCode> {
    let dtype = options.dtype.map(|dtype| match dtype {
        Floating::F32 => Dtype::F32,
        Floating::F16 => Dtype::F16,
        Floating::Bf16 => Dtype::BF16,
    });
    let how = ConvertOptions {
        key: options.key,
        dtype,
    };
    let converted = torch_file::convert(&options.input, &options.output, &how).map_err(typed)?;
    if options.output_as.json {
        print::json(&converted)?;
    } else {
        converted.iter().for_each(|one| print::say(&line(one)));
    }
    Ok(ExitCode::SUCCESS)
}

/// Separates usage errors from failures.
fn typed(error: TorchFileError) -> anyhow::Error {
    match error {
        TorchFileError::Output { .. } => UsageError(error.to_string()).into(),
        other => other.into(),
    }
}

fn line(one: &Converted) -> String {
    let from = if one.key.is_empty() {
        String::new()
    } else {
        format!(" of {}", one.key)
    };
    let left = match one.skipped.len() {
        0 => String::new(),
        count => {
            let names = one
                .skipped
                .iter()
                .take(SHOWN)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            let more = if count > SHOWN { ", …" } else { "" };
            format!("; left out {count} entries that are not tensors: {names}{more}")
        }
    };
    let (file, tensors) = (one.file.display(), one.tensors);
    format!(
        "{file}: {tensors} tensors{from}, {:.1} MB{left}",
        one.bytes as f64 / 1e6
    )
}
