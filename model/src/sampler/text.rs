//! Text by semi-autoregressive blocks: draw every masked position of the active block, commit the best (`mmada.md` 6.1).
//!
//! What ranks first ([`demask_api::Remasking`]), how many are committed ([`demask_api::Commit`]), what is kept between passes
//! ([`TextCache`]) and when a text is done ([`End`]) are settings of the request. Logits are wanted at the masked positions
//! of the active block only. A confidence is a token's probability without temperature over the whole vocabulary.

use std::ops::Range;

use demask_api::{Commit, End, Sample, SampleFrame, SampleRequest, TextCache, TextSampler};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::commit::{Draw, committed, rank};
use super::credit::Credits;
use super::draw::{Drawn, Noise, Writable};
use super::forward_request::{Columns, Compute, Need, Want, byte, single};
use super::schedule::transfer_counts;
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::training::mask_sampling::row_rng;

/// The steps that are left of a block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Steady {
    /// Places of the row that each computes, padding and all.
    pub computed: Range<usize>,
    /// The block's.
    pub window: Range<usize>,
    /// Its number.
    pub block: usize,
    /// Steps that it has taken.
    pub taken: usize,
    /// How many of its positions are masked.
    pub masked: usize,
    /// What it commits.
    pub rule: Rule,
}

/// How many are committed at each step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rule {
    /// As many as the schedule says, step by step.
    Counts(Vec<usize>),
    /// The surest and all that are at least so probable.
    Threshold(f64),
}

/// One text on its way.
#[derive(Debug)]
pub(super) struct TextLane {
    pub request: SampleRequest,
    pub sampler: TextSampler,
    pub columns: Columns,
    pub ids: Vec<u32>,
    mask_token: u32,
    eos: u32,
    rng: ChaCha8Rng,
    credits: Option<Credits>,
    blocks: usize,
    /// Steps that the schedule gives a block.
    steps: usize,
    block: usize,
    /// Steps taken in the active block.
    step: usize,
    /// How many the schedule commits at each of them.
    counts: Vec<usize>,
    /// Blocks begun since the last whole pass; none before the first.
    since_whole: Option<usize>,
    /// Where the row ended for the last pass.
    seen: usize,
    commit_step: Vec<u16>,
    confidence: Vec<f32>,
    guess: Vec<f32>,
    /// The rank by chance of each position drawn at this step.
    chances: Vec<f32>,
    forwards: usize,
    number: usize,
    pub done: bool,
}

impl TextLane {
    pub fn new(backbone: &Backbone, request: SampleRequest, sampler: TextSampler) -> Result<Self> {
        let config = backbone.config();
        let length = request.target.len();
        let (blocks, steps) = plan(length, &sampler)?;
        let mut lane = Self {
            columns: columns(backbone, &sampler),
            ids: request.ids.clone(),
            mask_token: config.mask_token_id,
            eos: config.eos_token_id,
            rng: row_rng(request.seed, 0),
            credits: sampler.credit.map(Credits::new),
            blocks,
            steps,
            block: 0,
            step: 0,
            counts: Vec::new(),
            since_whole: None,
            seen: 0,
            commit_step: vec![0; length],
            confidence: vec![0.0; length],
            guess: vec![0.0; length],
            chances: Vec::new(),
            forwards: 0,
            number: 0,
            done: false,
            request,
            sampler,
        };
        lane.begin();
        lane.settle();
        Ok(lane)
    }

    /// The active block; the last may be shorter than the others.
    fn window(&self) -> Range<usize> {
        let end = (self.block + 1) * self.sampler.block;
        self.block * self.sampler.block..end.min(self.request.target.len())
    }

    /// Where the row ends for the network: all that lies beyond the horizon is not there yet.
    pub fn visible(&self) -> usize {
        let horizon = self.sampler.horizon.unwrap_or(self.ids.len());
        (self.request.target.start + self.window().end)
            .saturating_add(horizon)
            .min(self.ids.len())
    }

    fn target(&self) -> &[u32] {
        &self.ids[self.request.target.start..self.request.target.end]
    }

    /// The masked positions of the active block, counted from the target's start.
    fn masked(&self) -> Vec<usize> {
        let target = self.target();
        self.window()
            .filter(|&at| target[at] == self.mask_token)
            .collect()
    }

    /// The masked positions that are drawn: those of the active block. A sampler that may write the mask token leaves some
    /// masked, and as published they are drawn again with the blocks behind, where no cache stands in the way.
    fn drawn(&self) -> Vec<usize> {
        if !self.sampler.quirks.whole_vocabulary || self.sampler.cache != TextCache::None {
            return self.masked();
        }
        let target = self.target();
        (0..self.window().end)
            .filter(|&at| target[at] == self.mask_token)
            .collect()
    }

    fn begin(&mut self) {
        self.step = 0;
        self.counts = transfer_counts(self.masked().len(), self.steps);
    }

