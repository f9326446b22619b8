//! What a run keeps on disk: its checkpoints, written whole, pruned with care, read back newest first (law L1).
//!
//! Kept are the newest few, the promoted one, and, for each kept one in the middle of an `align` stage, the one at that
//! stage's start: it holds the reference policy.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use demask_api::{
    Answer, EngineError, Growth, ImageTokenizerConfig, LoadOptions, ModelSource, Request, checkpoint,
};
use demask_datasets::prompts::text_tokenizer::TextTokenizer;
use demask_storage::{Alert, Checkpoint, Level, Record, StoreError, journal, store};
use serde::{Deserialize, Serialize};

use crate::curating::{Corpus, Curator};
use crate::curator::Accepted;
use crate::engine::{EngineFailure, unexpected};
use crate::folder;
use crate::gate::Promoted;
use crate::job::Job;
use crate::profile::{self, Profile, StageKind};
use crate::run_error::RunError;
use crate::shipped;
use crate::supervisor::Address;
use crate::workbench::{Draws, Workbench};

/// The marker that names the promoted checkpoint, beside the checkpoints.
pub const PROMOTED: &str = "promoted.json";

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
    pub bench: Arc<Workbench>,
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
pub fn folder(job: &Job, step: u64) -> PathBuf {
    job.home.checkpoints(&job.run).join(folder_name(step))
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
    job: &Job,
    bench: &Workbench,
    cursor: &Cursor,
    weights: u64,
    reason: &str,
) -> Result<(), RunError> {
    let dir = folder(job, cursor.step);
    // One of the same step stays until this one's row is on disk: its own may be acknowledged, and the only one.
    let before = job.home.set_aside(&dir);
    let before = before.map_err(|error| RunError::about(dir.display(), error))?;
    let sampling = &job.profile.sampling;
    let draws = Draws {
        text: sampling.text.clone(),
        image: sampling.image.clone(),
    };
    let request = Request::Save {
        dir,
        attach: attachments(bench, &draws, cursor)?,
        optimizer: true,
    };
    let saved = job.engine.ask(request, None).await;
    if saved.is_err() {
        job.home.sweep(&job.run);
    }
    let (hash, bytes) = match saved? {
        Answer::Saved { hash, bytes, .. } => (hash, bytes),
        other => return Err(unexpected("saved", &other).into()),
    };
    let record = Checkpoint {
        hash,
        run: job.run.clone(),
        step: cursor.step,
        weights,
        path: format!("checkpoints/{}/{}", job.run, folder_name(cursor.step)),
        reason: reason.to_owned(),
        bytes,
        kept: true,
    };
    job.recorder.record(Record::Checkpoint(record)).await?;
    // Acknowledged means on disk: only then may an older one go.
    job.recorder.flush().await?;
    if let Some(before) = before {
        std::fs::remove_dir_all(before).ok();
    }
    let step = cursor.step;
    job.control
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
    bench: &Workbench,
    draws: &Draws,
    cursor: &Cursor,
) -> Result<BTreeMap<String, String>, RunError> {
    let mut files = folder::files(bench, draws)?;
    let state = serde_json::to_string(cursor).map_err(|error| RunError::Failed(error.to_string()))?;
    files.insert(checkpoint::STATE.to_owned(), state);
    Ok(files)
}

/// Removes the checkpoints that nothing needs any more.
///
/// # Errors
/// The store's.
pub async fn prune(job: &Job, cursor: &Cursor) -> Result<(), RunError> {
    let kept = kept(job)?;
    let needed = needed(&job.profile, &kept, cursor.best.as_ref());
    for old in kept.into_iter().filter(|one| !needed.contains(&one.step)) {
        std::fs::remove_dir_all(job.home.root().join(&old.path)).ok();
        let record = Checkpoint { kept: false, ..old };
        job.recorder.record(Record::Checkpoint(record)).await?;
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
pub fn mark_promoted(job: &Job, promoted: &Promoted) -> Result<(), RunError> {
    let path = job.home.checkpoints(&job.run).join(PROMOTED);
    let text = serde_json::to_string_pretty(promoted).map_err(|error| RunError::Failed(error.to_string()))?;
    let draft = path.with_extension("draft");
    let written = std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &path));
    written.map_err(|source| RunError::Store(StoreError::Io { path, source }))
}

fn kept(job: &Job) -> Result<Vec<Checkpoint>, RunError> {
    let connection = store::open_read_only(&job.home.database())?;
    Ok(journal::checkpoints(&connection, &job.run)?)
}

/// Loads the newest checkpoint that is whole; else the shipped one, or random weights.
///
/// # Errors
/// The engine's death; a shipped checkpoint or sources that cannot be read.
pub async fn load(job: &Job, curator: &Address<Curator>) -> Result<Loaded, RunError> {
    let kept = kept(job)?;
    let oldest = kept.last().map(|saved| saved.step);
    for saved in kept {
        let dir = job.home.root().join(&saved.path);
        let then = match oldest == Some(saved.step) {
            true => "there is none before it, the run begins again",
            false => "trying the one before",
        };
        match load_checkpoint(job, &dir).await {
            Ok(loaded) => return Ok(loaded),
            Err(error) if error.mendable() => return Err(error),
            Err(error) => {
                let message = format!(
                    "checkpoint at step {} cannot be used: {error}; {then}",
                    saved.step
                );
                let alert = Alert {
                    run: job.run.clone(),
                    step: saved.step,
                    level: Level::Warn,
                    kind: "broken_checkpoint".to_owned(),
                    message,
                };
                job.recorder.record(Record::Alert(alert)).await?;
            }
        }
    }
    if job.from_scratch {
        fresh(job, curator).await
    } else {
        from_checkpoint(job).await
    }
}

