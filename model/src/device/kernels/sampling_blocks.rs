//! All transformer blocks of a sampler's pass in one call of `csrc/sampling_blocks.cpp`: on a CPU, with packed weights.
//!
//! Legend: T computed positions, N wanted positions, D width, H query heads, K key and value heads, E head width.

#![allow(non_snake_case)]

use tch::Tensor;

use crate::device::kernels::packed_weight::PackedWeight;

/// The weights of a norm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NormWeights<'a> {
    /// The gain.
    pub gain: &'a Tensor,
    /// The bias, of the same shape, if there is one.
    pub bias: Option<&'a Tensor>,
}

/// The weights of one block.
#[derive(Debug)]
pub(crate) struct BlockWeights<'a> {
    /// The norm before attention, [D].
    pub attn_norm: NormWeights<'a>,
    /// The norm before the feed-forward layers, [D].
    pub ff_norm: NormWeights<'a>,
    /// The norms of queries, [H E], and keys, [K E], if these are normalised.
    pub qk_norms: Option<[NormWeights<'a>; 2]>,
    /// The stacked projection to queries, keys and values, the output of attention, the stacked gate and its factor,
    /// and the last layer, [O, I] each.
    pub matrices: [&'a PackedWeight; 4],
    /// The biases of the same layers, [O], of those that have one.
    pub biases: [Option<&'a Tensor>; 4],
}

/// The constants of a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockConstants {
    /// The factor of the embedding.
    pub embedding_scale: f64,
    /// The epsilon of all norms.
    pub eps: f64,
    /// The number of query heads, H.
    pub heads: i64,
    /// The width of a head, E.
    pub width: i64,
}

#[cfg(fused)]
pub(crate) use calls::{PassTables, SamplingBlocks};

#[cfg(fused)]
mod calls {
    use std::ffi::{c_int, c_void};
    use std::ptr::{NonNull, null_mut};

    use tch::Tensor;

    use super::{BlockConstants, BlockWeights, NormWeights};
    use crate::device::heartbeat;
    use crate::device::kernels::ffi::{Handle, check, handle, take};
    use crate::device::kernels::kernel_set::KernelSet;
    use crate::device::kernels::packed_weight::PackedHandle;
    use crate::device::kernels::rotary::Turns;
    use crate::error::{ModelError, Result};

    unsafe extern "C" {
        fn demask_sampling_blocks(
            table: Handle,
            last_gain: Handle,
            last_bias: Handle,
            embedding_scale: f64,
            eps: f64,
            heads: i64,
            width: i64,
            made: *mut *mut c_void,
        ) -> c_int;
        fn demask_sampling_blocks_add(
            net: *mut c_void,
            gains: *const Handle,
            biases_of_norms: *const Handle,
            weights: *const PackedHandle,
            biases: *const Handle,
        ) -> c_int;
        fn demask_sampling_blocks_free(net: *mut c_void);
        fn demask_sampling_blocks_run(
            net: *const c_void,
            ids: Handle,
            cos: Handle,
            sin: Handle,
            chunks: Handle,
            places: Handle,
            keys: *const Handle,
            values: *const Handle,
            wanted: Handle,
            set: i64,
            beat: extern "C" fn(),
            y: *mut Handle,
        ) -> c_int;
    }

    /// The weights of all blocks, with the embedding and the last norm.
    #[derive(Debug)]
    pub(crate) struct SamplingBlocks {
        net: NonNull<c_void>,
        blocks: usize,
    }

    // SAFETY: nothing changes the object once it is made, and the tensors that it holds may be read by any thread.
    unsafe impl Send for SamplingBlocks {}
    // SAFETY: as above.
    unsafe impl Sync for SamplingBlocks {}

    impl Drop for SamplingBlocks {
        fn drop(&mut self) {
            // SAFETY: the object was made by `demask_sampling_blocks` and is freed once.
            unsafe { demask_sampling_blocks_free(self.net.as_ptr()) }
        }
    }

    /// The cache and the tables of a pass, as [`KvCache`](crate::network::kv_cache::KvCache) keeps them.
    pub(crate) struct PassTables<'a> {
        pub ids_T: &'a Tensor,
        pub chunks_R5: &'a Tensor,
        pub places_T3: &'a Tensor,
        pub kept: &'a [(Tensor, Tensor)],
        pub turns: &'a Turns,
        pub set: KernelSet,
    }

    extern "C" fn beat() {
        heartbeat::beat();
    }

    /// Returns the handle of a tensor, or null.
    fn perhaps(tensor: Option<&Tensor>) -> Handle {
        tensor.map_or(null_mut(), handle)
    }

    impl SamplingBlocks {
        /// Takes the weights of a network. The embedding is `table_VD`.
        ///
        /// # Errors
        /// Weights that do not fit each other.
        pub fn new(
            table_VD: &Tensor,
            last_norm: NormWeights<'_>,
            constants: BlockConstants,
            blocks: &[BlockWeights<'_>],
        ) -> Result<Self> {
            let BlockConstants {
                embedding_scale,
                eps,
                heads,
                width,
            } = constants;
            let mut made = null_mut();
            // SAFETY: the handles are live tensors on the CPU, of which the object keeps references of its own.
            check(unsafe {
                let (table, gain) = (handle(table_VD), handle(last_norm.gain));
                let bias = perhaps(last_norm.bias);
                demask_sampling_blocks(table, gain, bias, embedding_scale, eps, heads, width, &mut made)
            })?;
            let net = NonNull::new(made)
                .ok_or_else(|| ModelError::Refused("the sampling blocks could not be created".into()))?;
            let all = Self {
                net,
                blocks: blocks.len(),
            };
            for block in blocks {
                let matrices = block.matrices.map(PackedHandle::of);
                let [q, k] = block.qk_norms.map_or([None, None], |norms| norms.map(Some));
                let norms = [Some(block.attn_norm), Some(block.ff_norm), q, k];
                let gains = norms.map(|norm| perhaps(norm.map(|norm| norm.gain)));
                let biases_of_norms = norms.map(|norm| perhaps(norm.and_then(|norm| norm.bias)));
                let biases = block.biases.map(perhaps);
                // SAFETY: as above; each array has the four items that the function reads.
                check(unsafe {
                    demask_sampling_blocks_add(
                        net.as_ptr(),
                        gains.as_ptr(),
                        biases_of_norms.as_ptr(),
                        matrices.as_ptr(),
                        biases.as_ptr(),
                    )
                })?;
            }
            Ok(all)
        }

        /// Returns the hidden states after the last norm of the wanted positions, [N, D], given by their indices, [N].
        /// Writes the keys and values of all computed positions to the cache.
        ///
        /// # Errors
        /// A cache or token ids of another network.
        pub fn run(&self, pass: &PassTables<'_>, wanted_N: &Tensor) -> Result<Tensor> {
            // A cache of one block serves all of them, one after the other, if nothing reads it after the pass.
            let kept = pass.kept.iter().cycle().take(self.blocks);
            let (keys, values): (Vec<Handle>, Vec<Handle>) =
                kept.map(|(keys, values)| (handle(keys), handle(values))).unzip();
            if keys.len() != self.blocks {
                let message = format!("the cache has no blocks, but the network has {}", self.blocks);
                return Err(ModelError::Refused(message));
            }
            let mut y = null_mut();
            // SAFETY: the handles are live tensors; slots and places lie within the cache, which was made for these
            // rows; the rotary tables are contiguous f32 and cover every position, which the backbone checked.
            check(unsafe {
                demask_sampling_blocks_run(
                    self.net.as_ptr(),
                    handle(pass.ids_T),
                    handle(&pass.turns.cos),
                    handle(&pass.turns.sin),
                    handle(pass.chunks_R5),
                    handle(pass.places_T3),
                    keys.as_ptr(),
                    values.as_ptr(),
                    handle(wanted_N),
                    pass.set as i64,
                    beat,
                    &mut y,
                )
            })?;
            Ok(take(y))
        }
    }
}
