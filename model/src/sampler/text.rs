//! The text sampler: semi-autoregressive blocks (`mmada.md` 6.1).
//!
//! A step draws a token at every masked position of the active block and commits the best of them. The request sets how
//! the draws are ranked ([`demask_api::Remasking`]), how many are committed ([`demask_api::Commit`]), which keys and
//! values are kept between passes ([`TextCache`]) and when a text ends early ([`End`]). Logits are computed at the
//! masked positions of the active block only. A confidence is the probability of a token over the whole vocabulary,
//! without temperature.

use std::ops::Range;

use demask_api::{Commit, End, Quirks, Sample, SampleFrame, SampleRequest, TextCache, TextSampler};
use rand::Rng as _;

use super::commit::{Draw, committed, rank};
use super::credit::Credits;
use super::draw::{Drawn, Noise, Writable};
use super::forward_request::{
    Columns, Compute, DrawPosition, ForwardRequest, RemainingCommits, RemainingSteps, byte, single,
};
use super::row::{RowState, SamplingRule};
use super::schedule::transfer_counts;
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;

/// The row of one text.
#[derive(Debug)]
pub(super) struct TextRow {
    row: RowState,
    sampler: TextSampler,
    eos: u32,
    credits: Option<Credits>,
    /// The number of blocks.
    blocks: usize,
    /// The number of steps that the schedule gives each block.
    steps: usize,
    /// The index of the active block.
    block: usize,
    /// For each step of the active block, how many tokens the schedule commits.
    counts: Vec<usize>,
    /// The number of blocks since the last pass over the whole row; `None` before the first such pass.
    since_whole: Option<usize>,
    /// The end of the visible positions at the last pass.
    seen: usize,
    /// For each position, the probability of its last draw, for frames.
    guess: Vec<f32>,
    /// For each position of this step, a uniform number that [`demask_api::Remasking::Random`] ranks by; 0 otherwise.
    chances: Vec<f32>,
    /// The index of the last step, counted over all blocks.
    number: usize,
}

impl TextRow {
    /// Creates the row of a request.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the target or a block is empty, or if the steps cannot be divided evenly among the
    /// blocks.
    pub fn new(backbone: &Backbone, request: SampleRequest, sampler: TextSampler) -> Result<Self> {
        let (blocks, steps) = plan(request.target.len(), &sampler)?;
        let row = RowState::new(backbone, request, columns(backbone, &sampler), 0.0);
        let mut text = Self {
            eos: backbone.config().eos_token_id,
            credits: sampler.credit.map(Credits::new),
            blocks,
            steps,
            block: 0,
            counts: Vec::new(),
            since_whole: None,
            seen: 0,
            guess: row.confidence.clone(),
            chances: Vec::new(),
            number: 0,
            row,
            sampler,
        };
        text.begin();
        text.settle();
        Ok(text)
    }

    /// Returns the positions of the active block, counted from the target's start. The last block may be shorter.
    fn window(&self) -> Range<usize> {
        let end = (self.block + 1) * self.sampler.block;
        self.block * self.sampler.block..end.min(self.row.request.target.len())
    }

    /// Returns the masked positions of the active block, counted from the target's start.
    fn masked(&self) -> Vec<usize> {
        let target = self.row.target();
        self.window()
            .filter(|&at| target[at] == self.row.mask_token)
            .collect()
    }

    /// Returns the masked positions that the next step draws: normally those of the active block.
    ///
    /// With `whole_vocabulary` the sampler may write the mask token itself, and then a finished block still has masks.
    /// As in the published code, later blocks draw these positions again, unless a cache skips them.
    fn drawn(&self) -> Vec<usize> {
        if !self.sampler.quirks.whole_vocabulary || self.sampler.cache != TextCache::None {
            return self.masked();
        }
        let target = self.row.target();
        (0..self.window().end)
            .filter(|&at| target[at] == self.row.mask_token)
            .collect()
    }

