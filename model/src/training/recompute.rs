//! Recomputation, also called activation checkpointing (arXiv 1604.06174): a forward pass without gradient that keeps each block's
//! input alone, and a backward pass that goes block by block from the last, each computed once more, with gradient.
//!
//! The bits are those of a pass that keeps everything, on a CPU: the same kernels see the same numbers, and what an adapter drops is
//! drawn again from where its stream stood. Legend: B rows, L positions, N wanted of them, D width.

#![allow(non_snake_case)]

use std::cell::RefCell;

use tch::{Kind, Tensor};

use crate::device::heartbeat;
use crate::device::kernels::fused;
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::network::full_forward::FullPass;
use crate::network::lora::Noise;

/// What a forward pass kept.
#[derive(Debug)]
pub struct KeptInputs {
    pass: FullPass,
    /// The tokens that go on behind the last attention.
    wanted_N: Tensor,
    /// Of each block; taken as the backward pass goes.
    inputs: RefCell<Vec<BlockInput>>,
    /// The stream behind the last block, a leaf: its gradient is where the backward pass begins.
    behind_1ND: Tensor,
}

/// What a block is computed again from.
#[derive(Debug)]
struct BlockInput {
    /// The stream; the first block's is looked up in the embedding again.
    x_BLD: Option<Tensor>,
    /// Where the adapter's dropout stood.
    noise: Option<Noise>,
}

/// Hidden states after the last norm of the `wanted` tokens, [1, N, D], with gradient down to the last block alone; the rest is
/// [`KeptInputs::backward`]'s.
///
/// # Errors
/// libtorch's.
pub(crate) fn forward(backbone: &Backbone, pass: FullPass, wanted_N: Tensor) -> Result<(Tensor, KeptInputs)> {
    let blocks = backbone.config().n_layers;
    let mut inputs = Vec::with_capacity(blocks);
    let behind_1ND = tch::no_grad(|| {
        let (mut x_BLD, mut delta_BLD) = (backbone.embedded(pass.ids())?, None);
        for number in 0..blocks {
            heartbeat::beat();
            let noise = backbone.noise();
            let entered = backbone.enter(number, x_BLD, delta_BLD.as_ref())?;
            inputs.push(BlockInput {
                x_BLD: (number > 0).then(|| entered.0.shallow_clone()),
                noise,
            });
            (x_BLD, delta_BLD) = block(backbone, (&pass, &wanted_N), number, entered)?;
        }
        sum(x_BLD, delta_BLD)
    })?;
    let behind_1ND = behind_1ND.f_detach()?.f_set_requires_grad(true)?;
    let hidden_1ND = backbone.leave(behind_1ND.shallow_clone(), None)?;
    let kept = KeptInputs {
        pass,
        wanted_N,
        inputs: RefCell::new(inputs),
        behind_1ND,
    };
    Ok((hidden_1ND, kept))
}

impl KeptInputs {
    /// Takes the gradient on from the hidden states through all blocks to the embedding, once that of the hidden states has been
    /// taken. Nothing is kept then.
    ///
    /// # Errors
    /// libtorch's.
    pub fn backward(&self, backbone: &Backbone) -> Result<()> {
        let noise = backbone.noise();
        let mut slope_BLD = self.behind_1ND.f_grad()?;
        let mut inputs = self.inputs.take();
        while let Some(input) = inputs.pop() {
            heartbeat::beat();
            let before = self.back(backbone, inputs.len(), input, &slope_BLD)?;
            let Some(before) = before else { break };
            slope_BLD = before;
        }
        backbone.set_noise(noise);
        Ok(())
    }

    /// Computes a block again, takes its gradient for what comes from behind it, and gives what goes on to the block before, where there
    /// is one.
    fn back(
        &self,
        backbone: &Backbone,
        number: usize,
        input: BlockInput,
        slope_BLD: &Tensor,
    ) -> Result<Option<Tensor>> {
        backbone.set_noise(input.noise);
        let (x_BLD, nothing) = match input.x_BLD {
            None => (backbone.embedded(self.pass.ids())?, None),
            Some(x_BLD) => {
                // In a pass that keeps everything the kernel that sums stream and layer also adds up the stream's two slopes, before
                // it rounds them; so it does here, where there is nothing to add.
                let nothing = fused::applies(&x_BLD).then(|| x_BLD.f_zeros_like()).transpose()?;
                (x_BLD.f_set_requires_grad(true)?, nothing)
            }
        };
        let leaf = (number > 0).then(|| x_BLD.shallow_clone());
        let entered = backbone.enter(number, x_BLD, nothing.as_ref())?;
        drop(nothing);
        let (x_BLD, delta_BLD) = block(backbone, (&self.pass, &self.wanted_N), number, entered)?;
        let carried = sum(x_BLD, delta_BLD)?.f_mul(slope_BLD)?.f_sum(Kind::Float)?;
        // Neither an adapter nor a block below it may be there to learn anything.
        if carried.requires_grad() {
            carried.f_backward()?;
        }
        Ok(leaf.map(|leaf| leaf.f_grad()).transpose()?)
    }
}

fn block(
    backbone: &Backbone,
    (pass, wanted_N): (&FullPass, &Tensor),
    number: usize,
    entered: (Tensor, Tensor),
) -> Result<(Tensor, Option<Tensor>)> {
    let wanted_N = (number + 1 == backbone.config().n_layers).then_some(wanted_N);
    backbone.block(number, entered, (None, wanted_N), &|number, joined| {
        pass.attend(backbone, number, joined)
    })
}

fn sum(x_BLD: Tensor, delta_BLD: Option<Tensor>) -> Result<Tensor> {
    match delta_BLD {
        Some(delta_BLD) => Ok(x_BLD.f_add(&delta_BLD)?),
        None => Ok(x_BLD),
    }
}
