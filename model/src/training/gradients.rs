//! The gradients of a batch, computed by this process's threads or by the ranks of a world, in the optimizer's
//! accumulator.

use tch::Tensor;

use crate::device::heartbeat;
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::training::interlude::Pause;
use crate::training::optimizer::AdamW;
use crate::training::{ranks, threads};

/// Does `work`, which takes gradients and gives `figures` numbers, on each part at the same time; all gradients are in
/// the optimizer's accumulator then. The first part is done by the thread that calls, and is given `pause`. Of an
/// optimizer that ranks share each does its parts, and all get the figures of all.
///
/// # Errors
/// The first part's that failed; what the others left is in the accumulator, for [`AdamW::discard`].
pub fn accumulate<P, F>(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    parts: &mut [P],
    pause: &mut Pause<'_>,
    (figures, work): (usize, F),
) -> Result<Vec<Tensor>>
where
    P: Send,
    F: Fn(&Backbone, &mut P, &mut Pause<'_>) -> Result<Tensor> + Sync,
{
    if let Some(share) = optimizer.share().cloned() {
        let units = ranks::Units { parts, figures };
        return ranks::gradients(&share, (backbone, optimizer), units, pause, work);
    }
    let (made, twins) = threads::on_twins(backbone, parts, pause, work)?;
    heartbeat::beat();
    optimizer.accumulate(backbone.trained_mut())?;
    for mut twin in twins {
        optimizer.accumulate(twin.trained_mut())?;
    }
    made.into_iter().collect()
}
