//! Training the image tokenizer: reconstruction, commitment and entropy losses (LFQ, as MAGVIT-v2 trains it).

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

/// Sharpness of the bit probabilities in the entropy: a logit is this times the latent.
const SHARPNESS: f64 = 4.0;
/// How much steeper tanh is at the end of the soft steps.
const STEEPEST: f64 = 7.0;

/// The optimiser of an image tokenizer.
#[derive(Debug)]
pub struct TokenizerTrainer {
    optimizer: AdamW,
}

impl TokenizerTrainer {
    /// A fresh state.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn new(tokenizer: &ImageTokenizer) -> Result<Self> {
        Ok(Self {
            optimizer: AdamW::new(&tokenizer.parameters)?,
        })
    }

    /// The state as named tensors.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn state(&self, prefix: &str) -> Result<BTreeMap<String, Tensor>> {
        self.optimizer.state(prefix)
    }

    /// Takes a state that [`Self::state`] gave.
    ///
    /// # Errors
    /// The errors of [`AdamW::restore`].
    pub fn restore(&mut self, prefix: &str, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.optimizer.restore(prefix, state)
    }

    /// One step on pictures; one that fails or is not finite leaves weights and state as they were.
    ///
    /// # Errors
    /// No picture, pictures of different sizes, sides that cannot be halved often enough, or any error libtorch reports.
    pub fn step(
        &mut self,
        tokenizer: &mut ImageTokenizer,
        pictures: &[Picture],
        settings: &StepSettings,
    ) -> Result<TokenizerReport> {
        tokenizer.parameters.trainable()?;
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
            // Ever nearer to signs, so that what the decoder reads does not change at once when they are.
            let steepness = 1.0 + STEEPEST * step as f64 / weights.soft_steps as f64;
            latents.f_mul_scalar(steepness)?.f_tanh()?
        } else {
            straight_through(&soft)?
        };
        // Locality: a picture put together from patches of two must have the codes of its patches.
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
        // The entropy of a code is to be small (each is sure), that of the batch large (all codes are used).
        let loss = reconstruction
            .f_add(&commitment.f_mul_scalar(weights.commitment)?)?
            .f_add(&sample.f_mul_scalar(weights.sample_entropy)?)?
            .f_sub(&batch.f_mul_scalar(weights.batch_entropy)?)?
            .f_add(&apart.f_mul_scalar(weights.locality)?)?;
        loss.f_backward()?;
        self.optimizer.accumulate(&mut tokenizer.parameters)?;
        let entropy = sample.f_sub(&batch)?;
        // All figures cross from the device in one read.
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

/// Which patches of a batch are another picture's.
#[derive(Debug)]
struct PatchMix {
    /// [B, 1, S, S]: whether the patch stays.
    stays: Tensor,
}

impl PatchMix {
    /// Half of the patches of latents [B, Z, S, S], the same for the same step.
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

    /// This batch [B, C, kS, kS], patches that go replaced by those of the picture before.
    fn of(&self, batch: &Tensor) -> Result<Tensor> {
        let times = batch.size()[2] / self.stays.size()[2];
        let stays = self
            .stays
            .f_repeat_interleave_self_int(times, 2, None)?
            .f_repeat_interleave_self_int(times, 3, None)?;
        Ok(batch.f_where_self(&stays, &batch.f_roll([1], [0])?)?)
    }
}

/// Mean entropy of each bit, and entropy of the mean bit, in nats a bit: the first is small when every bit is sure, the
/// second large when all bits are used evenly. Bits are taken as independent, so that the cost does not grow with the
/// codebook.
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

fn usage(latents: &Tensor, bits: usize) -> Result<f64> {
    let codes: Vec<i64> = Vec::<i64>::try_from(
        codes_of(latents)?
            .f_to_device(tch::Device::Cpu)?
            .f_reshape([-1])?,
    )?;
    let distinct: std::collections::BTreeSet<i64> = codes.into_iter().collect();
    Ok(distinct.len() as f64 / (1u64 << bits) as f64)
}
