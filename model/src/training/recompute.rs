//! Recomputation, also called activation checkpointing (arXiv 1604.06174). The forward pass runs without
//! gradients and keeps only the input of each block. The backward pass runs from the last block to the first,
//! and computes each block once more with gradients.
//!
//! On a CPU the result has the same bits as a pass that keeps all activations: the same kernels see the same
//! numbers, and the adapter's dropout masks are drawn again from the kept position of their stream. The
//! callers drive a pass block by block: [`forward`] and [`KeptInputs::backward`] take one pass through all
//! blocks, and `sweep.rs` takes several passes whose weights are gathered and freed. Legend: B rows, L
//! positions, D width.

#![allow(non_snake_case)]

use std::cell::RefCell;

use tch::{Kind, Tensor};

use crate::device::heartbeat;
use crate::device::kernels::fused;
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::network::full_forward::FullPass;
use crate::network::lora::DropoutPosition;

/// A forward pass without gradients, between two blocks.
#[derive(Debug)]
pub(crate) struct ForwardPass {
    pass: FullPass,
    /// The inputs from which the blocks so far are recomputed; `None` if nothing is kept.
    inputs: Option<Vec<BlockInput>>,
    /// The residual stream so far, and the tensor that is still to be added to it.
    stream: (Tensor, Option<Tensor>),
    /// The position of the adapter's dropout stream before the next block. Several passes may go through the blocks
    /// together, so each has its own.
    noise: Option<DropoutPosition>,
}

/// The input from which a block is recomputed.
#[derive(Debug)]
struct BlockInput {
    /// The residual stream.
    x_BLD: Tensor,
    /// The position of the adapter's dropout stream.
    noise: Option<DropoutPosition>,
}

/// The tensors that a forward pass keeps for its backward pass.
#[derive(Debug)]
pub struct KeptInputs {
    pass: FullPass,
    /// The inputs of the blocks; the backward pass removes each as it uses it.
    inputs: RefCell<Vec<BlockInput>>,
    /// The residual stream after the last block. It is a leaf, whose gradient starts the backward pass.
    behind_BLD: Tensor,
    /// The gradient of the residual stream after the block that comes next in the backward pass.
    slope_BLD: RefCell<Option<Tensor>>,
}

/// Runs a forward pass. Returns the hidden states, after the final norm, of the tokens that the pass reads.
/// Their gradient graph reaches back to the output of the last block only; [`KeptInputs::backward`] does the
/// rest.
///
/// # Errors
/// Returns libtorch's errors.
pub(crate) fn forward(backbone: &Backbone, pass: FullPass) -> Result<(Tensor, KeptInputs)> {
    let mut forward = ForwardPass::begin(backbone, pass, true)?;
    for number in 0..backbone.config().n_layers {
        forward = forward.through(backbone, number)?;
    }
    forward.kept(backbone)
}

impl ForwardPass {
    /// Looks the tokens up. `keeps`: the gradient is wanted, so what blocks are computed again from is kept.
    ///
    /// # Errors
    /// libtorch's.
    pub fn begin(backbone: &Backbone, pass: FullPass, keeps: bool) -> Result<Self> {
        let x_BLD = tch::no_grad(|| backbone.embedded(pass.ids()))?;
        Ok(Self {
            pass,
            inputs: keeps.then(Vec::new),
            stream: (x_BLD, None),
            noise: backbone.reserve_noise(),
        })
    }

