//! The whole configuration of a run as its row stores it: the profile with every default filled in, and whether the run
//! began from scratch.

use demask_storage::RunRequest;
use serde_json::Value;

use super::{Profile, ProfileError};

/// The key, beside the profile's own keys, that says whether the run began with random weights.
const FROM_SCRATCH: &str = "from_scratch";

/// A configuration with its hash.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// The profile's keys and `from_scratch`, as JSON.
    pub value: Value,
    /// BLAKE3 hash of the JSON text.
    pub hash: String,
}

impl Profile {
    /// Returns the configuration of a run of this profile.
    ///
    /// # Errors
    /// An error if JSON cannot represent a value.
    pub fn configuration(&self, from_scratch: bool) -> Result<Configuration, ProfileError> {
        let mut value = serde_json::to_value(self).map_err(|error| self.wrong(&error))?;
        value[FROM_SCRATCH] = from_scratch.into();
        let hash = blake3::hash(value.to_string().as_bytes()).to_hex().to_string();
        Ok(Configuration { value, hash })
    }

    /// Returns the profile and `from_scratch` of a run's configuration.
    ///
    /// # Errors
    /// An error if this version cannot read the configuration.
    pub fn of_configuration(mut value: Value) -> Result<(Self, bool), serde_json::Error> {
        let from_scratch = value.as_object_mut().and_then(|map| map.remove(FROM_SCRATCH));
        Ok((serde_json::from_value(value)?, from_scratch == Some(true.into())))
    }

    /// Returns the requested profile, with all rounds unrolled, and its configuration.
    ///
    /// # Errors
    /// Any error of [`Self::parse`] or [`Self::configuration`].
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
