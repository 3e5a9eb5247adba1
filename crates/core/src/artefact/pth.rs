//! PyTorch's checkpoints (`torch.save`, `.pth` or `.pt`), read as data: no code of the file runs.
//!
//! Since 1.6 the file is a ZIP archive without compression: `NAME/data.pkl` is a [pickle](super::pickle) in which a
//! tensor is a call of `torch._utils._rebuild_tensor_v2` with a storage, an offset, a shape and strides;
//! `NAME/data/KEY` are the bytes of storage KEY. Before, the file was five pickles (a magic number, a version, facts of
//! the system, the objects, the keys of the storages) and then the storages one after another, each behind its number
//! of values: torchvision's VGGs with batch norm and its GoogLeNet are published like that. See
//! `torch/serialization.py`.
//!
//! Every size is compared with the length of the file before anything of that size is made, and no value is read twice:
//! time and memory are linear in that length.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::element::Element;
use super::kind::foreign;
use super::pickle::{self, Id, Object, Pickle};
use super::state_dict::{Choice, choose};
use super::view::{View, damaged, element, view};
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// The largest pickle beside the tensors: room for a hundred thousand tensors.
const LARGEST_PICKLE: u64 = 16 << 20;

/// The longest name of a tensor; real ones have a tenth of it.
const LONGEST_NAME: usize = 1000;

/// The most values of all tensors together: those of the file as bytes, four times over for tensors that share them,
/// and some for small files that repeat one.
fn most_values(bytes: usize) -> u128 {
    4 * bytes as u128 + (1 << 20)
}

/// The tensors of a checkpoint's state dict.
#[derive(Debug)]
pub(super) struct StateDict {
    pub(super) tensors: BTreeMap<String, HostTensor>,
    /// As in [`Choice`].
    pub(super) path: String,
    pub(super) others: Vec<String>,
    pub(super) prefix: Option<String>,
}

/// The tensors of the state dict in a checkpoint of PyTorch since 1.6.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` for a checkpoint that is damaged, has no state dict (under `key`), or asks for what acts.
pub(super) fn decode(bytes: &[u8], key: Option<&str>) -> Result<StateDict> {
    let mut file = Archive::open(bytes)?;
    let data = file.read("data.pkl", LARGEST_PICKLE)?;
    let (pickle, _) = pickle::read(&data)?;
    let mut left = bytes.len() as u64;
    state_dict(&pickle, key, bytes.len(), |key| {
        // Storages do not overlap in a file that PyTorch wrote; where they do, reading stops at the file's length.
        let storage = file.read(&format!("data/{key}"), left)?;
        left -= storage.len() as u64;
        Ok(storage)
    })
}

/// The tensors of the state dict in a checkpoint of PyTorch before 1.6.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_pickles(bytes: &[u8], key: Option<&str>) -> Result<StateDict> {
    let (_, rest) = pickle::read(bytes)?;
    let (_, rest) = pickle::read(rest)?;
    let (system, rest) = pickle::read(rest)?;
    let facts = system.dictionary(system.root()).unwrap_or_default();
    let big = |&(key, value): &(Id, Id)| {
        system.text(key) == Some("little_endian") && *system.get(value) == Object::Bool(false)
    };
    if facts.iter().any(big) {
        return Err(damaged("numbers of another byte order than little-endian"));
    }
    let (pickle, rest) = pickle::read(rest)?;
    let (keys, rest) = pickle::read(rest)?;
    let storages = storages(&pickle, &keys, rest)?;
    state_dict(&pickle, key, bytes.len(), |key| {
        storages.get(key).copied().ok_or_else(|| damaged(format!("no storage {key:?}")))
    })
}

