//! What a run keeps on disk: its checkpoints, written whole, pruned with care, read back newest first (law L1).
//!
//! Kept are the newest few, the promoted one, and, for each kept one in the middle of an `align` stage, the one at that
//! stage's start: it holds the reference policy.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use demask_api::{
    Answer, EngineError, Growth, LoadOptions, ModelSource, Request, bounded_file, checkpoint, limits,
};
use demask_datasets::prompts::text_tokenizer::TextTokenizer;
use demask_storage::{Alert, Checkpoint, Level, Record, StoreError, journal, store};
use serde::{Deserialize, Serialize};

use crate::engine::process::{EngineFailure, unexpected};
use crate::inference::checkpoint_settings;
use crate::inference::complete::Inference;
use crate::inference::error::WorkError;
use crate::inference::image_tokenizer::{image_tokenizer_config, image_tokenizer_shape};
use crate::inference::settings::SamplerSettings;
use crate::inference::shipped;
use crate::pipeline::curation::curator::{Corpus, Curator};
use crate::pipeline::curation::mixture::Accepted;
use crate::pipeline::run_error::RunError;
use crate::profile::{self, Profile, StageKind};
use crate::run::context::RunContext;
use crate::run::promotion::Promoted;
use crate::runtime::actor::offload;
use crate::runtime::supervisor::Address;

/// The marker that names the promoted checkpoint, beside the checkpoints.
pub const PROMOTED: &str = "promoted.json";
/// What the run is, as its row says, beside the checkpoints: so that they can be gone on with though the store is lost (law L1).
pub const RUN: &str = "run.json";

/// What a checkpoint says of the run: `state.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// Steps done.
    pub step: u64,
    /// Accepted traces.
    pub traces: Vec<Accepted>,
    /// Halvings of the learning rate after losses that were not finite.
    pub halvings: u32,
    /// The best checkpoint so far.
    #[serde(default)]
    pub best: Option<Promoted>,
    /// The gate is still to judge these weights: the daemon ended before it had.
    #[serde(default)]
    pub unjudged: bool,
}

/// Where a life of a run begins.
pub struct Loaded {
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// Where the run is.
    pub cursor: Cursor,
    /// The weights version.
    pub weights: u64,
}

/// The name of a step's folder.
#[must_use]
pub fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The folder of a step's checkpoint.
#[must_use]
pub fn folder(context: &RunContext, step: u64) -> PathBuf {
    context.home.checkpoints(&context.run).join(folder_name(step))
}

/// Which stage a step belongs to, and how many steps of it come before; after the last step, the last stage's last.
#[must_use]
pub fn place(profile: &Profile, step: u64) -> (usize, u64) {
    let mut left = step;
    for (number, stage) in profile.stages.iter().enumerate() {
        if left < stage.steps {
            return (number, left);
        }
        left -= stage.steps;
    }
    let last = profile.stages.len().saturating_sub(1);
    let steps = profile.stages.last().map_or(1, |stage| stage.steps);
    (last, steps - 1)
}

/// Writes the engine's weights and what goes with them; the row is on disk when this returns.
///
/// # Errors
/// The engine's, a full disk as [`EngineError::Io`]; the recorder's.
pub async fn save(
    context: &RunContext,
    inference: &Inference,
    cursor: &Cursor,
    weights: u64,
    reason: &str,
) -> Result<(), RunError> {
    describe_run(context)?;
    let dir = folder(context, cursor.step);
    // One of the same step stays until this one's row is on disk: its own may be acknowledged, and the only one.
    let before = context.home.set_aside(&dir);
    let before = before.map_err(|error| RunError::about(dir.display(), error))?;
    let sampling = &context.profile.sampling;
    let samplers = SamplerSettings {
        text: sampling.text.clone(),
        image: sampling.image.clone(),
    };
    let request = Request::Save {
        dir,
        attach: attachments(inference, &samplers, cursor)?,
        optimizer: true,
    };
    let saved = context.engine.ask(request, None).await;
    if saved.is_err() {
        context.home.sweep(&context.run);
    }
    let (hash, bytes) = match saved? {
        Answer::Saved { hash, bytes, .. } => (hash, bytes),
        other => return Err(unexpected("saved", &other).into()),
    };
    let record = Checkpoint {
        hash,
        run: context.run.clone(),
        step: cursor.step,
        weights,
        path: format!("checkpoints/{}/{}", context.run, folder_name(cursor.step)),
        reason: reason.to_owned(),
        bytes,
        kept: true,
    };
    context.recorder.record(Record::Checkpoint(record)).await?;
    // Acknowledged means on disk: only then may an older one go.
    context.recorder.flush().await?;
    if let Some(before) = before {
        std::fs::remove_dir_all(before).ok();
    }
    let step = cursor.step;
    context
        .control
        .report(|overview| overview.last_checkpoint = Some(step));
    Ok(())
}

/// Whether this says that the disk is full, and where: under the engine's weights, a picture or a marker.
#[must_use]
pub fn disk_full(error: &RunError) -> Option<String> {
    match error {
        RunError::Store(StoreError::Io { path, source })
            if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
        {
            Some(format!("{}: {source}", path.display()))
        }
        RunError::Engine(EngineFailure::Engine(EngineError::Io {
            path,
            message,
            full: true,
        })) => Some(format!("{path}: {message}")),
        _ => None,
    }
}

