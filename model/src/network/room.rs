//! The memory limits of training: how many tokens a forward pass takes, and how many positions have logits at a time.
//!
//! On a GPU the limits are computed from the free memory and the shape of the network (`demask_api::activations`). On a
//! CPU they are constants, because the operating system manages host memory. If the limits prove too high, for example
//! because another process took the memory, a step that runs out of memory is repeated with half as many tokens
//! ([`Room::halve`]), which gives the same sums up to rounding.
//!
//! This file also decides whether the backward pass computes blocks again (`training/recompute.rs`). With
//! `Recompute::Auto`, a GPU recomputes if not even one row of the longest length would fit otherwise, and a CPU
//! recomputes if the batch at hand would not fit.

use std::cell::Cell;

use demask_api::activations::{self, Activations, Trained, logit_bytes};
use demask_api::plan::{LOGITS_AT_ONCE, logits_at_once};
use demask_api::{BackboneConfig, Recompute, memory};
use tch::{Kind, TchError};

use crate::error::{ModelError, Result};

/// The most tokens of one forward pass with gradients, which always takes at least one row.
pub const FORWARD_TOKENS: usize = activations::FORWARD_TOKENS as usize;
/// The most masked positions whose logits exist at one time.
pub const CHUNK: i64 = LOGITS_AT_ONCE as i64;
/// Free memory is rounded down to this fraction of the total, so that a restarted run computes the same limits (law
/// L8).
const STEPS: u64 = 32;

/// The limits of one network's training.
#[derive(Clone, Debug)]
pub struct Room {
    forward_tokens: Cell<usize>,
    chunk: Cell<i64>,
    /// The setting for which the limits were computed; `None` before that.
    known: Cell<Option<Recompute>>,
    /// Whether the backward pass computes blocks again.
    recomputes: Cell<bool>,
    /// On a CPU, the tokens of the largest batch for which `recomputes` was decided.
    settled: Cell<usize>,
    /// The tokens of the largest forward pass since the last halving.
    tried: Cell<usize>,
    /// For tests: the number of tokens beyond which a forward pass fails.
    pretended: Cell<Option<usize>>,
    /// Whether a batch is divided into units, for ranks, rather than among threads.
    units: Cell<bool>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            forward_tokens: Cell::new(FORWARD_TOKENS),
            chunk: Cell::new(CHUNK),
            known: Cell::new(None),
            recomputes: Cell::new(false),
            settled: Cell::new(0),
            tried: Cell::new(0),
            pretended: Cell::new(None),
            units: Cell::new(false),
        }
    }
}

/// The properties of a training run that determine its memory.
#[derive(Clone, Copy, Debug)]
pub struct Learner<'a> {
    /// The configuration of the network.
    pub config: &'a BackboneConfig,
    /// The compute dtype.
    pub kind: Kind,
    /// The part of the network that is trained.
    pub trained: Trained,
    /// The setting for computing blocks again in the backward pass.
    pub recompute: Recompute,
    /// Whether our own kernels compute the network.
    pub kernels: bool,
}

impl Learner<'_> {
    /// Returns the bytes of activations that one token takes.
    fn token_bytes(&self, recomputed: bool) -> u64 {
        let activations = Activations {
            config: self.config,
            number: bytes_of(self.kind),
            trained: self.trained,
            recomputed,
            kernels: self.kernels,
        };
        activations.token_bytes().max(1)
    }
}

impl Room {
    /// Returns the most tokens of a forward pass with gradients, which always takes at least one row.
    #[must_use]
    pub fn forward_tokens(&self) -> usize {
        self.forward_tokens.get()
    }

    /// Makes later steps divide a batch into units, whose number depends on its rows only.
    pub fn cut_in_units(&self) {
        self.units.set(true);
    }

    /// Returns whether a batch is divided into units.
    #[must_use]
    pub fn is_cut_in_units(&self) -> bool {
        self.units.get()
    }

