//! The checkpoint that ships with Demask: the trained tabletop model.

use std::path::PathBuf;

use crate::home::Home;

/// What it is called where a checkpoint may be named.
pub(crate) const SHIPPED: &str = "shipped";

/// Where it is: `DEMASK_SHIPPED`, else the repository that this program was built from, else beside the program.
///
/// # Errors
/// None of them has it, with what to do.
pub fn folder(_home: &Home) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("DEMASK_SHIPPED").map(PathBuf::from);
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../model/shipped/tabletop"));
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("shipped/tabletop")));
    let places: Vec<PathBuf> = named.into_iter().chain([built]).chain(beside).collect();
    let found = places.iter().find(|place| place.join("manifest.json").is_file());
    found.cloned().ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        anyhow::anyhow!(
            "the shipped checkpoint is in none of {}; name it in DEMASK_SHIPPED, or train one with --from-scratch",
            looked.join(", ")
        )
    })
}
