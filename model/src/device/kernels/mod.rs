//! Our own operators: the C++ kernels of `csrc` as functions of tensors, and the same operators composed of libtorch's
//! where the kernels do not apply.
//!
//! - `fused.rs`: the operators between the matrix products of a block, with gradients;
//! - `rotary.rs`: the tables of the rotary position embedding;
//! - `ragged.rs`: attention over rows of any lengths in one call;
//! - `packed_weight.rs`, `packed_weights.rs`: one weight, and those of a network, in the memory layout of our
//!   matrix products;
//! - `sampling_blocks.rs`: all blocks of a pass in one call, with packed weights;
//! - `kernel_set.rs`: the instruction set of the CPU's kernels;
//! - `profiler.rs`: the time of each operator and kernel in a piece of work;
//! - `threads.rs`: the thread counts of libtorch's libraries;
//! - `ffi.rs`, `columns.rs`: handles, errors and table columns that Rust and C++ exchange.
//!
//! Not here: the attention over the KV cache (`network/kv_cache.rs`), the draw (`sampler/draw.rs`) and CUDA's set-up
//! (`device/cuda`).

pub(crate) mod columns;
#[cfg(fused)]
pub(crate) mod ffi;
pub mod frozen_linear;
pub mod fused;
pub mod kernel_set;
pub mod packed_weight;
pub mod packed_weights;
pub mod profiler;
pub mod ragged;
pub mod rotary;
pub(crate) mod sampling_blocks;
pub(crate) mod threads;
