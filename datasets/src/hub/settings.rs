//! The settings of the hub, from the environment variables of `huggingface_hub`: endpoint, token and cache folder.

use std::path::{Path, PathBuf};

use demask_api::bounded_file;
use reqwest::Url;
use reqwest::header::HeaderValue;

use super::HubError;

/// The public hub.
const ENDPOINT: &str = "https://huggingface.co";
/// The most bytes of a file with a token (law L9).
const LONGEST_TOKEN: u64 = 1 << 16;

/// The hub settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HF_ENDPOINT`; the public hub by default.
    pub endpoint: Url,
    /// `HF_HUB_CACHE`, or `hub` below `HF_HOME`, or `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// `HF_TOKEN`, or the file that `hf auth login` writes below `HF_HOME` (`HF_TOKEN_PATH`); `None` with
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`.
    pub token: Option<AccessToken>,
    /// `HF_HUB_OFFLINE`: the hub is not asked, only the cache is read.
    pub offline: bool,
}

/// A token and its origin. The token is never printed.
#[derive(Clone, Debug)]
pub struct AccessToken {
    /// The authorization header with the token.
    pub header: HeaderValue,
    /// The variable or file from which it was read.
    pub origin: String,
}

impl Settings {
    /// Reads the settings from this process's environment.
    ///
    /// # Errors
    /// Those of [`Settings::read`].
    pub fn from_environment() -> Result<Self, HubError> {
        Self::read(variable)
    }

    /// Reads the settings from variables by name.
    ///
    /// # Errors
    /// [`HubError::Setting`] if the endpoint is not a web address, or if the token does not fit a header.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let set = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let truth = |name: &str| set(name).is_some_and(|value| is_true(&value));
        let token = if truth("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            token(&set)?
        };
        Ok(Self {
            endpoint: endpoint(&set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()))?,
            cache: cache(&set),
            token,
            offline: truth("HF_HUB_OFFLINE") || truth("TRANSFORMERS_OFFLINE"),
        })
    }
}

/// Returns the cache folder of this process's environment.
#[must_use]
pub fn cache_of_environment() -> PathBuf {
    cache(&|name| variable(name).filter(|value| !value.trim().is_empty()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

fn endpoint(text: &str) -> Result<Url, HubError> {
    let wrong = |why: &str| HubError::Setting {
        name: "HF_ENDPOINT".to_owned(),
        why: format!("expected a web address like {ENDPOINT}, found `{text}` ({why})"),
    };
    let url = Url::parse(text.trim()).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("the scheme is neither http nor https"));
    }
    Ok(url)
}

fn cache(set: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let named = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE"));
    named.map_or_else(|| home(set).join("hub"), |path| expanded(&path, set))
}

fn home(set: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    if let Some(home) = set("HF_HOME") {
        return expanded(&home, set);
    }
    let caches = set("XDG_CACHE_HOME").unwrap_or_else(|| "~/.cache".to_owned());
    expanded(&caches, set).join("huggingface")
}

/// Expands a leading `~` to the user's home folder.
fn expanded(path: &str, set: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    match (path.strip_prefix('~'), set("HOME")) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
            Path::new(&home).join(rest.trim_start_matches('/'))
        }
        _ => PathBuf::from(path),
    }
}

fn token(set: &dyn Fn(&str) -> Option<String>) -> Result<Option<AccessToken>, HubError> {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = set(name) {
            return AccessToken::new(&token, name).map(Some);
        }
    }
    let file = set("HF_TOKEN_PATH").map_or_else(|| home(set).join("token"), |path| expanded(&path, set));
    let Ok(token) = bounded_file::read_named_text(&file, LONGEST_TOKEN) else {
        return Ok(None);
    };
    let origin = file.display().to_string();
    let given = !token.trim().is_empty();
    given.then(|| AccessToken::new(&token, &origin)).transpose()
}

impl AccessToken {
    /// Makes a token that was read from `origin`.
    ///
    /// # Errors
    /// [`HubError::Setting`] if the token does not fit a header. The message does not show the token.
    pub fn new(token: &str, origin: &str) -> Result<Self, HubError> {
        let header = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut header = header.map_err(|_| HubError::Setting {
            name: origin.to_owned(),
            why: "expected a token of printable ASCII characters on one line, found other characters"
                .to_owned(),
        })?;
        header.set_sensitive(true);
        Ok(Self {
            header,
            origin: origin.to_owned(),
        })
    }
}