fn attachments(
    inference: &Inference,
    samplers: &SamplerSettings,
    cursor: &Cursor,
) -> Result<BTreeMap<String, String>, RunError> {
    let mut files = checkpoint_settings::files(inference, samplers)?;
    let state = serde_json::to_string(cursor).map_err(|error| RunError::Failed(error.to_string()))?;
    files.insert(checkpoint::STATE.to_owned(), state);
    Ok(files)
}

/// Removes the checkpoints that nothing needs any more.
///
/// # Errors
/// The store's.
pub async fn prune(context: &RunContext, cursor: &Cursor) -> Result<(), RunError> {
    let kept = kept(context)?;
    let mut needed = needed(&context.profile, &kept, cursor.best.as_ref());
    // Of a run that began with it and has no checkpoint of its own yet it is the beginning.
    let connection = store::open_read_only(&context.home.database())?;
    needed.extend(journal::begun_from(&connection, &context.run)?);
    drop(connection);
    for old in kept.into_iter().filter(|one| !needed.contains(&one.step)) {
        std::fs::remove_dir_all(context.home.root().join(&old.path)).ok();
        let record = Checkpoint { kept: false, ..old };
        context.recorder.record(Record::Checkpoint(record)).await?;
    }
    Ok(())
}

/// The steps whose checkpoints must stay; `kept` is newest first.
fn needed(profile: &Profile, kept: &[Checkpoint], best: Option<&Promoted>) -> BTreeSet<u64> {
    let newest = kept.iter().take(profile.checkpoint.keep).map(|one| one.step);
    let mut needed: BTreeSet<u64> = newest.chain(best.map(|best| best.step)).collect();
    let starts: Vec<u64> = needed
        .iter()
        .filter_map(|&step| {
            let (stage, done) = place(profile, step);
            (profile.stages[stage].kind == StageKind::Align).then(|| step - done)
        })
        .collect();
    needed.extend(starts);
    needed
}

/// Writes the marker of the promoted checkpoint, whole or not at all.
///
/// # Errors
/// The file system's, naming the file.
pub fn mark_promoted(context: &RunContext, promoted: &Promoted) -> Result<(), RunError> {
    write_beside(context, PROMOTED, promoted)
}

/// Says beside the checkpoints what the run is, unless that is there.
fn describe_run(context: &RunContext) -> Result<(), RunError> {
    let folder = context.home.checkpoints(&context.run);
    if folder.join(RUN).is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).map_err(|source| StoreError::Io { path: folder, source })?;
    write_beside(context, RUN, &*context.begun)
}

/// Writes a file beside the checkpoints, whole or not at all.
fn write_beside(context: &RunContext, name: &str, what: &impl Serialize) -> Result<(), RunError> {
    let path = context.home.checkpoints(&context.run).join(name);
    let text = serde_json::to_string_pretty(what).map_err(|error| RunError::Failed(error.to_string()))?;
    let draft = path.with_extension("draft");
    let write = || {
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        // A crash leaves the old one or the new one, never half of it.
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    };
    write().map_err(|source| RunError::Store(StoreError::Io { path, source }))
}

fn kept(context: &RunContext) -> Result<Vec<Checkpoint>, RunError> {
    let connection = store::open_read_only(&context.home.database())?;
    Ok(journal::checkpoints(&connection, &context.run)?)
}

/// Loads the newest checkpoint that is whole; else the shipped one, or random weights.
///
/// # Errors
/// The engine's death; a shipped checkpoint or sources that cannot be read.
pub async fn load(context: &RunContext, curator: &Address<Curator>) -> Result<Loaded, RunError> {
    let kept = kept(context)?;
    let oldest = kept.last().map(|saved| saved.step);
    for saved in kept {
        let dir = context.home.root().join(&saved.path);
        let then = match oldest == Some(saved.step) {
            true => "there is none before it, the run begins again",
            false => "trying the one before",
        };
        match load_checkpoint(context, &dir).await {
            Ok(loaded) => return Ok(loaded),
            Err(error) if error.mendable() => return Err(error),
            Err(error) => {
                let message = format!(
                    "checkpoint at step {} cannot be used: {error}; {then}",
                    saved.step
                );
                let alert = Alert {
                    run: context.run.clone(),
                    step: saved.step,
                    level: Level::Warn,
                    kind: "broken_checkpoint".to_owned(),
                    message,
                };
                context.recorder.record(Record::Alert(alert)).await?;
            }
        }
    }
    if context.from_scratch {
        fresh(context, curator).await
    } else {
        from_checkpoint(context).await
    }
}

