//! The samplers of picture codes, which draw all masked positions in parallel.
//!
//! MaskGIT draws every masked code and commits the most confident ones, with a cosine schedule and guidance (`mmada.md`
//! 6.2). It can also commit an unlikely code ahead of the schedule (`ImageSampler::surprise`). The ancestral sampler
//! commits each code independently with the probability of the schedule (`peers.md` B.11).
//!
//! Logits are computed at the masked positions and for the columns of picture codes only. Unless the request's quirks
//! choose the published behaviour, probabilities are f32 in any compute dtype, the temperature falls as T (1 -
//! progress), and the schedule counts from the codes that are masked at the start. Codes that are given (in- and
//! outpainting) stay.

use demask_api::{ImageMethod, ImageSampler, Probabilities, Quirks, Sample, SampleFrame, SampleRequest};
use rand::Rng as _;
use tch::Kind;

use super::draw::{Drawn, Noise, Writable};
use super::forward_request::{Columns, Compute, DrawPosition, ForwardRequest, byte, single};
use super::row::{RowState, SamplingRule};
use super::schedule::{mask_len, mask_ratio};
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;

/// The row of one picture.
#[derive(Debug)]
pub(super) struct ImageRow {
    row: RowState,
    sampler: ImageSampler,
    /// The code of every position; a masked position has the code of its last draw.
    guess: Vec<u32>,
    /// The number of codes that were masked at the start.
    unknown: usize,
    /// The number of codes that the schedule starts from.
    counted: usize,
    /// Whether drawing, ranking and the cut are done in bf16, as published.
    rounds: bool,
    /// The temperature of the current step.
    temperature: f64,
    /// The positions that are drawn at this step, each with a uniform number for the noise of its rank.
    wanted: Vec<(usize, f64)>,
    /// The positions that the last step committed.
    fresh: Vec<usize>,
    /// For each position, the probability of its likeliest code at the last draw.
    certainty: Vec<f32>,
}

impl ImageRow {
    /// Creates the row of a request.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the sampler has no step or the model has no picture codes.
    pub fn new(backbone: &Backbone, request: SampleRequest, sampler: ImageSampler) -> Result<Self> {
        let config = backbone.config();
        if sampler.steps == 0 || config.codebook_size == 0 {
            let message = format!(
                "found {} steps over {} picture codes; both must be at least 1",
                sampler.steps, config.codebook_size
            );
            return Err(ModelError::Refused(message));
        }
        let codes = u32::try_from(config.codebook_size).unwrap_or(0);
        let columns = Columns {
            start: config.image_offset(),
            end: config.image_offset() + codes,
            writable: Writable {
                end: codes,
                shut: None,
            },
        };
        let mut row = RowState::new(backbone, request, columns, 1.0);
        let target = row.target();
        let unknown = target.iter().filter(|&&id| id == row.mask_token).count();
        let quirks = &sampler.quirks;
        let in_logits = quirks.probabilities == Probabilities::Logits;
        let counted = if quirks.count_whole_picture {
            target.len()
        } else {
            unknown
        };
        let (guess, certainty) = (target.to_vec(), vec![0.0; target.len()]);
        row.done = unknown == 0;
        Ok(Self {
            row,
            guess,
            unknown,
            counted,
            rounds: in_logits && backbone.kind() == Kind::BFloat16,
            temperature: sampler.temperature,
            wanted: Vec::new(),
            fresh: Vec::new(),
            certainty,
            sampler,
        })
    }

    fn masked(&self) -> Vec<usize> {
        let target = self.row.target();
        (0..target.len())
            .filter(|&at| target[at] == self.row.mask_token)
            .collect()
    }

