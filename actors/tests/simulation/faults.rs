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
