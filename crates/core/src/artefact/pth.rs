//! PyTorch's checkpoints (`torch.save`, `.pth` or `.pt`), read as data: no code of the file runs.
//!
//! The file is a ZIP archive without compression: `NAME/data.pkl` is a [pickle](super::pickle) in which a tensor is a
//! call of `torch._utils._rebuild_tensor_v2` with a storage, an offset, a shape and strides; `NAME/data/KEY` are the
//! bytes of storage KEY (see `torch/serialization.py`). A training script often saves more than the state dict:
//! [`decode`] finds the state dict under its usual names.
//!
//! Every size is compared with the length of the file before anything of that size is made.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use super::element::Element;
use super::pickle::{self, Id, Object, Pickle};
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// The largest pickle beside the tensors: room for a hundred thousand tensors.
const LARGEST_PICKLE: u64 = 16 << 20;

/// The longest name of a tensor and the most axes; real ones have a tenth of it.
const LONGEST_NAME: usize = 1000;
const MOST_AXES: usize = 16;

/// Where training scripts put the state dict.
const USUAL_NAMES: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

const REBUILD_TENSOR: &str = "torch._utils._rebuild_tensor_v2";
const REBUILD_PARAMETER: &str = "torch._utils._rebuild_parameter";

/// Whether `bytes` begin like a ZIP archive.
pub(super) fn is_pth(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Whether `bytes` begin like the checkpoints before PyTorch 1.6: a pickle that starts with a number of ten bytes.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x80\x02\x8a\x0a")
}

/// The tensors of the state dict in the checkpoint `bytes`.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` for a checkpoint that is damaged, has no state dict, or asks for anything but tensors.
pub(super) fn decode(bytes: &[u8]) -> Result<BTreeMap<String, HostTensor>> {
    let mut file = Archive::open(bytes)?;
    let pickle = pickle::read(&file.read("data.pkl", LARGEST_PICKLE)?, |name| {
        name == REBUILD_TENSOR || name == REBUILD_PARAMETER || element(name).is_some()
    })?;
    let views = state_dict(&pickle)?;
    let values: u128 = views.values().map(|view| view.count() as u128).sum();
    if values > bytes.len() as u128 {
        return Err(damaged(format!("{values} values in a file of {} bytes", bytes.len())));
    }
    let mut by_storage: BTreeMap<&str, Vec<(&String, &View)>> = BTreeMap::new();
    for (name, view) in &views {
        by_storage.entry(&view.storage).or_default().push((name, view));
    }
    let (mut tensors, mut left) = (BTreeMap::new(), bytes.len() as u64);
    for (key, views) in by_storage {
        // Storages do not overlap in a file that PyTorch wrote; where they do, reading stops at the file's length.
        let storage = file.read(&format!("data/{key}"), left)?;
        left -= storage.len() as u64;
        for (name, view) in views {
            tensors.insert(name.clone(), view.tensor(name, &storage)?);
        }
    }
    Ok(tensors)
}

/// The archive with the folder that all its entries lie in.
struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
        let names = zip.file_names().filter_map(|name| name.ok());
        let folders = names.filter_map(|name| Some(name.strip_suffix("data.pkl")?.to_string()));
        let folder = folders.min_by_key(String::len);
        let Some(folder) = folder else {
            return Err(damaged("a ZIP archive without data.pkl"));
        };
        let mut archive = Archive { zip, folder };
        if archive.zip.index_for_name(&format!("{}byteorder", archive.folder)).is_some()
            && archive.read("byteorder", 16)? != b"little"
        {
            return Err(damaged("numbers of another byte order than little-endian"));
        }
        Ok(archive)
    }

    /// The bytes of an entry of at most `limit` bytes.
    fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let name = format!("{}{name}", self.folder);
        let entry = self.zip.by_name(&name).map_err(|e| damaged(format!("{name}: {e}")))?;
        // PyTorch never compresses; so an entry cannot be longer than the file that holds it.
        if entry.compression() != CompressionMethod::Stored {
            return Err(damaged(format!("{name} is compressed")));
        }
        if entry.size() > limit || entry.size() != entry.compressed_size() {
            return Err(damaged(format!("{name} has {} bytes, which is more than there can be", entry.size())));
        }
        let mut bytes = Vec::new();
        entry.take(limit).read_to_end(&mut bytes).map_err(|e| damaged(format!("{name}: {e}")))?;
        Ok(bytes)
    }
}

/// Where the values of a tensor lie.
#[derive(Debug)]
struct View {
    /// Key of the storage.
    storage: String,
    element: Element,
    /// First value, counted in the storage.
    offset: usize,
    shape: Vec<usize>,
    /// Steps in the storage for one step along each axis.
    strides: Vec<usize>,
}

