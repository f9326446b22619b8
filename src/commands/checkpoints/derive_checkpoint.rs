//! A checkpoint made of another one: read by an engine of the command's own, with what the options put on it, and written as
//! a folder of ours, whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use demask_actors::engine::process::{EngineProcess, unexpected};
use demask_actors::home::Home;
use demask_actors::inference::checkpoint_settings;
use demask_actors::inference::complete::Inference;
use demask_api::checkpoint::{ADAPTER, OPTIMIZER, carries_adapter};
use demask_api::{Answer, BackboneConfig, LoadOptions, ModelSource, Request};
use demask_datasets::prompts::chat_template::{JINJA_FILE, TOKENIZER_CONFIG};
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::Value;

use crate::args::Stored;
use crate::exit::UsageError;
use crate::model::adapter;
use crate::model::engine;
use crate::terminal::print;

/// What the published tokenizers bring beside `tokenizer.json`: other programs read them.
const BESIDE: [&str; 3] = [TOKENIZER_CONFIG, JINJA_FILE, "special_tokens_map.json"];
/// Between two pictures of the spinner.
const TICK: Duration = Duration::from_millis(120);
/// No header of a safetensors file is longer, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// What is to be made.
pub struct Derived {
    /// The checkpoint that it is made of.
    pub checkpoint: PathBuf,
    /// The folder of an image tokenizer in place of the checkpoint's.
    pub image_tokenizer: Option<PathBuf>,
    /// What is put on it.
    pub options: LoadOptions,
    /// How the result is prompted.
    pub inference: Inference,
    /// The folder to write.
    pub output: PathBuf,
    /// In which type the weights are written; absent: as they are stored.
    pub dtype: Option<Stored>,
    /// What to say where the engine does not take it.
    pub blame: String,
}

/// What was written.
#[derive(Debug, Serialize)]
pub struct Written {
    /// The folder.
    pub output: PathBuf,
    /// Numbers in the backbone.
    pub parameters: u64,
    /// Their type.
    pub dtype: &'static str,
    /// Bytes of all files.
    pub bytes: u64,
    /// The manifest's BLAKE3.
    pub hash: String,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// The network's shape.
    #[serde(skip)]
    pub config: BackboneConfig,
}

impl Written {
    /// How large it is, in words.
    #[must_use]
    pub fn size(&self) -> String {
        let (millions, megabytes) = (self.parameters as f64 / 1e6, self.bytes as f64 / 1e6);
        format!(
            "{millions:.1} million parameters in {}, {megabytes:.1} MB",
            self.dtype
        )
    }
}

/// A folder to write is not there yet.
///
/// # Errors
/// It is: nothing is ever overwritten.
pub fn is_new(output: &Path) -> anyhow::Result<PathBuf> {
    if output.symlink_metadata().is_ok() {
        bail!(UsageError(format!(
            "{} exists already; a checkpoint is never overwritten",
            output.display()
        )));
    }
    Ok(std::path::absolute(output)?)
}

impl Derived {
    /// Makes it.
    ///
    /// # Errors
    /// A file that is missing or broken; what the engine refuses; a full disk. Nothing is left behind then.
    pub fn write(self, home: &Home) -> anyhow::Result<Written> {
        let began = Instant::now();
        let dtype = self.dtype.unwrap_or_else(|| stored(&self.checkpoint)).name();
        let attach = self.attachments()?;
        let step = DerivationProgress::new();
        let written = engine::runtime()?.block_on(async {
            // Beside the folder's final name it is written first.
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

    /// The tokenizer and how the model is prompted and sampled, as a checkpoint of ours says it.
    fn attachments(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut files =
            checkpoint_settings::files(&self.inference, &checkpoint_settings::samplers(&self.checkpoint)?)?;
        for name in BESIDE {
            let file = self.checkpoint.join(name);
            if file.is_file() {
                let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
                files.insert(name.to_owned(), text);
            }
        }
        Ok(files)
    }
}

/// Where the work is: a spinner on a terminal, else a line.
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
            Some(spinner) => spinner.set_message(what),
            None => print::note(&what),
        }
    }

    fn ends(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// The type that a checkpoint's weights are stored in, where all are bf16; else the one that loses nothing of them.
fn stored(checkpoint: &Path) -> Stored {
    let base = adapter::base(checkpoint).filter(|_| carries_adapter(checkpoint));
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

/// The types of a safetensors file's tensors, by its header; none where it has none.
fn types(file: &Path) -> Option<Vec<String>> {
    let mut file = File::open(file).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = Some(u64::from_le_bytes(length)).filter(|&length| length <= LONGEST_HEADER)?;
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).ok()?;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&header).ok()?;
    let types = header.values().filter_map(|tensor| tensor["dtype"].as_str());
    Some(types.map(str::to_owned).collect())
}
