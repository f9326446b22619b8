//! Complete runs through the built programs, with the engine on the device:
//!
//! - `daemon.rs`: a daemon in a home of its own, its runs, and what its store tells;
//! - `stages.rs`: every kind of stage, UniGRPO steps, an engine that is killed;
//! - `beside.rs`: a sampling engine and a training engine on one device, against one engine that does both in turn;
//! - `ranks.rs`: the same run without ranks, on one rank and on two.

pub mod beside;
mod daemon;
pub mod ranks;
pub mod stages;

use crate::options::Options;

/// A profile with every kind of stage, on a network too small to learn anything.
const SMOKE: &str = include_str!("../../../../actors/profiles/smoke.toml");
/// A profile of UniGRPO from the shipped start.
const ALIGN: &str = include_str!("../../../../actors/profiles/tabletop-align.toml");

/// Returns a profile's text before its first stage.
fn settings_of(profile: &str) -> &str {
    profile.split("[[stage]]").next().unwrap_or_default()
}

/// Returns the profile with its `[engine]` section replaced: the engine runs on the device, in its default
/// dtype.
fn on_device(options: &Options, profile: &str) -> String {
    let text = profile.split("[engine]").collect::<Vec<_>>();
    let rest = match text.as_slice() {
        [before, after] => {
            let next = after.find("\n[").map_or("", |at| &after[at..]);
            format!("{before}{next}")
        }
        _ => profile.to_owned(),
    };
    format!("{rest}\n[engine]\ndevice = \"{}\"\n", options.device)
}
