//! The state of CUDA when an engine starts: whether it can compute there, and if not, what is wrong and what to do
//! about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A device that the CUDA driver shows to the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CudaDevice {
    /// The driver's name of the device, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// The memory of the device in bytes.
    pub memory: u64,
    /// The compute capability, such as `9.0`.
    pub capability: String,
}

/// The state of CUDA on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Cuda {
    /// CUDA was not looked for.
    Off {
        /// The reason.
        because: String,
    },
    /// The engine can compute on CUDA.
    Ready {
        /// The devices `cuda:0` and so on, in this order.
        devices: Vec<CudaDevice>,
        /// The CUDA version that the driver supports, and the driver's release if it is known.
        driver: String,
        /// The CUDA version that libtorch was built with.
        runtime: String,
    },
    /// `libcuda.so.1`, which comes with NVIDIA's driver, cannot be loaded.
    NoDriver {
        /// The message of the dynamic linker.
        message: String,
        /// Whether there are device files (`/dev/nvidia0`) all the same.
        nodes: bool,
    },
    /// The driver is there but shows no device.
    NoDevice {
        /// The message of the driver.
        message: String,
        /// The value of `CUDA_VISIBLE_DEVICES`, if it is set.
        visible: Option<String>,
    },
    /// There is no CUDA library of libtorch, `libtorch_cuda.so`.
    NoLibrary {
        /// The folders that were searched, and the places of the dynamic linker.
        looked: Vec<String>,
    },
    /// Two parts have versions that do not match.
    OtherVersion {
        /// The version that was found.
        found: String,
        /// The version that is needed.
        needed: String,
    },
    /// A library is there but cannot be loaded.
    NotOpened {
        /// The library.
        library: String,
        /// The message of the dynamic linker.
        message: String,
    },
    /// The engine asked libtorch for CUDA before the CUDA libraries were loaded, and stays without CUDA. This is a bug.
    AskedTooEarly,
}

impl Default for Cuda {
    fn default() -> Self {
        Self::Off {
            because: "the engine has not searched for it yet".into(),
        }
    }
}

impl Cuda {
    /// Returns whether the engine can compute on CUDA.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    /// Returns the devices, or none if CUDA is not ready.
    #[must_use]
    pub fn devices(&self) -> &[CudaDevice] {
        match self {
            Self::Ready { devices, .. } => devices,
            _ => &[],
        }
    }

    /// Formats the state, followed by the remedy if there is one.
    #[must_use]
    pub fn with_fix(&self) -> String {
        match self.fix() {
            fix if fix.is_empty() => self.to_string(),
            fix => format!("{self}; {fix}"),
        }
    }

    /// Returns the remedy for a fault, or an empty text if nothing has to be done.
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
                "check that `nvidia-smi` lists a device; start a container with --gpus all".into()
            }
            Self::NoLibrary { .. } => "use PyTorch 2.11's own libtorch: `pip install torch==2.11.0`, then `make build` \
                with that Python active, or start with LD_LIBRARY_PATH=<site-packages>/torch/lib"
                .into(),
            Self::OtherVersion { needed, .. } => format!("install matching versions: {needed}"),
            Self::NotOpened { .. } => "install what the linker reports as missing (`ldd` on that file lists what it needs); \
                `pip install --force-reinstall torch==2.11.0` installs everything but the driver"
                .into(),
            Self::AskedTooEarly => {
                "this is a bug in Demask: please report it together with how the engine was started".into()
            }
        }
    }
}

impl fmt::Display for Cuda {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off { because } => write!(out, "not used: {because}"),
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
                    "there is a device, but the driver's library cannot be opened: {message}"
                )
            }
            Self::NoDevice { message, .. } => {
                write!(
                    out,
                    "there is an NVIDIA driver, but no device is visible: {message}"
                )
            }
            Self::NoLibrary { looked } => {
                let looked = looked.join(", ");
                write!(
                    out,
                    "there is a device, but no libtorch_cuda.so; looked in {looked}"
                )
            }
            Self::OtherVersion { found, needed } => {
                write!(out, "versions do not match: found {found}, needed {needed}")
            }
            Self::NotOpened { library, message } => write!(out, "{library} cannot be opened: {message}"),
            Self::AskedTooEarly => write!(
                out,
                "libtorch was asked for CUDA before its CUDA libraries were loaded"
            ),
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
