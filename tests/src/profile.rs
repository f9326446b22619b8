//! Test profiles: the smoke profile, optionally with other values.

use demask_actors::profile::Profile;

/// The profile that runs every kind of stage within seconds.
pub const SMOKE: &str = include_str!("../../actors/profiles/smoke.toml");

/// Returns the smoke profile with these values set as by `--set KEY=VALUE`; `stage.1.steps=2` refers to the second
/// stage.
///
/// # Panics
/// If a key does not exist: the profile has changed, and the test would check less.
#[must_use]
pub fn smoke(assignments: &[&str]) -> String {
    let assignments: Vec<String> = assignments.iter().map(|one| (*one).to_owned()).collect();
    Profile::set(SMOKE, "smoke.toml", &assignments).expect("keys of the smoke profile")
}

/// Returns the smoke profile with other stages.
///
/// # Panics
/// If the smoke profile has no stage.
#[must_use]
pub fn smoke_with_stages(stages: &str) -> String {
    let (head, _) = SMOKE.split_once("[[stage]]").expect("a stage");
    format!("{head}{stages}")
}
