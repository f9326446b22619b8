//! Profiles of tests: the smoke profile, with other values where a test needs them.

use demask_actors::profile::Profile;

/// The profile that walks through every kind of stage in seconds.
pub const SMOKE: &str = include_str!("../../actors/profiles/smoke.toml");

/// The smoke profile with these values set, as `--set KEY=VALUE` sets them: `stage.1.steps=2` is of the second stage.
///
/// # Panics
/// When a key leads nowhere: the profile has been reworded, and the test would check less.
#[must_use]
pub fn smoke(assignments: &[&str]) -> String {
    let assignments: Vec<String> = assignments.iter().map(|one| (*one).to_owned()).collect();
    Profile::set(SMOKE, "smoke.toml", &assignments).expect("keys of the smoke profile")
}

/// The smoke profile up to its stages, and these stages instead.
///
/// # Panics
/// When the smoke profile has no stage.
#[must_use]
pub fn smoke_with_stages(stages: &str) -> String {
    let (head, _) = SMOKE.split_once("[[stage]]").expect("a stage");
    format!("{head}{stages}")
}
