//! The instructions of names, calls and storages, which make the tensors.

use std::rc::Rc;

use safetensors::Dtype;

use super::{ENTRY, Keys, Machine};
use crate::torch_file::allowed::Global;
use crate::torch_file::error::{Flaw, broken, short};
use crate::torch_file::heap::{HeapValue, Storage, Tensor};

impl Machine<'_> {
    /// Executes an instruction of names, calls and storages.
    pub(super) fn object(&mut self, code: u8, start: usize) -> Result<bool, Flaw> {
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
