//! Nested containers to named tensors: the selection of a checkpoint's dictionary, and the names of its tensors.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::allowance::Allowance;
use super::error::{Flaw, broken, short};
use super::heap::{Heap, HeapValue};

/// The deepest nesting of containers.
const DEEPEST: usize = 64;
/// The most entries that are visited; those of a container count again at each reference.
const MOST_ENTRIES: u64 = 1 << 22;
/// The most bytes of a key, and of all names that are made or kept; a file could repeat one name endlessly.
const LONGEST_KEY: usize = 4096;
const MOST_NAMES: u64 = 64 << 20;
/// The bytes of a name beside its characters.
const NAME: u64 = 128;
/// The number of keys that a message lists.
const NAMED: usize = 12;

/// The tensors of a checkpoint by name.
#[derive(Debug, Default)]
pub struct NamedTensors {
    /// The selected dictionary: keys from the outside in, joined by dots; empty for the file itself.
    pub key: String,
    /// The tensors by name, as indices into the heap.
    pub(super) tensors: BTreeMap<String, usize>,
    /// The names of entries that are not tensors.
    pub skipped: Vec<String>,
}

/// Collects the tensors below a key, or below the only dictionary that contains any.
pub(super) fn tensors(heap: &Heap, root: &HeapValue, key: Option<&str>) -> Result<NamedTensors, Flaw> {
    let mut walk = Walk {
        heap,
        named: NamedTensors::default(),
        entries: Allowance::new(
            "entries, counting those of a container at each reference to it",
            MOST_ENTRIES,
        ),
        letters: Allowance::new("bytes of names", MOST_NAMES),
    };
    let (key, value) = match key {
        Some(key) => (key.to_owned(), walk.follow(root, key)?),
        None => walk.choose(root)?,
    };
    walk.visit(&value, &mut String::new(), 0)?;
    let mut named = walk.named;
    named.key = key;
    if named.tensors.is_empty() {
        return broken("the file contains no tensor");
    }
    Ok(named)
}

/// The key of an entry.
#[derive(Clone, Debug)]
enum EntryKey {
    Text(Rc<str>),
    Number(i64),
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Returns the number of entries of a container, including those without a usable key.
fn size(heap: &Heap, value: &HeapValue) -> u64 {
    match value {
        HeapValue::Dict(number) => heap.dict(*number).len() as u64,
        HeapValue::Items(number) => heap.items(*number).len() as u64,
        _ => 0,
    }
}

/// Iterates over a container's entries by key, or by index for a list. Only keys are copied.
fn children<'a>(
    heap: &'a Heap,
    value: &HeapValue,
) -> impl Iterator<Item = Result<(EntryKey, &'a HeapValue), Flaw>> + 'a {
    let (pairs, items) = match value {
        HeapValue::Dict(number) => (heap.dict(*number), &[][..]),
        HeapValue::Items(number) => (&[][..], heap.items(*number)),
        _ => (&[][..], &[][..]),
    };
    let named = pairs
        .iter()
        .filter_map(|(name, value)| Some(key_of(name)?.map(|key| (key, value))));
    let numbered = (0i64..).zip(items);
    named.chain(numbered.map(|(at, value)| Ok((EntryKey::Number(at), value))))
}

/// Converts a dictionary key; `None` if it is neither a text nor an integer.
fn key_of(key: &HeapValue) -> Option<Result<EntryKey, Flaw>> {
    match key {
        HeapValue::Text(text) if text.len() > LONGEST_KEY => Some(broken(format!(
            "a key has {} bytes, expected at most {LONGEST_KEY}",
            text.len()
        ))),
        HeapValue::Text(text) => Some(Ok(EntryKey::Text(Rc::clone(text)))),
        HeapValue::Int(number) => Some(Ok(EntryKey::Number(*number))),
        _ => None,
    }
}

/// Lists the first keys and counts the others.
fn listed(keys: &[EntryKey]) -> String {
    let first: Vec<String> = keys
        .iter()
        .take(NAMED)
        .map(|key| short(&key.to_string()))
        .collect();
    match keys.len() {
        0 => "none".to_owned(),
        count if count > NAMED => format!("{} and {} more", first.join(", "), count - NAMED),
        _ => first.join(", "),
    }
}

/// A walk over a pickle's values with a limited number of steps.
struct Walk<'a> {
    heap: &'a Heap,
    named: NamedTensors,
    entries: Allowance,
    letters: Allowance,
}

