//! What rank 0 has the other ranks of its world do too: whatever changes weights or needs their part of the state. Everything else
//! rank 0, which has all weights, does alone.

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

/// The request that an order is.
///
/// # Errors
/// [`ModelError::World`]: it is none.
pub fn decode(order: &[u8]) -> Result<Request> {
    wire::decode(order).map_err(|error| ModelError::World(format!("an order: {error}")))
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
