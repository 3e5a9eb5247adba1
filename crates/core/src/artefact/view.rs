//! Tensors of PyTorch in a [pickle](super::pickle): where the values of each lie.

use super::element::Element;
use super::pickle::{Id, Object, Pickle};
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// The most axes of a tensor; real ones have a tenth of it.
const MOST_AXES: usize = 16;

/// Functions that rebuild tensors, those that are read.
const REBUILD_TENSOR: &str = "torch._utils._rebuild_tensor_v2";
const REBUILD_TYPED: &str = "torch._utils._rebuild_tensor_v3";
const REBUILD_PARAMETER: [&str; 2] = ["torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"];
const REBUILD_SUBCLASS: &str = "torch._tensor._rebuild_from_type_v2";

/// Where the values of a tensor lie.
#[derive(Debug)]
pub(super) struct View {
    /// Key of the storage.
    pub(super) storage: String,
    pub(super) element: Element,
    /// First value, counted in the storage.
    offset: usize,
    shape: Vec<usize>,
    /// Steps in the storage for one step along each axis.
    strides: Vec<usize>,
}

impl View {
    pub(super) fn count(&self) -> usize {
        self.shape.iter().copied().fold(1, usize::saturating_mul)
    }

    /// One more than the place of the last value in the storage.
    fn end(&self) -> Option<usize> {
        if self.count() == 0 {
            return Some(0);
        }
        let steps = self.shape.iter().zip(&self.strides);
        let last = steps.map(|(length, stride)| (length - 1).checked_mul(*stride));
        last.into_iter().try_fold(self.offset, |sum, step| sum.checked_add(step?))?.checked_add(1)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1usize;
        self.shape.iter().zip(&self.strides).rev().all(|(&length, &stride)| {
            let follows = length == 1 || stride == expected;
            expected = expected.saturating_mul(length);
            follows
        })
    }

    /// Its values, out of the bytes of its storage.
    pub(super) fn tensor(&self, name: &str, storage: &[u8]) -> Result<HostTensor> {
        let size = self.element.size();
        let end = self.end().and_then(|end| end.checked_mul(size)).filter(|&end| end <= storage.len());
        let Some(end) = end else {
            return Err(damaged(format!("the tensor {name} of shape {:?} reaches beyond its storage", self.shape)));
        };
        let data = match (self.count(), self.is_contiguous()) {
            (0, _) => Vec::new(),
            (_, true) => self.element.to_f32(&storage[self.offset * size..end]),
            (count, false) => {
                self.element.each_to_f32((0..count).map(|index| &storage[self.place(index) * size..][..size]))
            }
        };
        Ok(HostTensor { shape: self.shape.clone(), data })
    }

    /// The place in the storage of value `index` in row-major order.
    fn place(&self, mut index: usize) -> usize {
        let mut place = self.offset;
        for (length, stride) in self.shape.iter().zip(&self.strides).rev() {
            place += index % length * stride;
            index /= length;
        }
        place
    }
}

/// Whether an object is a tensor of any kind.
pub(super) fn is_tensor(pickle: &Pickle, id: Id) -> bool {
    pickle
        .call(id)
        .is_some_and(|(function, _)| function.starts_with("torch._utils._rebuild_") || function == REBUILD_SUBCLASS)
}

/// The tensor that an object asks for; the error says what it is instead. `None` for what is no tensor.
pub(super) fn view(pickle: &Pickle, id: Id) -> Option<Result<View, String>> {
    is_tensor(pickle, id).then(|| view_of(pickle, id))
}

