//! The display of a profile as TOML: every default filled in, and a comment at each key.

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, TableLike};

use super::schema::{Key, keys};
use super::{Profile, ProfileError};

impl Profile {
    /// Formats the whole profile as TOML. Each key has its description, default and range; absent keys are comments.
    /// Parsing the text gives the same profile.
    ///
    /// # Errors
    /// An error if TOML cannot represent a value.
    pub fn to_commented_toml(&self) -> Result<String, ProfileError> {
        let wrong = |error: &dyn std::fmt::Display| ProfileError {
            origin: format!("profile {}", self.name),
            line: None,
            message: error.to_string(),
        };
        let text = toml::to_string(self).map_err(|error| wrong(&error))?;
        let document: DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| wrong(&error))?;
        let keys = keys();
        let mut page = ProfilePage {
            keys: keys.iter().map(|key| (key.path.as_str(), key)).collect(),
            text: String::new(),
        };
        page.table("", "", document.as_table());
        Ok(page.text)
    }
}

/// The text written so far, and the descriptions of the keys.
struct ProfilePage<'a> {
    keys: BTreeMap<&'a str, &'a Key>,
    text: String,
}

impl ProfilePage<'_> {
    /// Writes a table's own keys, then the tables in it. `header` is its name in the file, `path` the path of its keys.
    fn table(&mut self, header: &str, path: &str, table: &dyn TableLike) {
        for (name, item) in table.iter() {
            if let Some(value) = item.as_value().filter(|_| !is_table(item)) {
                let value = value.to_string();
                self.line(&format!("{name} = {}", value.trim()), &join(path, name));
            }
        }
        self.absent(path, table);
        for (name, item) in table.iter() {
            let (header, path) = (join(header, name), join(path, name));
            if let Some(inner) = item.as_table_like() {
                self.text.push('\n');
                self.line(&format!("[{header}]"), &path);
                self.table(&header, &path, inner);
            }
            for inner in item.as_array_of_tables().into_iter().flatten() {
                self.text.push('\n');
                self.line(&format!("[[{header}]]"), &path);
                self.table(&header, &join(&path, "*"), inner);
            }
        }
    }

    /// Writes the keys that the table could have and does not have, as comments.
    fn absent(&mut self, path: &str, table: &dyn TableLike) {
        let missing: Vec<&Key> = self
            .keys
            .values()
            .copied()
            .filter(|key| key.alternative.is_empty())
            .filter(|key| {
                let name = key
                    .path
                    .strip_prefix(path)
                    .map(|rest| rest.trim_start_matches('.'));
                let own = |name: &&str| !name.contains('.') && join(path, name) == key.path;
                name.filter(own).is_some_and(|name| !table.contains_key(name))
            })
            .collect();
        for key in missing {
            let name = key.path.rsplit('.').next().unwrap_or_default();
            let words = if key.kind.ends_with("tables") {
                format!("# [[{}]]", key.path.replace(".*", ""))
            } else if key.is_table() {
                format!("# [{}]", key.path.replace(".*", ""))
            } else {
                format!("# {name} = ...")
            };
            self.line(&words, &key.path);
        }
    }

    /// Writes a line with the description of its key.
    fn line(&mut self, words: &str, path: &str) {
        self.text.push_str(words);
        if let Some(key) = self.keys.get(path) {
            let more: Vec<String> = [
                (!key.default.is_empty() && key.default != "required").then(|| match key.default.as_str() {
                    "absent" => key.kind.clone(),
                    default => format!("default {default}"),
                }),
                (!key.range.is_empty()).then(|| key.range.clone()),
            ]
            .into_iter()
            .flatten()
            .collect();
            let more = if more.is_empty() {
                String::new()
            } else {
                format!(" ({})", more.join("; "))
            };
            self.text.push_str(&format!("  # {}{more}", key.sentence()));
        }
        self.text.push('\n');
    }
}

fn is_table(item: &Item) -> bool {
    item.as_table_like().is_some()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
