//! `demask doctor`: what this machine has, what is missing, how to mend it.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use demask_actors::engine::{Engine, find_program};
use demask_actors::home::Home;
use serde::Serialize;

use crate::{print, studio};

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    status: Status,
    found: String,
    /// What to do; empty when nothing has to be done.
    fix: String,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

/// Looks, prints, exits 1 when something must be mended.
///
/// # Errors
/// Standard output's.
pub fn doctor(home: &Home, json: bool) -> anyhow::Result<ExitCode> {
    let checks = vec![
        version(),
        engine_program(),
        engine_answers(home),
        libtorch(),
        processor(),
        graphics(),
        home_writable(home),
        disk_space(home),
        shipped(home),
        daemon(home),
        terminal(),
    ];
    let ok = checks.iter().all(|check| check.status != Status::Fail);
    let report = Report { ok, checks };
    if json {
        print::json(&report)?;
    } else {
        show(&report)?;
    }
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(crate::FAILED)
    })
}

fn show(report: &Report) -> anyhow::Result<()> {
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

fn check(name: &'static str, status: Status, found: impl Into<String>, fix: impl Into<String>) -> Check {
    Check {
        name,
        status,
        found: found.into(),
        fix: fix.into(),
    }
}

fn version() -> Check {
    check("demask", Status::Ok, env!("CARGO_PKG_VERSION"), "")
}

fn engine_program() -> Check {
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

fn engine_answers(home: &Home) -> Check {
    let started = studio::runtime().and_then(|runtime| {
        runtime.block_on(async {
            let engine: Engine = studio::start_engine(home, "auto", "auto").await?;
            let info = engine.info().clone();
            engine.stop().await;
            Ok(info)
        })
    });
    match started {
        Ok(info) => {
            let device = &info.device;
            let found = format!(
                "libtorch {} on {} ({} threads), {}",
                info.libtorch, device.name, device.threads, device.compute
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

fn libtorch() -> Check {
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

fn processor() -> Check {
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

fn graphics() -> Check {
    let found = if Path::new("/dev/nvidia0").exists() {
        "an NVIDIA device"
    } else {
        "none: the CPU is used"
    };
    check("graphics", Status::Ok, found, "")
}

fn home_writable(home: &Home) -> Check {
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

fn disk_space(home: &Home) -> Check {
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

fn free_bytes(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt as _;
    let existing = path.ancestors().find(|folder| folder.is_dir())?;
    let name = std::ffi::CString::new(existing.as_os_str().as_bytes()).ok()?;
    // SAFETY: `name` is a NUL-terminated string and `stat` a plain struct that the call fills in.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(name.as_ptr(), &raw mut stat) == 0).then_some(stat)
    }?;
    Some(stat.f_bavail * stat.f_frsize)
}

fn shipped(home: &Home) -> Check {
    match demask_actors::shipped::folder(home) {
        Ok(folder) => check("shipped model", Status::Ok, folder.display().to_string(), ""),
        Err(error) => check(
            "shipped model",
            Status::Fail,
            format!("{error:#}"),
            "name its folder in DEMASK_SHIPPED; without it give --checkpoint, or --from-scratch to a run",
        ),
    }
}

fn daemon(home: &Home) -> Check {
    match home.daemon_pid() {
        Some(pid) => check("daemon", Status::Ok, format!("running, process {pid}"), ""),
        None => check("daemon", Status::Ok, "not running (`demask run` starts it)", ""),
    }
}

fn terminal() -> Check {
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
