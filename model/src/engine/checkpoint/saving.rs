//! Writing a checkpoint folder beside its final name, by one process or by all ranks of a world.

use std::collections::BTreeMap;
use std::path::Path;

use demask_api::checkpoint::{
    ADAPTER, ADAPTER_CONFIG, CONFIG, IMAGE_TOKENIZER, MANIFEST, OPTIMIZER, QUANTIZATION, WEIGHTS,
};
use tch::{Kind, Tensor};

use super::LoadedModel;
use super::manifest::{Saved, sync, write_json, write_manifest};
use crate::error::{ModelError, Result};
use crate::training::ranks::Share;
use crate::weights::safetensors::{self, Entry, PiecewiseFile};
use crate::weights::slot::Slot;

/// The count of steps, in the optimizer's file.
const STEP: &str = "backbone.step";

impl LoadedModel {
    /// Writes a checkpoint to a folder that does not exist yet. Where ranks share the state, all of them must
    /// save at the same time.
    ///
    /// # Errors
    /// Returns an error if the folder exists, if a name in `attach` is taken, if `optimizer` is set for a
    /// model that was loaded for sampling, or if a write fails. Nothing is left behind in that case.
    pub fn save(&self, dir: &Path, attach: &BTreeMap<String, String>, optimizer: bool) -> Result<Saved> {
        let Some(share) = self.optimizer.share() else {
            let state = match optimizer {
                true => Some(self.whole_state()?),
                false => None,
            };
            return self.write(dir, attach, |work| self.fill(work, attach, state, &[]));
        };
        let mut has_begun = false;
        let saved = self.write(dir, attach, |work| {
            has_begun = true;
            let files = share.agree_on(self.begin_files(work, share, optimizer))?;
            self.collect(share, Some(&files), optimizer)?;
            let there = [(WEIGHTS, &files.weights), (OPTIMIZER, &files.optimizer)];
            let there = there.iter().filter(|(_, file)| file.is_some());
            let there: Vec<&str> = there.map(|(name, _)| *name).collect();
            self.fill(work, attach, None, &there)
        });
        // If this rank refused before it told the other ranks, it tells them now.
        if has_begun { saved } else { share.agree_on(saved) }
    }

    /// This rank's part of a save that rank 0 writes.
    ///
    /// # Errors
    /// [`ModelError::Refused`]: rank 0 could not save; a peer that is gone.
    pub fn give(&self, optimizer: bool) -> Result<()> {
        let Some(share) = self.optimizer.share() else {
            return Ok(());
        };
        share.agree_on(Ok(()))?;
        self.collect(share, None, optimizer)
    }

