//! Training the image tokenizer: reconstruction, commitment and entropy losses (LFQ, as MAGVIT-v2 trains it).

use std::collections::BTreeMap;

use demask_api::{Picture, StepSettings, TokenizerReport};
use tch::{Kind, Tensor};

use super::quantizer::{codes_of, straight_through};
use super::{ImageTokenizer, to_tensor};
use crate::error::{ModelError, Result};
use crate::optimizer::AdamW;
use crate::validation;

/// Weight of the commitment loss (`mmada.md` 7.4).
const COMMITMENT: f64 = 0.005;
/// Weight of the entropy loss.
const ENTROPY: f64 = 0.005;
/// Sharpness of the bit probabilities in the entropy: a logit is this times the latent.
const SHARPNESS: f64 = 4.0;

/// Steps at the start that pass tanh of the latents instead of their signs: without them the codes collapse to a few
/// before the decoder has learnt to read any.
const SOFT_STEPS: u64 = 400;

/// The optimiser of an image tokenizer.
#[derive(Debug)]
pub struct TokenizerTrainer {
    optimizer: AdamW,
}

impl TokenizerTrainer {
    /// A fresh state.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(tokenizer: &ImageTokenizer) -> Result<Self> {
        Ok(Self {
            optimizer: AdamW::new(&tokenizer.parameters)?,
        })
    }

    /// The state as named tensors.
    ///
    /// # Errors
    /// libtorch's.
    pub fn state(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        self.optimizer.state(prefix)
    }

    /// Takes a state that [`Self::state`] gave.
    ///
    /// # Errors
    /// As [`AdamW::restore`].
    pub fn restore(&mut self, prefix: &str, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.optimizer.restore(prefix, state)
    }

    /// One step on pictures; one that fails or is not finite leaves weights and state as they were.
    ///
    /// # Errors
    /// No picture, pictures of different sizes, sides that cannot be halved often enough; libtorch's.
    pub fn step(
        &mut self,
        tokenizer: &mut ImageTokenizer,
        pictures: &[Picture],
        settings: &StepSettings,
    ) -> Result<TokenizerReport> {
        validation::settings(settings)?;
        if pictures.is_empty() {
            return Err(ModelError::Refused("a tokenizer step without a picture".into()));
        }
        tokenizer.check_sides(pictures)?;
        let report = self.step_inner(tokenizer, pictures, settings);
        if report.is_err() {
            self.discard(tokenizer)?;
        }
        report
    }

    /// Drops the gradient of a step that was not finished.
    ///
    /// # Errors
    /// libtorch's.
    pub fn discard(&mut self, tokenizer: &mut ImageTokenizer) -> Result<()> {
        self.optimizer.discard(&mut tokenizer.parameters)
    }

    fn step_inner(
        &mut self,
        tokenizer: &mut ImageTokenizer,
        pictures: &[Picture],
        settings: &StepSettings,
    ) -> Result<TokenizerReport> {
        let pixels = to_tensor(pictures, tokenizer.device)?;
        let latents = tokenizer.latents(&pixels)?;
        let soft = latents.f_tanh()?;
        let signs = if self.optimizer.step_count() < SOFT_STEPS {
            soft
        } else {
            straight_through(&soft)?
        };
        let error = tokenizer.pixels(&signs)?.f_sub(&pixels)?;
        let reconstruction = error.f_square()?.f_mean(Kind::Float)?;
        let commitment = latents
            .f_sub(&signs.f_detach()?)?
            .f_square()?
            .f_mean(Kind::Float)?;
        let entropy = entropy_losses(&latents)?;
        let loss = reconstruction
            .f_add(&commitment.f_mul_scalar(COMMITMENT)?)?
            .f_add(&entropy.f_mul_scalar(ENTROPY)?)?;
        loss.f_backward()?;
        self.optimizer.accumulate(&mut tokenizer.parameters)?;
        let total = loss.f_double_value(&[])?;
        let stepped = self
            .optimizer
            .step_on(total, &mut tokenizer.parameters, settings, 0.0)?;
        Ok(TokenizerReport {
            step: self.optimizer.step_count(),
            loss: total,
            reconstruction: error.f_square()?.f_mean(Kind::Float)?.f_double_value(&[])?,
            commitment: commitment.f_double_value(&[])?,
            entropy: entropy.f_double_value(&[])?,
            usage: usage(&latents, tokenizer.config.codebook_bits)?,
            finite: stepped.finite,
        })
    }
}

/// Mean entropy of each bit less the entropy of the mean bit, in nats a bit: small when every bit is sure and all bits are
/// used evenly. Bits are taken as independent, so that the cost does not grow with the codebook.
///
/// # Errors
/// libtorch's.
pub fn entropy_losses(latents: &Tensor) -> Result<Tensor> {
    let sure = latents.f_mul_scalar(SHARPNESS)?.f_sigmoid()?;
    let over_all = sure.f_mean_dim(&[0i64, 2, 3][..], false, Kind::Float)?;
    Ok(binary_entropy(&sure)?
        .f_mean(Kind::Float)?
        .f_sub(&binary_entropy(&over_all)?.f_mean(Kind::Float)?)?)
}

fn binary_entropy(p: &Tensor) -> Result<Tensor> {
    let p = p.f_clamp(1e-6, 1.0 - 1e-6)?;
    let q = p.f_neg()?.f_add_scalar(1.0)?;
    Ok(p.f_mul(&p.f_log()?)?.f_add(&q.f_mul(&q.f_log()?)?)?.f_neg()?)
}

fn usage(latents: &Tensor, bits: usize) -> Result<f64> {
    let codes: Vec<i64> = Vec::<i64>::try_from(
        codes_of(latents)?
            .f_to_device(tch::Device::Cpu)?
            .f_reshape([-1])?,
    )?;
    let distinct: std::collections::BTreeSet<i64> = codes.into_iter().collect();
    Ok(distinct.len() as f64 / (1u64 << bits) as f64)
}
