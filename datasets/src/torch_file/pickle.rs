//! The interpreter of pickles (protocols 2 to 5), which builds tensors and plain containers and nothing else.
//!
//! The instructions are those of Python's `pickletools`. The interpreter never recurses. All its memory, including
//! copies and the memo, counts against one allowance (law L9), because a single byte of a pickle may ask for a list.

use std::collections::HashMap;
use std::rc::Rc;

use safetensors::Dtype;

use super::allowance::Allowance;
use super::allowed::Global;
use super::error::{Flaw, broken, short};
use super::heap::{Heap, HeapValue, Storage, Tensor};

/// The most bytes of memory that a pickle may fill.
const MOST_BYTES: u64 = 192 << 20;
/// The most values on the stack, and the most open marks. Python's own pickler writes batches of a thousand values.
const MOST_STACKED: usize = 1 << 20;
/// The bytes of a value in a growing list or dictionary; growing doubles the capacity.
const VALUE: u64 = 2 * size_of::<HeapValue>() as u64;
/// The bytes of a memo entry; the hash table is half empty when it grows.
const KEPT: u64 = 80;
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
/// An error if the pickle is cut off or malformed, or uses a name that is not a [`Global`].
pub(super) fn read(bytes: &[u8], keys: Keys) -> Result<(HeapValue, Heap, usize), Flaw> {
    let mut machine = Machine {
        bytes,
        at: 0,
        keys,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        heap: Heap::default(),
        memory: Allowance::new("bytes of memory for the values of the pickle", MOST_BYTES),
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
                HeapValue::Other("found a number that is not an integer")
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
            return Ok(HeapValue::Other("found an integer of more than 64 bits"));
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

    /// Executes an instruction of tuples, lists, sets and dictionaries.
    fn container(&mut self, code: u8) -> Result<bool, Flaw> {
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

    fn add_dict(&mut self) -> Result<HeapValue, Flaw> {
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

    /// Executes an instruction of the memo.
    fn memory(&mut self, code: u8) -> Result<bool, Flaw> {
        match code {
            b'q' => self.keep_at(1)?,
            b'r' => self.keep_at(4)?,
            0x94 => {
                self.keep(self.memo.len() as u64)?;
            }
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn keep_at(&mut self, prefix: usize) -> Result<(), Flaw> {
        let number = self.number(prefix)?;
        self.keep(number)
    }

    fn keep(&mut self, number: u64) -> Result<(), Flaw> {
        self.memory.spend(KEPT)?;
        let value = self.top()?.clone();
        self.memo.insert(number, value);
        Ok(())
    }

    fn recall(&mut self, prefix: usize) -> Result<(), Flaw> {
        let number = self.number(prefix)?;
        let Some(value) = self.memo.get(&number).cloned() else {
            return broken(format!(
                "the pickle reads memo entry {number}, which it never wrote"
            ));
        };
        self.push(value)
    }

    /// Executes an instruction of names, calls and storages.
    fn object(&mut self, code: u8, start: usize) -> Result<bool, Flaw> {
        let value = match code {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                global(&module, &name, start)?
            }
            0x93 => {
                let parts = self.pop_many(2)?;
                let [HeapValue::Text(module), HeapValue::Text(name)] = &parts[..] else {
                    return broken(format!("a name is not a text, at byte {start}"));
                };
                global(module, name, start)?
            }
            b'R' => self.reduce(start)?,
            b'b' => return self.build(start).map(|()| true),
            b'Q' => self.storage()?,
            _ => return Ok(false),
        };
        self.push(value)?;
        Ok(true)
    }

    /// Executes a call and returns the value that stands for its result.
    fn reduce(&mut self, start: usize) -> Result<HeapValue, Flaw> {
        let call = self.pop_many(2)?;
        let [HeapValue::Global(global), HeapValue::Items(number)] = call[..] else {
            let what = call[0].what();
            return Err(Flaw::Forbidden(format!("a call of {what}"), start));
        };
        let arguments = self.heap.items(number);
        match (global, arguments) {
            (Global::OrderedDict, []) => self.add_dict(),
            (Global::Size, [HeapValue::Items(sides)]) => Ok(HeapValue::Items(*sides)),
            (Global::Parameter, [HeapValue::Tensor(number), ..]) => Ok(HeapValue::Tensor(*number)),
            (Global::Tensor, [storage, offset, shape, strides, ..]) => {
                let tensor = self.tensor(storage, offset, shape, strides, None)?;
                self.add_tensor(tensor)
            }
            (
                Global::TypedTensor,
                [
                    storage,
                    offset,
                    shape,
                    strides,
                    _,
                    _,
                    HeapValue::Global(Global::Dtype(dtype)),
                    ..,
                ],
            ) => {
                let tensor = self.tensor(storage, offset, shape, strides, Some(*dtype))?;
                self.add_tensor(tensor)
            }
            _ => broken(format!(
                "{global:?} is called with unexpected arguments, at byte {start}"
            )),
        }
    }

    fn add_tensor(&mut self, tensor: Tensor) -> Result<HeapValue, Flaw> {
        let sides = tensor.shape.len() + tensor.strides.len();
        self.memory
            .spend((2 * size_of::<Tensor>() + 8 * sides) as u64 + ENTRY)?;
        Ok(self.heap.add_tensor(tensor))
    }

    fn tensor(
        &self,
        storage: &HeapValue,
        offset: &HeapValue,
        shape: &HeapValue,
        strides: &HeapValue,
        dtype: Option<Dtype>,
    ) -> Result<Tensor, Flaw> {
        let &HeapValue::Storage(number) = storage else {
            return broken(format!(
                "a tensor refers to {}, expected a storage",
                storage.what()
            ));
        };
        let found = self.heap.storage(number);
        let Some(dtype) = dtype.or(found.dtype) else {
            return broken("neither a tensor nor its storage has a dtype");
        };
        let (shape, strides) = (self.counts(shape)?, self.counts(strides)?);
        Tensor::new(number, found, dtype, count(offset)?, shape, strides)
    }

    fn counts(&self, value: &HeapValue) -> Result<Vec<u64>, Flaw> {
        match *value {
            HeapValue::Items(number) if self.heap.items(number).len() <= 64 => {
                self.heap.items(number).iter().map(count).collect()
            }
            ref other => broken(format!(
                "a shape or strides are {}, expected at most 64 numbers",
                other.what()
            )),
        }
    }

    /// Handles attributes set on the value beneath them. A dictionary of tensors may have some; they are ignored.
    fn build(&mut self, start: usize) -> Result<(), Flaw> {
        drop(self.pop()?);
        match self.top()? {
            HeapValue::Dict(_) => Ok(()),
            other => Err(Flaw::Forbidden(
                format!("attributes set on {}", other.what()),
                start,
            )),
        }
    }

    /// Resolves a reference to a storage.
    fn storage(&mut self) -> Result<HeapValue, Flaw> {
        let parts = match self.pop()? {
            HeapValue::Items(number) => self.heap.items(number),
            other => return broken(format!("a persistent id is {}, expected a tuple", other.what())),
        };
        let (core, rest) = parts.split_at_checked(5).unwrap_or((parts, &[]));
        let views = !matches!(rest, [] | [HeapValue::Other("nothing")]);
        let kept =
            |text: &Rc<str>| &**text == "storage" && !views && (rest.is_empty() || self.keys == Keys::Legacy);
        match core {
            [
                HeapValue::Text(word),
                HeapValue::Global(Global::Storage(dtype)),
                HeapValue::Text(key),
                _,
                len,
            ] if kept(word) => {
                let storage = Storage {
                    key: Rc::clone(key),
                    dtype: *dtype,
                    len: count(len)?,
                };
                self.memory.spend(ENTRY + size_of::<Storage>() as u64)?;
                Ok(self.heap.add_storage(storage))
            }
            _ => broken("a persistent id does not describe a storage in the form of torch.save"),
        }
    }

    fn mark(&mut self) -> Result<(), Flaw> {
        if self.marks.len() >= MOST_STACKED {
            return broken(format!("the pickle has more than {MOST_STACKED} open marks"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn push(&mut self, value: HeapValue) -> Result<(), Flaw> {
        if self.stack.len() >= MOST_STACKED {
            return broken(format!(
                "the pickle has more than {MOST_STACKED} values on its stack, at byte {}",
                self.at
            ));
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<HeapValue, Flaw> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => broken(format!(
                "the pickle pops from an empty stack, at byte {}",
                self.at
            )),
        }
    }

    /// Pops the last `count` values, in the order in which they were pushed.
    fn pop_many(&mut self, count: usize) -> Result<Vec<HeapValue>, Flaw> {
        let mut values: Vec<HeapValue> = (0..count).map(|_| self.pop()).collect::<Result<_, _>>()?;
        values.reverse();
        Ok(values)
    }

    fn above_mark(&mut self) -> Result<Vec<HeapValue>, Flaw> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => broken(format!(
                "the pickle closes a mark that it never opened, at byte {}",
                self.at
            )),
        }
    }

    fn top(&self) -> Result<&HeapValue, Flaw> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.last().filter(|_| self.stack.len() > floor);
        top.ok_or_else(|| {
            Flaw::Broken(format!(
                "the pickle reads the top of an empty stack, at byte {}",
                self.at
            ))
        })
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

/// Returns the bytes by which a container of `held` values grows when `values` are added; the first one allocates four.
const fn added(held: usize, values: usize) -> u64 {
    let first = if held == 0 && values > 0 { 4 * VALUE } else { 0 };
    first + VALUE * values as u64
}

fn global(module: &str, name: &str, start: usize) -> Result<HeapValue, Flaw> {
    let found = Global::named(module, name).map(HeapValue::Global);
    found.ok_or_else(|| Flaw::Forbidden(short(&format!("{module}.{name}")), start))
}

/// Reads a value as a count.
fn count(value: &HeapValue) -> Result<u64, Flaw> {
    match *value {
        HeapValue::Int(number) if number >= 0 => Ok(number.unsigned_abs()),
        HeapValue::Int(number) => broken(format!("found {number}, expected a count")),
        ref other => broken(format!("found {}, expected a count", other.what())),
    }
}
