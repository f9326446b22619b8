//! Conversion of PyTorch checkpoints to safetensors: a file, or a folder of shards with its configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use demask_api::{bounded_file, bounded_json, limits, work_file};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use super::TorchFile;
use super::error::{Flaw, TorchFileError};
use super::tree::NamedTensors;
use super::write::write;

/// The shard index of a folder, as transformers writes it.
const INDEX: &str = "pytorch_model.bin.index.json";
/// The weights of a folder without shards.
const SINGLE: &str = "pytorch_model.bin";
/// The names of the converted files.
const NEW_INDEX: &str = "model.safetensors.index.json";
const NEW_SINGLE: &str = "model.safetensors";
/// The most bytes of a file that is copied beside the weights (configuration, tokenizer).
const BESIDE: u64 = 64 << 20;

/// The options of a conversion.
#[derive(Clone, Debug, Default)]
pub struct ConvertOptions {
    /// The dictionary to convert: its keys, joined by dots. Absent: the only one that holds tensors.
    pub key: Option<String>,
    /// The dtype of floating-point tensors. Absent: unchanged.
    pub dtype: Option<Dtype>,
}

/// A converted file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// The path of the written file.
    pub file: PathBuf,
    /// The converted dictionary.
    pub key: String,
    /// The number of tensors.
    pub tensors: usize,
    /// The bytes of their elements.
    pub bytes: u64,
    /// The names of entries that were left out because they are not tensors.
    pub skipped: Vec<String>,
}

/// Converts a file to a file (for an existing folder: to `model.safetensors` in it), or a folder to a new folder. The
/// output appears atomically.
///
/// # Errors
/// [`TorchFileError`]: those of [`TorchFile::open`] and [`TorchFile::tensors`]; an error if a folder has no weights, if
/// the shards contradict their index, or if the output cannot be written.
pub fn convert(
    input: &Path,
    output: &Path,
    options: &ConvertOptions,
) -> Result<Vec<Converted>, TorchFileError> {
    if input.is_dir() {
        work_file::sweep(output);
        return folder(input, output, options);
    }
    let output = if output.is_dir() {
        output.join(NEW_SINGLE)
    } else {
        output.to_owned()
    };
    work_file::sweep(&output);
    if output.extension().is_none_or(|kind| kind != "safetensors") {
        return Err(TorchFileError::Output {
            path: output,
            message: "expected a name that ends in .safetensors, or a folder".to_owned(),
        });
    }
    if let Err(error) = work_file::is_free(&output) {
        return Err(TorchFileError::Output {
            path: output,
            message: error.to_string(),
        });
    }
    Ok(vec![file(input, &output, options, None)?])
}

/// Converts one file. A shard must hold exactly the tensors that the index promises.
fn file(
    input: &Path,
    output: &Path,
    options: &ConvertOptions,
    promised: Option<&BTreeSet<&str>>,
) -> Result<Converted, TorchFileError> {
    let opened = TorchFile::open(input)?;
    let named = opened.tensors(options.key.as_deref())?;
    if let Some(missing) = promised.and_then(|names| lacking(names, &named)) {
        return Err(wrong(
            input,
            format!("it lacks the tensor {missing}, which {INDEX} says it contains"),
        ));
    }
    let bytes = write(&opened, &named, options.dtype, output)?;
    Ok(Converted {
        file: output.to_owned(),
        key: named.key,
        tensors: named.tensors.len(),
        bytes,
        skipped: named.skipped,
    })
}

fn lacking(promised: &BTreeSet<&str>, named: &NamedTensors) -> Option<String> {
    let missing = promised.iter().find(|name| !named.tensors.contains_key(**name));
    missing.map(ToString::to_string)
}

fn wrong(path: &Path, message: impl Into<String>) -> TorchFileError {
    Flaw::Broken(message.into()).at(path)
}

fn io(path: &Path, source: std::io::Error) -> TorchFileError {
    Flaw::Io(source).at(path)
}

