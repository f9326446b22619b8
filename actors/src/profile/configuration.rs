//! A run's whole configuration as its row keeps it: the profile with every default filled in, and how the run began.

use demask_storage::RunRequest;
use serde_json::Value;

use super::{Profile, ProfileError};

/// The key beside the profile's own that says whether the run began with random weights.
const FROM_SCRATCH: &str = "from_scratch";

/// A configuration, and the hash that it is known by.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// JSON: the profile's keys and `from_scratch`.
    pub value: Value,
    /// Its BLAKE3.
    pub hash: String,
}

impl Profile {
    /// The configuration of a run of this profile.
    ///
    /// # Errors
    /// A value that JSON cannot write.
    pub fn configuration(&self, from_scratch: bool) -> Result<Configuration, ProfileError> {
        let mut value = serde_json::to_value(self).map_err(|error| self.wrong(&error))?;
        value[FROM_SCRATCH] = from_scratch.into();
        let hash = blake3::hash(value.to_string().as_bytes()).to_hex().to_string();
        Ok(Configuration { value, hash })
    }

    /// The profile and `from_scratch` of a run's configuration.
    ///
    /// # Errors
    /// One that this version does not read.
    pub fn of_configuration(mut value: Value) -> Result<(Self, bool), serde_json::Error> {
        let from_scratch = value.as_object_mut().and_then(|map| map.remove(FROM_SCRATCH));
        Ok((serde_json::from_value(value)?, from_scratch == Some(true.into())))
    }

    /// The profile that is asked for, all rounds written out, with its configuration.
    ///
    /// # Errors
    /// As [`Self::parse`] and [`Self::configuration`].
    pub fn of_request(request: &RunRequest) -> Result<(Self, Configuration), ProfileError> {
        let profile = Self::parse(&request.profile, &request.origin)?.unrolled();
        let configuration = profile.configuration(request.from_scratch)?;
        Ok((profile, configuration))
    }

    fn wrong(&self, error: &dyn std::fmt::Display) -> ProfileError {
        ProfileError {
            origin: format!("profile {}", self.name),
            line: None,
            message: error.to_string(),
        }
    }
}
