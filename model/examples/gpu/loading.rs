//! Measures how fast weights are loaded from the page cache to the device.

use std::path::Path;

use anyhow::Context as _;
use demask_api::Purpose;
use demask_model::Backbone;
use demask_model::weights::safetensors;

use crate::clock::{median, wait};
use crate::figure::Teller;
use crate::options::Options;
use crate::shape::Shape;

/// Bytes of a layer of the 8B shape in bf16, and of the parameters outside the layers.
const LAYER: f64 = 436e6;
const ENDS: f64 = 2.3e9;

/// Writes the weights, frees them, and loads them. If the disk has too little space, the network has fewer
/// layers.
///
/// # Errors
/// Returns errors of the file system and of libtorch.
pub fn loading(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let place = options.place("auto")?;
    let mut config = Shape::of(options)?.config;
    let folder = options.out.join("weights");
    // Remove what a killed earlier section left behind.
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    if !options.small {
        let room = (free_bytes(&folder).unwrap_or(f64::MAX) * 0.8 - ENDS) / LAYER;
        anyhow::ensure!(room >= 1.0, "{}: less than 4 GB free", folder.display());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let room = room.min(1e6) as usize;
        config.n_layers = config.n_layers.min(room);
    }
    let backbone = Backbone::random(&config, 1, place.device, place.kind)?;
    let text = serde_json::to_string_pretty(backbone.config())?;
    std::fs::write(folder.join("config.json"), text)?;
    let file = folder.join("model.safetensors");
    safetensors::write(&file, &backbone.parameters().named()?, None)?;
    drop(backbone);
    let bytes = std::fs::metadata(&file)?.len() as f64;
    let ms = median(place.device, 2, || {
        let loaded = Backbone::load_for(&folder, place.device, place.kind, Purpose::Sample)?;
        wait(loaded.device());
        Ok(())
    })?;
    std::fs::remove_dir_all(&folder)?;
    let figure = format!("loading {:.2} GB from the page cache", bytes / 1e9);
    let asked = options.asked().then_some((5.0, 5.0));
    teller.at_least(&figure, bytes / ms / 1e6, "GB/s", asked);
    Ok(())
}

fn free_bytes(path: &Path) -> Option<f64> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: `name` is NUL-terminated, and `stat` is a plain struct that the call fills in.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(name.as_ptr(), &raw mut stat) == 0).then_some(stat)
    }?;
    Some(stat.f_bavail as f64 * stat.f_frsize as f64)
}
