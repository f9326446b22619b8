//! One thing that was looked at.

use serde::Serialize;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Not what a person would expect.
    Warn,
    /// It must be mended.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct DoctorCheck {
    /// What.
    pub name: &'static str,
    /// How it is.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do; empty when nothing has to be done.
    pub fix: String,
}

/// One thing that was looked at.
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
