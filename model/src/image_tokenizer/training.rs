//! Training of the image tokenizer: reconstruction, commitment and entropy losses (LFQ, as in MAGVIT-v2).

use std::collections::BTreeMap;

use demask_api::{Picture, StepSettings, TokenizerReport};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::quantizer::{codes_of, straight_through};
use super::{ImageTokenizer, to_tensor};
use crate::device::transfer;
use crate::error::{ModelError, Result};
use crate::training::optimizer::AdamW;
use crate::training::validation;

/// The sharpness of the bit probabilities in the entropy: a bit's logit is this times the latent.
const SHARPNESS: f64 = 4.0;
/// The amount by which the steepness of tanh grows over the soft steps.
const STEEPEST: f64 = 7.0;

/// The optimizer of an image tokenizer.
#[derive(Debug)]
pub struct TokenizerTrainer {
    optimizer: AdamW,
}

impl TokenizerTrainer {
    /// Creates a fresh optimizer.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn new(tokenizer: &ImageTokenizer) -> Result<Self> {
        Ok(Self {
            optimizer: AdamW::new(&tokenizer.parameters)?,
        })
    }

    /// Returns the state of the optimizer as named tensors.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn state(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        self.optimizer.state(prefix)
    }

    /// Restores a state from [`Self::state`].
    ///
    /// # Errors
    /// The errors of [`AdamW::restore`].
    pub fn restore(&mut self, prefix: &str, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.optimizer.restore(prefix, state)
    }

    /// Takes one optimizer step on pictures. A step that fails or is not finite leaves the weights and the state as
    /// they were.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if there is no picture, the pictures have different sizes, a side is not a multiple of
    /// the downscaling factor, or a setting is out of range; or any error libtorch reports.
    pub fn step(
        &mut self,
        tokenizer: &mut ImageTokenizer,
        pictures: &[Picture],
        settings: &StepSettings,
    ) -> Result<TokenizerReport> {
        tokenizer.parameters.trainable()?;
        validation::settings(settings)?;
        if pictures.is_empty() {
            return Err(ModelError::Refused(
                "a training step of the image tokenizer needs at least one picture".into(),
            ));
        }
        tokenizer.check_sides(pictures)?;
        let report = self.step_inner(tokenizer, pictures, settings);
        if report.is_err() {
            self.discard(tokenizer)?;
        }
        report
    }

    /// Discards the gradient of a step that did not finish.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn discard(&mut self, tokenizer: &mut ImageTokenizer) -> Result<()> {
        self.optimizer.discard(&mut tokenizer.parameters)
    }

    fn step_inner(
        &mut self,
        tokenizer: &mut ImageTokenizer,
        pictures: &[Picture],
        settings: &StepSettings,
    ) -> Result<TokenizerReport> {
        let weights = tokenizer.config.losses.clone();
        let step = self.optimizer.step_count();
        let pixels = to_tensor(pictures, tokenizer.device)?;
        let latents = tokenizer.latents(&pixels)?;
        let soft = latents.f_tanh()?;
        let signs = if step < weights.soft_steps {
            // tanh gets steeper from step to step and approaches the sign, so that the decoder's input does not change
            // abruptly when the soft steps end.
            let steepness = 1.0 + STEEPEST * step as f64 / weights.soft_steps as f64;
            latents.f_mul_scalar(steepness)?.f_tanh()?
        } else {
            straight_through(&soft)?
        };
        // Locality: a picture that is composed of patches of two pictures should have the codes of these patches.
        let mix = (weights.locality > 0.0 && step >= weights.local_from)
            .then(|| PatchMix::draw(&latents, step))
            .transpose()?;
        let (wanted, given) = match &mix {
            Some(mix) => (mix.of(&pixels)?, mix.of(&signs)?),
            None => (pixels.shallow_clone(), signs.shallow_clone()),
        };
        let error = tokenizer.pixels(&given)?.f_sub(&wanted)?;
        let reconstruction = error.f_square()?.f_mean(Kind::Float)?;
        let commitment = latents
            .f_sub(&signs.f_detach()?)?
            .f_square()?
            .f_mean(Kind::Float)?;
        let (sample, batch) = entropies(&latents)?;
        let apart = match &mix {
            Some(mix) => tokenizer
                .latents(&wanted)?
                .f_tanh()?
                .f_sub(&mix.of(&latents.f_tanh()?)?)?
                .f_square()?
                .f_mean(Kind::Float)?,
            None => Tensor::f_zeros([], (Kind::Float, latents.device()))?,
        };
        // The entropy of each code should be small, so that each is certain. The entropy of the batch should be large,
        // so that all codes are used.
        let loss = reconstruction
            .f_add(&commitment.f_mul_scalar(weights.commitment)?)?
            .f_add(&sample.f_mul_scalar(weights.sample_entropy)?)?
            .f_sub(&batch.f_mul_scalar(weights.batch_entropy)?)?
            .f_add(&apart.f_mul_scalar(weights.locality)?)?;
        loss.f_backward()?;
        self.optimizer.accumulate(&mut tokenizer.parameters)?;
        let entropy = sample.f_sub(&batch)?;
        // All numbers are read from the device in one transfer.
        let figures = [&loss, &reconstruction, &commitment, &entropy];
        let figures = figures.map(|figure| figure.f_detach()?.f_to_kind(Kind::Double)?.f_reshape([1]));
        let [loss, reconstruction, commitment, entropy] = figures;
        let figures = [
            loss?,
            reconstruction?,
            commitment?,
            entropy?,
            self.optimizer.norm()?,
        ];
        let figures = transfer::read(&Tensor::f_cat(&figures, 0)?)?;
        let (total, norm) = (figures[0], figures[4]);
        let stepped = self
            .optimizer
            .step_on((total, norm), &mut tokenizer.parameters, settings, 0.0)?;
        Ok(TokenizerReport {
            seconds: 0.0,
            step: self.optimizer.step_count(),
            loss: total,
            reconstruction: figures[1],
            commitment: figures[2],
            entropy: figures[3],
            usage: usage(&latents, tokenizer.config.codebook_bits)?,
            finite: stepped.finite,
        })
    }
}

