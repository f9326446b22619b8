//! Takes groups of rows through the network, forward and backward.
//!
//! If a rank has all weights, each group goes through the whole network before the next. If the weights are
//! sharded (`weights/shards/`), all groups of a unit go through the network together, block by block. A
//! block's weights are gathered once in the forward and once in the backward pass, while the previous block
//! is computed. Its gradients are sent to their owners when all groups have added theirs. They are added in
//! the order of the groups, as on a single rank with all weights (law L11).
//!
//! All ranks sweep together: a rank without a unit, or whose unit failed, still takes part in every
//! collective call.

use crate::device::transfer::{Arrived, Packet};
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::network::full_forward::FullPass;
use crate::training::interlude::Pause;
use crate::training::loss::{self, Gathered, LossRow, Targets, gather_to_descend};
use crate::training::recompute::{ForwardPass, KeptInputs};
use crate::weights::shards::gather::Gather;

/// Computes the gradient of `head` applied to the hidden states of each group. `packed` returns a group's
/// rows, the data to send to the device with them, and a key to find that data. `head` runs the backward pass
/// down to the hidden states ([`loss::descend`]). This is called once per unit.
///
/// # Errors
/// Returns the error of the first group that failed, libtorch's errors, or [`ModelError::World`] if a peer is
/// gone.
pub(crate) fn descend_each<G, K>(
    backbone: &Backbone,
    groups: &[G],
    packed: impl Fn(&G) -> (Vec<LossRow>, Packet, K),
    mut head: impl FnMut(&G, (Gathered, Arrived), K) -> Result<()>,
    pause: &mut Pause<'_>,
) -> Result<()> {
    let Some(gather) = backbone.gather() else {
        for group in groups {
            let (rows, packet, key) = packed(group);
            head(group, gather_to_descend(backbone, &rows, packet)?, key)?;
            pause(backbone)?;
        }
        return Ok(());
    };
    let mut keys = Vec::with_capacity(groups.len());
    let planned = groups.iter().map(|group| {
        let (rows, packet, key) = packed(group);
        keys.push(key);
        loss::plan(backbone, &rows, packet)
    });
    let (mut sweep, planned) = Sweep::begin(backbone, gather, planned.collect());
    let (passes, targets): (Vec<_>, Vec<_>) = planned.into_iter().unzip();
    let passes = sweep.forward(passes, true)?;
    let noise = backbone.noise();
    let mut kept = Vec::with_capacity(passes.len());
    sweep.attempt(|| {
        for ((pass, targets), (group, key)) in passes.into_iter().zip(targets).zip(groups.iter().zip(keys)) {
            let (hidden, inputs) = pass.kept(backbone)?;
            head(group, targets.gather(&hidden, None)?, key)?;
            inputs.begin_back()?;
            kept.push(inputs);
        }
        Ok(())
    });
    sweep.back(&kept)?;
    backbone.set_noise(noise);
    sweep.end()
}

/// Applies `head` to the hidden states of each group, without gradients, and returns the results.
///
/// # Errors
/// Returns the error of the first group that failed, libtorch's errors, or [`ModelError::World`] if a peer is
/// gone.
pub(crate) fn gather_each<T>(
    backbone: &Backbone,
    groups: &[&[LossRow]],
    mut head: impl FnMut(&Gathered) -> Result<T>,
    pause: &mut Pause<'_>,
) -> Result<Vec<T>> {
    let Some(gather) = backbone.gather() else {
        let each = groups.iter().map(|rows| {
            let made = head(&tch::no_grad(|| loss::gather(backbone, rows))?)?;
            pause(backbone)?;
            Ok(made)
        });
        return each.collect();
    };
    let planned = groups
        .iter()
        .map(|rows| loss::plan(backbone, rows, Packet::new()));
    let (mut sweep, planned) = Sweep::begin(backbone, gather, planned.collect());
    let (passes, targets): (Vec<_>, Vec<_>) = planned.into_iter().unzip();
    let passes = sweep.forward(passes, false)?;
    let mut made = Vec::with_capacity(passes.len());
    sweep.attempt(|| {
        for (pass, targets) in passes.into_iter().zip::<Vec<Targets>>(targets) {
            made.push(head(&targets.gather(&pass.hidden(backbone)?, None)?.0)?);
        }
        Ok(())
    });
    sweep.gather.reshard(backbone.parameters(), sweep.last())?;
    if sweep.is_tied() {
        sweep.gather.reshard(backbone.parameters(), 0)?;
    }
    sweep.end()?;
    Ok(made)
}

