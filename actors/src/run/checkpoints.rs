//! A run's files on disk: its checkpoints are written whole, pruned with care, and read back newest first (law L1).
//!
//! Pruning keeps the newest checkpoints, the promoted one, and one more for each kept checkpoint in the middle of an
//! `align` stage: the checkpoint at that stage's start, which holds the reference policy.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use demask_api::{Answer, EngineError, Growth, LoadOptions, ModelSource, Request, bounded_file, checkpoint};
use demask_datasets::prompts::text_tokenizer::TextTokenizer;
use demask_storage::{Alert, Checkpoint, Level, Record, Run, StoreError, journal, store};
use serde::{Deserialize, Serialize};

use crate::engine::join::folder_mark;
use crate::engine::process::{EngineFailure, unexpected};
use crate::home::Home;
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
use crate::runtime::disk::{of_store, on_disk};
use crate::runtime::supervisor::Address;

/// Name of the marker file that names the promoted checkpoint, beside the checkpoints.
pub const PROMOTED: &str = "promoted.json";
/// Name of the file with the run's row, beside the checkpoints. With it the run can be continued even if the store is
/// lost (law L1).
pub const RUN: &str = "run.json";

/// Longest state of a run in a checkpoint, in bytes. In the request to save, which is JSON itself, it is at most twice as
/// long and fits into a frame.
const LONGEST_STATE: u64 = 96 << 20;

/// Longest wait of a run that must end for the removal of an unfinished checkpoint.
const SWEPT: Duration = Duration::from_millis(500);

/// The state of the run in a checkpoint: `state.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// Steps done.
    pub step: u64,
    /// Accepted traces.
    pub traces: Vec<Accepted>,
    /// Number of times the learning rate was halved after a loss that was not finite.
    pub halvings: u32,
    /// The best checkpoint so far.
    #[serde(default)]
    pub best: Option<Promoted>,
    /// Whether the gate has still to judge these weights, because the daemon ended before it had.
    #[serde(default)]
    pub unjudged: bool,
}

/// The beginning of a life of a run.
pub struct Loaded {
    /// Tokenizer and budgets.
    pub inference: Arc<Inference>,
    /// Position of the run.
    pub cursor: Cursor,
    /// Weights version.
    pub weights: u64,
}

/// Returns the folder name of a step's checkpoint.
#[must_use]
pub fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// Returns the folder of a step's checkpoint.
#[must_use]
pub fn folder(context: &RunContext, step: u64) -> PathBuf {
    context.home.checkpoints(&context.run).join(folder_name(step))
}

/// Returns the index of the stage that a step belongs to, and the number of the stage's steps before it. After the last
/// step this is the last step of the last stage.
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

/// Saves the engine's weights with the run's state. The checkpoint's row is on disk when this returns.
///
/// # Errors
/// Any failure of the engine, a full disk as [`EngineError::Io`]; an error if the recorder has ended.
pub async fn save(
    context: &RunContext,
    inference: &Inference,
    cursor: &Cursor,
    weights: u64,
    reason: &str,
) -> Result<(), RunError> {
    let sampling = &context.profile.sampling;
    let samplers = SamplerSettings {
        text: sampling.text.clone(),
        image: sampling.image.clone(),
    };
    let attach = attachments(inference, &samplers, cursor)?;
    let dir = folder(context, cursor.step);
    let before = on_disk(room_for(context, dir.clone())).await??;
    let request = Request::Save {
        dir,
        attach,
        optimizer: true,
    };
    let saved = context.engine.ask(request, None).await;
    if saved.is_err() {
        let (home, run) = (context.home.clone(), context.run.clone());
        let swept = on_disk(move || home.sweep(&run));
        if context.control.must_end() {
            // L10: the disk that kept the engine from saving may not answer here either. The next life sweeps too.
            tokio::time::timeout(SWEPT, swept).await.ok();
        } else {
            swept.await?;
        }
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
    // L1: only when the rows of everything that the checkpoint contains and its own row are on disk, an older one may be
    // removed.
    context.recorder.flush().await?;
    let row = vec![Record::Checkpoint(record)];
    context.recorder.record_together(row).await?;
    if let Some(before) = before {
        on_disk(move || std::fs::remove_dir_all(before).ok()).await?;
    }
    let step = cursor.step;
    context
        .control
        .report(|overview| overview.last_checkpoint = Some(step));
    Ok(())
}

/// Returns the work that makes room for a checkpoint in this folder. It describes the run, and returns the new name of
/// an earlier checkpoint of the same step. That one stays until the new one's row is on disk, because its own row may be
/// acknowledged and it may be the only checkpoint.
fn room_for(
    context: &RunContext,
    dir: PathBuf,
) -> impl FnOnce() -> Result<Option<PathBuf>, RunError> + Send + 'static {
    let (home, begun) = (context.home.clone(), Arc::clone(&context.begun));
    let run = context.run.clone();
    move || {
        describe_run(&home, &run, &begun)?;
        home.set_aside(&dir)
            .map_err(|error| RunError::about(dir.display(), error))
    }
}

