//! The settings of the model of a one-off command, from its flags: folder, tokenizer, lengths, samplers and quirks. No
//! engine is started here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use demask_actors::home::Home;
use demask_actors::inference::checkpoint_settings;
use demask_actors::inference::complete::Inference;
use demask_actors::inference::image_tokenizer::image_tokenizer_shape;
use demask_actors::inference::settings::SamplerSettings;
use demask_actors::inference::{published_settings, shipped};
use demask_api::{
    BackboneConfig, Grid, ImageTokenizerConfig, PictureSize, Quirks, Task, bounded_file, checkpoint, limits,
};
use demask_datasets::prompts::published::Facts;
use demask_datasets::prompts::sequences::MARKS;
use demask_datasets::prompts::special_tokens::Family;
use serde_json::{Map, Value};

use crate::args::ModelArgs;
use crate::exit::UsageError;
use crate::model::adapter;
use crate::model::pulled::pulled;

/// The settings of a model that is not loaded yet.
pub struct ModelSettings {
    /// Folder of the model.
    pub folder: PathBuf,
    /// Whether the model uses the prompts and samplers of published models, because it is one or was made from one.
    pub is_published_family: bool,
    /// Whether recommended sampler settings exist for the model, in its folder or in the flags.
    pub says_sampling: bool,
    /// Folder of an adapter that is applied to the model.
    pub adapter: Option<PathBuf>,
    /// Folder of an image tokenizer that is not the model's own.
    pub image_tokenizer: Option<PathBuf>,
    /// Tokenizer, prompts and lengths.
    pub inference: Inference,
    /// Settings of the samplers.
    pub samplers: SamplerSettings,
    /// The keys that `--sampling` sets for text; empty without the flag.
    pub said_of_text: Map<String, Value>,
    /// Size of the pictures; `None` without an image tokenizer.
    pub size: Option<PictureSize>,
}

impl ModelSettings {
    /// Reads the settings that the flags name.
    ///
    /// # Errors
    /// An error with the path if a folder is missing or broken; an error if a size or a quirk is not possible.
    pub fn new(home: &Home, model: &ModelArgs) -> anyhow::Result<Self> {
        let folder = match &model.checkpoint {
            Some(named) => pulled(home, "--checkpoint", named).with_context(|| instead(named))?,
            None => shipped::folder()?,
        };
        let adapter = model.adapter.as_deref();
        let adapter = adapter
            .map(|named| adapter::put_on(home, &folder, named))
            .transpose()?;
        adapter::has_base(&folder)?;
        // Checked before any large file is read.
        quirks(model, Quirks::default())?;
        let image_tokenizer = model
            .image_tokenizer
            .as_ref()
            .map(|named| pulled(home, "--image-tokenizer", named))
            .transpose()?;
        let (inference, samplers) = read(&folder).with_context(|| instead(&folder))?;
        let is_published_family = inference.builder().style().family != Family::Tabletop;
        let (mut samplers, said_of_text) = match &model.sampling {
            Some(named) => sampling(named)?,
            None => (samplers, Map::new()),
        };
        samplers.text.quirks = quirks(model, samplers.text.quirks)?;
        samplers.image.quirks = quirks(model, samplers.image.quirks)?;
        let of_its_own = folder.join(checkpoint::IMAGE_TOKENIZER);
        let place = image_tokenizer
            .clone()
            .or(of_its_own.is_dir().then_some(of_its_own));
        let pixels = place.as_deref().map(pixels_of_a_code).transpose()?;
        let inference = match (model.size, pixels) {
            (None, _) => inference,
            (Some(_), None) => bail!(UsageError("--size: the checkpoint has no image tokenizer".into())),
            (Some(size), Some(pixels)) => sized(&folder, &inference, is_published_family, size, pixels)?,
        };
        let codes = inference.builder().budgets().of(Task::Understand).codes;
        let size = model
            .size
            .or_else(|| Some(PictureSize::square(Grid::square(codes)?.rows * pixels?)));
        Ok(Self {
            inference: inference
                .with_quirks(samplers.text.quirks)
                .sized(size.filter(|_| is_published_family || model.size.is_some())),
            samplers,
            said_of_text,
            says_sampling: model.sampling.is_some() || folder.join(checkpoint_settings::SAMPLING).is_file(),
            folder,
            is_published_family,
            adapter,
            image_tokenizer,
            size,
        })
    }

    /// Returns the error context for an engine that cannot load the model.
    pub fn blame(&self) -> String {
        match &self.adapter {
            Some(adapter) => adapter::blame(&self.folder, adapter),
            None => instead(&self.folder),
        }
    }

    /// Checks that the task fits into a sequence with a picture of the requested size.
    ///
    /// # Errors
    /// An error with both lengths if it does not fit.
    pub fn has_room(&self, model: &ModelArgs, task: Task) -> anyhow::Result<()> {
        let Some(size) = model.size else { return Ok(()) };
        let budget = self.inference.builder().budgets().of(task);
        let answer = budget.answer.max(budget.direct_answer);
        fits(&self.folder, size, budget.codes, budget.prompt.max(1) + answer)
    }
}

