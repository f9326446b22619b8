//! A model that is loaded for one command.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use demask_actors::engine::actor::FrameSink;
use demask_actors::engine::process::EngineProcess;
use demask_actors::home::Home;
use demask_actors::inference::complete::{CompletionRequest, CompletionResult, Inference};
use demask_actors::inference::settings::SamplerSettings;
use demask_api::{Answer, LoadOptions, ModelSource, PictureSize, Request, Task};
use demask_datasets::example::{Example, Mode};
use serde_json::{Map, Value};

use super::engine::start_engine;
use super::settings::ModelSettings;
use crate::args::ModelArgs;

/// A loaded model: an engine, and the inference for its checkpoint.
pub struct Session {
    /// Folder of the model.
    pub folder: PathBuf,
    /// Folder of an adapter that is applied to the model.
    pub adapter: Option<PathBuf>,
    /// Folder of an image tokenizer that is not the model's own.
    pub image_tokenizer: Option<PathBuf>,
    /// The engine.
    pub engine: EngineProcess,
    /// Tokenizer and budgets of the model.
    pub inference: Inference,
    /// Samplers of the model.
    pub samplers: SamplerSettings,
    /// The keys that `--sampling` sets for text.
    pub said_of_text: Map<String, Value>,
    /// Whether the model uses the prompts and samplers of published models, because it is one or was made from one.
    pub is_published_family: bool,
    /// Whether recommended sampler settings exist for the model.
    pub says_sampling: bool,
    /// Size of the pictures; `None` without an image tokenizer.
    pub size: Option<PictureSize>,
}

impl Session {
    /// Loads the named checkpoint, or the shipped one.
    ///
    /// # Errors
    /// An error with the checkpoint's path if it does not exist or is broken; an error if the engine does not start.
    pub async fn open(home: &Home, model: &ModelArgs) -> anyhow::Result<Self> {
        Self::load(home, model, ModelSettings::new(home, model)?).await
    }

    /// Loads a model as [`Self::open`] does, for a command that draws or reads pictures, according to the task.
    pub async fn open_seeing(home: &Home, model: &ModelArgs, task: Task) -> anyhow::Result<Self> {
        let settings = ModelSettings::new(home, model)?;
        if settings.inference.builder().budgets().of(Task::Understand).codes == 0 {
            bail!("the model cannot process pictures: it has no picture codes");
        }
        if settings.size.is_none() {
            let does = if task == Task::Understand {
                "reads"
            } else {
                "draws"
            };
            let name = "give its folder with --image-tokenizer";
            bail!("the checkpoint has no image tokenizer, so it {does} no pictures: {name}");
        }
        settings.has_room(model, task)?;
        Self::load(home, model, settings).await
    }

    async fn load(home: &Home, model: &ModelArgs, settings: ModelSettings) -> anyhow::Result<Self> {
        let engine = start_engine(home, &model.device, "auto").await?;
        let source = ModelSource::Checkpoint {
            dir: settings.folder.clone(),
            resume: false,
            average: model.average,
            image_tokenizer: settings.image_tokenizer.clone(),
            options: LoadOptions {
                adapter: settings.adapter.clone(),
                ..LoadOptions::sampling()
            },
        };
        let loaded = engine.ask(&Request::Load { model: source }).await;
        let loaded = loaded.with_context(|| settings.blame())?;
        same_codes(&loaded, &settings)?;
        Ok(Self {
            folder: settings.folder,
            adapter: settings.adapter,
            image_tokenizer: settings.image_tokenizer,
            engine,
            inference: settings.inference,
            samplers: settings.samplers,
            said_of_text: settings.said_of_text,
            is_published_family: settings.is_published_family,
            says_sampling: settings.says_sampling,
            size: settings.size,
        })
    }

    /// Returns the size of the pictures.
    pub fn size(&self) -> anyhow::Result<PictureSize> {
        self.size.context("the model has no image tokenizer")
    }

    /// Completes one example.
    ///
    /// # Errors
    /// An error with both lengths if the prompt is too long; any failure of the engine.
    pub async fn complete(
        &self,
        example: Example,
        mode: Mode,
        seed: u64,
        samplers: &SamplerSettings,
        show: Option<FrameSink>,
    ) -> anyhow::Result<CompletionResult> {
        let wanted = [CompletionRequest {
            example,
            mode,
            seed,
            watch: show.is_some().then_some(1),
        }];
        let mut made = self
            .inference
            .complete(&self.engine, &wanted, samplers, show)
            .await?;
        made.pop().context("the engine returned no sample")
    }
}

/// Checks that the tokenizer and the network agree on the first picture code.
fn same_codes(loaded: &Answer, settings: &ModelSettings) -> anyhow::Result<()> {
    let tokens = settings.inference.builder().tokenizer().len();
    let codes = settings.inference.builder().budgets().of(Task::Understand).codes;
    match loaded {
        Answer::Loaded {
            backbone: Some(config),
            ..
        } if codes > 0 && config.image_offset() as usize != tokens => bail!(
            "{}: picture codes begin at token {}, expected {tokens}, the size of its tokenizer.json: set \
             image_token_offset in its config.json",
            settings.folder.display(),
            config.image_offset(),
        ),
        _ => Ok(()),
    }
}