/// The choice of patches in a batch that are replaced by those of another picture.
#[derive(Debug)]
struct PatchMix {
    /// Whether each patch stays, [B, 1, S, S].
    stays: Tensor,
}

impl PatchMix {
    /// Chooses each patch of latents, [B, Z, S, S], with probability one half. The choice depends on the step only.
    fn draw(latents: &Tensor, step: u64) -> Result<Self> {
        let (count, _, height, width) = latents.size4()?;
        let mut rng = ChaCha8Rng::seed_from_u64(step);
        let stays: Vec<bool> = (0..count * height * width)
            .map(|_| rng.random_bool(0.5))
            .collect();
        Ok(Self {
            stays: Tensor::f_from_slice(&stays)?
                .f_view([count, 1, height, width])?
                .f_to_device(latents.device())?,
        })
    }

    /// Replaces the chosen patches of a batch, [B, C, kS, kS], by those of the previous picture in the batch.
    fn of(&self, batch: &Tensor) -> Result<Tensor> {
        let times = batch.size()[2] / self.stays.size()[2];
        let stays = self
            .stays
            .f_repeat_interleave_self_int(times, 2, None)?
            .f_repeat_interleave_self_int(times, 3, None)?;
        Ok(batch.f_where_self(&stays, &batch.f_roll([1], [0])?)?)
    }
}

/// Computes the mean entropy of the bits and the entropy of the mean bits, in nats per bit. The first is small if every
/// bit is certain. The second is large if all bits are used evenly. The bits are treated as independent, so that the
/// cost does not grow with the codebook.
///
/// # Errors
/// Any error libtorch reports.
pub fn entropies(latents: &Tensor) -> Result<(Tensor, Tensor)> {
    let sure = latents.f_mul_scalar(SHARPNESS)?.f_sigmoid()?;
    let over_all = sure.f_mean_dim(&[0i64, 2, 3][..], false, Kind::Float)?;
    let mean = |p: &Tensor| -> Result<Tensor> { Ok(binary_entropy(p)?.f_mean(Kind::Float)?) };
    Ok((mean(&sure)?, mean(&over_all)?))
}

fn binary_entropy(p: &Tensor) -> Result<Tensor> {
    let p = p.f_clamp(1e-6, 1.0 - 1e-6)?;
    let q = p.f_neg()?.f_add_scalar(1.0)?;
    Ok(p.f_mul(&p.f_log()?)?.f_add(&q.f_mul(&q.f_log()?)?)?.f_neg()?)
}

/// Computes the share of the codebook that a batch uses.
fn usage(latents: &Tensor, bits: usize) -> Result<f64> {
    let codes: Vec<i64> = Vec::<i64>::try_from(
        codes_of(latents)?
            .f_to_device(tch::Device::Cpu)?
            .f_reshape([-1])?,
    )?;
    let distinct: std::collections::BTreeSet<i64> = codes.into_iter().collect();
    Ok(distinct.len() as f64 / (1u64 << bits) as f64)
}