    /// Returns the most masked positions whose logits exist at one time.
    #[must_use]
    pub fn chunk(&self) -> i64 {
        self.chunk.get()
    }

    /// Returns whether the backward pass computes blocks again.
    #[must_use]
    pub fn recomputes(&self) -> bool {
        self.recomputes.get()
    }

    /// Computes the limits for a GPU with `free` of `total` bytes, of which a step takes `aside` bytes besides
    /// activations. Does nothing if they were already computed for the same setting of recomputation.
    pub fn work_out(&self, (free, total): (u64, u64), aside: u64, learner: &Learner<'_>) {
        if self.known.replace(Some(learner.recompute)) == Some(learner.recompute) {
            return;
        }
        let step = (total / STEPS).max(1);
        let usable = memory::usable(free / step * step);
        let logits = logit_bytes(learner.config, bytes_of(learner.kind));
        let chunk = logits_at_once(total, logits);
        let left = usable.saturating_sub(aside).saturating_sub(chunk * logits);
        let longest = learner.config.max_sequence_length as u64;
        let recomputes = match learner.recompute {
            Recompute::Always => true,
            Recompute::Never => false,
            Recompute::Auto => left / learner.token_bytes(false) < longest,
        };
        let tokens = left / learner.token_bytes(recomputes);
        self.recomputes.set(recomputes);
        self.chunk.set(chunk as i64);
        self.forward_tokens.set(
            usize::try_from(tokens)
                .unwrap_or(FORWARD_TOKENS)
                .clamp(1, FORWARD_TOKENS),
        );
        tracing::info!(
            "training: forward passes of {} tokens{}, logits of {chunk} positions at a time; {:.1} of {:.1} GB were free",
            self.forward_tokens(),
            if recomputes {
                ", blocks recomputed in the backward pass"
            } else {
                ""
            },
            free as f64 / 1e9,
            total as f64 / 1e9,
        );
    }

    /// Decides on a CPU whether blocks are computed again, for a batch of which `tokens` tokens are computed at the
    /// same time. The bits of the result do not depend on this, so the decision may depend on the memory that is free
    /// now.
    pub fn settle(&self, tokens: usize, learner: &Learner<'_>) {
        let same = self.known.replace(Some(learner.recompute)) == Some(learner.recompute);
        if same && tokens <= self.settled.get() {
            return;
        }
        self.settled.set(tokens);
        let needed = tokens as u64 * learner.token_bytes(false);
        self.recomputes.set(match learner.recompute {
            Recompute::Always => true,
            Recompute::Never => false,
            Recompute::Auto => memory::free().is_some_and(|free| needed > memory::usable(free)),
        });
        if learner.recompute == Recompute::Auto && self.recomputes() {
            tracing::info!(
                "training: activations of {tokens} tokens would take {:.1} GB, more than is free, so blocks are recomputed in the backward pass",
                needed as f64 / 1e9
            );
        }
    }

    /// Records a forward pass of `tokens` tokens, for [`Self::halve`].
    ///
    /// # Errors
    /// An out-of-memory error, only if a test requested it with `pretend`.
    pub fn admit(&self, tokens: usize) -> Result<()> {
        self.tried.set(self.tried.get().max(tokens));
        match self.pretended.get() {
            Some(most) if tokens > most => Err(ModelError::Torch(TchError::Torch(format!(
                "out of memory: {tokens} tokens, pretended room for {most}"
            )))),
            _ => Ok(()),
        }
    }

    /// Lowers the limits after a step ran out of memory, and returns whether it could.
    ///
    /// The limit of tokens becomes half of the largest pass that was tried, but at least one row of `longest` tokens.
    /// If that pass was already a single row, blocks are computed again from now on, if `Recompute::Auto` allows it.
    #[must_use]
    pub fn halve(&self, longest: usize) -> bool {
        let tried = self.tried.replace(0).min(self.forward_tokens());
        if tried <= longest {
            return self.known.get() == Some(Recompute::Auto) && !self.recomputes.replace(true);
        }
        self.forward_tokens.set((tried / 2).max(longest));
        true
    }