/// A forward pass, and usually a backward pass, over all groups of sharded weights.
struct Sweep<'a> {
    backbone: &'a Backbone,
    gather: &'a dyn Gather,
    /// The first error; nothing is computed after it, but collective calls continue.
    failed: Option<ModelError>,
}

impl<'a> Sweep<'a> {
    /// Starts a sweep with the prepared passes, or with none if preparing them failed.
    fn begin<T>(backbone: &'a Backbone, gather: &'a dyn Gather, prepared: Result<Vec<T>>) -> (Self, Vec<T>) {
        backbone.forget_packed();
        let (prepared, failed) = match prepared {
            Ok(prepared) => (prepared, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        (
            Self {
                backbone,
                gather,
                failed,
            },
            prepared,
        )
    }

    /// Returns the index of the weight group of the final norm and the head. The embedding's is 0, and that
    /// of block n is n + 1.
    fn last(&self) -> usize {
        self.backbone.config().n_layers + 1
    }

    /// Returns whether the head's weights are the embedding's. Their group then stays gathered from the embedding of
    /// the tokens to the end of the sweep, and its two gradients are added to each other before they are sent.
    fn is_tied(&self) -> bool {
        self.backbone.config().weight_tying
    }

    /// Computes, unless something failed before. Whatever failed gives nothing.
    fn attempt<T: Default>(&mut self, work: impl FnOnce() -> Result<T>) -> T {
        if self.failed.is_none() {
            match work() {
                Ok(done) => return done,
                Err(error) => self.failed = Some(error),
            }
        }
        T::default()
    }

    fn unshard(&self, group: usize, next: Option<usize>) -> Result<()> {
        self.gather.unshard(self.backbone.parameters(), group, next)
    }

    /// Takes passes through the embedding and all blocks. Afterwards the final norm and the head are
    /// gathered, and the last block still is if a backward pass follows.
    fn forward(&mut self, planned: Vec<FullPass>, returns: bool) -> Result<Vec<ForwardPass>> {
        let (backbone, parameters, last) = (self.backbone, self.backbone.parameters(), self.last());
        self.gather.begin(parameters)?;
        self.unshard(0, Some(1))?;
        let begun = planned
            .into_iter()
            .map(|pass| ForwardPass::begin(backbone, pass, returns));
        let mut passes: Vec<ForwardPass> = self.attempt(|| begun.collect());
        if !self.is_tied() {
            self.gather.reshard(parameters, 0)?;
        }
        for group in 1..last {
            self.unshard(group, Some(group + 1))?;
            let before = std::mem::take(&mut passes).into_iter();
            passes = self.attempt(|| before.map(|pass| pass.through(backbone, group - 1)).collect());
            if group + 1 < last || !returns {
                self.gather.reshard(parameters, group)?;
            }
        }
        self.unshard(last, None)?;
        Ok(passes)
    }

    /// Takes the gradient through all blocks to the embedding.
    fn back(&mut self, kept: &[KeptInputs]) -> Result<()> {
        let backbone = self.backbone;
        self.leave(self.last())?;
        for group in (1..self.last()).rev() {
            let next = (group > 1 || self.learns()).then_some(group - 1);
            self.unshard(group, next)?;
            self.attempt(|| {
                kept.iter()
                    .try_for_each(|one| one.back_through(backbone, group - 1))
            });
            self.leave(group)?;
        }
        if self.learns() {
            self.unshard(0, None)?;
            self.attempt(|| kept.iter().try_for_each(|one| one.back_to_embedding(backbone)));
            self.attempt(|| backbone.join_head_gradient());
            return self.leave(0);
        }
        match self.is_tied() {
            true => self.gather.reshard(backbone.parameters(), 0),
            false => Ok(()),
        }
    }

    /// Returns whether the network's weights are trained. Those below an adapter are frozen.
    fn learns(&self) -> bool {
        self.backbone.lora().is_none()
    }

    /// Sends a group's gradients to their owners and frees its gathered weights.
    fn leave(&self, group: usize) -> Result<()> {
        let parameters = self.backbone.parameters();
        self.gather.reduce(parameters, group)?;
        self.gather.reshard(parameters, group)
    }

    fn end(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}
