//! Checks of the engine: its program, its answer, its device, and its sandbox.

use std::path::{Path, PathBuf};
use std::process::Command;

use demask_actors::engine::options::find_program;
use demask_actors::engine::process::EngineProcess;
use demask_actors::home::Home;
use demask_api::{Cuda, EngineInfo};

use super::check::{DoctorCheck, Status, check};
use crate::model::engine;

pub(super) fn engine_program() -> DoctorCheck {
    let program = find_program();
    let named = program.display();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (status, found, fix) = match Command::new(&program).arg("--version").output() {
        Ok(out) if out.status.success() => (Status::Ok, format!("{named} ({})", text(&out.stdout)), ""),
        Ok(out) => (
            Status::Fail,
            format!("{named}: {}", text(&out.stderr)),
            "rebuild it with `make build`; if libtorch was moved, run `make libtorch` first",
        ),
        Err(error) => (
            Status::Fail,
            format!("{named}: {error}"),
            "build it with `make build`, or set DEMASK_ENGINE to its path",
        ),
    };
    check("engine program", status, found, fix)
}

pub(super) fn ask_engine(home: &Home) -> anyhow::Result<EngineInfo> {
    engine::runtime()?.block_on(async {
        let engine: EngineProcess = engine::start_engine(home, "auto", "auto").await?;
        let info = engine.info().clone();
        engine.stop().await;
        Ok(info)
    })
}

pub(super) fn engine_answers(started: &anyhow::Result<EngineInfo>) -> DoctorCheck {
    match started {
        Ok(info) => {
            let device = &info.device;
            let kernels = device.kernels.as_ref();
            let found = format!(
                "libtorch {} on {} ({} threads), {}{}",
                info.libtorch,
                device.name,
                device.threads,
                device.compute,
                kernels.map_or(String::new(), |set| format!(", {set} kernels"))
            );
            check("engine answers", Status::Ok, found, "")
        }
        Err(error) => check(
            "engine answers",
            Status::Fail,
            format!("{error:#}"),
            "fix what the error says, then run `demask doctor` again",
        ),
    }
}

pub(super) fn libtorch() -> DoctorCheck {
    match std::env::var_os("LIBTORCH").map(PathBuf::from) {
        None => check(
            "LIBTORCH",
            Status::Ok,
            "not set: the libtorch found at build time is used",
            "",
        ),
        Some(folder) if folder.join("lib/libtorch_cpu.so").is_file() => {
            check("LIBTORCH", Status::Ok, folder.display().to_string(), "")
        }
        Some(folder) => {
            let found = format!("{} has no lib/libtorch_cpu.so", folder.display());
            check(
                "LIBTORCH",
                Status::Fail,
                found,
                "set it to the folder of a libtorch 2.11.0, or unset it",
            )
        }
    }
}

/// Checks what the engine found of CUDA. It warns if there is a device that the engine does not use.
pub(super) fn graphics(engine: Option<&EngineInfo>, device_files: bool) -> DoctorCheck {
    let Some(EngineInfo { device, .. }) = engine else {
        let (status, found) = if device_files {
            (Status::Warn, "an NVIDIA device")
        } else {
            (Status::Ok, "no NVIDIA device")
        };
        let found = format!("{found}; the engine does not answer, so what it finds is unknown");
        return check("graphics", status, found, "");
    };
    let unused = device_files && device.name == "cpu";
    let status = if unused || !device.cuda.fix().is_empty() {
        Status::Warn
    } else {
        Status::Ok
    };
    let mut found = device.cuda.to_string();
    if device.name == "cpu" {
        found += "; the CPU is used";
    }
    let mut fix = device.cuda.fix();
    if unused && matches!(device.cuda, Cuda::Off { .. }) {
        fix = "this machine has an NVIDIA device: unset DEMASK_NO_CUDA to use it".into();
    }
    check("graphics", status, found, fix)
}

pub(super) fn has_device_files() -> bool {
    Path::new("/dev/nvidia0").exists()
}

/// Checks what the engine's process may do besides computing.
pub(super) fn sandbox(engine: Option<&EngineInfo>) -> DoctorCheck {
    let Some(engine) = engine else {
        return check(
            "sandbox",
            Status::Ok,
            "unknown, because the engine does not answer",
            "",
        );
    };
    let words = &engine.sandbox;
    // A graphics driver's library opens files and starts programs as it likes, and nobody can change that.
    let writes_held = !words.contains("writes everywhere") || words.contains("beside a GPU");
    let holds = words.contains("no network") && writes_held;
    let fix = if holds {
        ""
    } else {
        "the engine is not confined: loading models from others is safer if the kernel has Landlock (5.13 and later) and seccomp, and if \
         DEMASK_SANDBOX is not set"
    };
    let status = if holds { Status::Ok } else { Status::Warn };
    check("sandbox", status, words.clone(), fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(name: &str, cuda: Cuda) -> EngineInfo {
        let device = demask_api::DeviceInfo {
            name: name.into(),
            threads: 1,
            compute: String::new(),
            kernels: None,
            matmul_gflops: None,
            cuda,
        };
        EngineInfo {
            protocol: demask_api::PROTOCOL,
            version: String::new(),
            libtorch: String::new(),
            pid: 1,
            device,
            sandbox: String::new(),
        }
    }

    #[test]
    fn a_device_that_is_not_used_is_a_warning_with_what_to_do() {
        let none = Cuda::NoLibrary {
            looked: vec!["/lib".into()],
        };
        let off = Cuda::Off {
            because: "DEMASK_NO_CUDA is set".into(),
        };
        for (found, words) in [(none, "pip install torch==2.11.0"), (off, "unset DEMASK_NO_CUDA")] {
            let row = graphics(Some(&engine("cpu", found)), true);
            assert!(
                row.status == Status::Warn && row.found.ends_with("the CPU is used"),
                "{}",
                row.found
            );
            assert!(row.fix.contains(words), "{}", row.fix);
        }
    }

    #[test]
    fn a_device_that_is_used_and_a_machine_without_one_are_fine() {
        let nothing = Cuda::NoDriver {
            message: "libcuda.so.1: not there".into(),
            nodes: false,
        };
        let ready = Cuda::Ready {
            devices: vec![demask_api::CudaDevice {
                name: "NVIDIA H100".into(),
                memory: 80 << 30,
                capability: "9.0".into(),
            }],
            driver: "13.0".into(),
            runtime: "13.0".into(),
        };
        for (name, found, files) in [("cpu", nothing, false), ("cuda:0", ready, true)] {
            let row = graphics(Some(&engine(name, found)), files);
            assert!(
                row.status == Status::Ok && row.fix.is_empty(),
                "{}: {}",
                row.found,
                row.fix
            );
        }
    }
}