fn view_of(pickle: &Pickle, mut id: Id) -> Result<View, String> {
    // A parameter is a tensor with a gradient; nothing else is one of one.
    if let Some((function, [data, ..])) = pickle.call(id)
        && REBUILD_PARAMETER.contains(&function)
    {
        id = *data;
    }
    let Some((mut function, mut arguments)) = pickle.call(id) else { return Err("a parameter without values".into()) };
    // A tensor with attributes of its own, or of a class of its own: what it is made from is the third argument.
    if let (REBUILD_SUBCLASS, [inner, _, given, ..]) = (function, arguments) {
        (function, arguments) = (pickle.global(*inner).unwrap_or_default(), pickle.tuple(*given).unwrap_or_default());
    }
    let [storage, offset, shape, strides, _, _, rest @ ..] = arguments else { return Err(kind_of(function)) };
    let (key, storage, length) = storage_of(pickle, *storage)?;
    let element = match (function, rest) {
        (REBUILD_TENSOR, []) => element(storage).ok_or_else(|| storage.to_string())?,
        (REBUILD_TENSOR, [metadata]) if pickle.dictionary(*metadata).is_some_and(<[_]>::is_empty) => {
            element(storage).ok_or_else(|| storage.to_string())?
        }
        (REBUILD_TENSOR, _) => return Err("a tensor whose conjugation or sign is not resolved".into()),
        (REBUILD_TYPED, [dtype, ..]) => {
            let name = pickle.global(*dtype).unwrap_or_default();
            typed(name).ok_or_else(|| format!("a tensor of type {name}"))?
        }
        _ => return Err(kind_of(function)),
    };
    // A storage without a type counts bytes.
    let length = if function == REBUILD_TYPED { length / element.size() } else { length };
    let sizes = |id: &Id| -> Option<Vec<usize>> {
        let axes = pickle.tuple(*id).filter(|axes| axes.len() <= MOST_AXES)?;
        axes.iter().map(|&length| pickle.size(length)).collect()
    };
    let (Some(offset), Some(shape), Some(strides)) = (pickle.size(*offset), sizes(shape), sizes(strides)) else {
        return Err(format!("a size that is negative or missing, or more than {MOST_AXES} axes"));
    };
    let view = View { storage: key.to_string(), element, offset, shape, strides };
    if view.shape.len() != view.strides.len() || view.end().is_none_or(|end| end > length) {
        return Err(format!("the shape {:?}, which does not fit its storage of {length} values", view.shape));
    }
    Ok(view)
}

/// What a function makes that is not read, in words.
fn kind_of(function: &str) -> String {
    match function.strip_prefix("torch._utils._rebuild_").unwrap_or(function) {
        "qtensor" => "a quantised tensor".into(),
        "sparse_tensor" | "sparse_csr_tensor" => "a sparse tensor".into(),
        "nested_tensor" => "a nested tensor".into(),
        "meta_tensor_no_storage" => "a tensor of the meta device, which has no values".into(),
        other => format!("a tensor made by {other}"),
    }
}

/// Key, type and length of `("storage", type, key, device, length)`; before PyTorch 1.6 a view of a storage may follow.
fn storage_of(pickle: &Pickle, id: Id) -> Result<(&str, &str, usize), String> {
    let parts = match pickle.get(id) {
        Object::Persistent(parts) => pickle.tuple(*parts),
        _ => None,
    };
    let Some([kind, of, key, _, length, view @ ..]) = parts else { return Err("a tensor without storage".into()) };
    if view.iter().any(|&view| *pickle.get(view) != Object::None) {
        return Err("a view of another storage".into());
    }
    match (pickle.text(*kind), pickle.global(*of), pickle.text(*key), pickle.size(*length)) {
        (Some("storage"), Some(of), Some(key), Some(length)) => Ok((key, of, length)),
        _ => Err("a storage that makes no sense".into()),
    }
}

/// The type of a storage's values.
pub(super) fn element(storage: &str) -> Option<Element> {
    match storage.strip_prefix("torch.")? {
        "FloatStorage" => Some(Element::F32),
        "DoubleStorage" => Some(Element::F64),
        "HalfStorage" => Some(Element::F16),
        "BFloat16Storage" => Some(Element::BF16),
        "CharStorage" => Some(Element::I8),
        "ShortStorage" => Some(Element::I16),
        "IntStorage" => Some(Element::I32),
        "LongStorage" => Some(Element::I64),
        "ByteStorage" => Some(Element::U8),
        "BoolStorage" => Some(Element::Bool),
        _ => None,
    }
}

/// The types of tensors whose storage has none.
fn typed(name: &str) -> Option<Element> {
    match name.strip_prefix("torch.")? {
        "uint16" => Some(Element::U16),
        "uint32" => Some(Element::U32),
        "uint64" => Some(Element::U64),
        _ => None,
    }
}

/// The error for a checkpoint that is not what PyTorch saves.
pub(super) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidArtefact, "the checkpoint is damaged or of another kind")
        .with_values("a state dict that PyTorch saved", what.to_string())
        .with_advice("download it again, or save it anew, in Python: torch.save(model.state_dict(), path)")
}
