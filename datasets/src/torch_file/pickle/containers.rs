//! The instructions of tuples, lists, sets and dictionaries.

use super::{ENTRY, Machine};
use crate::torch_file::error::{Flaw, broken};
use crate::torch_file::heap::HeapValue;

/// The bytes of a value in a growing list or dictionary; growing doubles the capacity.
const VALUE: u64 = 2 * size_of::<HeapValue>() as u64;

impl Machine<'_> {
    /// Executes an instruction of tuples, lists, sets and dictionaries.
    pub(super) fn container(&mut self, code: u8) -> Result<bool, Flaw> {
        match code {
            b')' | b']' | 0x8f => self.push_items(Vec::new())?,
            b'}' => self.push_dict()?,
            b't' | b'l' | 0x91 => {
                let items = self.above_mark()?;
                self.push_items(items)?;
            }
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(code - 0x84))?;
                self.push_items(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.above_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let pair = self.pop_many(2)?;
                self.set(pair)?;
            }
            b'u' => {
                let pairs = self.above_mark()?;
                self.set(pairs)?;
            }
            b'd' => {
                let pairs = self.above_mark()?;
                self.push_dict()?;
                self.set(pairs)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn push_items(&mut self, items: Vec<HeapValue>) -> Result<(), Flaw> {
        self.memory.spend(ENTRY + VALUE * items.len() as u64)?;
        let items = self.heap.add_items(items);
        self.push(items)
    }

    fn push_dict(&mut self) -> Result<(), Flaw> {
        let dict = self.add_dict()?;
        self.push(dict)
    }

    pub(super) fn add_dict(&mut self) -> Result<HeapValue, Flaw> {
        self.memory.spend(ENTRY)?;
        Ok(self.heap.add_dict(Vec::new()))
    }

    fn extend(&mut self, items: Vec<HeapValue>) -> Result<(), Flaw> {
        match *self.top()? {
            HeapValue::Items(number) => {
                let room = added(self.heap.items(number).len(), items.len());
                self.memory.spend(room)?;
                self.heap.items_mut(number).extend(items);
                Ok(())
            }
            ref other => broken(format!("the pickle appends to {}, expected a list", other.what())),
        }
    }

    fn set(&mut self, flat: Vec<HeapValue>) -> Result<(), Flaw> {
        let HeapValue::Dict(number) = *self.top()? else {
            let what = self.top()?.what();
            return broken(format!(
                "the pickle adds entries to {what}, expected a dictionary"
            ));
        };
        if !flat.len().is_multiple_of(2) {
            return broken("a dictionary has a key without a value");
        }
        self.memory
            .spend(added(2 * self.heap.dict(number).len(), flat.len()))?;
        let mut values = flat.into_iter();
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            self.heap.dict_mut(number).push((key, value));
        }
        Ok(())
    }
}

/// Returns the bytes by which a container of `held` values grows when `values` are added; the first one allocates four.
const fn added(held: usize, values: usize) -> u64 {
    let first = if held == 0 && values > 0 { 4 * VALUE } else { 0 };
    first + VALUE * values as u64
}
