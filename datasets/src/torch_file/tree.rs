//! Nested containers to named tensors: which dictionary of a checkpoint is meant, and what its tensors are called.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::error::{Flaw, broken, short};
use super::heap::{Heap, HeapValue};

/// How deep containers may lie in one another, and how many entries may be walked.
const DEEPEST: usize = 64;
const MOST_ENTRIES: usize = 1 << 22;
/// The longest key, and all kept names together, in bytes: a file could repeat one without end.
const LONGEST_KEY: usize = 4096;
const MOST_NAMES: usize = 64 << 20;
/// How many keys a message names.
const NAMED: usize = 12;

/// Tensors of a checkpoint.
#[derive(Debug, Default)]
pub struct NamedTensors {
    /// The dictionary that was taken: keys from the outside in, joined by dots; empty for the file itself.
    pub key: String,
    /// Tensors by name, as numbers in the file.
    pub(super) tensors: BTreeMap<String, usize>,
    /// Names of what is no tensor.
    pub skipped: Vec<String>,
}

/// The tensors below a key, or below the only dictionary that holds any.
pub(super) fn tensors(heap: &Heap, root: &HeapValue, key: Option<&str>) -> Result<NamedTensors, Flaw> {
    let (key, value) = match key {
        Some(key) => (key.to_owned(), follow(heap, root, key)?),
        None => choose(heap, root)?,
    };
    let mut walk = Walk {
        heap,
        named: NamedTensors::default(),
        left: MOST_ENTRIES,
        letters: MOST_NAMES,
    };
    walk.visit(&value, &mut String::new(), 0)?;
    let mut named = walk.named;
    named.key = key;
    if named.tensors.is_empty() {
        return broken("there is no tensor in it");
    }
    Ok(named)
}

/// The value at a dotted key. A key that has dots itself is found whole.
fn follow(heap: &Heap, root: &HeapValue, key: &str) -> Result<HeapValue, Flaw> {
    let (mut value, mut rest) = (root.clone(), key);
    while !rest.is_empty() {
        let entries = children(heap, &value)?;
        let fits =
            |name: &str| rest == name || rest.strip_prefix(name).is_some_and(|tail| tail.starts_with('.'));
        let named = entries.into_iter().map(|(key, entry)| (key.to_string(), entry));
        let longest = named
            .filter(|(name, _)| fits(name))
            .max_by_key(|(name, _)| name.len());
        let Some((name, next)) = longest else {
            let has = listed(children(heap, &value)?.into_iter().map(|(key, _)| key));
            return broken(format!("no entry {} in it; it has {has}", short(rest)));
        };
        rest = rest[name.len()..].trim_start_matches('.');
        value = next;
    }
    Ok(value)
}

/// The file's own value when it holds tensors directly, else its only entry that holds tensors anywhere.
fn choose(heap: &Heap, root: &HeapValue) -> Result<(String, HeapValue), Flaw> {
    let (mut key, mut value) = (Vec::new(), root.clone());
    for _ in 0..DEEPEST {
        let entries = children(heap, &value)?;
        if matches!(value, HeapValue::Tensor(_))
            || entries
                .iter()
                .any(|(_, entry)| matches!(entry, HeapValue::Tensor(_)))
        {
            return Ok((key.join("."), value));
        }
        let mut budget = MOST_ENTRIES;
        let mut holding = Vec::new();
        for (name, entry) in entries {
            if holds(heap, &entry, 0, &mut budget)? {
                holding.push((name, entry));
            }
        }
        match holding.len() {
            0 => return broken("there is no tensor in it"),
            1 => holding.into_iter().for_each(|(name, entry)| {
                key.push(name.to_string());
                value = entry;
            }),
            _ => {
                let names = listed(holding.into_iter().map(|(name, _)| name));
                return broken(format!(
                    "several of its entries hold tensors: {names}; choose one with --key"
                ));
            }
        }
    }
    broken(format!("containers lie more than {DEEPEST} deep in it"))
}