    /// Makes every forward pass of more than `most` tokens fail as if out of memory, for tests.
    #[doc(hidden)]
    pub fn pretend(&self, most: usize) {
        self.pretended.set(Some(most));
    }
}

/// Returns the bytes of one number of a dtype.
pub(crate) fn bytes_of(kind: Kind) -> u64 {
    match kind {
        Kind::Double => 8,
        Kind::Float => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use demask_api::published;

    use super::*;

    fn eight_billion() -> BackboneConfig {
        let config = published::read(r#"{"model_type": "mmada"}"#);
        config.unwrap_or_default()
    }

    fn learner(config: &BackboneConfig, trained: Trained) -> Learner<'_> {
        Learner {
            config,
            kind: Kind::BFloat16,
            trained,
            recompute: Recompute::Auto,
            kernels: false,
        }
    }

    /// With eight billion weights in bf16, their master copy, moments and gradients, 141 GB leave little memory for
    /// activations. Blocks are then computed again, which makes passes of more than one row possible.
    #[test]
    fn blocks_are_computed_again_where_a_row_would_not_fit() {
        let config = eight_billion();
        let learner = learner(&config, Trained::Whole);
        let room = Room::default();
        let left = 22_000_000_000;
        let longest = config.max_sequence_length as u64;
        assert!(left / learner.token_bytes(false) < longest, "{longest}");
        room.work_out((left, 141_000_000_000), 0, &learner);
        assert!(room.recomputes());
        assert!(
            room.forward_tokens() as u64 > longest,
            "{}",
            room.forward_tokens()
        );
        let never = Learner {
            recompute: Recompute::Never,
            ..learner
        };
        room.work_out((left, 141_000_000_000), 0, &never);
        assert!(!room.recomputes());
    }

    #[test]
    fn on_a_cpu_a_batch_that_cannot_fit_is_computed_again() {
        let config = eight_billion();
        let learner = learner(&config, Trained::Whole);
        let room = Room::default();
        room.settle(1, &learner);
        assert!(!room.recomputes());
        room.settle(1 << 40, &learner);
        assert!(room.recomputes());
    }

    #[test]
    fn an_h100_takes_eight_rows_of_lora_and_leaves_room() {
        let config = eight_billion();
        let (total, weights) = (85_000_000_000u64, 16_200_000_000u64);
        let room = Room::default();
        let learner = learner(&config, Trained::Adapter);
        room.work_out((total - weights - 600_000_000, total), 200_000_000, &learner);
        let tokens = room.forward_tokens();
        assert!(tokens >= 8 * 1024, "{tokens}");
        assert_eq!(room.chunk(), 1024);
        assert!(!room.recomputes());
        let taken = tokens as u64 * learner.token_bytes(false) + 1024 * logit_bytes(&config, 2);
        assert!(taken < total - weights - 600_000_000, "{taken}");
        let eight_rows = 8192 * learner.token_bytes(false) + 1024 * logit_bytes(&config, 2) + weights;
        assert!(
            eight_rows + 8_000_000_000 < total,
            "8 GB are to spare: {eight_rows}"
        );
    }

    #[test]
    fn halves_end_at_a_row() {
        let room = Room::default();
        assert!(room.admit(3000).is_ok());
        assert!(room.halve(900));
        assert_eq!(room.forward_tokens(), 1500);
        assert!(room.admit(1400).is_ok());
        assert!(room.halve(900));
        assert_eq!(room.forward_tokens(), 900);
        assert!(room.admit(900).is_ok());
        assert!(
            !room.halve(900),
            "nobody has allowed that blocks are computed again"
        );
        let config = eight_billion();
        room.settle(1, &learner(&config, Trained::Whole));
        assert!(room.admit(900).is_ok());
        assert!(room.halve(900));
        assert!(room.recomputes());
        assert!(!room.halve(900));
    }
}
