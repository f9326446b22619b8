//! Operators that are ours: the C++ of `csrc` as functions of tensors, and the same composed of libtorch's operators where
//! that C++ does not apply.
//!
//! - `fused.rs`: what lies between a block's matrix products, with gradients;
//! - `rotary.rs`: the tables by which queries and keys are turned;
//! - `ragged.rs`: attention of rows of any lengths in one call;
//! - `packed_weights.rs`: weights in the order in which a CPU's matrix library computes;
//! - `frozen_linear.rs`: products with weights that are dequantised for them alone;
//! - `kernel_set.rs`: the instruction set of the CPU's attention kernels;
//! - `profiler.rs`: where the time of a piece of work goes;
//! - `threads.rs`: threads of libtorch's libraries;
//! - `ffi.rs`, `columns.rs`: handles, errors and the columns of tables across the language border.
//!
//! Not here: the attention over kept keys (`network/kv_cache.rs`) and the draw (`sampler/draw.rs`), which stand beside what
//! they serve; CUDA's set-up (`device/cuda`).

pub(crate) mod columns;
#[cfg(fused)]
pub(crate) mod ffi;
pub mod frozen_linear;
pub mod fused;
pub mod kernel_set;
pub mod packed_weights;
pub mod profiler;
pub mod ragged;
pub mod rotary;
pub(crate) mod threads;