/// Returns a message if this error says that the disk is full: when the engine wrote weights, or when a picture or a
/// marker was written.
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
    files.insert(checkpoint::STATE.to_owned(), state_text(cursor, LONGEST_STATE)?);
    Ok(files)
}

/// Returns the text of [`checkpoint::STATE`].
///
/// # Errors
/// [`RunError::Failed`] if it has more than `longest` bytes. Such a checkpoint would be saved, but never loaded (L1).
fn state_text(cursor: &Cursor, longest: u64) -> Result<String, RunError> {
    let text = serde_json::to_string(cursor).map_err(|error| RunError::Failed(error.to_string()))?;
    if text.len() as u64 > longest {
        return Err(RunError::Failed(format!(
            "{} accepted traces give the checkpoint of step {} a {} of {} bytes, but at most {longest} can be loaded; \
             propose fewer traces: fewer `steps`, a smaller `batch` or `group` of the stages of kind reason",
            cursor.traces.len(),
            cursor.step,
            checkpoint::STATE,
            text.len(),
        )));
    }
    Ok(text)
}

/// Removes the checkpoints that nothing needs any more. Returns the steps of those that cannot be removed, and why. Their
/// rows still say that they are kept.
///
/// # Errors
/// Any error of the store.
pub async fn prune(context: &RunContext, cursor: &Cursor) -> Result<Vec<(u64, std::io::Error)>, RunError> {
    let kept = kept(context).await?;
    let mut needed = needed(&context.profile, &kept, cursor.best.as_ref());
    // A run that began from this checkpoint and has none of its own yet still needs it.
    let (path, run) = (context.home.database(), context.run.clone());
    let begun_from = of_store(move || journal::begun_from(&store::open_read_only(&path)?, &run));
    needed.extend(begun_from.await?);
    let mut unremoved = Vec::new();
    for old in kept.into_iter().filter(|one| !needed.contains(&one.step)) {
        let folder = context.home.root().join(&old.path);
        match on_disk(move || removed(&folder)).await? {
            Ok(()) => {
                let record = Checkpoint { kept: false, ..old };
                context.recorder.record(Record::Checkpoint(record)).await?;
            }
            Err(error) => unremoved.push((old.step, error)),
        }
    }
    Ok(unremoved)
}

/// Removes a checkpoint's folder, if it is there.
fn removed(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the steps whose checkpoints must stay. `kept` is newest first.
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

/// Writes the marker of the promoted checkpoint atomically.
///
/// # Errors
/// An error with the file's path if the file cannot be written.
pub async fn mark_promoted(context: &RunContext, promoted: &Promoted) -> Result<(), RunError> {
    let (home, run, promoted) = (context.home.clone(), context.run.clone(), promoted.clone());
    on_disk(move || write_beside(&home, &run, PROMOTED, &promoted)).await?
}

/// Writes the run's row beside the checkpoints, unless it is there.
fn describe_run(home: &Home, run: &str, begun: &Run) -> Result<(), RunError> {
    let folder = home.checkpoints(run);
    if folder.join(RUN).is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).map_err(|source| StoreError::Io { path: folder, source })?;
    write_beside(home, run, RUN, begun)
}

/// Writes a file beside the checkpoints atomically.
fn write_beside(home: &Home, run: &str, name: &str, what: &impl Serialize) -> Result<(), RunError> {
    let path = home.checkpoints(run).join(name);
    let text = serde_json::to_string_pretty(what).map_err(|error| RunError::Failed(error.to_string()))?;
    let draft = path.with_extension("draft");
    let write = || {
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        // A crash leaves the old file or the new one, never half of it.
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    };
    write().map_err(|source| RunError::Store(StoreError::Io { path, source }))
}

