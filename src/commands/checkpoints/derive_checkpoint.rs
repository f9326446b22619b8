//! A checkpoint that is derived from another one. The command's own engine loads the checkpoint, applies the options,
//! and writes the result atomically as a Demask checkpoint.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use demask_actors::engine::process::{EngineProcess, unexpected};
use demask_actors::home::Home;
use demask_actors::inference::checkpoint_settings;
use demask_actors::inference::complete::Inference;
use demask_api::checkpoint::{ADAPTER, OPTIMIZER, has_adapter};
use demask_api::{Answer, BackboneConfig, LoadOptions, ModelSource, Request, bounded_file, limits};
use demask_datasets::prompts::chat_template::{JINJA_FILE, TOKENIZER_CONFIG};
use demask_storage::visible;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::Value;

use crate::args::Stored;
use crate::exit::UsageError;
use crate::model::adapter;
use crate::model::engine;
use crate::terminal::print;

/// Files of a published tokenizer besides `tokenizer.json`, which other programs read.
const BESIDE: [&str; 3] = [TOKENIZER_CONFIG, JINJA_FILE, "special_tokens_map.json"];
/// Time between two frames of the spinner.
const TICK: Duration = Duration::from_millis(120);
/// Longest header of a safetensors file in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// The description of a derived checkpoint.
pub struct Derived {
    /// The source checkpoint.
    pub checkpoint: PathBuf,
    /// Folder of an image tokenizer that replaces the checkpoint's.
    pub image_tokenizer: Option<PathBuf>,
    /// Adapter, merge or growth to apply.
    pub options: LoadOptions,
    /// Tokenizer, prompts and budgets of the result.
    pub inference: Inference,
    /// Folder to write.
    pub output: PathBuf,
    /// Type of the written weights; absent: as they are stored.
    pub dtype: Option<Stored>,
    /// Error context if the engine cannot load the checkpoint with the options.
    pub blame: String,
}

/// The result of a derivation.
#[derive(Debug, Serialize)]
pub struct Written {
    /// Folder of the checkpoint.
    pub output: PathBuf,
    /// Number of parameters of the backbone.
    pub parameters: u64,
    /// Type of the parameters.
    pub dtype: &'static str,
    /// Size of all files in bytes.
    pub bytes: u64,
    /// BLAKE3 hash of the manifest.
    pub hash: String,
    /// Duration in seconds.
    pub seconds: f64,
    /// Configuration of the network.
    #[serde(skip)]
    pub config: BackboneConfig,
}

impl Written {
    /// Formats the size of the checkpoint.
    #[must_use]
    pub fn size(&self) -> String {
        let (millions, megabytes) = (self.parameters as f64 / 1e6, self.bytes as f64 / 1e6);
        format!(
            "{millions:.1} million parameters in {}, {megabytes:.1} MB",
            self.dtype
        )
    }
}

/// Checks that a folder to write does not exist, and returns its absolute path.
///
/// # Errors
/// An error if it exists, because nothing is ever overwritten.
pub fn is_new(output: &Path) -> anyhow::Result<PathBuf> {
    if output.symlink_metadata().is_ok() {
        bail!(UsageError(format!(
            "{} exists already, and a checkpoint is never overwritten",
            output.display()
        )));
    }
    Ok(std::path::absolute(output)?)
}