    /// Runs the next block, which has this number.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn through(self, backbone: &Backbone, number: usize) -> Result<Self> {
        heartbeat::beat();
        let Self {
            pass,
            mut inputs,
            stream: (x_BLD, delta_BLD),
            noise,
        } = self;
        backbone.set_noise(noise);
        let stream = tch::no_grad(|| -> Result<_> {
            let entered = backbone.enter(number, x_BLD, delta_BLD.as_ref())?;
            drop(delta_BLD);
            if let Some(inputs) = &mut inputs {
                let x_BLD = entered.0.shallow_clone();
                inputs.push(BlockInput { x_BLD, noise });
            }
            block(backbone, &pass, number, entered)
        })?;
        Ok(Self {
            pass,
            inputs,
            stream,
            noise: backbone.noise(),
        })
    }

    /// Returns the hidden states after the final norm, whose gradient graph reaches back to the output of the
    /// last block only, and the inputs for recomputing the blocks.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn kept(self, backbone: &Backbone) -> Result<(Tensor, KeptInputs)> {
        let (x_BLD, delta_BLD) = self.stream;
        let behind_BLD = tch::no_grad(|| sum(x_BLD, delta_BLD))?;
        let behind_BLD = behind_BLD.f_detach()?.f_set_requires_grad(true)?;
        let hidden_BLD = backbone.leave(behind_BLD.shallow_clone(), None)?;
        let kept = KeptInputs {
            pass: self.pass,
            inputs: RefCell::new(self.inputs.unwrap_or_default()),
            behind_BLD,
            slope_BLD: RefCell::new(None),
        };
        Ok((hidden_BLD, kept))
    }

    /// Returns the hidden states after the final norm, without gradients.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn hidden(self, backbone: &Backbone) -> Result<Tensor> {
        let (x_BLD, delta_BLD) = self.stream;
        tch::no_grad(|| backbone.leave(x_BLD, delta_BLD.as_ref()))
    }
}

impl KeptInputs {
    /// Continues the backward pass from the hidden states, whose gradient has been computed, through all
    /// blocks to the embedding. The kept inputs are used up.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn backward(&self, backbone: &Backbone) -> Result<()> {
        let noise = backbone.noise();
        self.begin_back()?;
        for number in (0..backbone.config().n_layers).rev() {
            self.back_through(backbone, number)?;
        }
        self.back_to_embedding(backbone)?;
        backbone.set_noise(noise);
        Ok(())
    }

    /// Starts the backward pass with the gradient of the stream after the last block. There is none if no
    /// loss depends on the hidden states.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub(crate) fn begin_back(&self) -> Result<()> {
        let slope_BLD = self.behind_BLD.f_grad()?;
        self.slope_BLD.replace(slope_BLD.defined().then_some(slope_BLD));
        Ok(())
    }

    /// Recomputes a block, which must be the next in backward order, and runs its backward pass.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub(crate) fn back_through(&self, backbone: &Backbone, number: usize) -> Result<()> {
        heartbeat::beat();
        let (input, slope) = (self.inputs.borrow_mut().pop(), self.slope_BLD.take());
        let (Some(input), Some(slope_BLD)) = (input, slope) else {
            return Ok(());
        };
        backbone.set_noise(input.noise);
        // In a pass that keeps all activations, the kernel that adds a layer's output to the stream also adds
        // the stream's two gradients before it rounds them. To get the same bits, that kernel runs here too,
        // with zeros as the output to be added.
        let learns = number > 0 || backbone.lora().is_none();
        let x_BLD = input.x_BLD.f_set_requires_grad(learns)?;
        let nothing = (number > 0 && fused::applies(&x_BLD))
            .then(|| x_BLD.f_zeros_like())
            .transpose()?;
        let entered = backbone.enter(number, x_BLD.shallow_clone(), nothing.as_ref())?;
        drop(nothing);
        let (behind_BLD, delta_BLD) = block(backbone, &self.pass, number, entered)?;
        carry(&sum(behind_BLD, delta_BLD)?, &slope_BLD)?;
        let before = x_BLD.f_grad()?;
        self.slope_BLD.replace(before.defined().then_some(before));
        Ok(())
    }

    /// Computes the gradient of the embedding.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub(crate) fn back_to_embedding(&self, backbone: &Backbone) -> Result<()> {
        match self.slope_BLD.take() {
            Some(slope_BLD) => carry(&backbone.embedded(self.pass.ids())?, &slope_BLD),
            None => Ok(()),
        }
    }
}

/// Runs the backward pass of `computed`, given its gradient `slope`. It does nothing if nothing below learns,
/// as in a block without an adapter over a frozen embedding.
fn carry(computed: &Tensor, slope: &Tensor) -> Result<()> {
    let carried = computed.f_mul(slope)?.f_sum(Kind::Float)?;
    if carried.requires_grad() {
        carried.f_backward()?;
    }
    Ok(())
}

fn block(
    backbone: &Backbone,
    pass: &FullPass,
    number: usize,
    entered: (Tensor, Tensor),
) -> Result<(Tensor, Option<Tensor>)> {
    let wanted_N = pass.wanted().filter(|_| number + 1 == backbone.config().n_layers);
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
