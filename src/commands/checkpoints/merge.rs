//! `demask merge`: merges a checkpoint and its adapter into one checkpoint.

use std::process::ExitCode;

use anyhow::bail;
use demask_actors::home::Home;
use demask_actors::inference::checkpoint_settings;
use demask_api::LoadOptions;
use demask_api::checkpoint::has_adapter;
use serde_json::json;

use crate::args::Merge;
use crate::commands::checkpoints::derive_checkpoint::{Derived, is_new};
use crate::exit::UsageError;
use crate::model::adapter;
use crate::model::pulled::pulled;
use crate::terminal::print;

/// Merges, and prints what was written.
///
/// # Errors
/// An error if there is no adapter or it does not fit, or if the output exists; any error of [`Derived::write`].
pub fn merge(home: &Home, options: &Merge) -> anyhow::Result<ExitCode> {
    let output = is_new(&options.output)?;
    let checkpoint = pulled(home, "CHECKPOINT", &options.checkpoint)?;
    let named = options.adapter.as_deref();
    let adapter = named
        .map(|named| adapter::put_on(home, &checkpoint, named))
        .transpose()?;
    adapter::has_base(&checkpoint)?;
    if adapter.is_none() && !has_adapter(&checkpoint) {
        bail!(UsageError(format!(
            "{} contains no adapter: give one with --adapter",
            checkpoint.display()
        )));
    }
    let blame = match &adapter {
        Some(adapter) => adapter::blame(&checkpoint, adapter),
        None => format!("the adapter of {} cannot be merged", checkpoint.display()),
    };
    let carried = adapter.as_deref().unwrap_or(&checkpoint);
    if let Some(form) = adapter::frozen_base(carried) {
        print::note(&format!(
            "the adapter was trained over a base in {form}; it is merged with the base in full precision, as is usual with PEFT, so answers may \
             differ a little"
        ));
    }
    let written = Derived {
        inference: checkpoint_settings::inference(&checkpoint)?,
        image_tokenizer: None,
        options: LoadOptions {
            adapter: adapter.clone(),
            merge: true,
            ..LoadOptions::sampling()
        },
        output,
        dtype: options.dtype,
        blame,
        checkpoint: checkpoint.clone(),
    }
    .write(home)?;
    if options.output_as.json {
        let mut report = serde_json::to_value(&written)?;
        report["checkpoint"] = json!(checkpoint);
        report["adapter"] = json!(adapter.unwrap_or(checkpoint));
        print::json(&report)?;
    } else {
        let (output, size) = (written.output.display(), written.size());
        println!("{output}: {size}, with the adapter merged into the weights");
    }
    Ok(ExitCode::SUCCESS)
}