    /// Begins the active block.
    fn begin(&mut self) {
        self.row.step = 0;
        self.counts = transfer_counts(self.masked().len(), self.steps);
    }

    /// Moves on to the next block that has a mask, or ends the row. A block ends after its last step even if the
    /// sampler wrote mask tokens there.
    fn settle(&mut self) {
        while !self.row.done && (self.row.step >= self.steps || self.drawn().is_empty()) {
            self.end_block();
            self.block += 1;
            self.since_whole = self.since_whole.map(|blocks| blocks + 1);
            self.row.done |= self.block == self.blocks;
            if !self.row.done {
                self.begin();
            }
        }
    }

    /// Returns the positions that this pass computes.
    fn compute(&mut self) -> Compute {
        let (target, end) = (self.row.request.target, self.visible());
        let seen = std::mem::replace(&mut self.seen, end);
        let from = |at: usize| target.start + at;
        let (window, first) = (self.window(), self.row.step == 0);
        match self.sampler.cache {
            TextCache::None => Compute::All,
            TextCache::Prefix | TextCache::Dual { .. } if !first => Compute::Range(self.again()),
            TextCache::Prefix => Compute::All,
            TextCache::Dual { refresh, vicinity } => {
                if self.since_whole.is_none_or(|blocks| blocks >= refresh) {
                    self.since_whole = Some(0);
                    return Compute::All;
                }
                // The cache lacks the last tokens of the previous block, which its last step committed.
                let start = from(window.start).saturating_sub(self.sampler.block.max(vicinity));
                let range = start.max(self.first_real())..self.again().end;
                // It also lacks the positions that the horizon has just made visible.
                let fresh = seen.max(range.end)..end;
                if fresh.is_empty() {
                    Compute::Range(range)
                } else {
                    Compute::Some(range.chain(fresh).collect())
                }
            }
        }
    }

    /// Returns the first position that is a token, not padding, in the row or in its unconditional half.
    fn first_real(&self) -> usize {
        match self.row.request.left_pad {
            pad if self.sampler.guidance == 0.0 => pad,
            pad => pad.min(self.row.request.unconditional_left_pad),
        }
    }

    /// Returns the positions that every pass of a block except its first computes, when there is a cache.
    fn again(&self) -> Range<usize> {
        let (start, window, end) = (self.row.request.target.start, self.window(), self.visible());
        match self.sampler.cache {
            TextCache::Dual { vicinity, .. } => {
                let first = (start + window.start).saturating_sub(vicinity);
                first.max(self.first_real())..(start + window.end).saturating_add(vicinity).min(end)
            }
            _ => start + window.start..end,
        }
    }

    /// Commits a token at a position, counted from the target's start.
    fn write(&mut self, at: usize, token: u32, confidence: f32) {
        self.row.ids[self.row.request.target.start + at] = token;
        self.row.commit_step[at] = u16::try_from(self.number).unwrap_or(u16::MAX);
        self.row.confidence[at] = confidence;
        if let Some(credits) = &mut self.credits {
            credits.forget(at);
        }
    }

    /// Ends the text if the whole active block is end-of-text ([`End::Block`]).
    fn end_block(&mut self) {
        let window = self.window();
        let ends = self.sampler.end == End::Block && !self.sampler.quirks.whole_vocabulary;
        if ends && self.row.target()[window.clone()].iter().all(|&id| id == self.eos) {
            self.number = (self.block + 1) * self.steps - 1;
            self.fill(window.end);
        }
    }

    /// Ends the text at an end-of-text with no mask before it and at least the threshold's confidence ([`End::Token`]).
    fn end_at_token(&mut self) {
        let End::Token { threshold } = self.sampler.end else {
            return;
        };
        let first = |id: u32| self.row.target().iter().position(|&found| found == id);
        let (Some(end), mask) = (first(self.eos), first(self.row.mask_token)) else {
            return;
        };
        let sure = f64::from(self.row.confidence[end]) >= threshold;
        if sure && mask.is_none_or(|mask| mask > end) {
            self.fill(end + 1);
        }
    }

