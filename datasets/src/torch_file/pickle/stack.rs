//! The stack of the interpreter with its marks, and the memo.

use super::Machine;
use crate::torch_file::error::{Flaw, broken};
use crate::torch_file::heap::HeapValue;

/// The most values on the stack, and the most open marks. Python's own pickler writes batches of a thousand values.
const MOST_STACKED: usize = 1 << 20;
/// The bytes of a memo entry; the hash table is half empty when it grows.
const KEPT: u64 = 80;

impl Machine<'_> {
    pub(super) fn mark(&mut self) -> Result<(), Flaw> {
        if self.marks.len() >= MOST_STACKED {
            return broken(format!("the pickle has more than {MOST_STACKED} open marks"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    pub(super) fn push(&mut self, value: HeapValue) -> Result<(), Flaw> {
        if self.stack.len() >= MOST_STACKED {
            return broken(format!(
                "the pickle has more than {MOST_STACKED} values on its stack, at byte {}",
                self.at
            ));
        }
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<HeapValue, Flaw> {
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
    pub(super) fn pop_many(&mut self, count: usize) -> Result<Vec<HeapValue>, Flaw> {
        let mut values: Vec<HeapValue> = (0..count).map(|_| self.pop()).collect::<Result<_, _>>()?;
        values.reverse();
        Ok(values)
    }

    pub(super) fn above_mark(&mut self) -> Result<Vec<HeapValue>, Flaw> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => broken(format!(
                "the pickle closes a mark that it never opened, at byte {}",
                self.at
            )),
        }
    }

    pub(super) fn top(&self) -> Result<&HeapValue, Flaw> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack.last().filter(|_| self.stack.len() > floor);
        top.ok_or_else(|| {
            Flaw::Broken(format!(
                "the pickle reads the top of an empty stack, at byte {}",
                self.at
            ))
        })
    }

    /// Executes an instruction of the memo.
    pub(super) fn memory(&mut self, code: u8) -> Result<bool, Flaw> {
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
}