    /// Goes on to the next block that has a mask, or ends. A mask token that was written does not hold a block up.
    fn settle(&mut self) {
        while !self.done && (self.step >= self.steps || self.drawn().is_empty()) {
            self.end_block();
            self.block += 1;
            self.since_whole = self.since_whole.map(|blocks| blocks + 1);
            self.done |= self.block == self.blocks;
            if !self.done {
                self.begin();
            }
        }
    }

    pub fn need(&mut self) -> Option<Need> {
        if self.done {
            return None;
        }
        let compute = self.compute();
        self.forwards += 1;
        let masked = self.drawn();
        let warm = self.sampler.temperature > 0.0;
        let by_chance = self.sampler.remasking == demask_api::Remasking::Random;
        self.chances.clear();
        #[allow(clippy::cast_possible_truncation)]
        let wants = masked
            .into_iter()
            .map(|at| {
                let share = if warm {
                    self.rng.random::<f64>() as f32
                } else {
                    0.0
                };
                self.chances.push(if by_chance {
                    self.rng.random::<f64>() as f32
                } else {
                    0.0
                });
                Want {
                    at,
                    noise: Noise {
                        temperature: self.sampler.temperature as f32,
                        share,
                    },
                }
            })
            .collect();
        Some(Need { compute, wants })
    }

    /// What this pass computes.
    fn compute(&mut self) -> Compute {
        let (target, end) = (self.request.target, self.visible());
        let seen = std::mem::replace(&mut self.seen, end);
        let from = |at: usize| target.start + at;
        let (window, first) = (self.window(), self.step == 0);
        match self.sampler.cache {
            TextCache::None => Compute::All,
            TextCache::Prefix | TextCache::Dual { .. } if !first => Compute::Range(self.again()),
            TextCache::Prefix => Compute::All,
            TextCache::Dual { refresh, vicinity } => {
                if self.since_whole.is_none_or(|blocks| blocks >= refresh) {
                    self.since_whole = Some(0);
                    return Compute::All;
                }
                // The tokens that ended the block before are not in the cache yet.
                let start = from(window.start).saturating_sub(self.sampler.block.max(vicinity));
                let range = start.max(self.first_real())..self.again().end;
                // So are those that have come into sight.
                let fresh = seen.max(range.end)..end;
                if fresh.is_empty() {
                    Compute::Range(range)
                } else {
                    Compute::Some(range.chain(fresh).collect())
                }
            }
        }
    }

    fn first_real(&self) -> usize {
        match self.request.left_pad {
            pad if self.sampler.guidance == 0.0 => pad,
            pad => pad.min(self.request.unconditional_left_pad),
        }
    }

    /// What every pass but a block's first computes, where something is kept.
    fn again(&self) -> Range<usize> {
        let (start, window, end) = (self.request.target.start, self.window(), self.visible());
        match self.sampler.cache {
            TextCache::Dual { vicinity, .. } => {
                let first = (start + window.start).saturating_sub(vicinity);
                first.max(self.first_real())..(start + window.end).saturating_add(vicinity).min(end)
            }
            _ => start + window.start..end,
        }
    }

    /// What the steps that are left of the active block do, if a device can do them without asking: the same places are
    /// computed each time, nothing is left to chance, and what is committed follows from how sure the model is. And the
    /// next block begins with a whole pass, so that a step too many leaves nothing behind.
    pub fn steady(&self) -> Option<Steady> {
        let sampler = &self.sampler;
        let renewed = matches!(
            sampler.cache,
            TextCache::Prefix | TextCache::Dual { refresh: 1, .. }
        );
        let kept = renewed && self.step > 0 && !self.done;
        let cold = sampler.temperature <= 0.0 && sampler.guidance == 0.0 && self.credits.is_none();
        let ranked = sampler.remasking == demask_api::Remasking::LowConfidence;
        let watched = self.request.watch || sampler.quirks.whole_vocabulary;
        if !(kept && cold && ranked) || watched {
            return None;
        }
        let counts = self.counts.get(self.step..).unwrap_or_default().iter().copied();
        Some(Steady {
            computed: self.again(),
            window: self.request.target.start + self.window().start
                ..self.request.target.start + self.window().end,
            block: self.block,
            taken: self.step,
            masked: self.masked().len(),
            rule: match sampler.commit {
                Commit::Schedule => Rule::Counts(counts.take_while(|&count| count > 0).collect()),
                Commit::Threshold { threshold } => Rule::Threshold(threshold),
                Commit::Factor { .. } | Commit::Hierarchical { .. } => return None,
            },
        })
    }

