//! A repository of the hub: its kind, name and revision.

use std::fmt;

use super::HubError;

/// The default branch.
const MAIN: &str = "main";

/// The kind of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// A model: weights.
    Model,
    /// A data set: examples.
    Dataset,
}

impl RepoKind {
    /// Returns the kind as the hub's addresses and cache folders spell it.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// A repository `OWNER/NAME[@REVISION]`. It is displayed as it is typed: `@main` is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// Whether it is a model or a data set.
    pub kind: RepoKind,
    /// `OWNER/NAME`, or the bare name of the hub's oldest repositories.
    pub id: String,
    /// A branch, a tag or a commit; `main` by default.
    pub revision: String,
}

impl Repo {
    /// Parses `OWNER/NAME[@REVISION]` by the rules of `huggingface_hub`'s `validate_repo_id`.
    ///
    /// # Errors
    /// [`HubError::Name`] that says what is wrong.
    pub fn parse(given: &str, kind: RepoKind) -> Result<Self, HubError> {
        let (id, revision) = given.split_once('@').unwrap_or((given, MAIN));
        let wrong = wrong_id(id).or_else(|| wrong_revision(revision));
        if let Some(why) = wrong {
            let given = given.to_owned();
            return Err(HubError::Name { given, why });
        }
        Ok(Self {
            kind,
            id: id.to_owned(),
            revision: revision.to_owned(),
        })
    }

    /// Returns the name of its folder in the cache: `models--OWNER--NAME`.
    #[must_use]
    pub fn folder_name(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }

    /// Returns the path segments with which its addresses begin; those of data sets begin with `datasets`.
    #[must_use]
    pub fn address(&self) -> Vec<&str> {
        let word = (self.kind == RepoKind::Dataset).then_some("datasets");
        word.into_iter().chain(self.id.split('/')).collect()
    }

    /// Returns the command that pulls it.
    #[must_use]
    pub fn command(&self) -> String {
        let flag = if self.kind == RepoKind::Dataset {
            " --dataset"
        } else {
            ""
        };
        format!("demask pull {self}{flag}")
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// Whether a text is a full commit: 40 hexadecimal digits.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

/// Whether a text consists of exactly `digits` hexadecimal digits in lower case.
#[must_use]
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a path stays below its folder: components between single slashes, none of them `.` or `..`, without terminal
/// control characters.
#[must_use]
pub fn stays_inside(path: &str) -> bool {
    let inside = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(inside) && !path.contains('\\') && !path.contains(is_unseen)
}

/// Whether a terminal would interpret a character instead of showing it, or would reorder the text after it.
#[must_use]
pub fn is_unseen(sign: char) -> bool {
    sign.is_control()
        || matches!(sign, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn wrong_id(id: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |part: &str| part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
    let parts: Vec<&str> = id.split('/').collect();
    let why = if parts.len() > 2 || parts.contains(&"") {
        "expected OWNER/NAME"
    } else if id.len() > 96 {
        "it is longer than 96 characters"
    } else if parts.iter().any(|part| !part.chars().all(allowed) || edge(part)) {
        "expected letters, digits and `_`, and `-` and `.` inside a part"
    } else if id.contains("--") || id.contains("..") || id.ends_with(".git") {
        "`--`, `..` and a `.git` at the end are not allowed"
    } else {
        return None;
    };
    Some(why.to_owned())
}

fn wrong_revision(revision: &str) -> Option<String> {
    (!stays_inside(revision)).then(|| {
        "expected a branch, a tag or a commit after the `@`, without parts that are empty, `.` or `..`"
            .to_owned()
    })
}
