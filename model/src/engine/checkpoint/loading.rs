//! Reading a checkpoint folder, as the options of loading ask: for training or sampling, sharded, with an adapter, a
//! merge or growth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use demask_api::checkpoint::{ADAPTER_CONFIG, IMAGE_TOKENIZER, OPTIMIZER, has_adapter};
use demask_api::{FrozenBase, LoadOptions, LoraConfig, Purpose};
use tch::{Device, Kind, Tensor};

use super::manifest::check_manifest;
use super::{AVERAGE, LoadedModel};
use crate::error::{ModelError, Result};
use crate::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use crate::network::backbone::Backbone;
use crate::network::lora::Lora;
use crate::training::optimizer::{AdamW, SECOND};
use crate::weights::peft;
use crate::weights::safetensors;
use crate::weights::shards::{RankOf, ShardMap};
use crate::weights::stored::StoredTensors;

impl LoadedModel {
    /// Reads a checkpoint folder of this project, or a published backbone, for training. `resume` also reads
    /// the optimizer state, which only a complete checkpoint of this project has.
    ///
    /// # Errors
    /// Returns an error that names the missing, damaged or truncated file.
    pub fn load(dir: &Path, resume: bool, device: Device, kind: Kind) -> Result<Self> {
        Self::load_with(dir, resume, &LoadOptions::default(), device, kind)
    }

    /// Reads a folder as the options ask: for training or sampling, with an adapter, a merge or growth.
    ///
    /// # Errors
    /// Returns the errors of [`Self::load`], and refuses `resume` for a model that is loaded for sampling.
    pub fn load_with(
        dir: &Path,
        resume: bool,
        options: &LoadOptions,
        device: Device,
        kind: Kind,
    ) -> Result<Self> {
        Self::load_on(dir, resume, options, (device, kind), None)
    }

    /// Reads a folder like [`Self::load_with`]. If `part` is given and the model is for training, only this rank's
    /// shard of the weights is kept. An adapter is whole on every rank, and so are quantised weights below one and
    /// weights that one was merged into.
    ///
    /// # Errors
    /// Returns the errors of [`Self::load_with`].
    pub fn load_on(
        dir: &Path,
        resume: bool,
        options: &LoadOptions,
        (device, kind): (Device, Kind),
        part: Option<RankOf>,
    ) -> Result<Self> {
        let purpose = options.purpose;
        if resume && purpose == Purpose::Sample {
            return Err(ModelError::Refused(
                "resume needs the purpose train, found the purpose sample".into(),
            ));
        }
        let listed = check_manifest(dir)?;
        let backbone = load_backbone(dir, options, (device, kind), part)?;
        if resume && !listed.iter().any(|name| name == OPTIMIZER) {
            let message =
                format!("its manifest does not list {OPTIMIZER}, so a run cannot be resumed from it");
            return Err(ModelError::checkpoint(dir, message));
        }
        let mut optimizer = AdamW::new(backbone.trained())?;
        let folder = dir.join(IMAGE_TOKENIZER);
        let mut tokenizer = if folder.is_dir() {
            let tokenizer = ImageTokenizer::load_for(&folder, device, purpose)?;
            let trainer = TokenizerTrainer::new(&tokenizer)?;
            Some((tokenizer, trainer))
        } else {
            None
        };
        if resume {
            let path = dir.join(OPTIMIZER);
            // With sharded weights, a rank reads only its own part of the optimizer state.
            let (state, seconds) = match backbone.trained().sharded() {
                Some(sharded) => read_part(&path, sharded.map(), &optimizer)?,
                None => (safetensors::read(&path)?, None),
            };
            let restored = match seconds {
                Some(seconds) => optimizer.restore_part("backbone", &state, seconds),
                None => optimizer.restore("backbone", &state),
            };
            let named = |error: ModelError| ModelError::checkpoint(&path, error.to_string());
            restored.map_err(named)?;
            if let Some((_, trainer)) = &mut tokenizer {
                trainer.restore("image_tokenizer", &state).map_err(named)?;
            }
        }
        Ok(Self {
            backbone,
            optimizer,
            tokenizer,
        })
    }

    /// Replaces the weights by their moving average, for sampling and evaluation.
    ///
    /// # Errors
    /// Returns an error if the checkpoint has no average, and refuses `resume`, because a run resumes from
    /// its own weights.
    pub fn take_average(&self, dir: &Path, resume: bool) -> Result<()> {
        if resume {
            return Err(ModelError::Refused(
                "average and resume exclude each other: a run is resumed from its weights, not from their moving average".into(),
            ));
        }
        let path = dir.join(OPTIMIZER);
        let lacks = || {
            ModelError::checkpoint(
                &path,
                "there is no moving average of the weights, because the run had `ema = 0`",
            )
        };
        if !path.exists() {
            return Err(lacks());
        }
        let state = StoredTensors::in_file(&path)?;
        let shape = state.shape(AVERAGE).ok_or_else(lacks)?;
        let (found, expected) = (shape.iter().product::<i64>(), self.backbone.trained().count());
        if u64::try_from(found) != Ok(expected) {
            let message = format!("the moving average has {found} numbers, expected {expected}");
            return Err(ModelError::checkpoint(&path, message));
        }
        let average = match self.backbone.trained().sharded() {
            Some(sharded) => state.read_ranges(AVERAGE, ranges(sharded.map()))?,
            None => state.read(AVERAGE)?,
        };
        self.backbone.trained().set(&average)
    }
}

