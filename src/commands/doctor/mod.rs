//! `demask doctor`: what this machine has, what is missing, how to mend it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use demask_actors::engine::process::{EngineProcess, find_program};
use demask_actors::home::{Home, free_bytes};
use demask_api::{Cuda, EngineInfo};
use serde::Serialize;

use crate::model::engine;
use crate::terminal::print;

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct DoctorCheck {
    name: &'static str,
    status: Status,
    found: String,
    /// What to do; empty when nothing has to be done.
    fix: String,
}

#[derive(Serialize)]
struct DoctorReport {
    ok: bool,
    checks: Vec<DoctorCheck>,
    /// What the engine found of CUDA; none when it does not answer.
    cuda: Option<Cuda>,
}

/// Looks, prints, exits 1 when something must be mended.
///
/// # Errors
/// Standard output's.
pub fn doctor(home: &Home, json: bool) -> anyhow::Result<ExitCode> {
    let engine = ask_engine(home);
    let checks = vec![
        version(),
        engine_program(),
        engine_answers(&engine),
        libtorch(),
        processor(),
        graphics(engine.as_ref().ok(), has_device_files()),
        home_writable(home),
        disk_space(home),
        shipped(home),
        daemon(home),
        terminal(),
    ];
    let ok = checks.iter().all(|check| check.status != Status::Fail);
    let cuda = engine.ok().map(|info| info.device.cuda);
    let report = DoctorReport { ok, checks, cuda };
    if json {
        print::json(&report)?;
    } else {
        show(&report)?;
    }
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(crate::exit::FAILED)
    })
}

fn show(report: &DoctorReport) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .map(|check| {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Warn => "warn",
                Status::Fail => "FAIL",
            };
            vec![status.to_owned(), check.name.to_owned(), check.found.clone()]
        })
        .collect();
    print::table(&["", "what", "found"], &rows)?;
    for check in report.checks.iter().filter(|check| !check.fix.is_empty()) {
        println!("\n{}: {}", check.name, check.fix);
    }
    Ok(())
}

fn check(
    name: &'static str,
    status: Status,
    found: impl Into<String>,
    fix: impl Into<String>,
) -> DoctorCheck {
    DoctorCheck {
        name,
        status,
        found: found.into(),
        fix: fix.into(),
    }
}

fn version() -> DoctorCheck {
    check("demask", Status::Ok, env!("CARGO_PKG_VERSION"), "")
}

fn engine_program() -> DoctorCheck {
    let program = find_program();
    match Command::new(&program).arg("--version").output() {
        Ok(out) if out.status.success() => {
            let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            check(
                "engine program",
                Status::Ok,
                format!("{} ({said})", program.display()),
                "",
            )
        }
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            let fix = "rebuild it with `make build`; if libtorch moved, run `make libtorch` first";
            check(
                "engine program",
                Status::Fail,
                format!("{}: {said}", program.display()),
                fix,
            )
        }
        Err(error) => {
            let fix = "build it with `make build`, or name it in DEMASK_ENGINE";
            check(
                "engine program",
                Status::Fail,
                format!("{}: {error}", program.display()),
                fix,
            )
        }
    }
}

fn ask_engine(home: &Home) -> anyhow::Result<EngineInfo> {
    engine::runtime()?.block_on(async {
        let engine: EngineProcess = engine::start_engine(home, "auto", "auto").await?;
        let info = engine.info().clone();
        engine.stop().await;
        Ok(info)
    })
}

fn engine_answers(started: &anyhow::Result<EngineInfo>) -> DoctorCheck {
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
            "see the line above; then `demask doctor` again",
        ),
    }
}

fn libtorch() -> DoctorCheck {
    match std::env::var_os("LIBTORCH").map(PathBuf::from) {
        None => check(
            "LIBTORCH",
            Status::Ok,
            "not set: the one found at build time is used",
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
                "point it at a libtorch 2.11.0, or unset it",
            )
        }
    }
}

fn processor() -> DoctorCheck {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let bf16 = ["amx_bf16", "avx512_bf16"]
        .into_iter()
        .find(|flag| flags.contains(flag));
    let found = format!(
        "{cores} cores, {}",
        bf16.map_or("no fast bf16: training uses f32".to_owned(), |f| format!(
            "bf16 by {f}"
        ))
    );
    check("processor", Status::Ok, found, "")
}

/// What the engine found of CUDA. It is worth a warning where there is a device and the engine computes beside it.
fn graphics(engine: Option<&EngineInfo>, device_files: bool) -> DoctorCheck {
    let Some(EngineInfo { device, .. }) = engine else {
        let (status, found) = if device_files {
            (Status::Warn, "an NVIDIA device")
        } else {
            (Status::Ok, "no NVIDIA device")
        };
        let found = format!("{found}; what the engine finds is not known while it does not answer");
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
        fix = "an NVIDIA device is here: unset DEMASK_NO_CUDA to compute on it".into();
    }
    check("graphics", status, found, fix)
}

fn has_device_files() -> bool {
    Path::new("/dev/nvidia0").exists()
}

fn home_writable(home: &Home) -> DoctorCheck {
    let probe = home.root().join(".doctor");
    let tried = std::fs::create_dir_all(home.root()).and_then(|()| std::fs::write(&probe, b"x"));
    std::fs::remove_file(&probe).ok();
    let place = home.root().display().to_string();
    match tried {
        Ok(()) => check("home", Status::Ok, place, ""),
        Err(error) => check(
            "home",
            Status::Fail,
            format!("{place}: {error}"),
            "name a folder that you may write to with --home or DEMASK_HOME",
        ),
    }
}

fn disk_space(home: &Home) -> DoctorCheck {
    const ENOUGH: u64 = 2 << 30;
    let Some(free) = free_bytes(home.root()) else {
        return check("disk", Status::Warn, "free space is not known", "");
    };
    let found = format!("{:.1} GB free", free as f64 / 1e9);
    if free < ENOUGH {
        return check(
            "disk",
            Status::Warn,
            found,
            "a long run keeps several checkpoints: make room or move the home",
        );
    }
    check("disk", Status::Ok, found, "")
}

fn shipped(home: &Home) -> DoctorCheck {
    match demask_actors::inference::shipped::folder(home) {
        Ok(folder) => check("shipped model", Status::Ok, folder.display().to_string(), ""),
        Err(error) => check(
            "shipped model",
            Status::Fail,
            format!("{error:#}"),
            "name its folder in DEMASK_SHIPPED; without it give --checkpoint, or --from-scratch to a run",
        ),
    }
}

fn daemon(home: &Home) -> DoctorCheck {
    match home.daemon_pid() {
        Some(pid) => check("daemon", Status::Ok, format!("running, process {pid}"), ""),
        None => check("daemon", Status::Ok, "not running (`demask run` starts it)", ""),
    }
}

fn terminal() -> DoctorCheck {
    let term = std::env::var("TERM").unwrap_or_default();
    if term.is_empty() || term == "dumb" {
        return check(
            "terminal",
            Status::Warn,
            format!("TERM is '{term}'"),
            "the dashboard needs a terminal; use --headless here",
        );
    }
    check("terminal", Status::Ok, term, "")
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
