//! Checks that Demask computes correctly on this machine's device and measures how fast.
//! `tests/benches/gpu.sh` runs it.
//!
//! `gpu run [FLAGS]` runs the requested sections, each in a process of its own (`course.rs`), and prints a
//! table. `gpu section NAME [FLAGS]` runs one section in this process and prints a JSON line per figure
//! (`figure.rs`). `tests/benches/gpu.sh --help` lists the flags.

mod clock;
mod course;
mod figure;
mod forward;
mod golden;
mod library;
mod loading;
mod options;
mod profile;
mod programs;
mod report;
mod runs;
mod sampling;
mod sections;
mod shape;
#[path = "../shape/mod.rs"]
mod sizes;
mod tabletop;
mod training;

use std::process::ExitCode;

use figure::Teller;
use options::{Options, Task};

fn main() -> anyhow::Result<ExitCode> {
    let (task, options) = match Options::parse(std::env::args().skip(1)) {
        Ok(parsed) => parsed,
        Err(wrong) => {
            eprintln!("gpu: {wrong:#}");
            return Ok(ExitCode::from(2));
        }
    };
    match task {
        Task::Run => course::run(&options),
        Task::Section(name) => {
            demask_model::engine::device_choice::keep_freed_memory();
            let done = section(&name, &options, &Teller::new(&name));
            Ok(match done {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    // The table shows the last line of standard error.
                    eprintln!("{error:#}");
                    ExitCode::FAILURE
                }
            })
        }
    }
}

fn section(name: &str, options: &Options, teller: &Teller) -> anyhow::Result<()> {
    match name {
        "doctor" => programs::doctor(options, teller),
        "golden-f32" => golden::golden(options, teller, tch::Kind::Float),
        "golden-bf16" => golden::golden(options, teller, tch::Kind::BFloat16),
        "cuda" => programs::tests(options, teller),
        "forward" => forward::forward(options, teller),
        "lora" => training::lora(options, teller),
        "picture" => sampling::picture(options, teller),
        "text" => sampling::text(options, teller),
        "full-step" => training::full_step(options, teller),
        "loading" => loading::loading(options, teller),
        "lora-long" => training::lora_long(options, teller),
        "tabletop" => tabletop::tabletop(options, teller),
        "unigrpo" => runs::unigrpo(options, teller),
        "kill" => runs::kill(options, teller),
        "nccl" => library::nccl(options, teller),
        "profile" => profile::profile(options, teller),
        other => anyhow::bail!("no section {other}"),
    }
}
