//! Checkpoint folders: written whole or not at all, checked when read.
//!
//! The layout is `demask_api::checkpoint`'s. A folder is written beside its final name, every file flushed to the disk,
//! the manifest last, and then renamed, so that a crash at any instruction leaves no half checkpoint (law L1).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use demask_api::checkpoint::{CONFIG, IMAGE_TOKENIZER, MANIFEST, OPTIMIZER, WEIGHTS};
use demask_api::{Manifest, ManifestFile};
use tch::{Device, Kind, Tensor};

use crate::backbone::Backbone;
use crate::error::{ModelError, Result};
use crate::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use crate::optimizer::AdamW;
use crate::weights;

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
    /// Reads a folder: ours, or a published backbone. `resume` also reads the optimiser's state.
    ///
    /// # Errors
    /// A missing, broken or truncated file, named.
    pub fn load(dir: &Path, resume: bool, device: Device, kind: Kind) -> Result<Self> {
        check_manifest(dir)?;
        let backbone = Backbone::load(dir, device, kind)?;
        let mut optimizer = AdamW::new(backbone.parameters())?;
        let folder = dir.join(IMAGE_TOKENIZER);
        let mut tokenizer = if folder.is_dir() {
            let tokenizer = ImageTokenizer::load(&folder, device)?;
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

    /// Writes a folder that does not exist yet.
    ///
    /// # Errors
    /// The folder exists; the disk is full; nothing is left behind then.
    pub fn save(&self, dir: &Path, attach: &BTreeMap<String, String>, optimizer: bool) -> Result<Saved> {
        if dir.exists() {
            return Err(ModelError::checkpoint(
                dir,
                "exists already; a checkpoint is never overwritten",
            ));
        }
        let parent = dir.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|source| ModelError::io(parent, source))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let work = parent.join(format!(".{name}.{}", std::process::id()));
        std::fs::remove_dir_all(&work).ok();
        let written = self.fill(&work, attach, optimizer).and_then(|saved| {
            std::fs::rename(&work, dir).map_err(|source| ModelError::io(dir, source))?;
            sync(parent)?;
            Ok(saved)
        });
        if written.is_err() {
            std::fs::remove_dir_all(&work).ok();
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
            if optimizer {
                state.extend(trainer.state("image_tokenizer")?);
            }
        }
        if optimizer {
            weights::write(&work.join(OPTIMIZER), &state, None)?;
            names.push(OPTIMIZER.to_owned());
        }
        for (name, contents) in attach {
            if name.contains('/') || name.starts_with('.') || names.contains(name) {
                return Err(ModelError::Refused(format!(
                    "a checkpoint cannot take a file named {name}"
                )));
            }
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
    let bytes = std::fs::read(&path).map_err(|source| ModelError::io(&path, source))?;
    Ok(ManifestFile {
        name,
        bytes: bytes.len() as u64,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
    })
}

/// Checks every file against the manifest; a folder without one (a published model) passes.
///
/// # Errors
/// The first file that is missing, truncated or changed, named with what was expected and found.
pub fn check_manifest(dir: &Path) -> Result<()> {
    let path = dir.join(MANIFEST);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir.join(CONFIG).is_file() => {
            return Ok(());
        }
        other => other.map_err(|source| ModelError::io(&path, source))?,
    };
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| ModelError::checkpoint(&path, format!("not a manifest: {error}")))?;
    for file in &manifest.files {
        let path = dir.join(&file.name);
        let bytes = std::fs::read(&path).map_err(|source| ModelError::io(&path, source))?;
        if bytes.len() as u64 != file.bytes {
            let message = format!(
                "{} bytes, the manifest says {}: the file is truncated",
                bytes.len(),
                file.bytes
            );
            return Err(ModelError::checkpoint(&path, message));
        }
        let found = blake3::hash(&bytes).to_hex();
        if found.as_str() != file.blake3 {
            let message = format!(
                "BLAKE3 {found}, the manifest says {}: the file was changed",
                file.blake3
            );
            return Err(ModelError::checkpoint(&path, message));
        }
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

/// The flat weights of a model, for putting them back.
pub fn snapshot(backbone: &Backbone) -> Tensor {
    backbone.parameters().master().copy()
}
