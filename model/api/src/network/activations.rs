//! How much memory a batch takes on its way through a backbone that learns, worked out from the shape alone: what one token, one
//! masked position and one place of a cache take. The engine sizes its micro-batches by it, `demask plan` what a run will take.

use crate::network::config::BackboneConfig;

/// What of a network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trained {
    /// All weights.
    Whole,
    /// An adapter beside frozen weights.
    Adapter,
}

/// Numbers of one token that one block keeps until its backward pass. As the model's `fused.rs` composes a block: the stream at both
/// norms, the normed and the gained rows where weights are trained or an adapter reads them, the stacked projection (its values
/// are a part of it), turned queries and keys, what attention gives, the gate's both halves, its activation and its product.
fn block_numbers(config: &BackboneConfig, trained: Trained) -> u64 {
    let (width, hidden) = (config.d_model as u64, config.hidden() as u64);
    let kv = (config.kv_heads() * config.head_dim()) as u64;
    let norm = match trained {
        Trained::Whole => 3 * width,
        Trained::Adapter => 2 * width,
    };
    2 * norm + (width + 2 * kv) + (width + kv) + width + 4 * hidden
}

/// Bytes that one token of a forward pass with gradients keeps until its backward pass, at all blocks, and what the block at hand
/// takes beside; `number` is the bytes of one number. Where blocks are `recomputed` each keeps its input alone.
#[must_use]
pub fn token_bytes(config: &BackboneConfig, number: u64, trained: Trained, recomputed: bool) -> u64 {
    let (width, blocks) = (config.d_model as u64, config.n_layers as u64);
    let block = block_numbers(config, trained);
    // The sums of softmax and of both norms, in f32.
    let sums = 4 * (config.n_heads as u64 + 2);
    if recomputed {
        // Inputs, and the stream behind the last; the block at hand, its gradients; the slope that comes in, twice the stream that it
        // is multiplied with.
        let numbers = (blocks + 1) * width + 2 * block + 3 * width;
        return numbers * number + sums;
    }
    // Gradients of the block that the backward pass is at: as much again.
    let numbers = (blocks + 1) * block + 2 * width;
    numbers * number + blocks * sums
}

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
