//! The memory of activations, computed from the configuration of a backbone: the bytes of one token in training, of one
//! masked position's logits and of one place in the KV cache. The engine chooses the size of its micro-batches by it,
//! and `demask plan` predicts the memory of a run.

use crate::network::config::BackboneConfig;

/// The most tokens of one forward pass with gradients, which always takes at least one row.
pub const FORWARD_TOKENS: u64 = 16_384;
/// The most operations of a micro-batch of a policy step on a CPU.
const OPERATIONS: u64 = 70_000_000_000;
/// The least tokens of such a micro-batch. Fewer would make the matrix products inefficient.
const LEAST_TOKENS: u64 = 512;

/// Returns the tokens of a micro-batch of a policy step on a CPU, for a network with this many parameters.
///
/// A micro-batch takes about a second of one core, with two operations per weight and token forward and four backward,
/// because a user's question is answered between two micro-batches (law L10).
#[must_use]
pub fn policy_tokens(parameters: u64) -> u64 {
    (OPERATIONS / (6 * parameters).max(1)).max(LEAST_TOKENS)
}

/// The part of a network that is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// All weights.
    Whole,
    /// An adapter beside frozen weights.
    Adapter,
}

/// The properties of a training run that determine the memory of its activations.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// The configuration of the backbone.
    pub config: &'a BackboneConfig,
    /// The bytes of one number.
    pub number: u64,
    /// The part that is trained.
    pub trained: Trained,
    /// Whether the backward pass computes blocks again, so that only their inputs are kept.
    pub recomputed: bool,
    /// Whether our own kernels compute the network (on a CPU, in f32 or bf16). They keep less than libtorch's
    /// operators.
    pub kernels: bool,
}

impl Activations<'_> {
    /// Returns how many numbers of one token a block keeps until its backward pass.
    ///
    /// libtorch's operators, as the model's `fused.rs` composes them, keep the residual stream at both norms; the rows
    /// before and after the gain of a norm, if weights are trained or an adapter reads them; the stacked projection,
    /// which contains the values; the rotated queries and keys; the output of attention; and both halves of the gate,
    /// its activation and its product. Our kernels keep neither normalised rows nor the projection nor the activation,
    /// but the queries, keys and values of all heads.
    fn block_numbers(&self) -> u64 {
        let (width, hidden) = (self.config.d_model as u64, self.config.hidden() as u64);
        let kv = (self.config.kv_heads() * self.config.head_dim()) as u64;
        if self.kernels {
            return 2 * 2 * width + 3 * width + width + 3 * hidden;
        }
        let norm = match self.trained {
            Trained::Whole => 3 * width,
            Trained::Adapter => 2 * width,
        };
        2 * norm + (width + 2 * kv) + (width + kv) + width + 4 * hidden
    }

    /// Returns the number of blocks whose activations exist at the same time.
    fn blocks(&self) -> u64 {
        if self.recomputed {
            1
        } else {
            self.config.n_layers as u64
        }
    }

    /// Returns the bytes that one token of a forward pass with gradients takes: what all blocks keep until the backward
    /// pass, and the gradients of the block that is computed.
    #[must_use]
    pub fn token_bytes(&self) -> u64 {
        let (width, block) = (self.config.d_model as u64, self.block_numbers());
        // The sums of softmax and of both norms, in f32.
        let sums = self.blocks() * 4 * (self.config.n_heads as u64 + 2);
        // The inputs of the blocks and the output of the last; the incoming gradient, and twice the stream that it is
        // multiplied with.
        let inputs = if self.recomputed {
            (self.config.n_layers as u64 + 1) * width + 3 * width
        } else {
            2 * width
        };
        // The gradients of the current block take as much as its activations.
        let numbers = (self.blocks() + 1) * block + inputs;
        numbers * self.number + sums
    }

    /// Returns the bytes of the attention probabilities of one row of `length` tokens, which the kernels keep for short
    /// rows, and of their gradients at the current block.
    #[must_use]
    pub fn probability_bytes(&self, length: u64) -> u64 {
        if !self.kernels || length > KERNEL_LENGTH {
            return 0;
        }
        (self.blocks() + 2) * self.config.n_heads as u64 * length * length * self.number
    }
}

/// The longest row whose attention our CPU kernels compute.
pub const KERNEL_LENGTH: u64 = 256;

/// Returns the bytes that the logits of one position take in the loss and its gradient: the logits, their f32 copy,
/// their log-probabilities, and both gradients.
#[must_use]
pub fn logit_bytes(config: &BackboneConfig, number: u64) -> u64 {
    config.rows() as u64 * (2 * number + 3 * 4)
}

/// Returns the bytes of the keys and values of one place at all blocks.
#[must_use]
pub fn place_bytes(config: &BackboneConfig, number: u64) -> u64 {
    (2 * config.n_layers * config.kv_heads() * config.head_dim()) as u64 * number
}
