//! The command-line options of the measurement on a checkpoint folder.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use demask_api::{Sampler, TextSampler};

/// The usage line.
pub const USAGE: &str = "folder DIR [--prompt N] [--length N] [--batch N] [--rounds N] [--dtype auto|f32|bf16] [--threads N] [--show] SAMPLER…";

/// A checkpoint folder, its rows, and the samplers that fill them.
#[derive(Debug)]
pub struct Options {
    /// Folder of the checkpoint.
    pub folder: PathBuf,
    /// Tokens of a prompt.
    pub prompt: usize,
    /// Tokens of an answer.
    pub length: usize,
    /// Rows of a request.
    pub batch: usize,
    /// Timed requests, which follow one that is not timed.
    pub rounds: usize,
    /// Precision: `auto`, `f32`, `bf16`.
    pub dtype: String,
    /// Threads of the engine.
    pub threads: usize,
    /// Whether tokens are printed beside their hash.
    pub show: bool,
    /// Samplers, used in turn. Each is a text sampler or `{"image": …}`; for text, `steps` 0 means one step per token.
    pub samplers: Vec<Sampler>,
}

impl Options {
    /// Parses DIR, flags and samplers.
    ///
    /// # Errors
    /// An error that says what is wrong and what is expected.
    pub fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        let mut arguments = arguments.iter();
        let mut options = Self {
            folder: arguments
                .next()
                .with_context(|| format!("expected {USAGE}"))?
                .into(),
            prompt: 32,
            length: 64,
            batch: 1,
            rounds: 5,
            dtype: "auto".into(),
            threads: 2,
            show: false,
            samplers: Vec::new(),
        };
        while let Some(word) = arguments.next() {
            if word == "--show" {
                options.show = true;
            } else if word.starts_with("--") {
                let value = arguments
                    .next()
                    .with_context(|| format!("{word} needs a value"))?;
                options.take(word, value)?;
            } else {
                options.samplers.push(sampler(word)?);
            }
        }
        ensure!(!options.samplers.is_empty(), "no sampler: expected {USAGE}");
        Ok(options)
    }

    fn take(&mut self, flag: &str, value: &str) -> anyhow::Result<()> {
        let number = || -> anyhow::Result<usize> {
            let number = value.parse().ok().filter(|&number| number > 0);
            number.with_context(|| format!("{flag} {value}: expected a number of at least 1"))
        };
        match flag {
            "--prompt" => self.prompt = number()?,
            "--length" => self.length = number()?,
            "--batch" => self.batch = number()?,
            "--rounds" => self.rounds = number()?,
            "--threads" => self.threads = number()?,
            "--dtype" => value.clone_into(&mut self.dtype),
            _ => anyhow::bail!("unknown flag {flag}: expected {USAGE}"),
        }
        Ok(())
    }
}

fn sampler(word: &str) -> anyhow::Result<Sampler> {
    if let Ok(sampler) = serde_json::from_str::<Sampler>(word) {
        return Ok(sampler);
    }
    let text = serde_json::from_str::<TextSampler>(word);
    let text =
        text.with_context(|| format!("{word}: expected a text sampler, or {{\"image\": …}}, as JSON"))?;
    Ok(Sampler::Text(text))
}
