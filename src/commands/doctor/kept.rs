//! Checks of the home's data: the store, its pictures, and the time of its last row.

use std::time::Duration;

use demask_actors::daemon::repair::LOOK_LIMIT;
use demask_actors::daemon::store_health::{pictures_are_gone, runs_without_rows, without_rows};
use demask_actors::home::Home;
use demask_actors::runtime::recorder::now_us;
use demask_storage::query::query;
use demask_storage::store::damage::{Damage, of_store};

use super::check::{DoctorCheck, Status, check};

/// Time by which the clock may be behind the last row, because another machine's clock may be a little ahead.
const BEHIND: Duration = Duration::from_secs(60);
/// Advice for a damaged store.
const REPAIR: &str = "`demask doctor --repair` moves the store aside, saves the rows that can be read and rebuilds runs from their \
                      checkpoints; stop the daemon first";

/// Checks that the store is whole, and that it has a row of every run with checkpoints.
pub(super) fn store(home: &Home) -> DoctorCheck {
    let database = home.database();
    let place = database.display();
    let damage = match of_store(&database, LOOK_LIMIT) {
        Ok(damage) => damage,
        Err(error) => return check("store", Status::Fail, format!("{place}: {error}"), ""),
    };
    let empty = damage == Some(Damage::Empty);
    if let Some(damage) = damage.filter(|_| !empty) {
        return check("store", Status::Fail, format!("{place}: {damage}"), REPAIR);
    }
    match without_rows(home) {
        Ok(runs) if runs.is_empty() && !database.exists() => check("store", Status::Ok, "none yet", ""),
        Ok(runs) if runs.is_empty() => check("store", Status::Ok, place.to_string(), ""),
        Ok(runs) => {
            let found = format!("{place} has no row of {}", runs_without_rows(&runs));
            check("store", Status::Fail, found, "")
        }
        Err(error) => check("store", Status::Fail, error.to_string(), ""),
    }
}

/// Checks that the folder of the pictures that rows name exists.
pub(super) fn pictures(home: &Home) -> DoctorCheck {
    let place = home.blobs().display().to_string();
    if pictures_are_gone(home) {
        let fix = "move the folder back if it was moved; runs continue without it, but earlier pictures cannot be shown";
        return check(
            "pictures",
            Status::Warn,
            format!("{place} does not exist, but rows refer to pictures in it"),
            fix,
        );
    }
    let found = if home.blobs().is_dir() {
        place
    } else {
        "none yet".to_owned()
    };
    check("pictures", Status::Ok, found, "")
}

/// Checks that the clock is not behind the last row.
pub(super) fn clock(home: &Home) -> DoctorCheck {
    let sql = "SELECT max(at_us) FROM (SELECT at_us FROM v_event ORDER BY seq DESC LIMIT 1000)";
    let last = query(&home.database(), sql, 1).ok();
    let last = last.and_then(|answer| answer.rows.first()?.first()?.as_i64());
    since(last, now_us())
}

fn since(last_us: Option<i64>, now_us: i64) -> DoctorCheck {
    let Some(last) = last_us else {
        return check("clock", Status::Ok, "no row was written yet", "");
    };
    let ahead = Duration::from_micros(u64::try_from(last - now_us).unwrap_or(0));
    if ahead > BEHIND {
        let found = format!("the clock is {} s before the last row of a run", ahead.as_secs());
        let fix = "set the clock: runs are ordered by the times of their rows";
        return check("clock", Status::Warn, found, fix);
    }
    check(
        "clock",
        Status::Ok,
        "the clock is after the last row of a run",
        "",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_last_row_is_told() {
        let day = 86_400_000_000;
        assert!(since(Some(2 * day), day).status == Status::Warn);
        assert!(since(Some(2 * day), day).found.contains("86400 s before"));
        for (last, now) in [(Some(day), 2 * day), (Some(day + 1_000_000), day), (None, day)] {
            assert!(since(last, now).status == Status::Ok);
        }
    }
}