impl View {
    fn count(&self) -> usize {
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

    fn tensor(&self, name: &str, storage: &[u8]) -> Result<HostTensor> {
        let size = self.element.size();
        let end = self.end().and_then(|end| end.checked_mul(size)).filter(|&end| end <= storage.len());
        let Some(end) = end else {
            return Err(damaged(format!("the tensor {name} of shape {:?} reaches beyond its storage", self.shape)));
        };
        let data = match (self.count(), self.is_contiguous()) {
            (0, _) => Vec::new(),
            (_, true) => self.element.to_f32(&storage[self.offset * size..end]),
            (count, false) => {
                let values = self.element.to_f32(&storage[..end]);
                (0..count).map(|index| values[self.place(index)]).collect()
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

/// The tensors of the root, or of the dictionary under one of the usual names in it.
fn state_dict(pickle: &Pickle) -> Result<BTreeMap<String, View>> {
    let Object::Dictionary(root) = pickle.root() else {
        return Err(damaged("something else than a dictionary"));
    };
    let tensors = tensors_of(pickle, root)?;
    if !tensors.is_empty() {
        return Ok(tensors);
    }
    let names: Vec<&str> = root.iter().filter_map(|(key, _)| pickle.text(*key)).collect();
    for usual in USUAL_NAMES {
        let under = root.iter().rev().find(|(key, _)| pickle.text(*key) == Some(usual));
        if let Some(Object::Dictionary(entries)) = under.map(|(_, value)| pickle.get(*value)) {
            let tensors = tensors_of(pickle, entries)?;
            if !tensors.is_empty() {
                return Ok(tensors);
            }
        }
    }
    let mut shown = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    shown.truncate(shown.char_indices().nth(200).map_or(shown.len(), |(end, _)| end));
    Err(Error::new(Code::InvalidArtefact, "the checkpoint has no state dict")
        .with_values(
            format!("tensors by name, or a dictionary of them under {}", USUAL_NAMES.join(", ")),
            format!("a dictionary of {shown}"),
        )
        .with_advice("save only the tensors, in Python: torch.save(model.state_dict(), path)"))
}

fn tensors_of(pickle: &Pickle, entries: &[(Id, Id)]) -> Result<BTreeMap<String, View>> {
    let mut tensors = BTreeMap::new();
    for (key, value) in entries {
        if let (Some(name), Object::Call { function, arguments }) = (pickle.text(*key), pickle.get(*value)) {
            if name.len() > LONGEST_NAME {
                return Err(damaged(format!("a name of {} letters", name.len())));
            }
            let view = view(pickle, function, *arguments);
            tensors.insert(name.to_string(), view.map_err(|what| damaged(format!("{name}: {what}")))?);
        }
    }
    Ok(tensors)
}

/// The tensor that a call asks for; the error says what is wrong.
fn view(pickle: &Pickle, function: &str, arguments: Id) -> Result<View, String> {
    let arguments = pickle.tuple(arguments).unwrap_or_default();
    match (function, arguments) {
        // A parameter is a tensor with a gradient.
        (REBUILD_PARAMETER, [data, ..]) => match pickle.get(*data) {
            Object::Call { function, arguments } if function == REBUILD_TENSOR => {
                view(pickle, REBUILD_TENSOR, *arguments)
            }
            _ => Err("a parameter of something else than a tensor".into()),
        },
        (REBUILD_TENSOR, [storage, offset, shape, strides, ..]) => {
            let (storage, element, length) = storage_of(pickle, *storage)?;
            let sizes = |id: &Id| -> Option<Vec<usize>> {
                pickle
                    .tuple(*id)
                    .filter(|axes| axes.len() <= MOST_AXES)?
                    .iter()
                    .map(|&length| pickle.size(length))
                    .collect()
            };
            let (Some(offset), Some(shape), Some(strides)) = (pickle.size(*offset), sizes(shape), sizes(strides))
            else {
                return Err(format!("a size that is negative or missing, or more than {MOST_AXES} axes"));
            };
            let view = View { storage, element, offset, shape, strides };
            if view.shape.len() != view.strides.len() || view.end().is_none_or(|end| end > length) {
                return Err(format!("the shape {:?} does not fit its storage of {length} values", view.shape));
            }
            Ok(view)
        }
        _ => Err(format!("a call of {function} with {} arguments", arguments.len())),
    }
}

/// Key, element type and length of `("storage", type, key, device, length)`.
fn storage_of(pickle: &Pickle, id: Id) -> Result<(String, Element, usize), String> {
    let parts = match pickle.get(id) {
        Object::Persistent(parts) => pickle.tuple(*parts),
        _ => None,
    };
    let Some(&[kind, of, key, _, length]) = parts else { return Err("a tensor without storage".into()) };
    match (pickle.text(kind), pickle.get(of), pickle.text(key), pickle.size(length)) {
        (Some("storage"), Object::Global(name), Some(key), Some(length)) => {
            let element = element(name).ok_or(format!("a storage of type {name}"))?;
            Ok((key.to_string(), element, length))
        }
        _ => Err("a storage that makes no sense".into()),
    }
}

fn element(storage: &str) -> Option<Element> {
    match storage.strip_prefix("torch.")? {
        "FloatStorage" => Some(Element::F32),
        "DoubleStorage" => Some(Element::F64),
        "HalfStorage" => Some(Element::F16),
        "BFloat16Storage" => Some(Element::BF16),
        "LongStorage" => Some(Element::I64),
        _ => None,
    }
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidArtefact, "the checkpoint is damaged or of another kind")
        .with_values("a state dict that PyTorch saved", what.to_string())
        .with_advice("download it again, or save it anew, in Python: torch.save(model.state_dict(), path)")
}
