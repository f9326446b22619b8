//! Groups of rows through a network, forward and back.
//!
//! Where a rank has all weights each group goes through the whole network before the next. Where each rank keeps a part of them
//! (`weights/shards/`) all groups of a unit go together, block by block: a block's weights are brought together once on the way there
//! and once on the way back, while the groups before it are computed, and its gradients leave for their owners when all groups have
//! added theirs, in the order of the groups, which is that of one rank with all weights (law L11).
//!
//! Ranks go through their sweeps together: one that has no unit left, or whose unit failed, brings its part all the same.

use crate::device::transfer::{Arrived, Packet};
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::network::full_forward::FullPass;
use crate::training::interlude::Pause;
use crate::training::loss::{self, Gathered, LossRow, Targets, gather_to_descend};
use crate::training::recompute::{ForwardPass, KeptInputs};
use crate::weights::shards::gather::Gather;

/// Takes the gradient of what `head` makes of each group's hidden states. `packed` gives a group's rows, what crosses to the device
/// with them, and what `head` finds it by; `head` takes the gradient down to the hidden states ([`loss::descend`]). Once for each unit.
///
/// # Errors
/// The first group's that failed; libtorch's; a peer that is gone.
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
    sweep.end()
}

/// What `head` makes of each group's hidden states, without gradient.
///
/// # Errors
/// The first group's that failed; libtorch's; a peer that is gone.
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
    sweep.end()?;
    Ok(made)
}

/// A way through all groups of weights and back.
struct Sweep<'a> {
    backbone: &'a Backbone,
    gather: &'a dyn Gather,
    /// Why nothing is computed any more.
    failed: Option<ModelError>,
}

impl<'a> Sweep<'a> {
    /// Begins with what was prepared, or with nothing where that failed.
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

    /// The group of the last norm and the head; that of block n is n + 1, that of the embedding 0.
    fn last(&self) -> usize {
        self.backbone.config().n_layers + 1
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

    /// Takes passes through embedding and blocks; the last norm and the head are there then, and where the way back follows the last
    /// block still is.
    fn forward(&mut self, planned: Vec<FullPass>, returns: bool) -> Result<Vec<ForwardPass>> {
        let (backbone, parameters, last) = (self.backbone, self.backbone.parameters(), self.last());
        self.gather.begin(parameters)?;
        self.unshard(0, Some(1))?;
        let begun = planned
            .into_iter()
            .map(|pass| ForwardPass::begin(backbone, pass, returns));
        let mut passes: Vec<ForwardPass> = self.attempt(|| begun.collect());
        self.gather.reshard(parameters, 0)?;
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

    /// Takes the gradient on through all blocks to the embedding.
    fn back(&mut self, kept: &[KeptInputs]) -> Result<()> {
        let backbone = self.backbone;
        self.leave(self.last())?;
        for group in (1..self.last()).rev() {
            self.unshard(group, Some(group - 1))?;
            self.attempt(|| {
                kept.iter()
                    .try_for_each(|one| one.back_through(backbone, group - 1))
            });
            self.leave(group)?;
        }
        self.unshard(0, None)?;
        self.attempt(|| kept.iter().try_for_each(|one| one.back_to_embedding(backbone)));
        self.leave(0)
    }

    /// Sends a group's gradients and lets its weights go.
    fn leave(&self, group: usize) -> Result<()> {
        let parameters = self.backbone.parameters();
        self.gather.reduce(parameters, group)?;
        self.gather.reshard(parameters, group)
    }

    fn end(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}