/// Loads one checkpoint, optimiser and all.
///
/// # Errors
/// A file that is missing or broken; the engine's.
pub async fn load_checkpoint(context: &RunContext, dir: &Path) -> Result<Loaded, RunError> {
    let model = ModelSource::Checkpoint {
        dir: dir.to_owned(),
        resume: true,
        average: false,
        image_tokenizer: None,
        options: LoadOptions::default(),
    };
    let weights = match context.engine.ask(Request::Load { model }, None).await? {
        Answer::Loaded { step, .. } => step,
        other => return Err(unexpected("loaded", &other).into()),
    };
    let path = dir.join(checkpoint::STATE);
    let text = bounded_file::read_text(&path, limits::LONGEST_CONFIG)
        .map_err(|error| RunError::about(path.display(), error))?;
    let cursor = serde_json::from_str(&text).map_err(|error| RunError::about(path.display(), error))?;
    let folder = dir.to_owned();
    let inference = beside(move || checkpoint_settings::inference(&folder)).await?;
    Ok(Loaded {
        inference: Arc::new(inference),
        cursor,
        weights,
    })
}

fn beginning(inference: Inference) -> Loaded {
    Loaded {
        inference: Arc::new(inference),
        cursor: Cursor::default(),
        weights: 0,
    }
}

/// The weights of the profile's checkpoint, or of the shipped one, at step 0 of this run.
async fn from_checkpoint(context: &RunContext) -> Result<Loaded, RunError> {
    let dir = match &context.profile.start_from {
        Some(named) => named.clone(),
        None => shipped::folder(&context.home).map_err(|error| RunError::Failed(error.to_string()))?,
    };
    let (inference, image_tokenizer) = match &context.profile.grow {
        Some(growth) => grown(context, growth, &dir).await?,
        None => {
            let folder = dir.clone();
            (
                beside(move || checkpoint_settings::inference(&folder)).await?,
                None,
            )
        }
    };
    let model = ModelSource::Checkpoint {
        dir,
        resume: false,
        average: false,
        image_tokenizer,
        // At the start alone (L1): a checkpoint of the run holds what became of it.
        options: LoadOptions {
            lora: context.profile.lora.clone(),
            adapter: context.profile.adapter.clone(),
            grow: context.profile.grow.clone(),
            ..LoadOptions::default()
        },
    };
    context.engine.ask(Request::Load { model }, None).await?;
    Ok(beginning(inference))
}

/// How a text model that is given picture codes is prompted, and the folder of its image tokenizer.
async fn grown(
    context: &RunContext,
    growth: &Growth,
    dir: &Path,
) -> Result<(Inference, Option<PathBuf>), RunError> {
    let images = profile::image_tokenizer_of(image_tokenizer_from(context)?.as_deref(), dir);
    let codes = context
        .profile
        .codes_of_growth(growth, &image_tokenizer_shape(&images)?)
        .map_err(|(key, message)| RunError::Failed(format!("{key} {message}")))?;
    let folder = dir.to_owned();
    let inference = beside(move || checkpoint_settings::grown(&folder, Some(codes))).await?;
    Ok((inference, Some(images)))
}

/// Reads what a folder says of prompts beside the event loop (L10): a published tokenizer takes a second.
async fn beside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, WorkError> + Send + 'static,
) -> Result<T, RunError> {
    Ok(offload(read).await??)
}

/// The checkpoint whose image tokenizer is taken over, if one is named.
fn image_tokenizer_from(context: &RunContext) -> Result<Option<PathBuf>, RunError> {
    match &context.profile.image_tokenizer_from {
        Some(named) if named.as_os_str() == shipped::SHIPPED => shipped::folder(&context.home)
            .map(Some)
            .map_err(|error| RunError::Failed(error.to_string())),
        named => Ok(named.clone()),
    }
}

async fn fresh(context: &RunContext, curator: &Address<Curator>) -> Result<Loaded, RunError> {
    let profile = &context.profile;
    let corpus = curator.ask(Corpus).await??;
    let vocabulary = profile.text_vocabulary;
    // L10: nobody is answered while this thread counts pairs.
    let trained = offload(move || TextTokenizer::train(&corpus, vocabulary)).await?;
    let tokenizer = trained.map_err(|error| RunError::Failed(error.to_string()))?;
    let image_tokenizer_from = image_tokenizer_from(context)?;
    let image_tokenizer = match &image_tokenizer_from {
        Some(dir) => Some(
            image_tokenizer_config(dir).map_err(|error| RunError::about("image_tokenizer_from", error))?,
        ),
        None => profile.image_tokenizer.clone(),
    };
    let specials = tokenizer.specials();
    let mut backbone = profile.model.clone();
    backbone.codebook_size = image_tokenizer
        .as_ref()
        .map_or(0, |config| 1 << config.codebook_bits);
    backbone.image_token_offset = u32::try_from(tokenizer.len()).ok();
    backbone.vocab_size = tokenizer.len() + backbone.codebook_size;
    backbone.embedding_size = None;
    (
        backbone.mask_token_id,
        backbone.eos_token_id,
        backbone.pad_token_id,
    ) = (specials.mask, specials.eos, specials.pad);
    let model = ModelSource::Fresh {
        backbone,
        image_tokenizer,
        image_tokenizer_from,
        seed: profile.seed,
    };
    context.engine.ask(Request::Load { model }, None).await?;
    Ok(beginning(Inference::new(tokenizer, profile.budgets)))
}
