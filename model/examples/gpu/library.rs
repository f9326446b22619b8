//! Which of CUDA's libraries the process has once the device is open. NCCL is mapped with libtorch's CUDA half, which names it,
//! and never called: where it is not installed, that half does not open and the engine says so.

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

/// Each library and where it was found.
///
/// # Errors
/// No device, no `/proc`.
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
