//! How much of a batch goes through the network at one time, worked out from the memory that a GPU has free.
//!
//! Host memory is the operating system's to give, so on a CPU the limits are constants. What is worked out is arithmetic over the
//! network's shape (`demask_api::activations`); where it was wrong all the same (another process took the memory), a step that runs
//! out of memory is done again in halves ([`Room::halve`]), with the same sums up to rounding.
//!
//! Here it is also settled whether blocks are computed again in the backward pass (`training/recompute.rs`): where that is left open,
//! on a GPU when otherwise not even one row of the longest would fit, on a CPU when the batch at hand would not.

use std::cell::Cell;

use demask_api::activations::{self, Activations, Trained, logit_bytes};
use demask_api::{BackboneConfig, Recompute, memory};
use tch::{Kind, TchError};

use crate::error::{ModelError, Result};

/// Tokens that one forward pass with gradients takes at most (but always a row).
pub const FORWARD_TOKENS: usize = activations::FORWARD_TOKENS as usize;
/// Masked positions whose logits exist at one time, at most.
pub const CHUNK: i64 = demask_api::plan::LOGITS_AT_ONCE as i64;
/// Of the memory that is free what is left alone: fragments, and what libraries take for themselves.
pub(crate) const SPARE: f64 = 0.08;
/// Free memory is known in so many steps of the whole, so that a run that is started again finds the same limits (law L8).
const STEPS: u64 = 32;

/// The limits of one network's training.
#[derive(Clone, Debug)]
pub struct Room {
    forward_tokens: Cell<usize>,
    chunk: Cell<i64>,
    /// Whether they have been worked out, and for which choice.
    known: Cell<Option<Recompute>>,
    /// Whether blocks are computed again in the backward pass.
    recomputes: Cell<bool>,
    /// Tokens of the largest batch that this was settled for, on a CPU.
    settled: Cell<usize>,
    /// Tokens of the largest forward pass since the last halving.
    tried: Cell<usize>,
    /// Tokens beyond which a forward pass is to fail; a test's.
    pretended: Cell<Option<usize>>,
    /// Whether a batch is cut into units, for ranks, rather than by threads.
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

/// What is trained, and in what.
#[derive(Clone, Copy, Debug)]
pub struct Learner<'a> {
    /// The network's shape.
    pub config: &'a BackboneConfig,
    /// What it computes in.
    pub kind: Kind,
    /// What of it is trained.
    pub trained: Trained,
    /// Whether blocks are computed again in the backward pass.
    pub recompute: Recompute,
    /// Whether our own kernels compute it.
    pub kernels: bool,
}

impl Learner<'_> {
    /// Bytes of one token.
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
    /// Tokens that a forward pass with gradients takes at most (but always a row).
    #[must_use]
    pub fn forward_tokens(&self) -> usize {
        self.forward_tokens.get()
    }

    /// From here on a batch is cut into units, whose number follows from its rows alone.
    pub fn cut_in_units(&self) {
        self.units.set(true);
    }

    /// Whether a batch is cut into units.
    #[must_use]
    pub fn is_cut_in_units(&self) -> bool {
        self.units.get()
    }

    /// Masked positions whose logits exist at one time.
    #[must_use]
    pub fn chunk(&self) -> i64 {
        self.chunk.get()
    }

    /// Whether blocks are computed again in the backward pass.
    #[must_use]
    pub fn recomputes(&self) -> bool {
        self.recomputes.get()
    }

    /// Works the limits out from `free` of `total` bytes, of which a step takes `aside` for other things than activations,
    /// if that has not been done.
    pub fn work_out(&self, (free, total): (u64, u64), aside: u64, learner: &Learner<'_>) {
        if self.known.replace(Some(learner.recompute)) == Some(learner.recompute) {
            return;
        }
        let step = (total / STEPS).max(1);
        let usable = ((free / step * step) as f64 * (1.0 - SPARE)) as u64;
        let logits = logit_bytes(learner.config, bytes_of(learner.kind));
        let chunk = (total / STEPS / logits).next_power_of_two() / 2;
        let chunk = chunk.clamp(64, CHUNK as u64);
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
                ", blocks computed again in the backward pass"
            } else {
                ""
            },
            free as f64 / 1e9,
            total as f64 / 1e9,
        );
    }

    /// Settles on a CPU whether blocks are computed again, for a batch of so many tokens that is done at one time. Bits do not depend
    /// on it, so that what is free may.
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
            Recompute::Auto => memory::free().is_some_and(|free| needed as f64 > free as f64 * (1.0 - SPARE)),
        });
        if learner.recompute == Recompute::Auto && self.recomputes() {
            tracing::info!(
                "training: activations of {tokens} tokens would take {:.1} GB, more than is free: blocks are computed again in the backward pass",
                needed as f64 / 1e9
            );
        }
    }

    /// Takes a forward pass of so many tokens in.
    ///
    /// # Errors
    /// Only where a test pretends that there is no memory for it.
    pub fn admit(&self, tokens: usize) -> Result<()> {
        self.tried.set(self.tried.get().max(tokens));
        match self.pretended.get() {
            Some(most) if tokens > most => Err(ModelError::Torch(TchError::Torch(format!(
                "out of memory: {tokens} tokens, pretended room for {most}"
            )))),
            _ => Ok(()),
        }
    }

    /// Half of what was tried, after it ran out of memory. Where that was a single row of `longest` tokens or less, blocks are computed
    /// again from now on; false when they were already, or must not be.
    #[must_use]
    pub fn halve(&self, longest: usize) -> bool {
        let tried = self.tried.replace(0).min(self.forward_tokens());
        if tried <= longest {
            return self.known.get() == Some(Recompute::Auto) && !self.recomputes.replace(true);
        }
        self.forward_tokens.set((tried / 2).max(longest));
        true
    }

    /// Lets every forward pass of more tokens fail as if there were no memory for it: for tests.
    #[doc(hidden)]
    pub fn pretend(&self, most: usize) {
        self.pretended.set(Some(most));
    }
}

/// Bytes of one number.
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

    /// Eight billion weights in bf16 beside their master, moments and gradients: of 141 GB little is left for activations, which are
    /// computed again then, and a batch of some size goes through after all.
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
