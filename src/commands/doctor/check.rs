//! The result of one check.

use serde::Serialize;

/// The status of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything is as it should be.
    Ok,
    /// Something is unexpected.
    Warn,
    /// Something must be repaired.
    Fail,
}

/// The result of one check.
#[derive(Debug, Serialize)]
pub struct DoctorCheck {
    /// Name of the check.
    pub name: &'static str,
    /// The result of the check.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing has to be done.
    pub fix: String,
}

/// Makes the result of a check.
pub fn check(
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
