//! Recomputation, also called activation checkpointing (arXiv 1604.06174): a forward pass without gradient that keeps each block's
//! input alone, and a backward pass that goes block by block from the last, each computed once more, with gradient.
//!
//! The bits are those of a pass that keeps everything, on a CPU: the same kernels see the same numbers, and what an adapter drops is
//! drawn again from where its stream stood. Here a pass goes block by block as it is told; [`forward`] and [`KeptInputs::backward`] take
//! one pass through all of them, `sweep.rs` several, for which weights come and go. Legend: B rows, L positions, D width.

#![allow(non_snake_case)]

use std::cell::RefCell;

use tch::{Kind, Tensor};

use crate::device::heartbeat;
use crate::device::kernels::fused;
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::network::full_forward::FullPass;
use crate::network::lora::Noise;

/// A forward pass without gradient on its way through the blocks.
#[derive(Debug)]
pub(crate) struct ForwardPass {
    pass: FullPass,
    /// What each block so far is computed again from; none where nothing is kept.
    inputs: Option<Vec<BlockInput>>,
    /// The stream so far, and what is to be added to it.
    stream: (Tensor, Option<Tensor>),
}

/// What a block is computed again from.
#[derive(Debug)]
struct BlockInput {
    /// The stream.
    x_BLD: Tensor,
    /// Where the adapter's dropout stood.
    noise: Option<Noise>,
}

/// What a forward pass kept.
#[derive(Debug)]
pub struct KeptInputs {
    pass: FullPass,
    /// Of each block; taken as the backward pass goes.
    inputs: RefCell<Vec<BlockInput>>,
    /// The stream behind the last block, a leaf: its gradient is where the backward pass begins.
    behind_BLD: Tensor,
    /// The gradient of the stream behind the block that is next.
    slope_BLD: RefCell<Option<Tensor>>,
}

/// Hidden states after the last norm of the tokens that the pass reads, with gradient down to the last block alone; the rest is
/// [`KeptInputs::backward`]'s.
///
/// # Errors
/// libtorch's.
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
        })
    }

    /// Goes through a block, the next one.
    ///
    /// # Errors
    /// libtorch's.
    pub fn through(self, backbone: &Backbone, number: usize) -> Result<Self> {
        heartbeat::beat();
        let Self {
            pass,
            mut inputs,
            stream: (x_BLD, delta_BLD),
        } = self;
        let stream = tch::no_grad(|| -> Result<_> {
            let noise = backbone.noise();
            let entered = backbone.enter(number, x_BLD, delta_BLD.as_ref())?;
            drop(delta_BLD);
            if let Some(inputs) = &mut inputs {
                let x_BLD = entered.0.shallow_clone();
                inputs.push(BlockInput { x_BLD, noise });
            }
            block(backbone, &pass, number, entered)
        })?;
        Ok(Self { pass, inputs, stream })
    }

    /// Hidden states after the last norm, with gradient down to the last block alone, and what the rest is computed again from.
    ///
    /// # Errors
    /// libtorch's.
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

    /// Hidden states after the last norm, without gradient.
    ///
    /// # Errors
    /// libtorch's.
    pub fn hidden(self, backbone: &Backbone) -> Result<Tensor> {
        let (x_BLD, delta_BLD) = self.stream;
        tch::no_grad(|| backbone.leave(x_BLD, delta_BLD.as_ref()))
    }
}

impl KeptInputs {
    /// Takes the gradient on from the hidden states through all blocks to the embedding, once that of the hidden states has been
    /// taken. Nothing is kept then.
    ///
    /// # Errors
    /// libtorch's.
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

    /// Takes the gradient of the stream behind the last block over, where anything was asked of the hidden states.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn begin_back(&self) -> Result<()> {
        let slope_BLD = self.behind_BLD.f_grad()?;
        self.slope_BLD.replace(slope_BLD.defined().then_some(slope_BLD));
        Ok(())
    }

    /// Computes a block again and takes its gradient for what comes from behind it: the next one on the way back.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn back_through(&self, backbone: &Backbone, number: usize) -> Result<()> {
        heartbeat::beat();
        let (input, slope) = (self.inputs.borrow_mut().pop(), self.slope_BLD.take());
        let (Some(input), Some(slope_BLD)) = (input, slope) else {
            return Ok(());
        };
        backbone.set_noise(input.noise);
        // In a pass that keeps everything the kernel that sums stream and layer also adds up the stream's two slopes, before
        // it rounds them; so it does here, where there is nothing to add.
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

    /// Takes the embedding's gradient.
    ///
    /// # Errors
    /// libtorch's.
    pub(crate) fn back_to_embedding(&self, backbone: &Backbone) -> Result<()> {
        match self.slope_BLD.take() {
            Some(slope_BLD) => carry(&backbone.embedded(self.pass.ids())?, &slope_BLD),
            None => Ok(()),
        }
    }
}

/// Takes the gradient of what was computed, for what comes from behind it. Neither an adapter nor what is below it may be there to learn
/// anything.
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