    /// Returns the positions that this pass computes, and the masked positions that it draws.
    fn compute(&self) -> (Compute, Vec<usize>) {
        let masked = self.masked();
        let Some(cache) = &self.sampler.cache else {
            return (Compute::All, masked);
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let warm = ((self.sampler.steps as f64 * cache.warmup).ceil() as usize).max(1);
        let whole = self.row.step < warm || (self.row.step - warm + 1).is_multiple_of(cache.interval.max(1));
        if whole {
            return (Compute::All, masked);
        }
        // Between two passes over the whole row, only the least certain codes are drawn. The codes that the last step
        // committed are computed too, because the cache still has their mask tokens.
        let mut unsure = masked;
        unsure.sort_by(|&a, &b| self.certainty[a].total_cmp(&self.certainty[b]).then(a.cmp(&b)));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = ((unsure.len() as f64 * cache.ratio).ceil() as usize).max(1);
        unsure.truncate(count);
        unsure.sort_unstable();
        let mut places: Vec<usize> = unsure.iter().chain(&self.fresh).copied().collect();
        places.sort_unstable();
        let start = self.row.request.target.start;
        (
            Compute::Some(places.iter().map(|at| start + at).collect()),
            unsure,
        )
    }

    /// Commits the current guess at a position, counted from the target's start.
    fn write(&mut self, at: usize) {
        self.row.ids[self.row.request.target.start + at] = self.guess[at];
        self.row.commit_step[at] = u16::try_from(self.row.step).unwrap_or(u16::MAX);
        self.fresh.push(at);
    }

    /// Commits codes by MaskGIT.
    ///
    /// If there is a surprise, it commits the surprise and every code above `accept`. The schedule commits if there is
    /// no surprise, and also if more codes are still masked than it allows after this step.
    fn maskgit(&mut self) {
        let Some(surprise) = self.surprise() else {
            return self.keep_the_surest();
        };
        for at in self.masked() {
            if at == surprise || self.is_sure(at) {
                self.write(at);
            }
        }
        let (left, steps) = (self.masked().len(), self.sampler.steps);
        if left > mask_len(self.sampler.schedule, self.counted, self.row.step, steps).max(1) {
            self.keep_the_surest();
        }
    }

    fn is_sure(&self, at: usize) -> bool {
        let accept = self.sampler.accept;
        accept > 0.0 && f64::from(self.row.confidence[at]) >= accept
    }

    /// Returns the position of the most probable code of this step that is not the likeliest of its position, if its
    /// probability is at least `surprise`.
    fn surprise(&self) -> Option<usize> {
        let least = self.sampler.surprise;
        let against_the_odds = |&at: &usize| {
            self.row.confidence[at] < self.certainty[at] && f64::from(self.row.confidence[at]) >= least
        };
        let drawn = self.wanted.iter().map(|&(at, _)| at).filter(|_| least > 0.0);
        drawn.filter(against_the_odds).max_by(|&a, &b| {
            self.row.confidence[a]
                .total_cmp(&self.row.confidence[b])
                .then(b.cmp(&a))
        })
    }

    /// Commits by the schedule: positions are ranked by log-probability plus Gumbel noise, and the lowest stay masked.
    fn keep_the_surest(&mut self) {
        let step = self.scheduled_step();
        let progress = (step + 1) as f64 / self.sampler.steps as f64;
        let first = if self.sampler.quirks.compounding_temperature {
            self.temperature
        } else {
            self.sampler.temperature
        };
        self.temperature = first * (1.0 - progress);
        let mut chances: Vec<f64> = vec![0.5; self.guess.len()];
        for &(at, chance) in &self.wanted {
            chances[at] = chance;
        }
        let round = |value: f64| if self.rounds { rounded(value) } else { value };
        let mut scores: Vec<(f64, usize)> = self
            .masked()
            .into_iter()
            .map(|at| {
                let log_p = round(round(f64::from(self.row.confidence[at])).max(1e-20).ln());
                let noise = round(-round((-round(chances[at]).max(1e-20).ln()).max(1e-20)).ln());
                (round(log_p + round(self.temperature * noise)), at)
            })
            .collect();
        let wanted = mask_len(self.sampler.schedule, self.counted, step, self.sampler.steps);
        let stay = wanted.max(1).min(scores.len() - 1);
        scores.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        let cut = scores[stay].0;
        let all_of_equals = self.rounds;
        for (rank, (score, at)) in scores.into_iter().enumerate() {
            if rank >= stay || self.is_sure(at) || (all_of_equals && score >= cut) {
                self.write(at);
            }
        }
    }

    /// Returns the step of the schedule that applies now.
    ///
    /// Without `accept` it is the row's step. Codes that were accepted early put the row ahead of the schedule: then it
    /// is the first step at which the schedule leaves as few masked, so that the last codes are drawn at the
    /// temperature that they would have without early acceptance.
    fn scheduled_step(&self) -> usize {
        if self.sampler.accept <= 0.0 {
            return self.row.step;
        }
        let (masked, last) = (self.masked().len(), self.sampler.steps - 1);
        let (mut step, mut left) = (0, self.unknown);
        while step < last && left > masked {
            let wanted = mask_len(self.sampler.schedule, self.counted, step, self.sampler.steps);
            left = wanted.max(1).min(left - 1);
            step += 1;
        }
        step.max(self.row.step)
    }

    /// Commits by ancestral sampling: each masked code with the probability that the schedule gives this step. The last
    /// step commits all.
    fn emerge(&mut self) {
        let at_progress = |step: usize| {
            let progress = step as f64 / self.sampler.steps as f64;
            mask_ratio(self.sampler.schedule, progress)
        };
        let (now, then) = (at_progress(self.row.step), at_progress(self.row.step + 1));
        let leaves = if self.row.step + 1 == self.sampler.steps {
            1.0
        } else {
            (now - then) / now
        };
        let drawn = self.wanted.clone();
        for (at, chance) in drawn {
            if chance < leaves {
                self.write(at);
            }
        }
    }
}

impl SamplingRule for ImageRow {
    fn state(&self) -> &RowState {
        &self.row
    }

