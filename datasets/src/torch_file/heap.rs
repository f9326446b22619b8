//! The values that a pickle made. They refer to one another by index, so that deep nesting or cycles of containers cost
//! no more than their own bytes.

use std::rc::Rc;

use safetensors::Dtype;

use super::allowed::Global;
use super::error::{Flaw, broken};

/// A value of a pickle; containers, storages and tensors are indices into the [`Heap`].
#[derive(Clone, Debug)]
pub(super) enum HeapValue {
    /// `None`, and values that are read but never used: non-integer numbers, bytes.
    Other(&'static str),
    /// `True` or `False`.
    Bool,
    /// An integer.
    Int(i64),
    /// A text.
    Text(Rc<str>),
    /// A tuple, list or set.
    Items(usize),
    /// A dictionary.
    Dict(usize),
    /// A supported name.
    Global(Global),
    /// A storage.
    Storage(usize),
    /// A tensor.
    Tensor(usize),
}

impl HeapValue {
    /// Describes the value for a message.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Other(what) => what,
            Self::Bool => "a truth value",
            Self::Int(_) => "a whole number",
            Self::Text(_) => "a text",
            Self::Items(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// A storage: a run of elements of which tensors are views.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    /// The storage's name in the file.
    pub(super) key: Rc<str>,
    /// The type of its elements; `None` if each tensor has its own.
    pub(super) dtype: Option<Dtype>,
    /// The number of elements; of bytes if there is no type.
    pub(super) len: u64,
}

impl Storage {
    /// Returns its length in bytes.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.len.checked_mul(self.dtype.map_or(1, width))
    }
}

/// A view into a storage, checked against its length.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// The index of the storage.
    pub(super) storage: usize,
    /// The type of its elements.
    pub(super) dtype: Dtype,
    /// The index of its first element in the storage.
    pub(super) offset: u64,
    /// The tensor's shape, outermost dimension first.
    pub(super) shape: Vec<u64>,
    /// The stride of each dimension in elements.
    pub(super) strides: Vec<u64>,
}

/// Returns the bytes of an element.
pub(super) fn width(dtype: Dtype) -> u64 {
    dtype.bitsize() as u64 / 8
}

/// The most dimensions of a tensor; PyTorch's own limit.
const MOST_SIDES: usize = 64;

impl Tensor {
    /// Makes a view, if it lies inside its storage.
    pub(super) fn new(
        number: usize,
        storage: &Storage,
        dtype: Dtype,
        offset: u64,
        shape: Vec<u64>,
        strides: Vec<u64>,
    ) -> Result<Self, Flaw> {
        if shape.len() != strides.len() || shape.len() > MOST_SIDES {
            let (sides, strides) = (shape.len(), strides.len());
            return broken(format!("a tensor of {sides} sides with {strides} strides"));
        }
        let tensor = Self {
            storage: number,
            dtype,
            offset,
            shape,
            strides,
        };
        let end = tensor.end().and_then(|end| end.checked_mul(width(dtype)));
        let bytes = storage.bytes();
        if tensor.count().is_none() || end.is_none() || bytes.is_none() || end > bytes {
            return broken(format!(
                "a tensor of shape {:?} and strides {:?} from element {offset} does not fit its storage of {} elements",
                tensor.shape, tensor.strides, storage.len
            ));
        }
        Ok(tensor)
    }

    /// Returns the number of elements.
    pub(super) fn count(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape
            .iter()
            .try_fold(1u64, |count, &side| count.checked_mul(side))
    }

    /// Returns the index after the last element of the storage that the tensor touches; its offset if it has no
    /// element.
    fn end(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(self.offset);
        }
        let sides = self.shape.iter().zip(&self.strides);
        sides
            .map(|(&side, &stride)| (side - 1).checked_mul(stride))
            .try_fold(self.offset.checked_add(1)?, |end, step| end.checked_add(step?))
    }

    /// Returns the number of elements of the storage from its first to its last, inclusive.
    pub(super) fn span(&self) -> u64 {
        self.end().map_or(0, |end| end - self.offset)
    }

    /// Whether its elements are contiguous in row-major order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = Some(1u64);
        self.shape
            .iter()
            .zip(&self.strides)
            .rev()
            .all(|(&side, &stride)| {
                let fits = side == 1 || Some(stride) == expected;
                expected = expected.and_then(|step| step.checked_mul(side));
                fits
            })
    }
}

/// All values that a pickle made.
#[derive(Debug, Default)]
pub(super) struct Heap {
    items: Vec<Vec<HeapValue>>,
    dicts: Vec<Vec<(HeapValue, HeapValue)>>,
    storages: Vec<Storage>,
    tensors: Vec<Tensor>,
}

impl Heap {
    pub(super) fn add_items(&mut self, items: Vec<HeapValue>) -> HeapValue {
        self.items.push(items);
        HeapValue::Items(self.items.len() - 1)
    }

    pub(super) fn add_dict(&mut self, pairs: Vec<(HeapValue, HeapValue)>) -> HeapValue {
        self.dicts.push(pairs);
        HeapValue::Dict(self.dicts.len() - 1)
    }

    pub(super) fn add_storage(&mut self, storage: Storage) -> HeapValue {
        self.storages.push(storage);
        HeapValue::Storage(self.storages.len() - 1)
    }

    pub(super) fn add_tensor(&mut self, tensor: Tensor) -> HeapValue {
        self.tensors.push(tensor);
        HeapValue::Tensor(self.tensors.len() - 1)
    }

    pub(super) fn items(&self, number: usize) -> &[HeapValue] {
        &self.items[number]
    }

    pub(super) fn items_mut(&mut self, number: usize) -> &mut Vec<HeapValue> {
        &mut self.items[number]
    }

    pub(super) fn dict(&self, number: usize) -> &[(HeapValue, HeapValue)] {
        &self.dicts[number]
    }

    pub(super) fn dict_mut(&mut self, number: usize) -> &mut Vec<(HeapValue, HeapValue)> {
        &mut self.dicts[number]
    }

    pub(super) fn storage(&self, number: usize) -> &Storage {
        &self.storages[number]
    }

    pub(super) fn storages(&self) -> &[Storage] {
        &self.storages
    }

    pub(super) fn tensor(&self, number: usize) -> &Tensor {
        &self.tensors[number]
    }
}
