//! The names that a pickle may refer to. All others are refused, because a name is a Python object that loading would
//! call.

use safetensors::Dtype;

/// A supported name. None is ever called: each stands for what it would build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `torch._utils._rebuild_tensor_v2`.
    Tensor,
    /// `torch._utils._rebuild_tensor_v3`, which has the dtype as an argument.
    TypedTensor,
    /// `torch._utils._rebuild_parameter`.
    Parameter,
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch.Size`.
    Size,
    /// `torch.FloatStorage` and its like; `None` for `UntypedStorage`.
    Storage(Option<Dtype>),
    /// `torch.float32` and its like.
    Dtype(Dtype),
}

impl Global {
    /// Looks a name up; `None` if it is not allowed.
    pub(super) fn named(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::Tensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::TypedTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::Parameter),
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch", "Size") => Some(Self::Size),
            ("torch.storage" | "torch", "UntypedStorage") => Some(Self::Storage(None)),
            ("torch" | "torch.cuda", name) => match name.strip_suffix("Storage") {
                Some(kind) => storage(kind).map(|dtype| Self::Storage(Some(dtype))),
                None => dtype(name).map(Self::Dtype),
            },
            _ => None,
        }
    }
}

fn storage(kind: &str) -> Option<Dtype> {
    Some(match kind {
        "Double" => Dtype::F64,
        "Float" => Dtype::F32,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Long" => Dtype::I64,
        "Int" => Dtype::I32,
        "Short" => Dtype::I16,
        "Char" => Dtype::I8,
        "Byte" => Dtype::U8,
        "Bool" => Dtype::BOOL,
        _ => return None,
    })
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint64" => Dtype::U64,
        "uint32" => Dtype::U32,
        "uint16" => Dtype::U16,
        "uint8" => Dtype::U8,
        "bool" => Dtype::BOOL,
        _ => return None,
    })
}
