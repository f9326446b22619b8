//! The check that the stored tensors are those that a network needs. It reports all differences, not only the first.

use std::collections::BTreeSet;

use tch::Kind;

use crate::error::{ModelError, Result};
use crate::weights::slot::Slot;
use crate::weights::stored::StoredTensors;

/// The most differences that an error lists.
const NAMED: usize = 10;

/// Compares the slots with the stored tensors. `source` maps the name of a slot to its stored name. A stored tensor
/// that no slot needs is an error too, unless it is `ignored`.
///
/// # Errors
/// [`ModelError::Checkpoint`] if a tensor is missing, extra, misshapen or of an integer dtype. The message lists at
/// most ten of them, with what was expected and what was found.
pub fn check(
    slots: &[Slot],
    stored: &StoredTensors,
    source: impl Fn(&str) -> String,
    ignored: &[&str],
) -> Result<()> {
    let wanted: BTreeSet<String> = slots.iter().map(|slot| source(&slot.name)).collect();
    let extra = stored
        .names()
        .filter(|&name| !wanted.contains(name) && !ignored.contains(&name))
        .map(|name| format!("tensor {name} is not part of the network that config.json describes"));
    let complaints: Vec<String> = slots
        .iter()
        .filter_map(|slot| complaint(&source(&slot.name), &slot.shape, stored))
        .chain(extra)
        .collect();
    match complaints.as_slice() {
        [] => Ok(()),
        [one] => Err(ModelError::checkpoint(stored.path(), one)),
        all => {
            let named = all[..all.len().min(NAMED)].join("; ");
            let rest = match all.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            let message = format!("{} tensors do not fit: {named}{rest}", all.len());
            Err(ModelError::checkpoint(stored.path(), message))
        }
    }
}

fn complaint(name: &str, expected: &[i64], stored: &StoredTensors) -> Option<String> {
    let (Some(found), Some(kind)) = (stored.shape(name), stored.kind(name)) else {
        return Some(format!("tensor {name} is missing, expected shape {expected:?}"));
    };
    if found != expected {
        return Some(format!(
            "tensor {name} has shape {found:?}, expected {expected:?}"
        ));
    }
    let floating = matches!(kind, Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16);
    (!floating).then(|| format!("tensor {name} has dtype {kind:?}, expected a floating one"))
}
