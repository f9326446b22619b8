//! The profiles that come with the program, found by name.

use super::{GSM8K_FASHION, Profile, ProfileError, TABLETOP};

/// A profile that comes with the program.
#[derive(Clone, Copy, Debug)]
pub struct Shipped {
    /// Name that users type: the file's name without `.toml`.
    pub name: &'static str,
    /// Text of the file.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        [$(Shipped {
            name: $name,
            text: include_str!(concat!("../../profiles/", $name, ".toml")),
        }),*]
    };
}

/// The two profiles that tests and documents name in code.
const NAMED: [Shipped; 2] = [
    Shipped {
        name: "tabletop",
        text: TABLETOP,
    },
    Shipped {
        name: "gsm8k-fashion",
        text: GSM8K_FASHION,
    },
];

const OTHERS: [Shipped; 5] = shipped![
    "smoke",
    "tabletop-align",
    "tabletop-codes",
    "tabletop-recipe",
    "tabletop-reasoning",
];

/// Similarity (Jaro-Winkler, 0 to 1) from which a name counts as a misspelling of another.
const ALIKE: f64 = 0.75;

/// Iterates over all shipped profiles, the default first.
pub fn all() -> impl Iterator<Item = &'static Shipped> {
    NAMED.iter().chain(&OTHERS)
}

/// Finds the shipped profile of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Shipped> {
    all().find(|shipped| shipped.name == name)
}

/// Formats the list of all names, with a suggestion for an unknown name.
#[must_use]
pub fn suggest(name: &str) -> String {
    let names: Vec<&str> = all().map(|shipped| shipped.name).collect();
    let likeness = |other: &str| strsim::jaro_winkler(name, other);
    let nearest = names
        .iter()
        .max_by(|one, two| likeness(one).total_cmp(&likeness(two)))
        .filter(|nearest| likeness(nearest) >= ALIKE);
    let meant = nearest.map(|nearest| format!(" (did you mean {nearest}?)"));
    format!(
        "one of the shipped profiles {}{}",
        names.join(", "),
        meant.unwrap_or_default()
    )
}

impl Shipped {
    /// Parses the profile.
    ///
    /// # Errors
    /// Any error of [`Profile::parse`]. Tests parse every shipped profile, so none is expected.
    pub fn profile(&self) -> Result<Profile, ProfileError> {
        Profile::parse(self.text, &format!("profile {}", self.name))
    }

    /// Returns the purpose of the profile: the first sentence of the comment that opens its file.
    #[must_use]
    pub fn about(&self) -> String {
        let opening = self.text.lines().map_while(|line| line.strip_prefix('#'));
        let opening = opening.map(str::trim).collect::<Vec<_>>().join(" ");
        let end = opening.find([':', '(', '.']).unwrap_or(opening.len());
        opening[..end].trim().to_owned()
    }
}