/// The storages that lie one after another in `bytes`, in the order of `keys`.
fn storages<'b>(pickle: &Pickle, keys: &Pickle, mut bytes: &'b [u8]) -> Result<HashMap<String, &'b [u8]>> {
    let sizes: HashMap<&str, Option<usize>> = pickle
        .objects()
        .iter()
        .filter_map(|object| match object {
            Object::Persistent(parts) => match *pickle.tuple(*parts)? {
                [_, of, key, ..] => Some((pickle.text(key)?, value_size(pickle.global(of)?))),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let Object::List(order) = keys.get(keys.root()) else { return Err(damaged("storages without keys")) };
    let mut storages = HashMap::new();
    for &key in order {
        let key = keys.text(key).ok_or_else(|| damaged("a storage whose key is no text"))?;
        let size = sizes.get(key).copied().flatten();
        let size = size.ok_or_else(|| damaged(format!("a storage {key:?} of an unknown type")))?;
        let (count, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| damaged("an end before the last storage"))?;
        let length = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(size));
        let parts = length.and_then(|length| rest.split_at_checked(length));
        let (storage, rest) = parts.ok_or_else(|| damaged(format!("the storage {key:?} is cut short")))?;
        storages.insert(key.to_string(), storage);
        bytes = rest;
    }
    Ok(storages)
}

/// Bytes of one value in a storage, those of types that no tensor here can be of among them.
fn value_size(storage: &str) -> Option<usize> {
    match storage.strip_prefix("torch.")? {
        "ComplexDoubleStorage" => Some(16),
        "ComplexFloatStorage" => Some(8),
        "QInt32Storage" => Some(4),
        "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" | "storage.UntypedStorage" => Some(1),
        _ => element(storage).map(Element::size),
    }
}

/// The chosen tensors, their values from what `read` gives for the key of a storage.
fn state_dict<S: AsRef<[u8]>>(
    pickle: &Pickle,
    key: Option<&str>,
    length: usize,
    mut read: impl FnMut(&str) -> Result<S>,
) -> Result<StateDict> {
    let Choice { entries, path, others, prefix } = choose(pickle, key)?;
    let views = tensors_of(pickle, entries)?;
    let values: u128 = views.values().map(|view| view.count() as u128).sum();
    if values > most_values(length) {
        return Err(damaged(format!("{values} values in a file of {length} bytes")));
    }
    let mut by_storage: BTreeMap<&str, Vec<(&String, &View)>> = BTreeMap::new();
    for (name, view) in &views {
        by_storage.entry(&view.storage).or_default().push((name, view));
    }
    let mut tensors = BTreeMap::new();
    for (key, views) in by_storage {
        let storage = read(key)?;
        for (name, view) in views {
            tensors.insert(name.clone(), view.tensor(name, storage.as_ref())?);
        }
    }
    Ok(StateDict { tensors, path, others, prefix })
}

/// The archive with the folder that all its entries lie in.
struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        // Beside the directory PyTorch writes the records of 64 bits too, of 76 bytes in all: where the first entry takes as many,
        // as that of an archive whose name has 21 letters, a search for the beginning would find the second one.
        let begins = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(begins, Cursor::new(bytes)).map_err(damaged)?;
        let names = zip.file_names().filter_map(|name| name.ok());
        let folders = names.filter_map(|name| Some(name.strip_suffix("data.pkl")?.to_string()));
        let folder = folders.min_by_key(String::len);
        let Some(folder) = folder else { return Err(other_archive(&zip)) };
        if zip.index_for_name(&format!("{folder}constants.pkl")).is_some() {
            return Err(foreign(
                "a TorchScript model, which is a program",
                "save its tensors, in Python: torch.save(torch.jit.load(path).state_dict(), \"weights.pth\")",
            ));
        }
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
        // torch.serialization.set_crc32_options(False) writes zeros for the checksums.
        let unchecked = entry.crc32() == 0;
        let (mut bytes, size) = (Vec::new(), entry.size());
        let read = if unchecked {
            drop(entry);
            let index = self.zip.index_for_name(&name).unwrap_or_default();
            let raw = self.zip.by_index_raw(index).map_err(|e| damaged(format!("{name}: {e}")))?;
            raw.take(size).read_to_end(&mut bytes)
        } else {
            // One byte more than there is: only its absence makes the archive compare the checksum.
            entry.take(size.saturating_add(1)).read_to_end(&mut bytes)
        };
        read.map_err(|e| damaged(format!("{name}: {e}")))?;
        Ok(bytes)
    }
}

/// The error for an archive of another program.
fn other_archive(zip: &ZipArchive<Cursor<&[u8]>>) -> Error {
    const SAVE: &str = "save the tensors, in Python: torch.save(model.state_dict(), \"weights.pth\")";
    let names: Vec<String> = zip.file_names().take(1000).filter_map(|name| Some(name.ok()?.to_string())).collect();
    let has = |end: &str| names.iter().any(|name| name.ends_with(end));
    if has(".npy") {
        return foreign("arrays of NumPy (.npz)", SAVE);
    }
    if has("archive_format") || has("serialized_exported_program.json") {
        return foreign("a program of torch.export (.pt2)", SAVE);
    }
    if has(".weights.h5") {
        return foreign("a model of Keras", SAVE);
    }
    if has("pytorch_model.bin") || has(".pth") || has(".pt") || has(".safetensors") {
        return foreign("a ZIP archive with files of weights in it", "unpack it, and give the file of weights in it");
    }
    let some = names.first().map(|name| name.chars().take(60).collect::<String>()).unwrap_or_default();
    foreign(&format!("a ZIP archive of something else, its first entry {some:?}"), SAVE)
}

fn tensors_of(pickle: &Pickle, entries: &[(Id, Id)]) -> Result<BTreeMap<String, View>> {
    let mut tensors = BTreeMap::new();
    for &(key, value) in entries {
        if let (Some(name), Some(view)) = (pickle.text(key), view(pickle, value)) {
            if name.len() > LONGEST_NAME {
                return Err(damaged(format!("a name of {} letters", name.len())));
            }
            tensors.insert(name.to_string(), view.map_err(|what| unreadable(name, &what))?);
        }
    }
    Ok(tensors)
}

/// The error for a tensor that cannot be read.
fn unreadable(name: &str, what: &str) -> Error {
    Error::new(Code::InvalidArtefact, format!("the tensor {name} of the checkpoint cannot be read"))
        .with_values("a dense tensor of floats, whole numbers or bools", what)
        .with_advice("convert it before saving, in Python: tensor.float() (tensor.dequantize(), tensor.to_dense())")
}
