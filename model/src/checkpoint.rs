//! Checkpoint folders: written whole or not at all, checked when read.
//!
//! The layout is `demask_api::checkpoint`'s. A folder is written beside its final name, every file flushed to the disk,
//! the manifest last, and then renamed, so that a crash at any instruction leaves no half checkpoint (law L1).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use demask_api::checkpoint::{CONFIG, IMAGE_TOKENIZER, MANIFEST, OPTIMIZER, WEIGHTS};
use demask_api::{LoadOptions, Manifest, ManifestFile, Purpose};
use tch::{Device, Kind};

use crate::backbone::Backbone;
use crate::error::{ModelError, Result};
use crate::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use crate::optimizer::AdamW;
use crate::stored::StoredTensors;
use crate::weights;

/// The moving average of the weights, in the optimiser's file.
const AVERAGE: &str = "backbone.average";

/// A model with everything that training needs.
#[derive(Debug)]
pub struct Model {
    /// The backbone, if the model has one.
    pub backbone: Backbone,
    /// Its optimiser.
    pub optimizer: AdamW,
    /// The image tokenizer, if the model has one.
    pub tokenizer: Option<(ImageTokenizer, TokenizerTrainer)>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The manifest's BLAKE3.
    pub hash: String,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Model {
    /// Reads a folder for training: ours, or a published backbone. `resume` also reads the optimiser's state, which only
    /// a whole checkpoint of ours has.
    ///
    /// # Errors
    /// A missing, broken or truncated file, named.
    pub fn load(dir: &Path, resume: bool, device: Device, kind: Kind) -> Result<Self> {
        Self::load_with(dir, resume, &LoadOptions::default(), device, kind)
    }

    /// The same for what the options say.
    ///
    /// # Errors
    /// As [`Self::load`]; `resume` for sampling.
    pub fn load_with(
        dir: &Path,
        resume: bool,
        options: &LoadOptions,
        device: Device,
        kind: Kind,
    ) -> Result<Self> {
        let purpose = options.purpose;
        if resume && purpose == Purpose::Sample {
            return Err(ModelError::Refused(
                "resume and purpose sample: a run is resumed for training".into(),
            ));
        }
        let listed = check_manifest(dir)?;
        if resume && !listed.iter().any(|name| name == OPTIMIZER) {
            let message = format!("its manifest does not list {OPTIMIZER}: a run cannot be resumed from it");
            return Err(ModelError::checkpoint(dir, message));
        }
        let backbone = Backbone::load_for(dir, device, kind, purpose)?;
        let mut optimizer = AdamW::new(backbone.parameters())?;
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
            let state = weights::read(&path)?;
            let named = |error: ModelError| ModelError::checkpoint(&path, error.to_string());
            optimizer.restore("backbone", &state).map_err(named)?;
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
    /// The checkpoint has none; `resume` was asked for: a run goes on from its own weights.
    pub fn take_average(&self, dir: &Path, resume: bool) -> Result<()> {
        if resume {
            return Err(ModelError::Refused(
                "average and resume: a run is resumed from its weights, not from their moving average".into(),
            ));
        }
        let path = dir.join(OPTIMIZER);
        let lacks = || {
            ModelError::checkpoint(
                &path,
                "no moving average of the weights: the run kept none (ema 0)",
            )
        };
        if !path.exists() {
            return Err(lacks());
        }
        let state = StoredTensors::in_file(&path)?;
        let shape = state.shape(AVERAGE).ok_or_else(lacks)?;
        let (found, expected) = (shape.iter().product::<i64>(), self.backbone.parameters().count());
        if u64::try_from(found) != Ok(expected) {
            let message = format!("a moving average of {found} numbers, expected {expected}");
            return Err(ModelError::checkpoint(&path, message));
        }
        self.backbone.parameters().set(&state.read(AVERAGE)?)
    }

    /// Writes a folder that does not exist yet.
    ///
    /// # Errors
    /// The folder exists, a name in `attach` is taken, the optimiser's state of a model for sampling, the disk is full;
    /// nothing is left behind then.
    pub fn save(&self, dir: &Path, attach: &BTreeMap<String, String>, optimizer: bool) -> Result<Saved> {
        if optimizer {
            self.backbone.parameters().trainable()?;
        }
        if dir.exists() {
            return Err(ModelError::checkpoint(
                dir,
                "exists already; a checkpoint is never overwritten",
            ));
        }
        check_names(attach)?;
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(|source| ModelError::io(parent, source))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let work = parent.join(format!(".{name}.{}", std::process::id()));
        sweep(parent, &name);
        let mut moved = false;
        let written = self.fill(&work, attach, optimizer).and_then(|saved| {
            std::fs::rename(&work, dir).map_err(|source| ModelError::io(dir, source))?;
            moved = true;
            sync(parent)?;
            Ok(saved)
        });
        if written.is_err() {
            std::fs::remove_dir_all(if moved { dir } else { &work }).ok();
        }
        written
    }

    fn fill(&self, work: &Path, attach: &BTreeMap<String, String>, optimizer: bool) -> Result<Saved> {
        std::fs::create_dir_all(work).map_err(|source| ModelError::io(work, source))?;
        write_json(&work.join(CONFIG), self.backbone.config())?;
        weights::write(&work.join(WEIGHTS), &self.backbone.parameters().named()?, None)?;
        let mut names = vec![CONFIG.to_owned(), WEIGHTS.to_owned()];
        let mut state = if optimizer {
            self.optimizer.state("backbone")?
        } else {
            BTreeMap::new()
        };
        if let Some((tokenizer, trainer)) = &self.tokenizer {
            let folder = work.join(IMAGE_TOKENIZER);
            std::fs::create_dir_all(&folder).map_err(|source| ModelError::io(&folder, source))?;
            write_json(&folder.join(CONFIG), tokenizer.config())?;
            weights::write(&folder.join(WEIGHTS), &tokenizer.parameters().named()?, None)?;
            names.extend([CONFIG, WEIGHTS].map(|file| format!("{IMAGE_TOKENIZER}/{file}")));
            sync(&folder)?;
            if optimizer {
                state.extend(trainer.state("image_tokenizer")?);
            }
        }
        if optimizer {
            weights::write(&work.join(OPTIMIZER), &state, None)?;
            names.push(OPTIMIZER.to_owned());
        }
        for (name, contents) in attach {
            let path = work.join(name);
            std::fs::write(&path, contents).map_err(|source| ModelError::io(&path, source))?;
            names.push(name.clone());
        }
        names.sort();
        write_manifest(work, names, self.optimizer.step_count())
    }
}

fn write_manifest(work: &Path, names: Vec<String>, step: u64) -> Result<Saved> {
    let files: Vec<ManifestFile> = names
        .into_iter()
        .map(|name| describe(work, name))
        .collect::<Result<_>>()?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    let manifest = Manifest {
        version: 1,
        step,
        files,
    };
    let path = work.join(MANIFEST);
    write_json(&path, &manifest)?;
    sync(&path)?;
    sync(work)?;
    let text = std::fs::read(&path).map_err(|source| ModelError::io(&path, source))?;
    Ok(Saved {
        hash: blake3::hash(&text).to_hex().to_string(),
        bytes,
    })
}

fn describe(dir: &Path, name: String) -> Result<ManifestFile> {
    let path = dir.join(&name);
    sync(&path)?;
    let (bytes, blake3) = digest(&path).map_err(|source| ModelError::io(&path, source))?;
    Ok(ManifestFile { name, bytes, blake3 })
}

/// Bytes of a file and their BLAKE3 in hex, read piece by piece.
fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
}

/// Removes what a process that was killed while it saved to this name left behind.
fn sweep(parent: &Path, name: &str) {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let writer = file
            .strip_prefix(&format!(".{name}."))
            .and_then(|rest| rest.parse::<i32>().ok());
        // SAFETY: signal 0 asks whether the process is there and sends nothing.
        let dead = |pid: i32| pid > 0 && unsafe { libc::kill(pid, 0) } != 0;
        let gone = |pid: i32| {
            dead(pid) && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) || pid == own
        };
        if writer.is_some_and(gone) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Only plain names that a checkpoint does not use itself.
fn check_names(attach: &BTreeMap<String, String>) -> Result<()> {
    let own = [MANIFEST, CONFIG, WEIGHTS, OPTIMIZER, IMAGE_TOKENIZER];
    let bad = |name: &&String| name.contains('/') || name.starts_with('.') || name.is_empty();
    match attach
        .keys()
        .find(|name| bad(name) || own.contains(&name.as_str()))
    {
        Some(name) => Err(ModelError::Refused(format!(
            "a checkpoint cannot take a file named {name:?}: expected a plain name other than {}",
            own.join(", ")
        ))),
        None => Ok(()),
    }
}

/// Checks every file against the manifest and says which it lists; a folder without one (a published model) passes with
/// none.
///
/// # Errors
/// The first file that is missing, truncated or changed, named with what was expected and found.
pub fn check_manifest(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join(MANIFEST);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return without_manifest(dir),
        Err(error) => return Err(ModelError::io(&path, error)),
    };
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| ModelError::checkpoint(&path, format!("not a manifest: {error}")))?;
    if manifest.version != 1 {
        let message = format!("layout version {}, expected 1", manifest.version);
        return Err(ModelError::checkpoint(&path, message));
    }
    manifest.files.iter().try_for_each(|file| check_file(dir, file))?;
    Ok(manifest.files.into_iter().map(|file| file.name).collect())
}

