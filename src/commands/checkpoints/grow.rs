//! `demask grow`: adds rows for picture codes to a text model, so that it can be trained on pictures (LLaDA to MMaDA,
//! `mmada.md` 1.3).

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use demask_actors::home::Home;
use demask_actors::inference::checkpoint_settings;
use demask_api::checkpoint::{IMAGE_TOKENIZER, has_adapter};
use demask_api::{Growth, ImageTokenizerConfig, LoadOptions, PictureSize};
use demask_datasets::prompts::published::Facts;
use demask_datasets::prompts::special_tokens::Family;
use serde_json::json;

use crate::args::Grow;
use crate::commands::checkpoints::derive_checkpoint::{Derived, is_new};
use crate::exit::UsageError;
use crate::model::pulled::pulled;
use crate::model::settings::{codes_of, image_tokenizer_of};
use crate::terminal::print;

/// Pixels per side of a code without an image tokenizer: those of the published one.
const PIXELS: usize = 16;
/// Side of a published model's pictures in pixels.
const SIDE: usize = 512;

/// Grows the model and prints what was written.
///
/// # Errors
/// An error if the model already has picture codes, if the number of codes differs from the image tokenizer's, or if
/// the output exists; any error of [`Derived::write`].
pub fn grow(home: &Home, options: &Grow) -> anyhow::Result<ExitCode> {
    let output = is_new(&options.output)?;
    let checkpoint = pulled(home, "CHECKPOINT", &options.checkpoint)?;
    is_text_model(&checkpoint)?;
    let named = options.image_tokenizer.as_deref();
    let named = named
        .map(|named| pulled(home, "--image-tokenizer", named))
        .transpose()?;
    let images = image_tokenizer(&checkpoint, named.as_ref())?;
    let growth = Growth {
        codebook_size: codes(options.codes, images.as_ref())?,
        seed: options.seed,
    };
    let picture = picture(&checkpoint, options.size, images.as_ref())?;
    let written = Derived {
        inference: checkpoint_settings::grown(&checkpoint, picture)?,
        image_tokenizer: named,
        options: LoadOptions {
            grow: Some(growth),
            ..LoadOptions::sampling()
        },
        output,
        dtype: options.dtype,
        blame: format!("cannot add picture codes to {}", checkpoint.display()),
        checkpoint: checkpoint.clone(),
    }
    .write(home)?;
    let config = &written.config;
    let (codes, rows, first) = (config.codebook_size, config.rows(), config.image_offset());
    if options.output_as.json {
        let mut report = serde_json::to_value(&written)?;
        report["checkpoint"] = json!(checkpoint);
        report["codes"] = json!(codes);
        report["first_code"] = json!(first);
        report["rows"] = json!(rows);
        report["image_tokenizer"] = json!(images.is_some());
        print::json(&report)?;
    } else {
        let (output, size) = (written.output.display(), written.size());
        println!("{output}: {codes} picture codes from token {first} on, {rows} rows; {size}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks that the model is a text model without an adapter, because only these grow.
fn is_text_model(checkpoint: &Path) -> anyhow::Result<()> {
    let name = checkpoint.display();
    if has_adapter(checkpoint) {
        bail!(UsageError(format!(
            "{name} contains an adapter: merge it first (`demask merge`), because growing changes the adapter's base"
        )));
    }
    let facts = Facts::read(checkpoint)?;
    if facts.family() == Family::Mmada {
        let codes = facts.codebook_size.unwrap_or(Growth::default().codebook_size);
        bail!(UsageError(format!("{name} has {codes} picture codes already")));
    }
    Ok(())
}

/// Returns the number of codes per picture; `None` if the checkpoint's own budgets state it.
fn picture(
    checkpoint: &Path,
    size: Option<usize>,
    images: Option<&ImageTokenizerConfig>,
) -> anyhow::Result<Option<usize>> {
    let pixels = images.map_or(PIXELS, ImageTokenizerConfig::downscale);
    let is_published_family = checkpoint_settings::inference(checkpoint)?
        .builder()
        .style()
        .family
        != Family::Tabletop;
    let size = size.or(is_published_family.then_some(SIDE));
    let codes = |side| codes_of(checkpoint, PictureSize::square(side), pixels);
    size.map(codes).transpose()
}

/// Returns the configuration of the image tokenizer for the grown model: the named one, or the checkpoint's.
fn image_tokenizer(
    checkpoint: &Path,
    named: Option<&PathBuf>,
) -> anyhow::Result<Option<ImageTokenizerConfig>> {
    let own = checkpoint.join(IMAGE_TOKENIZER);
    let folder = named.cloned().or(own.is_dir().then_some(own));
    folder.map(|folder| image_tokenizer_of(&folder)).transpose()
}

/// Returns the number of codes: that of the image tokenizer if there is one.
fn codes(asked: Option<usize>, images: Option<&ImageTokenizerConfig>) -> Result<usize, UsageError> {
    let bits = images.map_or(0, |images| images.codebook_bits);
    let power = 2usize.saturating_pow(u32::try_from(bits).unwrap_or(u32::MAX));
    match (asked, images.map(|_| power)) {
        (Some(asked), Some(has)) if asked != has => Err(UsageError(format!(
            "--codes {asked}: the image tokenizer has {has} codes (2 to the power of {bits})"
        ))),
        (Some(codes), _) | (None, Some(codes)) => Ok(codes),
        (None, None) => Ok(Growth::default().codebook_size),
    }
}
