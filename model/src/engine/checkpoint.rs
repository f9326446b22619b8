//! Checkpoint folders: they are written completely or not at all, and checked when read.
//!
//! `demask_api::checkpoint` defines the layout. A folder is written beside its final name: every file is
//! flushed to disk, the manifest last, and then the folder is renamed. A crash at any instruction therefore
//! leaves no partial checkpoint under the final name (law L1).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use demask_api::checkpoint::{
    ADAPTER, ADAPTER_CONFIG, CONFIG, IMAGE_TOKENIZER, MANIFEST, OPTIMIZER, QUANTIZATION, WEIGHTS, has_adapter,
};
use demask_api::{
    FrozenBase, LoadOptions, LoraConfig, Manifest, ManifestFile, Purpose, bounded_file, limits,
};
use tch::{Device, Kind, Tensor};

use crate::device::heartbeat;
use crate::error::{ModelError, Result};
use crate::image_tokenizer::{ImageTokenizer, TokenizerTrainer};
use crate::network::backbone::Backbone;
use crate::network::lora::Lora;
use crate::training::optimizer::{AdamW, SECOND};
use crate::training::ranks::{Reduction, Share};
use crate::weights::peft;
use crate::weights::safetensors::{self, Entry, PiecewiseFile};
use crate::weights::shards::{RankOf, ShardMap};
use crate::weights::slot::Slot;
use crate::weights::stored::StoredTensors;
use crate::world::World;

/// The count of steps, in the optimiser's file.
const STEP: &str = "backbone.step";
/// The name of the moving average of the weights in the optimiser's file.
const AVERAGE: &str = "backbone.average";

/// A model with its training state.
#[derive(Debug)]
pub struct LoadedModel {
    /// The backbone.
    pub backbone: Backbone,
    /// The backbone's optimiser.
    pub optimizer: AdamW,
    /// The image tokenizer and its trainer, if the model has one.
    pub tokenizer: Option<(ImageTokenizer, TokenizerTrainer)>,
}

/// The result of writing a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The BLAKE3 hash of the manifest, in hex.
    pub hash: String,
    /// The size in bytes of all files that the manifest lists.
    pub bytes: u64,
}

impl LoadedModel {
    /// Reads a checkpoint folder of this project, or a published backbone, for training. `resume` also reads
    /// the optimiser state, which only a complete checkpoint of this project has.
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
            // With sharded weights, a rank reads only its own part of the optimiser state.
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

    /// Joins the world: this rank keeps its shard of the optimiser state, and from then on all ranks train
    /// together.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer is gone, and libtorch's errors.
    pub fn share(&mut self, world: &Rc<World>, reduction: Reduction) -> Result<()> {
        let share = Share::of(world, &self.backbone, reduction)?;
        if share.is_of_weights() {
            self.optimizer.join(share);
            return Ok(());
        }
        let whole = self.optimizer.state("backbone")?;
        let is_fresh = self.optimizer.step_count() == 0 && !whole.contains_key(AVERAGE);
        let whole = (!is_fresh).then_some(whole);
        // The optimiser state of a single process is freed before this rank's shard is allocated, to keep the
        // peak of memory low.
        self.optimizer = AdamW::new(&self.backbone.trained().range(0, 0)?)?;
        self.optimizer = AdamW::shared(share, self.backbone.trained())?;
        whole.map_or(Ok(()), |whole| self.optimizer.restore("backbone", &whole))
    }

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

/// Reads this rank's shard of the backbone's optimiser state, and the rest of the file completely. Also returns the
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

/// The number of bytes hashed between two heartbeats.
const HASHED_AT_ONCE: usize = 4 << 20;

/// Returns a file's size in bytes and its BLAKE3 hash in hex. The file is read in pieces.
fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut hasher, mut file) = (blake3::Hasher::new(), File::open(path)?);
    let mut piece = vec![0; HASHED_AT_ONCE];
    loop {
        heartbeat::beat();
        match file.read(&mut piece)? {
            0 => break,
            length => hasher.update(&piece[..length]),
        };
    }
    Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
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

/// Checks every file against the manifest and returns the names that it lists. A folder without a manifest (a
/// published model) passes, and the list is empty.
///
/// # Errors
/// Returns an error that names the first file that is missing, truncated or changed, with the expected and
/// the found value.
pub fn check_manifest(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join(MANIFEST);
    let text = match bounded_file::read_text(&path, limits::LONGEST_CONFIG) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return without_manifest(dir),
        Err(error) => return Err(ModelError::io(&path, error)),
    };
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| ModelError::checkpoint(&path, format!("this is not a manifest: {error}")))?;
    if manifest.version != 1 {
        let message = format!("the layout version is {}, expected 1", manifest.version);
        return Err(ModelError::checkpoint(&path, message));
    }
    if manifest.files.len() > limits::MOST_FILES {
        let message = format!(
            "it lists {} files, expected at most {}",
            manifest.files.len(),
            limits::MOST_FILES
        );
        return Err(ModelError::checkpoint(&path, message));
    }
    if let Some(outside) = manifest.files.iter().find(|file| !file.is_inside()) {
        let message = format!(
            "it lists {:?}, expected names of files in its folder",
            outside.name
        );
        return Err(ModelError::checkpoint(&path, message));
    }
    manifest.files.iter().try_for_each(|file| check_file(dir, file))?;
    Ok(manifest.files.into_iter().map(|file| file.name).collect())
}

fn without_manifest(dir: &Path) -> Result<Vec<String>> {
    let named = |message: String| Err(ModelError::checkpoint(dir, message));
    if !dir.is_dir() {
        return named("there is no such folder".into());
    }
    if dir.join(OPTIMIZER).exists() {
        return named(format!("{MANIFEST} is missing, so the checkpoint is incomplete"));
    }
    if !dir.join(CONFIG).is_file() && !dir.join(ADAPTER_CONFIG).is_file() {
        return named(format!(
            "it has neither {MANIFEST} nor {CONFIG}, so it is not a checkpoint"
        ));
    }
    Ok(Vec::new())
}

fn check_file(dir: &Path, file: &ManifestFile) -> Result<()> {
    let path = dir.join(&file.name);
    let named = |message: String| Err(ModelError::checkpoint(&path, message));
    let found = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => return named("expected a regular file".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return named(format!(
                "the file is missing; the manifest lists it with {} bytes",
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
            "it has {found} bytes, but the manifest says {expected}: the file {how}"
        ));
    }
    let (_, found) = digest(&path).map_err(|source| ModelError::io(&path, source))?;
    if found != file.blake3 {
        return named(format!(
            "its BLAKE3 hash is {found}, but the manifest says {}: the file was changed",
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