impl Walk<'_> {
    /// Returns the value at a dotted key. A key that contains dots itself is matched whole.
    fn follow(&mut self, root: &HeapValue, key: &str) -> Result<HeapValue, Flaw> {
        let (mut value, mut rest) = (root.clone(), key);
        while !rest.is_empty() {
            self.entries.spend(1 + size(self.heap, &value))?;
            let fits = |name: &str| {
                rest == name || rest.strip_prefix(name).is_some_and(|tail| tail.starts_with('.'))
            };
            let mut longest: Option<(String, &HeapValue)> = None;
            for entry in children(self.heap, &value) {
                let (name, next) = entry?;
                let name = name.to_string();
                if fits(&name)
                    && longest
                        .as_ref()
                        .is_none_or(|(known, _)| name.len() >= known.len())
                {
                    longest = Some((name, next));
                }
            }
            let Some((name, next)) = longest else {
                let has = children(self.heap, &value).map(|entry| entry.map(|(key, _)| key));
                let has = listed(&has.collect::<Result<Vec<_>, _>>()?);
                return broken(format!("no entry {} in it; it has {has}", short(rest)));
            };
            let next = next.clone();
            rest = rest[name.len()..].trim_start_matches('.');
            value = next;
        }
        Ok(value)
    }

    /// Returns the file's own value if it holds tensors directly, else the only entry that contains tensors.
    fn choose(&mut self, root: &HeapValue) -> Result<(String, HeapValue), Flaw> {
        let (mut key, mut value) = (Vec::new(), root.clone());
        for _ in 0..DEEPEST {
            self.entries.spend(1 + size(self.heap, &value))?;
            let mut has_tensors = matches!(value, HeapValue::Tensor(_));
            for entry in children(self.heap, &value) {
                has_tensors |= matches!(entry?.1, HeapValue::Tensor(_));
            }
            if has_tensors {
                return Ok((key.join("."), value));
            }
            let mut holding = Vec::new();
            for entry in children(self.heap, &value) {
                let (name, entry) = entry?;
                if self.holds(entry, 0)? {
                    holding.push((name, entry.clone()));
                }
            }
            match <[_; 1]>::try_from(holding) {
                Ok([(name, entry)]) => {
                    key.push(name.to_string());
                    value = entry;
                }
                Err(none) if none.is_empty() => return broken("the file contains no tensor"),
                Err(several) => {
                    let names: Vec<EntryKey> = several.into_iter().map(|(name, _)| name).collect();
                    return broken(format!(
                        "several entries contain tensors: {}; choose one with --key",
                        listed(&names)
                    ));
                }
            }
        }
        broken(format!("containers are nested more than {DEEPEST} deep"))
    }

    /// Whether a value contains a tensor at any depth.
    fn holds(&mut self, value: &HeapValue, depth: usize) -> Result<bool, Flaw> {
        if matches!(value, HeapValue::Tensor(_)) {
            return Ok(true);
        }
        self.enter(value, depth)?;
        for entry in children(self.heap, value) {
            if self.holds(entry?.1, depth + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Charges for a value and its entries before they are visited.
    fn enter(&mut self, value: &HeapValue, depth: usize) -> Result<(), Flaw> {
        if depth > DEEPEST {
            return broken(format!(
                "containers are nested more than {DEEPEST} deep, or form a cycle"
            ));
        }
        self.entries.spend(1 + size(self.heap, value))
    }

    fn visit(&mut self, value: &HeapValue, name: &mut String, depth: usize) -> Result<(), Flaw> {
        self.enter(value, depth)?;
        match value {
            HeapValue::Tensor(number) => self.keep(name, *number),
            HeapValue::Dict(_) | HeapValue::Items(_) => {
                let length = name.len();
                for entry in children(self.heap, value) {
                    let (key, entry) = entry?;
                    let dot = if length == 0 { "" } else { "." };
                    name.push_str(&format!("{dot}{key}"));
                    self.letters.spend((name.len() - length) as u64)?;
                    self.visit(entry, name, depth + 1)?;
                    name.truncate(length);
                }
                Ok(())
            }
            _ => {
                let skipped = self.copied(name)?;
                self.named.skipped.push(skipped);
                Ok(())
            }
        }
    }

    fn copied(&mut self, name: &str) -> Result<String, Flaw> {
        self.letters.spend(NAME + name.len() as u64)?;
        Ok(name.to_owned())
    }

    fn keep(&mut self, name: &str, number: usize) -> Result<(), Flaw> {
        let name = self.copied(if name.is_empty() { "tensor" } else { name })?;
        if name == "__metadata__" {
            return broken("a tensor is named __metadata__, which safetensors reserves");
        }
        match self.named.tensors.insert(name.clone(), number) {
            None => Ok(()),
            Some(_) => broken(format!("two tensors are named {}", short(&name))),
        }
    }
}