impl Derived {
    /// Derives and writes the checkpoint.
    ///
    /// # Errors
    /// An error if a file is missing or broken, if the engine refuses the options, or if the disk is full. Then nothing
    /// is left behind.
    pub fn write(self, home: &Home) -> anyhow::Result<Written> {
        let began = Instant::now();
        let dtype = self.dtype.unwrap_or_else(|| stored(&self.checkpoint)).name();
        let attach = self.attachments()?;
        let step = DerivationProgress::new();
        let written = engine::runtime()?.block_on(async {
            // The engine first writes beside the folder's final name, so it needs access to the parent.
            let writes = self.output.parent().map(Path::to_owned).into_iter().collect();
            let engine = engine::start_writer(home, "cpu", dtype, writes).await?;
            step.says(format!("reading {}", self.checkpoint.display()));
            let (parameters, config) = self.load(&engine).await.context(self.blame.clone())?;
            step.says(format!("writing {}", self.output.display()));
            let save = Request::Save {
                dir: self.output.clone(),
                attach,
                optimizer: false,
            };
            let (hash, bytes) = match engine.ask(&save).await? {
                Answer::Saved { hash, bytes, .. } => (hash, bytes),
                other => return Err(unexpected("saved", &other).into()),
            };
            engine.stop().await;
            anyhow::Ok(Written {
                output: self.output.clone(),
                parameters,
                dtype,
                bytes,
                hash,
                seconds: began.elapsed().as_secs_f64(),
                config,
            })
        });
        step.ends();
        written
    }

    async fn load(&self, engine: &EngineProcess) -> anyhow::Result<(u64, BackboneConfig)> {
        let model = ModelSource::Checkpoint {
            dir: self.checkpoint.clone(),
            resume: false,
            average: false,
            image_tokenizer: self.image_tokenizer.clone(),
            options: self.options.clone(),
        };
        match engine.ask(&Request::Load { model }).await? {
            Answer::Loaded {
                parameters,
                backbone: Some(config),
                ..
            } => Ok((parameters, config)),
            other => Err(unexpected("loaded", &other).into()),
        }
    }

    /// Returns the files with the tokenizer, the prompts and the samplers, in the form of a Demask checkpoint.
    fn attachments(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut files =
            checkpoint_settings::files(&self.inference, &checkpoint_settings::samplers(&self.checkpoint)?)?;
        for name in BESIDE {
            let file = self.checkpoint.join(name);
            if file.is_file() {
                let text = bounded_file::read_text(&file, limits::LONGEST_CONFIG)
                    .with_context(|| file.display().to_string())?;
                files.insert(name.to_owned(), text);
            }
        }
        Ok(files)
    }
}

/// The progress display: a spinner on a terminal, else a line per step.
struct DerivationProgress {
    spinner: Option<ProgressBar>,
}

impl DerivationProgress {
    fn new() -> Self {
        let spinner = std::io::stderr().is_terminal().then(ProgressBar::new_spinner);
        if let Some(spinner) = &spinner {
            spinner.enable_steady_tick(TICK);
        }
        Self { spinner }
    }

    fn says(&self, what: String) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(visible::line(&what)),
            None => print::note(&what),
        }
    }

    fn ends(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// Returns bf16 if all weights of a checkpoint are stored as bf16, else f32, which loses nothing.
fn stored(checkpoint: &Path) -> Stored {
    let base = adapter::base(checkpoint).filter(|_| has_adapter(checkpoint));
    let folder = base.map_or_else(|| checkpoint.to_owned(), |base| checkpoint.join(base));
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut weights = files
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|end| end == "safetensors"))
        .filter(|file| ![OPTIMIZER, ADAPTER].iter().any(|other| file.ends_with(other)))
        .peekable();
    let is_bf16 = |file: PathBuf| types(&file).is_some_and(|types| types.iter().all(|name| name == "BF16"));
    if weights.peek().is_some() && weights.all(is_bf16) {
        Stored::Bf16
    } else {
        Stored::F32
    }
}

/// Reads the types of the tensors from a safetensors file's header; `None` if it has none.
fn types(file: &Path) -> Option<Vec<String>> {
    let mut file = bounded_file::open(file).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = Some(u64::from_le_bytes(length)).filter(|&length| length <= LONGEST_HEADER)?;
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).ok()?;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&header).ok()?;
    let types = header.values().filter_map(|tensor| tensor["dtype"].as_str());
    Some(types.map(str::to_owned).collect())
}
