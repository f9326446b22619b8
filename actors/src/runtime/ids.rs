//! Unique ids that sort by creation time, and the ids of runs.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::{Builder, NoContext, Timestamp, Uuid};

/// Returns a new id (UUID version 7). If the clock of the machine stands before 1970, the id carries the first moment
/// of 1970.
#[must_use]
pub fn new_id() -> Uuid {
    if SystemTime::now() < UNIX_EPOCH {
        return Uuid::new_v7(Timestamp::from_unix(NoContext, 0, 0));
    }
    Uuid::now_v7()
}

/// Returns the id of the run that a message asks for. It is a function of the message's id alone (law L1): a message that
/// comes again, also to another daemon, asks for the same run. It is the message's id itself if that is a UUID of version 7
/// in its usual form, else a UUID of version 8 from the BLAKE3 of the message's id.
#[must_use]
pub fn of_run(message: &str) -> Uuid {
    match Uuid::try_parse(message) {
        // The id becomes the name of a folder.
        Ok(id) if id.get_version_num() == 7 && id.to_string() == message => id,
        _ => {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&blake3::hash(message.as_bytes()).as_bytes()[..16]);
            Builder::from_custom_bytes(bytes).into_uuid()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l1_the_id_of_a_run_is_a_function_of_the_message_that_asks_for_it() {
        let own = "0190b5a1-7c3e-7def-8abc-0123456789ab";
        assert_eq!(of_run(own).to_string(), own);
        let others = [
            "run",
            "",
            "../..",
            "0190B5A1-7C3E-7DEF-8ABC-0123456789AB",
            "0190b5a17c3e7def8abc0123456789ab",
        ];
        let others = others.map(of_run);
        for (at, other) in others.iter().enumerate() {
            assert_eq!(other.get_version_num(), 8, "{other}");
            assert!(!others[..at].contains(other), "{other}");
        }
        assert_eq!(of_run("run"), others[0]);
    }
}
