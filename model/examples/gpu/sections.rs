//! The sections, in order, with their time limits.

/// A section: its name, the time it is expected to need on a GPU, and its time limit.
pub struct Section {
    /// The name of the section.
    pub name: &'static str,
    /// Seconds that must be left of the total time for the section to start.
    pub needs: u64,
    /// Seconds after which the section is stopped.
    pub limit: u64,
}

const fn section(name: &'static str, needs: u64, limit: u64) -> Section {
    Section { name, needs, limit }
}

/// All sections, the most important ones first. What all but the last need together fits into the eight minutes of a
/// run. `profile` runs only on request.
pub const SECTIONS: [Section; 22] = [
    section("doctor", 5, 60),
    section("golden-f32", 10, 60),
    section("golden-bf16", 10, 60),
    section("cuda", 20, 120),
    section("world", 10, 60),
    section("sharded-step", 60, 150),
    section("forward", 20, 90),
    section("lora", 20, 90),
    section("qlora", 40, 120),
    section("peers", 30, 180),
    section("beside", 50, 150),
    section("ranks", 45, 150),
    section("picture", 15, 60),
    section("text", 20, 90),
    section("full-step", 15, 60),
    section("loading", 35, 120),
    section("lora-long", 15, 60),
    section("tabletop", 20, 90),
    section("unigrpo", 20, 90),
    section("kill", 15, 90),
    section("nccl", 5, 30),
    section("profile", 20, 90),
];
