//! Full forward passes, and the steps of a block with a cached context in each stepping mode.

use demask_model::sampler::{Batch, Limits, Stepping};
use demask_model::{AttentionMask, Backbone};
use tch::{Device, Kind, Tensor};

use crate::clock::median;
use crate::figure::Teller;
use crate::options::Options;
use crate::sampling::draw;
use crate::shape::{Shape, network};

/// Measures full forward passes and cached steps.
///
/// # Errors
/// Returns libtorch's errors.
pub fn forward(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let (shape, backbone) = network(options)?;
    let device = backbone.device();
    for (length, asked) in [(shape.context, (28.0, 22.0)), (2 * shape.context, (56.0, 44.0))] {
        let ms = median(device, 5, || whole_pass(&backbone, length, shape.block))?;
        teller.at_most(
            &format!("whole pass of {length} tokens"),
            ms,
            "ms",
            options.asked().then_some(asked),
        );
    }
    for stepping in [Stepping::HostDriven, Stepping::DeviceLoop, Stepping::Graph] {
        let ms = cached_step(&backbone, &shape, stepping)?;
        let figure = format!(
            "cached step of {} at {}, {}",
            shape.block,
            shape.context,
            word(stepping)
        );
        // The requirement applies to the fastest stepping mode only.
        let asked = (options.asked() && stepping == Stepping::Graph).then_some((6.5, 5.5));
        teller.at_most(&figure, ms, "ms", asked);
    }
    Ok(())
}

/// Returns the name of a stepping mode as it is printed.
pub fn word(stepping: Stepping) -> &'static str {
    match stepping {
        Stepping::HostDriven => "asking",
        Stepping::DeviceLoop => "resident",
        Stepping::Graph => "graph",
    }
}

/// Computes the hidden states of a row and the logits of a block, and waits for the block's most likely
/// tokens.
///
/// # Errors
/// Returns libtorch's errors.
pub fn whole_pass(backbone: &Backbone, length: usize, block: usize) -> anyhow::Result<()> {
    tch::no_grad(|| {
        let most = backbone.config().image_offset() as i64;
        let ids = Tensor::f_arange(length as i64, (Kind::Int64, backbone.device()))?
            .f_remainder(most)?
            .f_unsqueeze(0)?;
        let hidden = backbone.hidden(&ids, &AttentionMask::None)?.f_squeeze_dim(0)?;
        let logits = backbone.head(&hidden.f_narrow(0, 0, block as i64)?, None)?;
        let _ = logits.f_argmax(-1, false)?.f_to_device(Device::Cpu)?;
        Ok(())
    })
}

/// Returns the milliseconds of one cached step: the time of a block with one step per position, minus the
/// time of a block in a single step, per step.
///
/// # Errors
/// Returns libtorch's errors.
pub fn cached_step(backbone: &Backbone, shape: &Shape, stepping: Stepping) -> anyhow::Result<f64> {
    // The batch is reused, so that a CUDA graph is captured only once.
    let mut batch = Batch::new(backbone, Limits::default()).stepping(stepping);
    let mut steps = |steps: usize| {
        let request = shape.cached_block(steps);
        median(backbone.device(), 3, || {
            draw(&mut batch, vec![request.clone()]).map(|_| ())
        })
    };
    let (one, all) = (steps(1)?, steps(shape.block)?);
    Ok((all - one) / (shape.block - 1) as f64)
}