    /// Takes in what was drawn at every position of the block in such steps, as far as the block goes; gives
    /// how many steps the block took if that is its end.
    pub fn replay<'d>(&mut self, steady: &Steady, steps: impl Iterator<Item = &'d [Drawn]>) -> Option<usize> {
        for drawn in steps {
            let taken = self.step;
            let need = self.need()?;
            let first = steady.window.start - self.request.target.start;
            let own: Vec<Drawn> = need.wants.iter().map(|want| drawn[want.at - first]).collect();
            self.take(&own);
            if self.done || self.block != steady.block {
                return Some(taken + 1);
            }
        }
        None
    }

    /// Whether its logits are raised by credits.
    pub fn has_credits(&self) -> bool {
        self.credits.is_some()
    }

    /// Takes the present guess for each want into account; gives what each want's logits are raised by, token by token.
    pub fn raises(&mut self, guesses: &[Drawn]) -> Vec<Vec<(u32, f32)>> {
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

    /// Takes what was drawn for each want.
    pub fn take(&mut self, drawn: &[Drawn]) {
        let masked = self.drawn();
        self.number = match self.sampler.commit {
            Commit::Schedule => self.block * self.steps + self.step,
            _ => self.forwards - 1,
        };
        let draws: Vec<Draw> = masked
            .iter()
            .zip(drawn)
            .zip(&self.chances)
            .map(|((&at, drawn), &chance)| Draw {
                at,
                token: self.columns.start + drawn.token,
                probability: drawn.probability,
                rank: rank(self.sampler.remasking, drawn, chance),
            })
            .collect();
        for draw in &draws {
            self.guess[draw.at] = single(draw.probability);
        }
        let scheduled = self.counts.get(self.step).copied().unwrap_or(0);
        for draw in committed(self.sampler.commit, scheduled, &draws) {
            self.write(draw.at, draw.token, single(draw.probability));
        }
        self.step += 1;
        self.end_at_token();
        self.settle();
    }

    fn write(&mut self, at: usize, token: u32, confidence: f32) {
        self.ids[self.request.target.start + at] = token;
        self.commit_step[at] = u16::try_from(self.number).unwrap_or(u16::MAX);
        self.confidence[at] = confidence;
        if let Some(credits) = &mut self.credits {
            credits.forget(at);
        }
    }

    /// A block of nothing but end-of-text has nothing behind it.
    fn end_block(&mut self) {
        let window = self.window();
        let ends = self.sampler.end == End::Block && !self.sampler.quirks.whole_vocabulary;
        if ends && self.target()[window.clone()].iter().all(|&id| id == self.eos) {
            self.number = (self.block + 1) * self.steps - 1;
            self.fill(window.end);
        }
    }

    /// A sure end-of-text with no mask before it has nothing behind it.
    fn end_at_token(&mut self) {
        let End::Token { threshold } = self.sampler.end else {
            return;
        };
        let first = |id: u32| self.target().iter().position(|&found| found == id);
        let (Some(end), mask) = (first(self.eos), first(self.mask_token)) else {
            return;
        };
        let sure = f64::from(self.confidence[end]) >= threshold;
        if sure && mask.is_none_or(|mask| mask > end) {
            self.fill(end + 1);
        }
    }

    /// Fills what is masked from `start` on with end-of-text.
    fn fill(&mut self, start: usize) {
        for at in start..self.request.target.len() {
            if self.target()[at] == self.mask_token {
                self.write(at, self.eos, 1.0);
            }
        }
        self.done = true;
    }

    /// The given unconditional row with the present target, or the present one with its prompt masked.
    pub fn unconditional(&self) -> Vec<u32> {
        let target = self.request.target.start..self.request.target.end;
        match &self.request.unconditional {
            Some(given) => {
                let mut line = given.clone();
                line[target.clone()].copy_from_slice(&self.ids[target]);
                line
            }
            None => {
                let mut line = vec![self.mask_token; self.ids.len()];
                line[target.clone()].copy_from_slice(&self.ids[target]);
                line
            }
        }
    }

    pub fn frame(&self) -> SampleFrame {
        let steps = match self.sampler.commit {
            Commit::Schedule => self.blocks * self.steps,
            _ => self.request.target.len(),
        };
        SampleFrame {
            id: self.request.id,
            step: self.number,
            steps,
            tokens: self.target().to_vec(),
            confidence: self.guess.iter().map(|&value| byte(value)).collect(),
            picture: None,
        }
    }

    pub fn finish(self) -> Sample {
        Sample {
            id: self.request.id,
            ids: self.ids,
            commit_step: self.commit_step,
            confidence: self.confidence,
            forwards: self.forwards,
            picture: None,
        }
    }
}

/// Blocks, and steps that the schedule gives each.
fn plan(length: usize, sampler: &TextSampler) -> Result<(usize, usize)> {
    if sampler.block == 0 || length == 0 {
        let message = format!(
            "blocks of {} tokens in a text of {length}: expected at least 1 of each",
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
            "{} steps cannot be divided among {blocks} blocks evenly",
            sampler.steps
        );
        return Err(ModelError::Refused(message));
    }
    Ok((blocks, sampler.steps / blocks))
}

/// All; text alone may be written, and no mask token; or everything as published.
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