/// Whether there is a tensor anywhere in a value.
fn holds(heap: &Heap, value: &HeapValue, depth: usize, budget: &mut usize) -> Result<bool, Flaw> {
    if matches!(value, HeapValue::Tensor(_)) {
        return Ok(true);
    }
    spend(depth, budget)?;
    for (_, entry) in children(heap, value)? {
        if holds(heap, &entry, depth + 1, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn spend(depth: usize, budget: &mut usize) -> Result<(), Flaw> {
    if depth > DEEPEST {
        return broken(format!(
            "containers lie more than {DEEPEST} deep in it, or in a circle"
        ));
    }
    match budget.checked_sub(1) {
        Some(left) => *budget = left,
        None => return broken(format!("more than {MOST_ENTRIES} entries in it")),
    }
    Ok(())
}

/// What an entry is called.
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

/// A container's entries by key; of a list by number.
fn children(heap: &Heap, value: &HeapValue) -> Result<Vec<(EntryKey, HeapValue)>, Flaw> {
    let key = |key: &HeapValue| match key {
        HeapValue::Text(text) if text.len() > LONGEST_KEY => Some(broken(format!(
            "a key of {} bytes, expected at most {LONGEST_KEY}",
            text.len()
        ))),
        HeapValue::Text(text) => Some(Ok(EntryKey::Text(Rc::clone(text)))),
        HeapValue::Int(number) => Some(Ok(EntryKey::Number(*number))),
        _ => None,
    };
    match value {
        HeapValue::Dict(number) => {
            let entries = heap.dict(*number).iter();
            let named = entries.filter_map(|(name, value)| Some(key(name)?.map(|key| (key, value.clone()))));
            named.collect()
        }
        HeapValue::Items(number) => {
            let entries = (0i64..).zip(heap.items(*number));
            Ok(entries
                .map(|(at, value)| (EntryKey::Number(at), value.clone()))
                .collect())
        }
        _ => Ok(Vec::new()),
    }
}

fn listed(mut keys: impl ExactSizeIterator<Item = EntryKey>) -> String {
    let count = keys.len();
    let first: Vec<String> = keys
        .by_ref()
        .take(NAMED)
        .map(|key| short(&key.to_string()))
        .collect();
    match count {
        0 => "none".to_owned(),
        count if count > NAMED => format!("{} and {} more", first.join(", "), count - NAMED),
        _ => first.join(", "),
    }
}

struct Walk<'a> {
    heap: &'a Heap,
    named: NamedTensors,
    /// Entries and bytes of names that may still come.
    left: usize,
    letters: usize,
}

impl Walk<'_> {
    fn visit(&mut self, value: &HeapValue, name: &mut String, depth: usize) -> Result<(), Flaw> {
        spend(depth, &mut self.left)?;
        match value {
            HeapValue::Tensor(number) => self.keep(name, *number),
            HeapValue::Dict(_) | HeapValue::Items(_) => {
                let length = name.len();
                for (key, entry) in children(self.heap, value)? {
                    let dot = if length == 0 { "" } else { "." };
                    name.push_str(&format!("{dot}{key}"));
                    self.visit(&entry, name, depth + 1)?;
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
        match self.letters.checked_sub(name.len()) {
            Some(left) => self.letters = left,
            None => return broken(format!("names of more than {MOST_NAMES} bytes in it")),
        }
        Ok(name.to_owned())
    }

    fn keep(&mut self, name: &str, number: usize) -> Result<(), Flaw> {
        let name = self.copied(if name.is_empty() { "tensor" } else { name })?;
        if name == "__metadata__" {
            return broken("a tensor is named __metadata__, which safetensors keeps for itself");
        }
        match self.named.tensors.insert(name.clone(), number) {
            None => Ok(()),
            Some(_) => broken(format!("two tensors are named {}", short(&name))),
        }
    }
}