    fn whole_state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.backbone.trained().trainable()?;
        self.optimizer.state("backbone")
    }

    /// Writes a folder that does not exist yet, by what fills it under another name.
    fn write(
        &self,
        dir: &Path,
        attach: &BTreeMap<String, String>,
        fill: impl FnOnce(&Path) -> Result<Saved>,
    ) -> Result<Saved> {
        if dir.exists() {
            return Err(ModelError::checkpoint(
                dir,
                "it exists already, and a checkpoint is never overwritten",
            ));
        }
        check_names(attach)?;
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(|source| ModelError::io(parent, source))?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let work = parent.join(format!(".{name}.{}{SAVING}", std::process::id()));
        sweep(parent, &name);
        let mut moved = false;
        let written = fill(&work).and_then(|saved| {
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

    /// Creates the files that all ranks' parts are written to.
    fn begin_files(&self, work: &Path, share: &Share, optimizer: bool) -> Result<SharedFiles> {
        std::fs::create_dir_all(work).map_err(|source| ModelError::io(work, source))?;
        let mut files = SharedFiles::default();
        if share.is_of_weights() {
            let slots = self.backbone.parameters().slots().iter();
            let entries = slots.map(|slot| Entry::new(&slot.name, Kind::Float, &slot.shape));
            let entries = entries.collect::<Result<_>>()?;
            files.weights = Some(PiecewiseFile::create(&work.join(WEIGHTS), entries)?);
        }
        if !optimizer {
            return Ok(files);
        }
        self.backbone.trained().trainable()?;
        let mut entries = Vec::new();
        let mut here = BTreeMap::new();
        for (name, own) in self.optimizer.own_state("backbone")? {
            if name == STEP {
                here.insert(name, own);
            } else {
                let total = self.optimizer.map_of(&name).total();
                entries.push(Entry::new(&name, own.kind(), &[total])?);
            }
        }
        if let Some((_, trainer)) = &self.tokenizer {
            here.extend(trainer.state("image_tokenizer")?);
        }
        for (name, tensor) in &here {
            entries.push(Entry::new(name, tensor.kind(), &tensor.size())?);
        }
        let file = PiecewiseFile::create(&work.join(OPTIMIZER), entries)?;
        here.iter()
            .try_for_each(|(name, tensor)| file.write(name, 0, tensor))?;
        files.optimizer = Some(file);
        Ok(files)
    }

    /// Has what each rank keeps alone cross to rank 0, which writes it piece by piece.
    fn collect(&self, share: &Share, files: Option<&SharedFiles>, optimizer: bool) -> Result<()> {
        if share.is_of_weights() {
            let parameters = self.backbone.parameters();
            let file = files.and_then(|files| files.weights.as_ref());
            share.collect_each((parameters.master(), share.map()), &mut |start, piece| {
                file.map_or(Ok(()), |file| write_slots(file, parameters.slots(), start, piece))
            })?;
        }
        if optimizer {
            let file = files.and_then(|files| files.optimizer.as_ref());
            for (name, own) in share.agree(self.optimizer.own_state("backbone"))? {
                if name != STEP {
                    let own = (&own, self.optimizer.map_of(&name));
                    share.collect_each(own, &mut |start, piece| {
                        file.map_or(Ok(()), |file| file.write(&name, start, piece))
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Writes the files of a checkpoint into the folder `work`, and the manifest last, so that a folder with a manifest
    /// is complete. `there` names files that have already been written to the folder.
    fn fill(
        &self,
        work: &Path,
        attach: &BTreeMap<String, String>,
        mut state: Option<BTreeMap<String, Tensor>>,
        there: &[&str],
    ) -> Result<Saved> {
        std::fs::create_dir_all(work).map_err(|source| ModelError::io(work, source))?;
        write_json(&work.join(CONFIG), self.backbone.config())?;
        let mut names = vec![CONFIG.to_owned()];
        if let Some(lora) = self.backbone.lora() {
            names.extend(lora.write(work)?.into_iter().map(str::to_owned));
        } else if !there.contains(&WEIGHTS) {
            let named = self.backbone.parameters().named()?;
            safetensors::write(&work.join(WEIGHTS), &named, None)?;
            names.push(WEIGHTS.to_owned());
        }
        names.extend(there.iter().map(|&name| name.to_owned()));
        if let Some((tokenizer, trainer)) = &self.tokenizer {
            let folder = work.join(IMAGE_TOKENIZER);
            std::fs::create_dir_all(&folder).map_err(|source| ModelError::io(&folder, source))?;
            write_json(&folder.join(CONFIG), tokenizer.config())?;
            safetensors::write(&folder.join(WEIGHTS), &tokenizer.parameters().named()?, None)?;
            names.extend([CONFIG, WEIGHTS].map(|file| format!("{IMAGE_TOKENIZER}/{file}")));
            sync(&folder)?;
            if let Some(state) = &mut state {
                state.extend(trainer.state("image_tokenizer")?);
            }
        }
        if let Some(state) = state {
            safetensors::write(&work.join(OPTIMIZER), &state, None)?;
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

/// The files of a checkpoint that all ranks' parts are written to.
#[derive(Debug, Default)]
struct SharedFiles {
    /// The file of the weights, if each rank has only a part of them.
    weights: Option<PiecewiseFile>,
    /// The file of the optimizer state, if it is saved.
    optimizer: Option<PiecewiseFile>,
}

/// Writes a piece of the flat weights to the tensors that it belongs to. `start` is the index of its first number among
/// all weights.
fn write_slots(file: &PiecewiseFile, slots: &[Slot], start: i64, piece: &Tensor) -> Result<()> {
    let (end, mut behind) = (start + piece.numel() as i64, 0);
    for slot in slots {
        let first = behind;
        behind += slot.len();
        let (from, to) = (start.max(first), end.min(behind));
        if from < to {
            let part = piece.f_narrow(0, from - start, to - from)?;
            file.write(&slot.name, from - first, &part)?;
        }
    }
    Ok(())
}

/// The suffix of the folder that a checkpoint is being written to. It keeps other folders from being mistaken
/// for an unfinished checkpoint.
const SAVING: &str = ".demask-saving";

/// Removes unfinished checkpoints of this name whose writer is dead or is this process.
fn sweep(parent: &Path, name: &str) {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let writer = file
            .strip_prefix(&format!(".{name}."))
            .and_then(|rest| rest.strip_suffix(SAVING)?.parse::<i32>().ok());
        // SAFETY: signal 0 only checks whether the process exists; nothing is sent.
        let dead = |pid: i32| pid > 0 && unsafe { libc::kill(pid, 0) } != 0;
        let gone = |pid: i32| {
            dead(pid) && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) || pid == own
        };
        if writer.is_some_and(gone) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// Checks that the names of attached files are plain and that the checkpoint layout does not use them.
fn check_names(attach: &BTreeMap<String, String>) -> Result<()> {
    let own = [
        MANIFEST,
        CONFIG,
        WEIGHTS,
        ADAPTER_CONFIG,
        ADAPTER,
        QUANTIZATION,
        OPTIMIZER,
        IMAGE_TOKENIZER,
    ];
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
