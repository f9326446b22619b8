//! The sections by name, and how long each takes.

/// One section: a name, how long it should take on a GPU, how long it may, in seconds.
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What of the minutes must be left to begin with it.
    pub needs: u64,
    /// After that it is given up.
    pub limit: u64,
}

const fn section(name: &'static str, needs: u64, limit: u64) -> Section {
    Section { name, needs, limit }
}

/// The most important first; `profile` when it is asked for.
pub const SECTIONS: [Section; 16] = [
    section("doctor", 5, 60),
    section("golden-f32", 10, 60),
    section("golden-bf16", 10, 60),
    section("cuda", 20, 120),
    section("forward", 20, 90),
    section("lora", 20, 90),
    section("picture", 15, 60),
    section("text", 20, 90),
    section("full-step", 15, 60),
    section("loading", 40, 120),
    section("lora-long", 15, 60),
    section("tabletop", 20, 90),
    section("unigrpo", 20, 90),
    section("kill", 15, 90),
    section("nccl", 5, 30),
    section("profile", 20, 90),
];
