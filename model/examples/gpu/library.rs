//! Reports which CUDA libraries the process has mapped once the device is open. libtorch's CUDA library links
//! against NCCL, which only ranks call. Where NCCL is not installed, the CUDA library does not open and the
//! engine says so.

use crate::figure::Teller;
use crate::options::Options;

const LIBRARIES: [&str; 8] = [
    "libtorch_cuda",
    "libcudart",
    "libcublasLt",
    "libcudnn",
    "libnvrtc",
    "libnvrtc-builtins",
    "libcupti",
    "libnccl",
];

/// Reports each library and where it was found.
///
/// # Errors
/// Returns an error if there is no device or no `/proc`.
pub fn nccl(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let place = options.place("auto")?;
    let one = tch::Tensor::f_ones([1], (tch::Kind::Float, place.device))?;
    anyhow::ensure!(one.f_double_value(&[])? == 1.0, "a one is no one");
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for name in LIBRARIES {
        let file = format!("/{name}.so");
        let mapped = maps.lines().find(|line| line.contains(&file));
        let path = mapped.and_then(|line| line.find('/').map(|at| &line[at..]));
        teller.check(name, true, path.unwrap_or("not mapped"));
    }
    Ok(())
}
