//! The orders of rank 0 to the other ranks of its world. The other ranks take part in every request that
//! changes weights or needs their part of the state; rank 0 does everything else alone. Where the weights are
//! sharded, rank 0 first orders that they be gathered for a request that needs them; they stay gathered until
//! the next step.

use demask_api::{Request, wire};

use crate::error::{ModelError, Result};
use crate::world::World;

/// Sends the request to the other ranks if they must take part in it.
///
/// # Errors
/// Returns [`ModelError::World`] if a peer is gone.
pub fn ordered(world: &World, request: &Request) -> Result<()> {
    let is_for_all = matches!(
        request,
        Request::Load { .. }
            | Request::Train { .. }
            | Request::Policy { .. }
            | Request::SetReference { .. }
            | Request::ReadMark { .. }
            | Request::Save { .. }
            | Request::Exit
    );
    if !is_for_all {
        return Ok(());
    }
    let text = serde_json::to_vec(request).map_err(|error| ModelError::Refused(error.to_string()))?;
    world.order(&text)
}

/// An order of rank 0 to the other ranks.
#[derive(Debug)]
pub enum Order {
    /// Take part in this request.
    Do(Box<Request>),
    /// Send this rank's shard of the weights to rank 0.
    BringTogether,
}

/// The wire form of [`Order::BringTogether`]; a request is JSON.
const BRING_TOGETHER: &[u8] = b"bring weights together";

/// Orders the other ranks to send their shards of the weights.
///
/// # Errors
/// Returns [`ModelError::World`] if a peer is gone.
pub fn bring_together(world: &World) -> Result<()> {
    world.order(BRING_TOGETHER)
}

/// Returns whether a request needs all weights on rank 0.
#[must_use]
pub fn needs_weights(request: &Request) -> bool {
    matches!(
        request,
        Request::Sample { .. }
            | Request::Aside { .. }
            | Request::LogProbs { .. }
            | Request::LogLikelihoods { .. }
            | Request::ScoreViews(_)
    )
}

/// Decodes an order.
///
/// # Errors
/// Returns [`ModelError::World`] if the bytes are neither the gather order nor a request.
pub fn decode(order: &[u8]) -> Result<Order> {
    if order == BRING_TOGETHER {
        return Ok(Order::BringTogether);
    }
    let request = wire::decode(order).map_err(|error| ModelError::World(format!("an order: {error}")))?;
    Ok(Order::Do(Box::new(request)))
}
