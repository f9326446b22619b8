//! Checks that Demask computes correctly on this machine's device and measures how fast.
//! `tests/benches/gpu.sh` runs it.
//!
//! `gpu run [FLAGS]` runs the requested sections, each in a process of its own (`course.rs`), and prints a
//! table. `gpu section NAME [FLAGS]` runs one section in this process and prints a JSON line per figure
//! (`figure.rs`). `gpu rank SCENE` is a process that a section starts as a rank of a world (`ranks/`).
//! `tests/benches/gpu.sh --help` lists the flags.

mod clock;
mod course;
mod figure;
mod forward;
mod golden;
mod large;
mod library;
mod loading;
mod options;
mod profile;
mod programs;
mod ranks;
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
            Ok(code(section(&name, &options, &Teller::new(&name))))
        }
        Task::Rank(scene) => Ok(code(ranks::scenes::play(&scene, &options))),
    }
}

fn code(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The table shows the last line of standard error.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn section(name: &str, options: &Options, teller: &Teller) -> anyhow::Result<()> {
    match name {
        "doctor" => programs::doctor(options, teller),
        "golden-f32" => golden::golden(options, teller, tch::Kind::Float),
        "golden-bf16" => golden::golden(options, teller, tch::Kind::BFloat16),
        "cuda" => programs::tests(options, teller),
        "world" => ranks::calls::world(options, teller),
        "sharded-step" => large::step::sharded_step(options, teller),
        "forward" => forward::forward(options, teller),
        "lora" => training::lora(options, teller),
        "qlora" => large::qlora::qlora(options, teller),
        "peers" => ranks::faults::peers(options, teller),
        "beside" => runs::beside::beside(options, teller),
        "ranks" => runs::ranks::ranks(options, teller),
        "picture" => sampling::picture(options, teller),
        "text" => sampling::text(options, teller),
        "full-step" => training::full_step(options, teller),
        "loading" => loading::loading(options, teller),
        "lora-long" => training::lora_long(options, teller),
        "tabletop" => tabletop::tabletop(options, teller),
        "unigrpo" => runs::stages::unigrpo(options, teller),
        "kill" => runs::stages::kill(options, teller),
        "nccl" => library::nccl(options, teller),
        "profile" => profile::profile(options, teller),
        other => anyhow::bail!("no section {other}"),
    }
}
