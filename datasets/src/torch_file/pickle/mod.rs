//! The interpreter of pickles (protocols 2 to 5), which builds tensors and plain containers and nothing else.
//!
//! The instructions are those of Python's `pickletools`. The interpreter never recurses. All its memory, including
//! copies and the memo, counts against one allowance (law L9), because a single byte of a pickle may ask for a list.
//!
//! - `mod.rs`: numbers, constants and texts; `containers.rs`: tuples, lists, sets and dictionaries;
//! - `objects.rs`: names, calls and storages; `stack.rs`: the stack and the memo.

mod containers;
mod objects;
mod stack;

use std::collections::HashMap;
use std::rc::Rc;

use super::allowance::Allowance;
use super::error::{Flaw, broken};
use super::heap::{Heap, HeapValue};

/// The most bytes of memory that a pickle may fill.
const MOST_BYTES: u64 = 192 << 20;
/// The bytes of a container, a storage or a tensor itself.
const ENTRY: u64 = 64;

/// How a pickle refers to storages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// As entries of the archive: a tuple of five.
    Archive,
    /// As parts of the same file, before PyTorch 1.6: a sixth element describes views and must be empty.
    Legacy,
}

/// Reads one pickle; returns its value, the heap and the pickle's length.
///
/// # Errors
/// An error if the pickle is cut off or malformed, or uses a name that is not a [`Global`](super::allowed::Global).
pub(super) fn read(bytes: &[u8], keys: Keys) -> Result<(HeapValue, Heap, usize), Flaw> {
    let mut machine = Machine {
        bytes,
        at: 0,
        keys,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        heap: Heap::default(),
        memory: Allowance::new("bytes of pickled values in memory", MOST_BYTES),
    };
    while machine.step()? {}
    let root = machine.pop()?;
    Ok((root, machine.heap, machine.at))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    keys: Keys,
    stack: Vec<HeapValue>,
    /// The height of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<u64, HeapValue>,
    heap: Heap,
    memory: Allowance,
}

impl Machine<'_> {
    /// Executes one instruction; false at the end.
    fn step(&mut self) -> Result<bool, Flaw> {
        let start = self.at;
        match self.take(1)?[0] {
            b'.' => return Ok(false),
            0x80 => self.protocol()?,
            0x95 => drop(self.take(8)?),
            b'(' => self.mark()?,
            b'0' => drop(self.pop()?),
            b'1' => drop(self.above_mark()?),
            b'2' => self.duplicate()?,
            code => {
                let done =
                    self.scalar(code)? || self.text(code)? || self.container(code)? || self.memory(code)?;
                if !done && !self.object(code, start)? {
                    return Err(Flaw::Forbidden(format!("the instruction 0x{code:02x}"), start));
                }
            }
        }
        Ok(true)
    }

    fn protocol(&mut self) -> Result<(), Flaw> {
        match self.take(1)?[0] {
            0..=5 => Ok(()),
            version => broken(format!("pickle protocol {version}, expected at most 5")),
        }
    }

    fn duplicate(&mut self) -> Result<(), Flaw> {
        let top = self.top()?.clone();
        self.push(top)
    }

    /// Executes an instruction of numbers and constants.
    fn scalar(&mut self, code: u8) -> Result<bool, Flaw> {
        let value = match code {
            b'N' => HeapValue::Other("nothing"),
            0x88 | 0x89 => HeapValue::Bool,
            b'J' => HeapValue::Int(i64::from(self.number(4)? as u32 as i32)),
            b'K' => HeapValue::Int(self.number(1)? as i64),
            b'M' => HeapValue::Int(self.number(2)? as i64),
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => {
                self.take(8)?;
                HeapValue::Other("a number that is not an integer")
            }
            _ => return Ok(false),
        };
        self.push(value)?;
        Ok(true)
    }

    /// Reads an integer of any length, of which at most 64 bits may be significant.
    fn long(&mut self, prefix: usize) -> Result<HeapValue, Flaw> {
        let count = self.number(prefix)?;
        let digits = self.take_long(count)?;
        let negative = digits.last().is_some_and(|last| last & 0x80 != 0);
        let fill = if negative { 0xff } else { 0 };
        if digits.len() > 8 && digits[8..].iter().any(|&digit| digit != fill) {
            return Ok(HeapValue::Other("an integer of more than 64 bits"));
        }
        let mut whole = [fill; 8];
        whole[..digits.len().min(8)].copy_from_slice(&digits[..digits.len().min(8)]);
        Ok(HeapValue::Int(i64::from_le_bytes(whole)))
    }

    /// Executes an instruction of texts and bytes.
    fn text(&mut self, code: u8) -> Result<bool, Flaw> {
        let (prefix, is_text) = match code {
            0x8c | b'U' => (1, true),
            b'X' | b'T' => (4, true),
            0x8d => (8, true),
            b'C' => (1, false),
            b'B' => (4, false),
            0x8e | 0x96 => (8, false),
            _ => return Ok(false),
        };
        let count = self.number(prefix)?;
        let found = self.take_long(count)?;
        let value = if is_text {
            let text: Rc<str> = String::from_utf8_lossy(found).into();
            self.memory.spend(ENTRY + text.len() as u64)?;
            HeapValue::Text(text)
        } else {
            HeapValue::Other("bytes")
        };
        self.push(value)?;
        Ok(true)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Flaw> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..count) else {
            let left = rest.len();
            return broken(format!(
                "the pickle ends early: {count} more bytes were expected, {left} are left"
            ));
        };
        self.at += count;
        Ok(taken)
    }

    fn take_long(&mut self, count: u64) -> Result<&[u8], Flaw> {
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Reads a little-endian number of `bytes` bytes, at most eight.
    fn number(&mut self, bytes: usize) -> Result<u64, Flaw> {
        let taken = self.take(bytes)?;
        Ok(taken
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Reads the rest of a line.
    fn line(&mut self) -> Result<String, Flaw> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return broken("the pickle ends inside a name");
        };
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        self.at += end + 1;
        Ok(line)
    }
}
