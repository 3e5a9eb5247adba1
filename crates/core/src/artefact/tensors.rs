//! A safetensors file with one JSON document beside its tensors: the form of models, checkpoints and embeddings.
//!
//! The document stands in the header's `__metadata__` under one key, so that the same content gives the same bytes
//! (the format's metadata is an unordered map; one key has one order). Tensors are float32 and sorted by name.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;

use super::element::Element;
use super::file::write_atomically;
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// The metadata key of the JSON document.
const KEY: &str = "rkd";

/// Named tensors and the JSON document that describes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorFile {
    /// What the tensors are; `null` where the file came from another program.
    pub document: Value,
    /// The tensors, sorted by name.
    pub tensors: BTreeMap<String, HostTensor>,
}

impl TensorFile {
    /// Writes the file: whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes: Vec<(&String, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name, tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = bytes
            .iter()
            .map(|(name, data)| {
                TensorView::new(Dtype::F32, self.tensors[*name].shape.clone(), data).map(|v| (*name, v))
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::new(Code::Internal, format!("a tensor does not fit its shape: {e}")))?;
        let metadata = HashMap::from([(KEY.to_string(), self.document.to_string())]);
        let encoded = safetensors::serialize(views, Some(metadata))
            .map_err(|e| Error::new(Code::Internal, format!("encoding the tensors failed: {e}")))?;
        write_atomically(path, |out| out.write_all(&encoded))
    }

    /// Reads a file of this or another program. Numbers become float32; a tensor of another type than floats or 64-bit
    /// integers is an error that names it.
    pub fn load(path: &Path) -> Result<TensorFile> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("reading", path, e))?;
        Self::decode(&bytes).map_err(|error| error.with_subject(path.display().to_string()))
    }

    /// The content of a file with these `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<TensorFile> {
        let damaged = |e: &dyn std::fmt::Display| {
            Error::new(Code::InvalidArtefact, format!("not a readable safetensors file: {e}"))
                .with_advice("the file is damaged or of another kind; write it again, or choose another one")
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
        let text = header.metadata().as_ref().and_then(|map| map.get(KEY));
        let document = match text {
            Some(text) => serde_json::from_str(text).map_err(|e| damaged(&e))?,
            None => Value::Null,
        };
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?.tensors() {
            let element = match view.dtype() {
                Dtype::F32 => Element::F32,
                Dtype::F64 => Element::F64,
                Dtype::F16 => Element::F16,
                Dtype::BF16 => Element::BF16,
                Dtype::I64 => Element::I64,
                other => return Err(unreadable(&name, other)),
            };
            let data = element.to_f32(view.data());
            tensors.insert(name, HostTensor { shape: view.shape().to_vec(), data });
        }
        Ok(TensorFile { document, tensors })
    }
}

/// The largest header that [`read_document`] reads; a model of ten thousand tensors has a tenth of it.
const HEADER_LIMIT: u64 = 16 << 20;

/// The document alone, without the tensors; nothing where the file has none or is damaged.
pub fn read_document(path: &Path) -> Option<Value> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length).min(HEADER_LIMIT)).read_to_end(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    serde_json::from_str(header["__metadata__"][KEY].as_str()?).ok()
}

fn unreadable(name: &str, dtype: Dtype) -> Error {
    Error::new(Code::InvalidArtefact, format!("tensor {name:?} has a type that is not read here"))
        .with_values("float16, bfloat16, float32, float64 or int64", format!("{dtype:?}"))
        .with_advice("convert the tensors to float32 before saving them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn example() -> TensorFile {
        let tensors = [("b.weight", vec![2, 3]), ("a.bias", vec![3]), ("one", vec![])]
            .into_iter()
            .map(|(name, shape)| {
                let count = shape.iter().product::<usize>();
                (name.to_string(), HostTensor { shape, data: (0..count).map(|i| i as f32 - 1.5).collect() })
            })
            .collect();
        TensorFile { document: json!({"step": 3, "text": "ä \" \n"}), tensors }
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_bytes_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        for path in &paths {
            example().save(path).unwrap();
        }
        assert_eq!(TensorFile::load(&paths[0]).unwrap(), example());
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
    }

    #[test]
    fn every_truncation_and_every_flipped_header_byte_is_an_error_or_a_value_never_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        example().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            assert!(TensorFile::decode(&bytes[..length]).is_err(), "{length}");
        }
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0xFF;
            let _ = TensorFile::decode(&damaged);
        }
    }

    #[test]
    fn a_counter_of_pytorch_is_read_and_another_type_is_named() {
        let file = |dtype, shape: Vec<usize>, data: &[u8]| {
            let view = TensorView::new(dtype, shape, data).unwrap();
            TensorFile::decode(&safetensors::serialize([("bn1.num_batches_tracked", view)], None).unwrap())
        };
        let counter = file(Dtype::I64, vec![], &7i64.to_le_bytes()).unwrap();
        assert_eq!(counter.tensors["bn1.num_batches_tracked"].data, [7.0]);
        let error = file(Dtype::I32, vec![1], &[0; 4]).unwrap_err().to_string();
        assert!(error.contains("bn1.num_batches_tracked") && error.contains("I32"), "{error}");
    }

    #[test]
    fn a_huge_header_is_refused_without_being_allocated() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        let error = TensorFile::decode(&bytes).unwrap_err();
        assert_eq!(error.code, Code::InvalidArtefact);
    }
}
