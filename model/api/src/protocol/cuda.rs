//! What an engine found of CUDA when it started: whether it can compute there, and if not, which of several things is wrong
//! and what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A device that CUDA's driver shows to the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaDevice {
    /// As the driver calls it, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Bytes of memory in all.
    pub memory: u64,
    /// Compute capability, such as `9.0`.
    pub capability: String,
}

/// What was found of CUDA on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Cuda {
    /// Not looked for: something else was asked for.
    Off {
        /// What.
        because: String,
    },
    /// The engine can compute there.
    Ready {
        /// `cuda:0` and so on, in this order.
        devices: Vec<CudaDevice>,
        /// CUDA's version that the driver serves, and the driver's own release where it tells.
        driver: String,
        /// CUDA's version that libtorch was built with.
        runtime: String,
    },
    /// `libcuda.so.1`, which comes with NVIDIA's driver, cannot be opened.
    NoDriver {
        /// The linker's words.
        message: String,
        /// Whether there are device files (`/dev/nvidia0`) all the same.
        nodes: bool,
    },
    /// The driver is there and shows no device.
    NoDevice {
        /// The driver's words.
        message: String,
        /// `CUDA_VISIBLE_DEVICES`, if it is set.
        visible: Option<String>,
    },
    /// No CUDA half of libtorch, `libtorch_cuda.so`.
    NoLibrary {
        /// Folders, and the linker's own places.
        looked: Vec<String>,
    },
    /// Two parts that do not belong together.
    OtherVersion {
        /// What is there.
        found: String,
        /// What it would have to be.
        needed: String,
    },
    /// A library that is there and cannot be opened.
    NotOpened {
        /// Which.
        library: String,
        /// The linker's words.
        message: String,
    },
    /// A fault of the engine's own: it asked libtorch for CUDA before libtorch could have it, and stays without.
    AskedTooEarly,
}

impl Default for Cuda {
    fn default() -> Self {
        Self::Off {
            because: "nobody has looked".into(),
        }
    }
}

impl Cuda {
    /// Whether the engine can compute there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    /// The devices; none unless it is ready.
    #[must_use]
    pub fn devices(&self) -> &[CudaDevice] {
        match self {
            Self::Ready { devices, .. } => devices,
            _ => &[],
        }
    }

    /// What was found and, where something has to be done, what.
    #[must_use]
    pub fn with_fix(&self) -> String {
        match self.fix() {
            fix if fix.is_empty() => self.to_string(),
            fix => format!("{self}; {fix}"),
        }
    }

    /// What to do; empty where nothing has to be done.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Off { .. } | Self::Ready { .. } | Self::NoDriver { nodes: false, .. } => String::new(),
            Self::NoDriver { nodes: true, .. } => {
                "let the linker find the driver's libcuda.so.1: install NVIDIA's driver, start the container with \
                 NVIDIA's runtime (--gpus all), or put its folder into LD_LIBRARY_PATH"
                    .into()
            }
            Self::NoDevice {
                visible: Some(visible),
                ..
            } => format!("CUDA_VISIBLE_DEVICES is '{visible}': unset it, or name devices that `nvidia-smi` lists"),
            Self::NoDevice { visible: None, .. } => {
                "see whether `nvidia-smi` lists a device; in a container, start it with --gpus all".into()
            }
            Self::NoLibrary { .. } => "use PyTorch 2.11's own libtorch: `pip install torch==2.11.0`, then `make build` \
                with that Python active, or start with LD_LIBRARY_PATH=<site-packages>/torch/lib"
                .into(),
            Self::OtherVersion { needed, .. } => format!("bring both to one version: {needed}"),
            Self::NotOpened { .. } => "mend what the linker says is missing (`ldd` on that file lists all it needs); \
                `pip install --force-reinstall torch==2.11.0` brings everything but the driver"
                .into(),
            Self::AskedTooEarly => {
                "this is a fault of Demask's: please report it, and how the engine was started".into()
            }
        }
    }
}

impl fmt::Display for Cuda {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off { because } => write!(out, "not looked for: {because}"),
            Self::Ready {
                devices,
                driver,
                runtime,
            } => {
                for (number, device) in devices.iter().enumerate() {
                    let CudaDevice { name, capability, .. } = device;
                    let gib = device.memory as f64 / f64::from(1 << 30);
                    write!(
                        out,
                        "cuda:{number} {name}, {gib:.1} GiB, capability {capability}; "
                    )?;
                }
                write!(
                    out,
                    "driver for CUDA {driver}, libtorch built with CUDA {runtime}"
                )
            }
            Self::NoDriver { nodes: false, .. } => write!(out, "none: no NVIDIA driver and no device files"),
            Self::NoDriver { message, nodes: true } => {
                write!(
                    out,
                    "a device, but its driver's library cannot be opened: {message}"
                )
            }
            Self::NoDevice { message, .. } => {
                write!(out, "an NVIDIA driver, but no device is visible: {message}")
            }
            Self::NoLibrary { looked } => {
                let looked = looked.join(", ");
                write!(out, "a device, but no libtorch_cuda.so; looked in {looked}")
            }
            Self::OtherVersion { found, needed } => {
                write!(out, "versions that do not fit: found {found}, needed {needed}")
            }
            Self::NotOpened { library, message } => write!(out, "{library} cannot be opened: {message}"),
            Self::AskedTooEarly => write!(out, "libtorch was asked for CUDA before its CUDA half was open"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn each() -> Vec<Cuda> {
        let text = || "words".to_owned();
        let device = CudaDevice {
            name: "NVIDIA H100".into(),
            memory: 80 << 30,
            capability: "9.0".into(),
        };
        vec![
            Cuda::default(),
            Cuda::Ready {
                devices: vec![device],
                driver: "13.0".into(),
                runtime: "13.0".into(),
            },
            Cuda::NoDriver {
                message: text(),
                nodes: true,
            },
            Cuda::NoDevice {
                message: text(),
                visible: Some("7".into()),
            },
            Cuda::NoLibrary { looked: vec![text()] },
            Cuda::OtherVersion {
                found: text(),
                needed: text(),
            },
            Cuda::NotOpened {
                library: text(),
                message: text(),
            },
            Cuda::AskedTooEarly,
        ]
    }

    #[test]
    fn each_crosses_the_wire_and_every_fault_says_what_to_do() {
        for found in each() {
            let text = serde_json::to_string(&found).unwrap();
            assert_eq!(serde_json::from_str::<Cuda>(&text).unwrap(), found);
            let fine = matches!(found, Cuda::Off { .. } | Cuda::Ready { .. });
            assert_eq!(found.fix().is_empty(), fine, "{found}");
        }
        let words: std::collections::BTreeSet<String> = each().iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), each().len(), "no two are told in the same words");
    }

    #[test]
    fn a_machine_without_a_device_has_nothing_to_mend() {
        let none = Cuda::NoDriver {
            message: "not found".into(),
            nodes: false,
        };
        assert_eq!(none.fix(), "");
    }

    #[test]
    fn a_ready_one_lists_its_devices_with_their_memory() {
        let words = each()[1].to_string();
        assert!(
            words.contains("cuda:0 NVIDIA H100, 80.0 GiB, capability 9.0"),
            "{words}"
        );
    }
}