    fn guidance(&self) -> f64 {
        self.sampler.guidance
    }

    fn quirks(&self) -> &Quirks {
        &self.sampler.quirks
    }

    fn guess(&self) -> Option<&[u32]> {
        Some(&self.guess)
    }

    fn forward_request(&mut self) -> Option<ForwardRequest> {
        if self.row.done {
            return None;
        }
        self.row.forwards += 1;
        let (compute, positions) = self.compute();
        self.wanted.clear();
        #[allow(clippy::cast_possible_truncation)]
        let wanted = positions
            .into_iter()
            .map(|at| {
                let uniform = self.row.rng.random::<f64>() as f32;
                self.wanted.push((at, self.row.rng.random::<f64>()));
                DrawPosition {
                    at,
                    noise: Noise {
                        temperature: 1.0,
                        uniform,
                    },
                }
            })
            .collect();
        Some(ForwardRequest {
            compute,
            positions: wanted,
        })
    }

    fn take(&mut self, drawn: &[Drawn]) {
        for (&(at, _), drawn) in self.wanted.iter().zip(drawn) {
            self.guess[at] = self.row.columns.start + drawn.token;
            self.row.confidence[at] = single(drawn.probability);
            self.certainty[at] = single(drawn.best);
        }
        self.fresh.clear();
        match self.sampler.method {
            ImageMethod::MaskGit => self.maskgit(),
            ImageMethod::Emerge => self.emerge(),
        }
        self.row.step += 1;
        self.row.done = self.masked().is_empty() || self.row.step == self.sampler.steps;
        if self.row.done {
            for at in self.masked() {
                self.row.commit_step[at] = u16::try_from(self.row.step - 1).unwrap_or(u16::MAX);
            }
        }
    }

    fn unconditional(&self) -> Vec<u32> {
        let start = match self.sampler.quirks.unconditional_prefix {
            0 => self.row.request.target.start,
            prefix => prefix.min(self.row.ids.len()),
        };
        let mut line = self
            .row
            .request
            .unconditional
            .clone()
            .unwrap_or_else(|| self.row.request.ids.clone());
        line[start..].copy_from_slice(&self.row.ids[start..]);
        line
    }

    fn frame(&self) -> SampleFrame {
        let target = self.row.request.target.start..self.row.request.target.end;
        SampleFrame {
            id: self.row.request.id,
            step: self.row.step.saturating_sub(1),
            steps: self.sampler.steps,
            tokens: self.row.ids[target].to_vec(),
            confidence: self.row.confidence.iter().map(|&value| byte(value)).collect(),
            picture: None,
        }
    }

    fn finish(mut self: Box<Self>) -> Sample {
        let target = self.row.request.target.start..self.row.request.target.end;
        self.row.ids[target].copy_from_slice(&self.guess);
        self.row.finish()
    }
}

/// Rounds to the nearest bf16.
fn rounded(value: f64) -> f64 {
    half::bf16::from_f64(value).to_f64()
}