fn without_manifest(dir: &Path) -> Result<Vec<String>> {
    let named = |message: String| Err(ModelError::checkpoint(dir, message));
    if !dir.is_dir() {
        return named("no such folder".into());
    }
    if dir.join(OPTIMIZER).exists() {
        return named(format!(
            "{MANIFEST} is missing: a checkpoint that was not written whole"
        ));
    }
    if !dir.join(CONFIG).is_file() {
        return named(format!("neither {MANIFEST} nor {CONFIG}: not a checkpoint"));
    }
    Ok(Vec::new())
}

fn check_file(dir: &Path, file: &ManifestFile) -> Result<()> {
    let path = dir.join(&file.name);
    let named = |message: String| Err(ModelError::checkpoint(&path, message));
    let found = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return named(format!(
                "missing; the manifest lists it with {} bytes",
                file.bytes
            ));
        }
        Err(error) => return Err(ModelError::io(&path, error)),
    };
    let expected = file.bytes;
    if found != expected {
        let how = if found < expected {
            "is truncated"
        } else {
            "has grown"
        };
        return named(format!(
            "{found} bytes, the manifest says {expected}: the file {how}"
        ));
    }
    let (_, found) = digest(&path).map_err(|source| ModelError::io(&path, source))?;
    if found != file.blake3 {
        return named(format!(
            "BLAKE3 {found}, the manifest says {}: the file was changed",
            file.blake3
        ));
    }
    Ok(())
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| ModelError::checkpoint(path, error.to_string()))?;
    std::fs::write(path, text).map_err(|source| ModelError::io(path, source))
}

fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| ModelError::io(path, source))
}