/// Converts a folder into a temporary one beside the output, which is renamed when it is complete.
fn folder(input: &Path, output: &Path, options: &ConvertOptions) -> Result<Vec<Converted>, TorchFileError> {
    if output.exists() {
        return Err(TorchFileError::Output {
            path: output.to_owned(),
            message: "the output folder exists already; name a new folder".to_owned(),
        });
    }
    let work = work_file::beside(output);
    std::fs::create_dir(&work).map_err(|source| io(&work, source))?;
    let done = shards(input, &work, options)
        .and_then(|converted| along(input, &work).map(|()| converted))
        .and_then(|converted| match std::fs::rename(&work, output) {
            Ok(()) => Ok(converted),
            Err(source) => Err(io(output, source)),
        });
    if done.is_err() {
        std::fs::remove_dir_all(&work).ok();
    }
    done.map(|converted| converted.into_iter().map(|one| moved(one, output)).collect())
}

fn moved(converted: Converted, output: &Path) -> Converted {
    let name = converted.file.file_name().unwrap_or_default();
    Converted {
        file: output.join(name),
        ..converted
    }
}

/// The contents of `pytorch_model.bin.index.json`, and of the converted index.
#[derive(Deserialize, Serialize)]
struct TorchIndex {
    #[serde(default)]
    metadata: BTreeMap<String, serde_json::Value>,
    weight_map: BTreeMap<String, String>,
}

fn shards(input: &Path, work: &Path, options: &ConvertOptions) -> Result<Vec<Converted>, TorchFileError> {
    let path = input.join(INDEX);
    if !path.exists() {
        let single = input.join(SINGLE);
        if !single.exists() {
            return Err(wrong(input, format!("expected {SINGLE} or {INDEX} in it")));
        }
        return Ok(vec![file(&single, &work.join(NEW_SINGLE), options, None)?]);
    }
    let text = bounded_file::read_text(&path, limits::LONGEST_CONFIG).map_err(|source| io(&path, source))?;
    let index = bounded_json::parse(&text, limits::MOST_CONFIG_VALUES);
    let mut index: TorchIndex =
        index.map_err(|error| wrong(&path, format!("not a list of shards: {error}")))?;
    let mut promised: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, shard) in &index.weight_map {
        promised.entry(shard).or_default().insert(tensor);
    }
    let (mut converted, mut names) = (Vec::new(), BTreeSet::new());
    for (shard, tensors) in &promised {
        let to = renamed(shard).ok_or_else(|| {
            let message = format!("found the shard {shard}, expected the name of a .bin file in this folder");
            wrong(&path, message)
        })?;
        // The second would replace the first, whose tensors would be lost.
        if !names.insert(to.clone()) {
            let message = format!("found two shards that would both be written as {to}: rename one of them");
            return Err(wrong(&path, message));
        }
        converted.push(file(&input.join(shard), &work.join(to), options, Some(tensors))?);
    }
    let total: u64 = converted.iter().map(|one| one.bytes).sum();
    index.metadata.insert("total_size".to_owned(), total.into());
    for shard in index.weight_map.values_mut() {
        *shard = renamed(shard).unwrap_or_default();
    }
    let text = serde_json::to_string_pretty(&index).map_err(|error| wrong(&path, error.to_string()))?;
    let path = work.join(NEW_INDEX);
    std::fs::write(&path, text).map_err(|source| io(&path, source))?;
    Ok(converted)
}

/// Renames `pytorch_model-00001-of-00002.bin` to `model-00001-of-00002.safetensors`; `None` if `shard` is not a plain
/// file name.
fn renamed(shard: &str) -> Option<String> {
    let plain = matches!(
        &Path::new(shard).components().collect::<Vec<_>>()[..],
        [Component::Normal(_)]
    );
    let stem = shard
        .strip_suffix(".bin")
        .filter(|stem| plain && !stem.is_empty())?;
    Some(format!(
        "{}.safetensors",
        stem.strip_prefix("pytorch_").unwrap_or(stem)
    ))
}

/// Copies the configuration and the tokenizer's files.
fn along(input: &Path, work: &Path) -> Result<(), TorchFileError> {
    let entries = std::fs::read_dir(input).map_err(|source| io(input, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| io(input, source))?;
        let (from, name) = (entry.path(), entry.file_name());
        let kind = from.extension().and_then(std::ffi::OsStr::to_str);
        let small = std::fs::metadata(&from).is_ok_and(|found| found.is_file() && found.len() <= BESIDE);
        // The new index was written with the shards; an old one in the input would be wrong.
        if name == INDEX || name == NEW_INDEX || !small || !matches!(kind, Some("json" | "txt" | "jinja")) {
            continue;
        }
        std::fs::copy(&from, work.join(&name)).map_err(|source| io(&from, source))?;
    }
    Ok(())
}
