//! A repository of the hub: its kind, its name, the revision that is wanted.

use std::fmt;

use super::HubError;

/// The branch that is meant where none is named.
const MAIN: &str = "main";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// Weights.
    Model,
    /// Examples.
    Dataset,
}

impl RepoKind {
    /// As the hub's addresses and cache folders spell it.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// `OWNER/NAME[@REVISION]` of one kind. Shown as it is typed: `@main` is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// Model or data set.
    pub kind: RepoKind,
    /// `OWNER/NAME`, or the bare name of the hub's oldest repositories.
    pub id: String,
    /// A branch, a tag or a commit; `main` where none was named.
    pub revision: String,
}

impl Repo {
    /// Reads `OWNER/NAME[@REVISION]`, by the rules of `huggingface_hub`'s `validate_repo_id`.
    ///
    /// # Errors
    /// [`HubError::Name`], with what is wrong with it.
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

    /// Its folder in the cache: `models--OWNER--NAME`.
    #[must_use]
    pub fn folder_name(&self) -> String {
        format!("{}--{}", self.kind.plural(), self.id.replace('/', "--"))
    }

    /// What its addresses begin with, after the endpoint: data sets have a word before the name, models none.
    #[must_use]
    pub fn address(&self) -> Vec<&str> {
        let word = (self.kind == RepoKind::Dataset).then_some("datasets");
        word.into_iter().chain(self.id.split('/')).collect()
    }

    /// The command that pulls it.
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

/// A whole commit: 40 hexadecimal digits.
#[must_use]
pub fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

/// That many hexadecimal digits, in lower case.
#[must_use]
pub fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A path below a folder, never out of it: parts between single slashes, none of them `.` or `..`; nothing in it that a
/// terminal would obey.
#[must_use]
pub fn stays_inside(path: &str) -> bool {
    let inside = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(inside) && !path.contains('\\') && !path.contains(is_unseen)
}

/// Whether a terminal would obey a character in place of showing it, or show what follows in another order.
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
        "longer than 96 characters"
    } else if parts.iter().any(|part| !part.chars().all(allowed) || edge(part)) {
        "expected letters, digits, `_`, and inside of a part `-` and `.`"
    } else if id.contains("--") || id.contains("..") || id.ends_with(".git") {
        "`--`, `..` and a `.git` at the end are not allowed"
    } else {
        return None;
    };
    Some(why.to_owned())
}

fn wrong_revision(revision: &str) -> Option<String> {
    (!stays_inside(revision)).then(|| {
        "expected a branch, a tag or a commit after the `@`, without empty, `.` or `..` parts".to_owned()
    })
}
