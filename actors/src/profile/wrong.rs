//! The error of one value of a profile: the value's path, and what is wrong with it.

/// The path of a value (`stage.2.steps`) and what is wrong with it.
pub(super) type Wrong = (String, String);

/// Returns the error that the value at this path is wrong.
pub(super) fn wrong<T>(path: &str, message: &str) -> Result<T, Wrong> {
    Err((path.to_owned(), message.to_owned()))
}

/// Checks that a value is between two bounds, both included.
pub(super) fn range(path: &str, value: f64, low: f64, high: f64) -> Result<(), Wrong> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let plain = |bound: f64| {
        if bound != 0.0 && bound.abs() < 1e-9 {
            format!("{bound:e}")
        } else {
            bound.to_string()
        }
    };
    wrong(
        path,
        &format!("is {value}; allowed is {} to {}", plain(low), plain(high)),
    )
}
