//! The checkpoint that ships with Demask: the trained tabletop model.

use std::path::{Path, PathBuf};

use crate::home::Home;

/// What it is called where a checkpoint may be named.
pub(crate) const SHIPPED: &str = "shipped";

/// Where it is below a folder that holds what ships.
const WITHIN: &str = "shipped/tabletop";

/// Where it is: `DEMASK_SHIPPED`, else beside the program, else in `PREFIX/share/demask` of a program in `PREFIX/bin`, else in
/// the repository that this program was built from.
///
/// # Errors
/// None of them has it, with what to do.
pub fn folder(_home: &Home) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("DEMASK_SHIPPED").map(PathBuf::from);
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../model/shipped/tabletop"));
    // What a link leads to is where the program is.
    let own = std::env::current_exe().and_then(std::fs::canonicalize).ok();
    let bin = own.as_deref().and_then(Path::parent);
    let beside = bin.map(|bin| bin.join(WITHIN));
    let shared = bin
        .and_then(Path::parent)
        .map(|prefix| prefix.join("share/demask").join(WITHIN));
    let places: Vec<PathBuf> = named
        .into_iter()
        .chain(beside)
        .chain(shared)
        .chain([built])
        .collect();
    let found = places.iter().find(|place| place.join("manifest.json").is_file());
    found.cloned().ok_or_else(|| {
        let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        anyhow::anyhow!(
            "the shipped checkpoint is in none of {}; name it in DEMASK_SHIPPED, or train one with --from-scratch",
            looked.join(", ")
        )
    })
}
