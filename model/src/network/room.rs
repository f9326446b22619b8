//! How much of a batch goes through the network at one time, worked out from the memory that a GPU has free.
//!
//! Host memory is the operating system's to give, so on a CPU the limits are constants. What is worked out is arithmetic over the
//! network's shape; where it was wrong all the same (another process took the memory), a step that runs out of memory is done
//! again in halves ([`Room::halve`]), with the same sums up to rounding.

use std::cell::Cell;

use demask_api::BackboneConfig;
use tch::{Kind, TchError};

use crate::error::{ModelError, Result};

/// Tokens that one forward pass with gradients takes at most (but always a row).
pub const FORWARD_TOKENS: usize = 16_384;
/// Masked positions whose logits exist at one time, at most.
pub const CHUNK: i64 = 4096;
/// Of the memory that is free what is left alone: fragments, and what libraries take for themselves.
pub(crate) const SPARE: f64 = 0.08;
/// Free memory is known in so many steps of the whole, so that a run that is started again finds the same limits (law L8).
const STEPS: u64 = 32;

/// The limits of one network's training.
#[derive(Clone, Debug)]
pub struct Room {
    forward_tokens: Cell<usize>,
    chunk: Cell<i64>,
    /// Whether they have been worked out.
    known: Cell<bool>,
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
            known: Cell::new(false),
            tried: Cell::new(0),
            pretended: Cell::new(None),
            units: Cell::new(false),
        }
    }
}

/// What of a network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// All weights.
    Whole,
    /// An adapter beside frozen weights.
    Adapter,
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

    /// Works the limits out from `free` of `total` bytes, of which a step takes `aside` for other things than activations,
    /// if that has not been done.
    pub fn work_out(
        &self,
        (free, total): (u64, u64),
        aside: u64,
        config: &BackboneConfig,
        kind: Kind,
        trained: Trained,
    ) {
        if self.known.replace(true) {
            return;
        }
        let step = (total / STEPS).max(1);
        let usable = ((free / step * step) as f64 * (1.0 - SPARE)) as u64;
        let logits = logit_bytes(config, kind);
        let chunk = (total / STEPS / logits).next_power_of_two() / 2;
        let chunk = chunk.clamp(64, CHUNK as u64);
        let left = usable.saturating_sub(aside).saturating_sub(chunk * logits);
        let tokens = left / token_bytes(config, kind, trained).max(1);
        self.chunk.set(chunk as i64);
        self.forward_tokens.set(
            usize::try_from(tokens)
                .unwrap_or(FORWARD_TOKENS)
                .clamp(1, FORWARD_TOKENS),
        );
        tracing::info!(
            "training: forward passes of {} tokens, logits of {chunk} positions at a time; {:.1} of {:.1} GB were free",
            self.forward_tokens(),
            free as f64 / 1e9,
            total as f64 / 1e9,
        );
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

    /// Half of what was tried, after it ran out of memory; false when that was a single row of `longest` tokens or less.
    #[must_use]
    pub fn halve(&self, longest: usize) -> bool {
        let tried = self.tried.replace(0).min(self.forward_tokens());
        if tried <= longest {
            return false;
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

/// Bytes that one token of a forward pass with gradients keeps until its backward pass, at all blocks, and what the block at hand
/// takes beside. As `device/kernels/fused.rs` composes a block: the stream at both norms, the normed and the gained rows where weights are
/// trained or an adapter reads them, the stacked projection (its values are a part of it), turned queries and keys, what
/// attention gives, the gate's both halves, its activation and its product.
#[must_use]
pub fn token_bytes(config: &BackboneConfig, kind: Kind, trained: Trained) -> u64 {
    let (width, hidden) = (config.d_model as u64, config.hidden() as u64);
    let kv = (config.kv_heads() * config.head_dim()) as u64;
    let norm = match trained {
        Trained::Whole => 3 * width,
        Trained::Adapter => 2 * width,
    };
    let block = 2 * norm + (width + 2 * kv) + (width + kv) + width + 4 * hidden;
    // Gradients of the block that the backward pass is at: as much again.
    let numbers = (config.n_layers as u64 + 1) * block + 2 * width;
    numbers * bytes_of(kind) + config.n_layers as u64 * 4 * (config.n_heads as u64 + 2)
}

/// Bytes that one position's logits take while their loss and its gradient are worked out: as they are, in f32, their
/// log-probabilities, and both gradients.
#[must_use]
pub fn logit_bytes(config: &BackboneConfig, kind: Kind) -> u64 {
    config.rows() as u64 * (2 * bytes_of(kind) + 3 * 4)
}

/// Bytes of keys and values of one place at all blocks.
#[must_use]
pub fn place_bytes(config: &BackboneConfig, kind: Kind) -> u64 {
    (2 * config.n_layers * config.kv_heads() * config.head_dim()) as u64 * bytes_of(kind)
}

#[cfg(test)]
mod tests {
    use demask_api::published;

    use super::*;

    fn eight_billion() -> BackboneConfig {
        let config = published::read(r#"{"model_type": "mmada"}"#);
        config.unwrap_or_default()
    }

    #[test]
    fn an_h100_takes_eight_rows_of_lora_and_leaves_room() {
        let config = eight_billion();
        let (total, weights) = (85_000_000_000u64, 16_200_000_000u64);
        let room = Room::default();
        room.work_out(
            (total - weights - 600_000_000, total),
            200_000_000,
            &config,
            Kind::BFloat16,
            Trained::Adapter,
        );
        let tokens = room.forward_tokens();
        assert!(tokens >= 8 * 1024, "{tokens}");
        assert_eq!(room.chunk(), 1024);
        let taken = tokens as u64 * token_bytes(&config, Kind::BFloat16, Trained::Adapter)
            + 1024 * logit_bytes(&config, Kind::BFloat16);
        assert!(taken < total - weights - 600_000_000, "{taken}");
        let eight_rows = 8192 * token_bytes(&config, Kind::BFloat16, Trained::Adapter)
            + 1024 * logit_bytes(&config, Kind::BFloat16)
            + weights;
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
        assert!(!room.halve(900));
    }
}
