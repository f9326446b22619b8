//! The gradients of a batch whose units are divided over several ranks and computed round by round.

use tch::{Device, Kind, Tensor};

use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::training::interlude::Pause;
use crate::training::optimizer::AdamW;
use crate::training::ranks::share::Share;
use crate::training::ranks::weight_traffic::WeightTraffic;
use crate::training::{sweep, threads};
use crate::world::group::Reduce;

/// The units of a batch.
#[derive(Debug)]
pub struct Units<'a, P> {
    /// One part of the batch for each unit. Every rank has all parts, in the same order.
    pub parts: &'a mut [P],
    /// The number of figures, such as sums of losses, that the work on one unit returns.
    pub figures: usize,
}

/// Computes the gradients of all units: `work` runs on this rank's units while the other ranks compute theirs. When
/// this returns, the accumulators of the owners contain all gradients. Returns the figures of every unit, on every
/// rank.
///
/// # Errors
/// [`ModelError::Refused`] on all ranks if the work failed on one of them, or [`ModelError::World`].
pub fn gradients<P, F>(
    share: &Share,
    (backbone, optimizer): (&mut Backbone, &mut AdamW),
    units: Units<'_, P>,
    pause: &mut Pause<'_>,
    work: F,
) -> Result<Vec<Tensor>>
where
    P: Send,
    F: Fn(&Backbone, &mut P, &mut Pause<'_>) -> Result<Tensor> + Sync,
{
    let (rank, size) = (share.world.rank(), share.world.size());
    let count = units.parts.len();
    let figures = Tensor::f_zeros([count as i64, units.figures as i64], (Kind::Double, Device::Cpu))?;
    let numbered = units.parts.iter_mut().enumerate();
    let mut own: Vec<(usize, &mut P)> = numbered.skip(rank).step_by(size).collect();
    // Dropout is drawn by unit, so that it depends neither on the rank nor on the thread (law L11).
    let noise = backbone.noise();
    let work = |backbone: &Backbone, (unit, part): &mut (usize, &mut P), pause: &mut Pause<'_>| {
        backbone.set_noise(noise.map(|noise| noise.of_unit(*unit)));
        backbone.forget_head_gradient()?;
        let made = work(backbone, part, pause)?;
        backbone.join_head_gradient()?;
        Ok(made)
    };
    let rounds: Vec<usize> = (0..count.div_ceil(size)).collect();
    // A rank computes the units of several rounds at a time, one per thread, but the gradients are added one round
    // after the other, so that they are summed in the order of the units (law L11).
    for rounds in rounds.chunks(share.at_once) {
        let end = own.len().min(rounds[rounds.len() - 1] + 1);
        let now = &mut own[rounds[0].min(end)..end];
        let done = match &share.traffic {
            Some(traffic) => {
                // Sharded weights imply `at_once == 1`, so there is one round here. Its gradients are exchanged during
                // the backward pass, unless the weights are frozen below an adapter.
                let present = size.min(count - rounds[0] * size);
                traffic.begin_round(optimizer.accumulator(), present);
                swept(traffic, backbone, now, pause, work)?.map(|made| (made, Vec::new()))
            }
            None => threads::on_twins(backbone, now, pause, work)
                .and_then(|(made, twins)| Ok((made.into_iter().collect::<Result<Vec<_>>>()?, twins))),
        };
        let (made, mut twins) = share.world.agree(done)?;
        let rounds_of_whole: &[usize] = if share.is_of_weights() { &[] } else { rounds };
        for (number, &round) in rounds_of_whole.iter().enumerate() {
            // The first unit's gradients are in the backbone itself, those of the others in its twins.
            let trained = match number {
                _ if number >= made.len() => None,
                0 => Some(backbone.trained_mut()),
                _ => Some(twins[number - 1].trained_mut()),
            };
            let (into, present) = (optimizer.accumulator(), size.min(count - round * size));
            tch::no_grad(|| share.exchange(into, trained, present)).map_err(ModelError::fatal)?;
        }
        for (made, &round) in made.iter().zip(rounds) {
            let unit = (round * size + rank) as i64;
            figures.f_select(0, unit)?.f_copy_(made)?;
        }
    }
    backbone.set_noise(noise.map(|noise| noise.after(1)));
    // A row is nonzero on one rank only, so the sum is exact.
    share.world.group(Device::Cpu).all_reduce(&figures, Reduce::Sum)?;
    let figures = figures.f_to_device(backbone.device())?;
    (0..count as i64)
        .map(|unit| Ok(figures.f_select(0, unit)?))
        .collect()
}

/// Runs the work on at most one unit with sharded weights. Every rank takes part in the collective calls of one forward
/// and backward sweep, also if it has no unit or if its unit failed before the sweep began.
///
/// # Errors
/// [`ModelError::World`] if a peer is gone. Any other error of the work is returned inside `Ok`.
fn swept<P, F>(
    traffic: &WeightTraffic,
    backbone: &Backbone,
    unit: &mut [P],
    pause: &mut Pause<'_>,
    work: F,
) -> Result<Result<Vec<Tensor>>>
where
    P: Send,
    F: Fn(&Backbone, &mut P, &mut Pause<'_>) -> Result<Tensor> + Sync,
{
    let done = threads::on_twins(backbone, unit, pause, work)
        .and_then(|(made, _)| made.into_iter().collect::<Result<Vec<_>>>());
    if let Err(lost @ ModelError::World(_)) = done {
        return Err(lost);
    }
    if !traffic.has_swept() {
        sweep::descend_each(
            backbone,
            &[(); 0],
            |()| Default::default(),
            |(), _, ()| Ok(()),
            pause,
        )
        .map_err(ModelError::fatal)?;
    }
    traffic
        .end_round(backbone.parameters())
        .map_err(ModelError::fatal)?;
    Ok(done)
}
