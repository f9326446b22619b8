//! How much memory a batch takes on its way through a backbone that learns, worked out from the shape alone: what one token, one
//! masked position and one place of a cache take. The engine sizes its micro-batches by it, `demask plan` what a run will take.

use crate::network::config::BackboneConfig;

/// Tokens that one forward pass with gradients takes at most (but always a row).
pub const FORWARD_TOKENS: u64 = 16_384;
/// Operations of a micro-batch of a policy step on a processor.
const OPERATIONS: u64 = 70_000_000_000;
/// Tokens that such a micro-batch has at least: fewer would waste the matrix products.
const LEAST_TOKENS: u64 = 512;

/// Tokens of a micro-batch of a policy step on a processor, of a network of so many parameters: no more than are done in a second or so of a
/// core, two operations a weight forward, four backward, since a person's question is answered between two of them (law L10).
#[must_use]
pub fn policy_tokens(parameters: u64) -> u64 {
    (OPERATIONS / (6 * parameters).max(1)).max(LEAST_TOKENS)
}

/// What of a network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// All weights.
    Whole,
    /// An adapter beside frozen weights.
    Adapter,
}

/// A network that learns, as far as its activations go.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// Its shape.
    pub config: &'a BackboneConfig,
    /// Bytes of one number.
    pub number: u64,
    /// What of it is trained.
    pub trained: Trained,
    /// Whether blocks are computed again in the backward pass, and keep their inputs alone until then.
    pub recomputed: bool,
    /// Whether our own kernels compute it (a CPU, in f32 or bf16), which keep less than libtorch's operators.
    pub kernels: bool,
}

impl Activations<'_> {
    /// Numbers of one token that one block keeps until its backward pass. As the model's `fused.rs` composes a block of operators: the
    /// stream at both norms, the normed and the gained rows where weights are trained or an adapter reads them, the stacked
    /// projection (its values are a part of it), turned queries and keys, what attention gives, the gate's both halves, its activation
    /// and its product. The kernels keep neither normed rows nor the projection nor the activation, but queries, keys and values
    /// of all heads.
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

    /// Blocks whose activations are there at one time.
    fn blocks(&self) -> u64 {
        if self.recomputed {
            1
        } else {
            self.config.n_layers as u64
        }
    }

    /// Bytes that one token of a forward pass with gradients keeps until its backward pass, at all blocks, and what the block at hand takes
    /// beside.
    #[must_use]
    pub fn token_bytes(&self) -> u64 {
        let (width, block) = (self.config.d_model as u64, self.block_numbers());
        // The sums of softmax and of both norms, in f32.
        let sums = self.blocks() * 4 * (self.config.n_heads as u64 + 2);
        // Blocks' inputs and the stream behind the last; the slope that comes in, and twice the stream that it is multiplied with.
        let inputs = if self.recomputed {
            (self.config.n_layers as u64 + 1) * width + 3 * width
        } else {
            2 * width
        };
        // Gradients of the block that the backward pass is at: as much again.
        let numbers = (self.blocks() + 1) * block + inputs;
        numbers * self.number + sums
    }

    /// Bytes of the attention's probabilities of one row of so many tokens, which the kernels keep of short rows; and of their slopes at the
    /// block at hand.
    #[must_use]
    pub fn probability_bytes(&self, length: u64) -> u64 {
        if !self.kernels || length > KERNEL_LENGTH {
            return 0;
        }
        (self.blocks() + 2) * self.config.n_heads as u64 * length * length * self.number
    }
}

/// The longest row whose attention the CPU's kernels compute.
pub const KERNEL_LENGTH: u64 = 256;

/// Bytes that one position's logits take while their loss and its gradient are worked out: as they are, in f32, their
/// log-probabilities, and both gradients.
#[must_use]
pub fn logit_bytes(config: &BackboneConfig, number: u64) -> u64 {
    config.rows() as u64 * (2 * number + 3 * 4)
}

/// Bytes of keys and values of one place at all blocks.
#[must_use]
pub fn place_bytes(config: &BackboneConfig, number: u64) -> u64 {
    (2 * config.n_layers * config.kv_heads() * config.head_dim()) as u64 * number
}
