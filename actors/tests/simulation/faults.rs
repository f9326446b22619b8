//! The faults of what a run uses: engines, an external reward, a teacher.

/// A fault of an external reward, at one of its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewardFault {
    /// It cannot be started. If it runs, it dies first.
    NoStart,
    Dies,
    /// It never answers.
    Silent,
    /// It answers shortly before its time limit.
    Late,
    TooFew,
    TooMany,
    NotANumber,
    OutOfRange,
    /// It answers to another batch.
    OtherBatch,
    Rambles,
}

/// The faults of external rewards.
pub const REWARD_FAULTS: [RewardFault; 10] = [
    RewardFault::NoStart,
    RewardFault::Dies,
    RewardFault::Silent,
    RewardFault::Late,
    RewardFault::TooFew,
    RewardFault::TooMany,
    RewardFault::NotANumber,
    RewardFault::OutOfRange,
    RewardFault::OtherBatch,
    RewardFault::Rambles,
];

/// A fault of a teacher that passes, at one of its questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeacherFault {
    Unreachable,
    /// It never answers.
    Silent,
    /// It answers shortly before the client gives up.
    Late,
    Busy,
    /// It asks the client to wait.
    Limited,
    /// Its answer is not a chat completion.
    Broken,
    /// Its answer is empty, and is paid for.
    Empty,
    CutOff,
}

/// The faults of teachers.
pub const TEACHER_FAULTS: [TeacherFault; 8] = [
    TeacherFault::Unreachable,
    TeacherFault::Silent,
    TeacherFault::Late,
    TeacherFault::Busy,
    TeacherFault::Limited,
    TeacherFault::Broken,
    TeacherFault::Empty,
    TeacherFault::CutOff,
];

/// Faults of engines of one role, by their total numbers.
#[derive(Clone, Debug, Default)]
pub struct EngineFaults {
    pub deaths: u32,
    pub hangs: u32,
    /// Answers that come late, but before the engine is given up.
    pub late: u32,
    pub full_disks: u32,
    pub failed_starts: u32,
}

/// What an engine behind a socket does in the middle of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// It reads and answers nothing any more, not even a heartbeat.
    Silent,
    /// Its heartbeats show no progress.
    Endless,
    /// As `Silent`, but it goes on when it is killed, and answers for a moment before it ends.
    SilentUntilKilled,
    /// As `Endless`, but it goes on when it is killed, and answers for a moment before it ends.
    EndlessUntilKilled,
    /// As `Silent`, and the system cannot kill it at once.
    Unkillable,
    /// It is slow, and its heartbeats show progress.
    Slow,
    /// It makes no progress for a while and goes on. It then makes a pause that is only allowed after the first one.
    Pauses,
}

/// What engines behind sockets do in the middle of requests.
pub const HANGS: [Hang; 7] = [
    Hang::Silent,
    Hang::Endless,
    Hang::SilentUntilKilled,
    Hang::EndlessUntilKilled,
    Hang::Unkillable,
    Hang::Slow,
    Hang::Pauses,
];

impl Hang {
    /// Returns whether nothing is read and answered.
    pub fn is_silent(self) -> bool {
        matches!(self, Self::Silent | Self::SilentUntilKilled | Self::Unkillable)
    }

    /// Returns whether the engine goes on when it is killed.
    pub fn ends_when_killed(self) -> bool {
        matches!(self, Self::SilentUntilKilled | Self::EndlessUntilKilled)
    }
}

/// What an engine behind a socket does when it is asked to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastAct {
    /// It dies before it answers.
    Dies,
    /// It answers and does not end.
    Stays,
    /// It reads and answers nothing any more.
    Silent,
    /// It never answers, and its heartbeats show no progress.
    Endless,
}

/// What engines behind sockets do when they are asked to exit.
pub const LAST_ACTS: [LastAct; 4] = [LastAct::Dies, LastAct::Stays, LastAct::Silent, LastAct::Endless];