/// Checks that a picture of this many codes fits into a sequence with this many tokens of text.
fn fits(folder: &Path, size: PictureSize, codes: usize, text: usize) -> anyhow::Result<()> {
    let longest = Facts::read(folder)?.max_sequence_length;
    let longest = longest.unwrap_or_else(|| BackboneConfig::default().max_sequence_length);
    let length = codes.saturating_add(MARKS + text);
    if length > longest {
        bail!(UsageError(format!(
            "--size {size}: {codes} picture codes and the text are {length} tokens, but the model has max_sequence_length {longest}"
        )));
    }
    Ok(())
}

/// Reads the inference and the samplers of a folder.
fn read(folder: &Path) -> anyhow::Result<(Inference, SamplerSettings)> {
    Ok((
        checkpoint_settings::inference(folder)?,
        checkpoint_settings::samplers(folder)?,
    ))
}

/// Reads the samplers from the flag, which is JSON or a file of it. Also returns the keys that it sets for text.
fn sampling(named: &str) -> anyhow::Result<(SamplerSettings, Map<String, Value>)> {
    let text = if named.trim_start().starts_with('{') {
        named.to_owned()
    } else {
        bounded_file::read_named_text(Path::new(named), limits::LONGEST_NAMED)
            .with_context(|| format!("--sampling {named}"))?
    };
    let example = r#"{"text": {"commit": {"rule": "threshold", "threshold": 0.9}}}"#;
    let wrong = |error: serde_json::Error| {
        UsageError(format!(
            "--sampling: {error}; expected a sampling.json, such as {example}"
        ))
    };
    let samplers = serde_json::from_str(&text).map_err(wrong)?;
    let mut said: Map<String, Value> = serde_json::from_str(&text).map_err(wrong)?;
    match said.remove("text") {
        Some(Value::Object(said)) => Ok((samplers, said)),
        _ => Ok((samplers, Map::new())),
    }
}

/// Returns the sampler's quirks, or all quirks of the published code, with those that the flags set.
fn quirks(model: &ModelArgs, usual: Quirks) -> anyhow::Result<Quirks> {
    let mut quirks = if model.as_published {
        Quirks::published()
    } else {
        usual
    };
    for assignment in &model.quirks {
        quirks
            .set(assignment)
            .map_err(|error| UsageError(format!("--{error}")))?;
    }
    Ok(quirks)
}

/// Reads the configuration of the image tokenizer in its own folder.
///
/// # Errors
/// An error if it is missing or broken.
pub fn image_tokenizer_of(folder: &Path) -> anyhow::Result<ImageTokenizerConfig> {
    image_tokenizer_shape(folder).context("the image tokenizer cannot be used")
}

/// Returns the pixels per side that one code stands for.
fn pixels_of_a_code(folder: &Path) -> anyhow::Result<usize> {
    Ok(image_tokenizer_of(folder)?.downscale())
}

/// Returns the number of codes of a picture of this size, with this many pixels per side of a code.
///
/// # Errors
/// An error if a side is no whole number of codes, or if the codes do not fit into a sequence.
pub fn codes_of(folder: &Path, size: PictureSize, pixels: usize) -> anyhow::Result<usize> {
    let whole = |side: usize| side > 0 && side.is_multiple_of(pixels);
    if !(whole(size.width) && whole(size.height)) {
        let message = format!(
            "--size {size}: expected a multiple of {pixels}, the pixels of a code, on each side; the nearest: {}",
            nearest(size, pixels).join(", ")
        );
        bail!(UsageError(message));
    }
    let codes = (size.width / pixels).saturating_mul(size.height / pixels);
    fits(folder, size, codes, 1)?;
    Ok(codes)
}

/// Returns the inference for pictures of another size.
fn sized(
    folder: &Path,
    inference: &Inference,
    is_published_family: bool,
    size: PictureSize,
    pixels: usize,
) -> anyhow::Result<Inference> {
    let codes = codes_of(folder, size, pixels)?;
    let budgets = if is_published_family {
        published_settings::budgets(folder, codes)?
    } else {
        inference.builder().budgets().with_codes(codes)
    };
    Ok(inference.with_budgets(budgets))
}

/// Lists the nearest sizes whose sides are whole codes; only squares for a square.
fn nearest(size: PictureSize, pixels: usize) -> Vec<String> {
    let around = |side: usize| {
        let below = (side / pixels).max(1) * pixels;
        let above = side.div_ceil(pixels).max(1).saturating_mul(pixels);
        if below == above {
            vec![below]
        } else {
            vec![below, above]
        }
    };
    let pairs = around(size.width).into_iter().flat_map(|width| {
        let heights = if size.width == size.height {
            vec![width]
        } else {
            around(size.height)
        };
        heights
            .into_iter()
            .map(move |height| PictureSize { width, height }.to_string())
    });
    pairs.collect()
}

/// Returns the error context of a checkpoint that cannot be used. It names the checkpoint, and the complete one before
/// it in the same folder.
#[must_use]
pub fn instead(checkpoint: &Path) -> String {
    let name = checkpoint.file_name().unwrap_or_default();
    let beside = checkpoint
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok());
    let whole = beside.into_iter().flatten().flatten().filter(|entry| {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        !hidden && entry.file_name().as_os_str() < name && entry.path().join("manifest.json").is_file()
    });
    let offer = whole.map(|entry| entry.path()).max().map_or_else(
        || "there is no earlier checkpoint".to_owned(),
        |before| format!("the previous one is --checkpoint {}", before.display()),
    );
    format!("the checkpoint {} cannot be used ({offer})", checkpoint.display())
}
