//! `demask doctor`: what this machine has, what is missing and how to fix it, and the repair of a damaged store.
//!
//! - `engine.rs`, `machine.rs`, `place.rs`, `kept.rs`, `memory.rs`: the checks; `check.rs`: the result of a check;
//! - `repair.rs`: `--repair`.

mod check;
mod engine;
mod kept;
mod machine;
mod memory;
mod place;
mod repair;

use std::process::ExitCode;

use demask_actors::home::Home;
use demask_api::Cuda;
use serde::Serialize;

use self::check::{DoctorCheck, Status};
pub use self::memory::{number_bytes, shape};
use crate::args::DoctorArgs;
use crate::terminal::print;

#[derive(Serialize)]
struct DoctorReport {
    ok: bool,
    checks: Vec<DoctorCheck>,
    /// What the engine found of CUDA; `None` if it does not answer.
    cuda: Option<Cuda>,
}

/// Makes all checks and prints them. The exit code is 1 if something must be repaired.
///
/// # Errors
/// Any error of standard output.
pub fn doctor(home: &Home, options: &DoctorArgs) -> anyhow::Result<ExitCode> {
    if options.repair {
        return repair::repair(home, options.output.json);
    }
    // A wrong profile is reported before the engine is asked, because starting the engine takes a while.
    let profile = options.profile.as_deref().map(memory::profile).transpose()?;
    let answer = engine::ask_engine(home);
    let info = answer.as_ref().ok();
    let mut checks = vec![
        check::check("demask", Status::Ok, env!("CARGO_PKG_VERSION"), ""),
        engine::engine_program(),
        engine::engine_answers(&answer),
        engine::sandbox(info),
        engine::libtorch(),
        machine::processor(),
        engine::graphics(info, engine::has_device_files()),
        place::home_writable(home),
        kept::store(home),
        kept::pictures(home),
        kept::clock(home),
        place::runtime_folder(home),
        place::left_sockets(home),
        place::disk_space(home),
        machine::descriptors(),
        place::shipped(),
        place::daemon(home),
        machine::terminal(),
    ];
    if let Some(profile) = &profile {
        let device = answer.as_ref().ok().and_then(|info| match &info.device.cuda {
            Cuda::Ready { devices, .. } => devices.first(),
            _ => None,
        });
        checks.push(memory::memory(profile, options.from_scratch, device));
    }
    let ok = checks.iter().all(|check| check.status != Status::Fail);
    let cuda = answer.ok().map(|info| info.device.cuda);
    let json = options.output.json;
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
        print::say(&format!("\n{}: {}", check.name, check.fix));
    }
    Ok(())
}
