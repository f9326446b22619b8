//! The checkpoint that ships with Demask: a trained tabletop model.

use std::path::{Path, PathBuf};

/// The name of the shipped checkpoint wherever a checkpoint may be named.
pub(crate) const SHIPPED: &str = "shipped";

/// The checkpoint's path below a folder of shipped files.
const WITHIN: &str = "shipped/tabletop";

/// Finds the shipped checkpoint: `DEMASK_SHIPPED`, else beside the program, else in `PREFIX/share/demask` for a program
/// in `PREFIX/bin`, else in the repository from which this program was built.
///
/// # Errors
/// An error if none of these places has it. It says what to do.
pub fn folder() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("DEMASK_SHIPPED").map(PathBuf::from);
    let built = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../model/shipped/tabletop"));
    // If the program is called through a link, the places are beside the link's target.
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
            "cannot find the shipped checkpoint; looked in {}; set DEMASK_SHIPPED to its folder, or train from scratch with --from-scratch",
            looked.join(", ")
        )
    })
}