/// Loads one checkpoint, optimiser and all.
///
/// # Errors
/// A file that is missing or broken; the engine's.
pub async fn load_checkpoint(job: &Job, dir: &Path) -> Result<Loaded, RunError> {
    let model = ModelSource::Checkpoint {
        dir: dir.to_owned(),
        resume: true,
        average: false,
        image_tokenizer: None,
        options: LoadOptions::default(),
    };
    let weights = match job.engine.ask(Request::Load { model }, None).await? {
        Answer::Loaded { step, .. } => step,
        other => return Err(unexpected("loaded", &other).into()),
    };
    let path = dir.join(checkpoint::STATE);
    let text = std::fs::read_to_string(&path).map_err(|error| RunError::about(path.display(), error))?;
    let cursor = serde_json::from_str(&text).map_err(|error| RunError::about(path.display(), error))?;
    let bench = Arc::new(folder::workbench(dir)?);
    Ok(Loaded {
        bench,
        cursor,
        weights,
    })
}

fn beginning(bench: Workbench) -> Loaded {
    Loaded {
        bench: Arc::new(bench),
        cursor: Cursor::default(),
        weights: 0,
    }
}

/// The weights of the profile's checkpoint, or of the shipped one, at step 0 of this run.
async fn from_checkpoint(job: &Job) -> Result<Loaded, RunError> {
    let dir = match &job.profile.start_from {
        Some(named) => named.clone(),
        None => shipped::folder(&job.home).map_err(|error| RunError::Failed(error.to_string()))?,
    };
    let (bench, image_tokenizer) = match &job.profile.grow {
        Some(growth) => grown(job, growth, &dir)?,
        None => (folder::workbench(&dir)?, None),
    };
    let model = ModelSource::Checkpoint {
        dir,
        resume: false,
        average: false,
        image_tokenizer,
        // At the start alone (L1): a checkpoint of the run holds what became of it.
        options: LoadOptions {
            lora: job.profile.lora.clone(),
            adapter: job.profile.adapter.clone(),
            grow: job.profile.grow.clone(),
            ..LoadOptions::default()
        },
    };
    job.engine.ask(Request::Load { model }, None).await?;
    Ok(beginning(bench))
}

/// How a text model that is given picture codes is prompted, and the folder of its image tokenizer.
fn grown(job: &Job, growth: &Growth, dir: &Path) -> Result<(Workbench, Option<PathBuf>), RunError> {
    let images = profile::image_tokenizer_of(image_tokenizer_from(job)?.as_deref(), dir);
    let codes = job
        .profile
        .codes_of_growth(growth, &image_tokenizer_shape(&images)?)
        .map_err(|(key, message)| RunError::Failed(format!("{key} {message}")))?;
    Ok((folder::grown(dir, Some(codes))?, Some(images)))
}

/// The checkpoint whose image tokenizer is taken over, if one is named.
fn image_tokenizer_from(job: &Job) -> Result<Option<PathBuf>, RunError> {
    match &job.profile.image_tokenizer_from {
        Some(named) if named.as_os_str() == shipped::SHIPPED => shipped::folder(&job.home)
            .map(Some)
            .map_err(|error| RunError::Failed(error.to_string())),
        named => Ok(named.clone()),
    }
}

async fn fresh(job: &Job, curator: &Address<Curator>) -> Result<Loaded, RunError> {
    let profile = &job.profile;
    let corpus = curator.ask(Corpus).await??;
    let tokenizer = TextTokenizer::train(&corpus, profile.text_vocabulary)
        .map_err(|error| RunError::Failed(error.to_string()))?;
    let image_tokenizer_from = image_tokenizer_from(job)?;
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
    job.engine.ask(Request::Load { model }, None).await?;
    Ok(beginning(Workbench::new(tokenizer, profile.budgets)))
}

/// The shape of a checkpoint's image tokenizer.
///
/// # Errors
/// No such file, or one that is broken: named.
pub fn image_tokenizer_config(dir: &Path) -> Result<ImageTokenizerConfig, RunError> {
    image_tokenizer_shape(&dir.join(checkpoint::IMAGE_TOKENIZER))
}

/// The shape of the image tokenizer in a folder of its own.
///
/// # Errors
/// As [`image_tokenizer_config`].
pub fn image_tokenizer_shape(folder: &Path) -> Result<ImageTokenizerConfig, RunError> {
    let path = folder.join(checkpoint::CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|error| RunError::about(path.display(), error))?;
    serde_json::from_str(&text).map_err(|error| RunError::about(path.display(), error))
}