    /// Fills every masked position from `start` on with end-of-text.
    fn fill(&mut self, start: usize) {
        for at in start..self.row.request.target.len() {
            if self.row.target()[at] == self.row.mask_token {
                self.write(at, self.eos, 1.0);
            }
        }
        self.row.done = true;
    }
}

impl SamplingRule for TextRow {
    fn state(&self) -> &RowState {
        &self.row
    }

    fn guidance(&self) -> f64 {
        self.sampler.guidance
    }

    fn quirks(&self) -> &Quirks {
        &self.sampler.quirks
    }

    fn visible(&self) -> usize {
        let horizon = self.sampler.horizon.unwrap_or(self.row.ids.len());
        (self.row.request.target.start + self.window().end)
            .saturating_add(horizon)
            .min(self.row.ids.len())
    }

    fn forward_request(&mut self) -> Option<ForwardRequest> {
        if self.row.done {
            return None;
        }
        let compute = self.compute();
        self.row.forwards += 1;
        let masked = self.drawn();
        let warm = self.sampler.temperature > 0.0;
        let by_chance = self.sampler.remasking == demask_api::Remasking::Random;
        self.chances.clear();
        #[allow(clippy::cast_possible_truncation)]
        let wanted = masked
            .into_iter()
            .map(|at| {
                let uniform = if warm {
                    self.row.rng.random::<f64>() as f32
                } else {
                    0.0
                };
                self.chances.push(if by_chance {
                    self.row.rng.random::<f64>() as f32
                } else {
                    0.0
                });
                DrawPosition {
                    at,
                    noise: Noise {
                        temperature: self.sampler.temperature as f32,
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
        let masked = self.drawn();
        self.number = match self.sampler.commit {
            Commit::Schedule => self.block * self.steps + self.row.step,
            _ => self.row.forwards - 1,
        };
        let draws: Vec<Draw> = masked
            .iter()
            .zip(drawn)
            .zip(&self.chances)
            .map(|((&at, drawn), &chance)| Draw {
                at,
                token: self.row.columns.start + drawn.token,
                probability: drawn.probability,
                rank: rank(self.sampler.remasking, drawn, chance),
            })
            .collect();
        for draw in &draws {
            self.guess[draw.at] = single(draw.probability);
        }
        let scheduled = self.counts.get(self.row.step).copied().unwrap_or(0);
        for draw in committed(self.sampler.commit, scheduled, &draws) {
            self.write(draw.at, draw.token, single(draw.probability));
        }
        self.row.step += 1;
        self.end_at_token();
        self.settle();
    }

    fn unconditional(&self) -> Vec<u32> {
        let target = self.row.request.target.start..self.row.request.target.end;
        match &self.row.request.unconditional {
            Some(given) => {
                let mut line = given.clone();
                line[target.clone()].copy_from_slice(&self.row.ids[target]);
                line
            }
            None => {
                let mut line = vec![self.row.mask_token; self.row.ids.len()];
                line[target.clone()].copy_from_slice(&self.row.ids[target]);
                line
            }
        }
    }

    fn frame(&self) -> SampleFrame {
        let steps = match self.sampler.commit {
            Commit::Schedule => self.blocks * self.steps,
            _ => self.row.request.target.len(),
        };
        SampleFrame {
            id: self.row.request.id,
            step: self.number,
            steps,
            tokens: self.row.target().to_vec(),
            confidence: self.guess.iter().map(|&value| byte(value)).collect(),
            picture: None,
        }
    }

    fn finish(self: Box<Self>) -> Sample {
        self.row.finish()
    }

    fn remaining_steps(&self) -> Option<RemainingSteps> {
        let sampler = &self.sampler;
        let renewed = matches!(
            sampler.cache,
            TextCache::Prefix | TextCache::Dual { refresh: 1, .. }
        );
        let kept = renewed && self.row.step > 0 && !self.row.done;
        let cold = sampler.temperature <= 0.0 && sampler.guidance == 0.0 && self.credits.is_none();
        let ranked = sampler.remasking == demask_api::Remasking::LowConfidence;
        let watched = self.row.request.watch || sampler.quirks.whole_vocabulary;
        if !(kept && cold && ranked) || watched {
            return None;
        }
        let counts = self
            .counts
            .get(self.row.step..)
            .unwrap_or_default()
            .iter()
            .copied();
        Some(RemainingSteps {
            computed: self.again(),
            window: self.row.request.target.start + self.window().start
                ..self.row.request.target.start + self.window().end,
            block: self.block,
            taken: self.row.step,
            masked: self.masked().len(),
            commits: match sampler.commit {
                Commit::Schedule => RemainingCommits::Counts(counts.take_while(|&count| count > 0).collect()),
                Commit::Threshold { threshold } => RemainingCommits::Threshold(threshold),
                Commit::Factor { .. } | Commit::Hierarchical { .. } => return None,
            },
        })
    }

    fn replay(
        &mut self,
        remaining: &RemainingSteps,
        steps: &mut dyn Iterator<Item = &[Drawn]>,
    ) -> Option<usize> {
        for drawn in steps {
            let taken = self.row.step;
            let request = self.forward_request()?;
            let first = remaining.window.start - self.row.request.target.start;
            let own: Vec<Drawn> = request
                .positions
                .iter()
                .map(|want| drawn[want.at - first])
                .collect();
            self.take(&own);
            if self.row.done || self.block != remaining.block {
                return Some(taken + 1);
            }
        }
        None
    }

    fn has_credits(&self) -> bool {
        self.credits.is_some()
    }

    fn raises(&mut self, guesses: &[Drawn]) -> Vec<Vec<(u32, f32)>> {
        let masked = self.drawn();
        let Some(credits) = &mut self.credits else {
            return Vec::new();
        };
        let raised = masked.iter().zip(guesses).map(|(&at, guess)| {
            credits.earn(at, guess.token, guess.probability);
            credits.raises(at).collect()
        });
        raised.collect()
    }
}

/// Returns the number of blocks and of steps for each. Without a schedule, a block has at most as many steps as tokens.
fn plan(length: usize, sampler: &TextSampler) -> Result<(usize, usize)> {
    if sampler.block == 0 || length == 0 {
        let message = format!(
            "found blocks of {} tokens in a text of {length}; both must be at least 1",
            sampler.block
        );
        return Err(ModelError::Refused(message));
    }
    let blocks = length.div_ceil(sampler.block);
    if sampler.commit != Commit::Schedule {
        return Ok((blocks, sampler.block));
    }
    if sampler.steps == 0 || !sampler.steps.is_multiple_of(blocks) {
        let message = format!(
            "{} steps cannot be divided evenly among {blocks} blocks",
            sampler.steps
        );
        return Err(ModelError::Refused(message));
    }
    Ok((blocks, sampler.steps / blocks))
}

/// Returns the columns of a text row: logits for the whole vocabulary, and as writable either text without the mask
/// token, or everything (`whole_vocabulary`, as published).
fn columns(backbone: &Backbone, sampler: &TextSampler) -> Columns {
    let config = backbone.config();
    let rows = u32::try_from(config.rows()).unwrap_or(u32::MAX);
    let pictures = config.codebook_size > 0;
    let text = Writable {
        end: if pictures { config.image_offset() } else { rows },
        shut: Some(config.mask_token_id),
    };
    let all = Writable {
        end: rows,
        shut: None,
    };
    Columns {
        start: 0,
        end: rows,
        writable: if sampler.quirks.whole_vocabulary {
            all
        } else {
            text
        },
    }
}
