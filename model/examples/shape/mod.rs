//! The shape of a measured network, as command-line flags, and its number of operations.

#![allow(dead_code)]

use std::time::Instant;

use anyhow::Context as _;
use demask_api::{BackboneConfig, Sequence, Span, Task};
use tch::{Device, Kind, Tensor};

/// The flags of a shape, for usage messages.
pub const USAGE: &str = "[--width N] [--layers N] [--heads N] [--hidden N] [--vocabulary N] [--length N]";

/// Sizes of a network.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    width: usize,
    layers: usize,
    heads: usize,
    hidden: usize,
    vocabulary: usize,
    /// Tokens of the longest row.
    pub length: usize,
}

impl Default for Shape {
    /// Returns a shape near that of the tabletop model, with fewer layers, shorter rows and a smaller vocabulary.
    fn default() -> Self {
        Self {
            width: 192,
            layers: 4,
            heads: 4,
            hidden: 512,
            vocabulary: 1024,
            length: 128,
        }
    }
}

impl Shape {
    /// Applies a flag with its value. Returns false if the flag is not one of a shape's.
    ///
    /// # Errors
    /// Returns an error if the value is not a number.
    pub fn take(&mut self, flag: &str, value: &str) -> anyhow::Result<bool> {
        let size = match flag {
            "--width" => &mut self.width,
            "--layers" => &mut self.layers,
            "--heads" => &mut self.heads,
            "--hidden" => &mut self.hidden,
            "--vocabulary" => &mut self.vocabulary,
            "--length" => &mut self.length,
            _ => return Ok(false),
        };
        *size = number(flag, value)?;
        Ok(true)
    }

    /// Returns the configuration of a text model whose last token is the mask and whose second-to-last token
    /// is the end of text.
    ///
    /// # Errors
    /// Returns an error if the vocabulary is too small or too large.
    pub fn config(&self) -> anyhow::Result<BackboneConfig> {
        let last = self.vocabulary.checked_sub(2);
        let last = last.context("--vocabulary 1: expected at least 2")?;
        let end = u32::try_from(last)?;
        Ok(BackboneConfig {
            d_model: self.width,
            n_heads: self.heads,
            n_layers: self.layers,
            mlp_hidden_size: Some(self.hidden),
            max_sequence_length: self.length,
            vocab_size: self.vocabulary,
            mask_token_id: end + 1,
            eos_token_id: end,
            pad_token_id: end,
            codebook_size: 0,
            ..BackboneConfig::default()
        })
    }
}

/// Returns the program's flags, each with its value.
///
/// # Errors
/// Returns an error if the last flag has no value.
pub fn flags() -> anyhow::Result<Vec<(String, String)>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let pair = |pair: &[String]| match pair {
        [flag, value] => Ok((flag.clone(), value.clone())),
        rest => anyhow::bail!("{} needs a value", rest.concat()),
    };
    arguments.chunks(2).map(pair).collect()
}

/// Returns training rows of one length that consist of an answer only. `salt` varies the tokens.
pub fn rows(count: usize, length: usize, words: usize, salt: usize) -> Vec<Sequence> {
    let token = |at: usize| u32::try_from((at * 7919 + salt * 104_729) % words).unwrap_or(0);
    let row = |row: usize| Sequence {
        id: String::new(),
        task: Task::Text,
        ids: (0..length).map(|at| token(row * length + at)).collect(),
        left_pad: 0,
        answer: vec![Span {
            start: 0,
            end: length,
        }],
    };
    (0..count).map(row).collect()
}

/// Returns the floating-point operations of a training step's matrix products, forward and backward: 6 per
/// weight and token, plus attention, and the output head at masked positions only.
pub fn training_flops(config: &BackboneConfig, tokens: f64, length: f64, masked: f64) -> f64 {
    let width = config.d_model as f64;
    let block = 4.0 * width * width + 3.0 * width * config.hidden() as f64;
    let attention = 2.0 * length * width;
    6.0 * (tokens * config.n_layers as f64 * (block + attention) + masked * width * config.rows() as f64)
}

/// Parses the value of a flag.
///
/// # Errors
/// Returns an error if the value is not a number of at least 1.
pub fn number(flag: &str, value: &str) -> anyhow::Result<usize> {
    let number = value.parse().ok().filter(|&number| number > 0);
    number.with_context(|| format!("{flag} {value}: expected a number of at least 1"))
}

/// Returns the floating-point operations per second of large square matrix products. Callers measure it
/// between two steps, because the clock rate of a processor changes.
pub fn matmul_rate(kind: Kind) -> f64 {
    const SIDE: i64 = 1024;
    const PRODUCTS: usize = 4;
    let matrix = Tensor::ones([SIDE, SIDE], (kind, Device::Cpu));
    let _warm = matrix.matmul(&matrix);
    let started = Instant::now();
    for _ in 0..PRODUCTS {
        let _product = matrix.matmul(&matrix);
    }
    2.0 * PRODUCTS as f64 * (SIDE as f64).powi(3) / started.elapsed().as_secs_f64()
}

/// Returns the median.
pub fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}