/// Loads the backbone of a folder with the adapter, growth or merge that the options ask for. A folder that
/// holds an adapter names its base model.
///
/// # Errors
/// Returns the errors of [`Backbone::load`], and refuses contradictory options and an adapter that does not
/// fit.
pub fn load_backbone(
    dir: &Path,
    options: &LoadOptions,
    place: (Device, Kind),
    part: Option<RankOf>,
) -> Result<Backbone> {
    let refuse = |message: &str| Err(ModelError::Refused(message.to_owned()));
    let inside = has_adapter(dir);
    let adapter = match &options.adapter {
        Some(_) if inside => return refuse("adapter: the checkpoint contains an adapter already"),
        Some(adapter) => Some(adapter.as_path()),
        None => inside.then_some(dir),
    };
    let adapted = adapter.is_some() || options.lora.is_some();
    if adapter.is_some() && options.lora.is_some() {
        return refuse("lora and adapter exclude each other: give a fresh adapter or an existing one");
    }
    if options.merge && adapter.is_none() {
        return refuse("merge: there is no adapter to merge");
    }
    if adapted && options.grow.is_some() {
        return refuse(
            "grow and an adapter exclude each other: save the grown model first and use it as the adapter's base",
        );
    }
    let base = if inside { base_of(dir)? } else { dir.to_owned() };
    // The base of an adapter is frozen, so it is loaded for sampling.
    let purpose = if adapted && !options.merge {
        Purpose::Sample
    } else {
        options.purpose
    };
    if let Some(adapter) = adapter.filter(|_| !inside) {
        check_manifest(adapter)?;
    }
    let part = part.filter(|_| options.purpose == Purpose::Train && !options.merge);
    let mut backbone = match frozen_base(adapter, options)? {
        Some(form) => Backbone::load_frozen(&base, place, form, part)?,
        None => Backbone::load_grown(&base, place, purpose, options.grow.as_ref(), part)?,
    };
    if let Some(adapter) = adapter {
        let lora = Lora::load(adapter, backbone.config(), &base, place, options.purpose)?;
        backbone = backbone.adapted(lora);
    } else if let Some(config) = &options.lora {
        let lora = Lora::fresh(config, backbone.config(), &base, place, options.purpose)?;
        backbone = backbone.adapted(lora);
    }
    if options.merge {
        backbone.merge()?;
    }
    Ok(backbone)
}

/// Returns the format of the frozen base beside an adapter. A fresh adapter's configuration asks for one; an
/// existing adapter keeps the format that it was trained with. To merge an adapter, the base is loaded in
/// full precision, as is usual with PEFT.
fn frozen_base(adapter: Option<&Path>, options: &LoadOptions) -> Result<Option<FrozenBase>> {
    match (adapter, &options.lora) {
        _ if options.merge => Ok(None),
        (Some(adapter), _) => peft::frozen_base(adapter).map(Some),
        (None, lora) => Ok(lora.as_ref().map(LoraConfig::frozen_base)),
    }
}

/// Reads this rank's shard of the backbone's optimizer state, and the rest of the file completely. Also returns the
/// number of second moments of all ranks.
fn read_part(
    path: &Path,
    map: &ShardMap,
    optimizer: &AdamW,
) -> Result<(BTreeMap<String, Tensor>, Option<i64>)> {
    let stored = StoredTensors::in_file(path)?;
    let numbers = |name: &str| stored.shape(name).unwrap_or_default().iter().product::<i64>();
    let seconds = numbers(&format!("backbone{SECOND}"));
    let read = |name: &str| -> Result<(String, Tensor)> {
        let map = match name.ends_with(SECOND) {
            true => optimizer.stored_seconds(seconds),
            false => map,
        };
        let is_whole = name.starts_with("backbone.") && numbers(name) == map.total();
        let tensor = match is_whole {
            true => stored.read_ranges(name, ranges(map))?,
            false => stored.read(name)?,
        };
        Ok((name.to_owned(), tensor))
    };
    let state = stored.names().map(read).collect::<Result<_>>()?;
    Ok((state, Some(seconds)))
}

/// Returns the start and the length of each range of numbers that this rank owns.
fn ranges(map: &ShardMap) -> impl Iterator<Item = (i64, i64)> {
    map.own_segments().map(|segment| (segment.start, segment.length))
}

/// Returns the base folder that an adapter's folder names.
fn base_of(dir: &Path) -> Result<PathBuf> {
    let named = peft::base(dir)?;
    let base = dir.join(&named);
    if base.is_dir() {
        check_manifest(&base)?;
        return Ok(base);
    }
    let message = format!(
        "base_model_name_or_path is {named}, but there is no such folder; load the base model and give this folder as its adapter"
    );
    Err(ModelError::checkpoint(&dir.join(ADAPTER_CONFIG), message))
}
