//! What rank 0 has the other ranks of its world do too: whatever changes weights or needs their part of the state. Everything else
//! rank 0 does alone. Where each rank keeps a part of the weights it has them brought together first; they stay until the next
//! step.

use demask_api::{Request, wire};

use crate::engine::checkpoint::LoadedModel;
use crate::error::{ModelError, Result};
use crate::world::World;

/// Has the other ranks do what is asked, where they must.
///
/// # Errors
/// A peer that is gone.
pub fn ordered(world: &World, request: &Request) -> Result<()> {
    let is_for_all = matches!(
        request,
        Request::Load { .. }
            | Request::Train { .. }
            | Request::Policy { .. }
            | Request::SetReference { .. }
            | Request::Save { .. }
            | Request::Exit
    );
    if !is_for_all {
        return Ok(());
    }
    let text = serde_json::to_vec(request).map_err(|error| ModelError::Refused(error.to_string()))?;
    world.order(&text)
}

/// What an order is.
#[derive(Debug)]
pub enum Order {
    /// To do what is asked too.
    Do(Box<Request>),
    /// To bring this rank's part of the weights to rank 0.
    BringTogether,
}

/// How an order to bring weights together reads; a request is JSON.
const BRING_TOGETHER: &[u8] = b"bring weights together";

/// Has the other ranks bring their part of the weights.
///
/// # Errors
/// A peer that is gone.
pub fn bring_together(world: &World) -> Result<()> {
    world.order(BRING_TOGETHER)
}

/// Whether a request needs all weights on rank 0.
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

/// What an order says.
///
/// # Errors
/// [`ModelError::World`]: nothing.
pub fn decode(order: &[u8]) -> Result<Order> {
    if order == BRING_TOGETHER {
        return Ok(Order::BringTogether);
    }
    let request = wire::decode(order).map_err(|error| ModelError::World(format!("an order: {error}")))?;
    Ok(Order::Do(Box::new(request)))
}

/// Whether ranks can train a model.
///
/// # Errors
/// [`ModelError::Refused`]: its adapter has dropout, which is drawn by thread and not by unit.
pub fn admit(model: &LoadedModel) -> Result<()> {
    match model.backbone.lora() {
        Some(lora) if lora.config().dropout > 0.0 => Err(ModelError::Refused(
            "an adapter with dropout over ranks: it is drawn by thread; set its dropout to 0".into(),
        )),
        _ => Ok(()),
    }
}