async fn kept(context: &RunContext) -> Result<Vec<Checkpoint>, RunError> {
    let (path, run) = (context.home.database(), context.run.clone());
    let kept = of_store(move || journal::checkpoints(&store::open_read_only(&path)?, &run));
    Ok(kept.await?)
}

/// Loads the newest complete checkpoint; without one, the checkpoint that the run starts from, or random weights.
///
/// # Errors
/// An error if the engine dies, or if the start checkpoint or the sources cannot be read.
pub async fn load(context: &RunContext, curator: &Address<Curator>) -> Result<Loaded, RunError> {
    check_folder(context).await?;
    let kept = kept(context).await?;
    let oldest = kept.last().map(|saved| saved.step);
    for saved in kept {
        let dir = context.home.root().join(&saved.path);
        let then = match oldest == Some(saved.step) {
            true => "there is no earlier checkpoint, so the run starts again",
            false => "trying the previous one",
        };
        match load_checkpoint(context, &dir).await {
            Ok(loaded) => return Ok(loaded),
            Err(error) if error.is_retryable() => return Err(error),
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

/// Checks that ranks that joined from other machines see the run's folder. To a rank that does not, every checkpoint
/// would seem to be broken, and the run would start again.
async fn check_folder(context: &RunContext) -> Result<(), RunError> {
    if !context.profile.engine.join {
        return Ok(());
    }
    let folder = context.home.checkpoints(&context.run);
    Ok(folder_mark::check_folder(&context.engine, &folder).await?)
}

/// Loads one checkpoint with its optimizer state.
///
/// # Errors
/// An error if a file is missing or broken; any failure of the engine.
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
    let read = move || -> Result<Cursor, RunError> {
        let text = bounded_file::read_text(&path, LONGEST_STATE)
            .map_err(|error| RunError::about(path.display(), error))?;
        serde_json::from_str(&text).map_err(|error| RunError::about(path.display(), error))
    };
    let cursor = on_disk(read).await??;
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

/// Loads the weights of the profile's start checkpoint, or of the shipped one, as step 0 of this run.
async fn from_checkpoint(context: &RunContext) -> Result<Loaded, RunError> {
    let dir = match &context.profile.start_from {
        Some(named) => named.clone(),
        None => shipped::folder().map_err(|error| RunError::Failed(error.to_string()))?,
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
        // Only the start takes these options (L1): a checkpoint of the run already contains their result.
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

/// Returns the prompts and budgets of a text model that grows picture codes, and the folder of its image tokenizer.
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

/// Reads prompt settings of a folder outside the event loop (L10), because reading a published tokenizer takes a
/// second.
async fn beside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, WorkError> + Send + 'static,
) -> Result<T, RunError> {
    Ok(offload(read).await??)
}

/// Returns the checkpoint whose image tokenizer is used, if one is named.
fn image_tokenizer_from(context: &RunContext) -> Result<Option<PathBuf>, RunError> {
    match &context.profile.image_tokenizer_from {
        Some(named) if named.as_os_str() == shipped::SHIPPED => shipped::folder()
            .map(Some)
            .map_err(|error| RunError::Failed(error.to_string())),
        named => Ok(named.clone()),
    }
}

async fn fresh(context: &RunContext, curator: &Address<Curator>) -> Result<Loaded, RunError> {
    let profile = &context.profile;
    let corpus = curator.ask(Corpus).await??;
    let vocabulary = profile.text_vocabulary;
    // L10: training a tokenizer on this thread would keep the daemon from answering anyone.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn l1_a_checkpoint_that_is_still_there_is_not_said_to_be_removed() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(folder_name(7));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(checkpoint::STATE), "{}").unwrap();
        removed(&folder).unwrap();
        assert!(!folder.exists());
        removed(&folder).unwrap();
        // A file in its place cannot be removed as a folder, not even by root.
        std::fs::write(&folder, "").unwrap();
        assert!(removed(&folder).is_err() && folder.exists());
    }

    #[test]
    fn l9_a_state_that_could_not_be_loaded_is_not_saved() {
        let cursor = Cursor {
            step: 7,
            ..Cursor::default()
        };
        let text = state_text(&cursor, LONGEST_STATE).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap().step, 7);
        let length = text.len() as u64;
        assert!(state_text(&cursor, length).is_ok());
        let refused = state_text(&cursor, length - 1).unwrap_err().to_string();
        assert!(
            refused.contains("0 accepted traces") && refused.contains("step 7"),
            "{refused}"
        );
    }
}
