//! A safetensors file with one JSON document beside its tensors: the form of models, checkpoints and embeddings.
//!
//! The document stands in the header's `__metadata__` under one key, so that the same content gives the same bytes
//! (the format's metadata is an unordered map; one key has one order). Tensors are float32 and sorted by name.
//!
//! The document begins with the BLAKE3 hash of the whole file, in which the hash itself counts as zeros. Every bit that
//! is not as it was written is found when the file is read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, View};
use serde_json::Value;

use super::element::Element;
use super::file::write_atomically;
use super::kind::{self, Kind};
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// The metadata key of the JSON document.
const KEY: &str = "rkd";

/// What the document begins with, before the hash: as text, and as it stands in the header, a JSON text in a JSON text.
const HASH: &str = "{\"blake3\":\"";
const HASH_IN_HEADER: &[u8] = b"{\\\"blake3\\\":\\\"";

/// The place of the hash while it is computed; as long as a hash.
const NO_HASH: [u8; 64] = [b'0'; 64];

/// Named tensors and the JSON document that describes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorFile {
    /// What the tensors are, an object; `null` where the file came from another program.
    pub document: Value,
    /// The tensors, sorted by name.
    pub tensors: BTreeMap<String, HostTensor>,
}

impl TensorFile {
    /// Writes the file: whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let misshapen = self.tensors.iter().find(|(_, t)| t.shape.iter().product::<usize>() != t.data.len());
        if let Some((name, _)) = misshapen {
            return Err(Error::new(Code::Internal, format!("the tensor {name} does not fit its shape")));
        }
        let views = self.tensors.iter().map(|(name, tensor)| (name, Encoded(tensor)));
        let metadata = HashMap::from([(KEY.to_string(), Self::document_without_hash(&self.document))]);
        let mut encoded = safetensors::serialize(views, Some(metadata))
            .map_err(|e| Error::new(Code::Internal, format!("encoding the tensors failed: {e}")))?;
        let Some(place) = place_of_hash(&encoded) else {
            return Err(Error::new(Code::Internal, "the header has no place for its hash"));
        };
        let hash = blake3::hash(&encoded).to_hex();
        encoded[place..][..NO_HASH.len()].copy_from_slice(hash.as_bytes());
        write_atomically(path, |out| out.write_all(&encoded))
    }

    /// The document's text, zeros in the hash's place.
    fn document_without_hash(document: &Value) -> String {
        let text = match document {
            Value::Null => "{}".to_string(),
            document => document.to_string(),
        };
        let zeros = str::from_utf8(&NO_HASH).unwrap_or_default();
        let separator = if text == "{}" { "" } else { "," };
        format!("{HASH}{zeros}\"{separator}{}", text.strip_prefix('{').unwrap_or_default())
    }

    /// Writes the file of one tensor, with the bytes that [`TensorFile::save`] gives it, without all of it in memory: `values`
    /// writes its numbers, little-endian and row by row. It is called twice, to hash them and to write them.
    ///
    /// # Errors
    /// Those of writing and of `values`.
    pub fn save_in_pieces(
        path: &Path,
        document: &Value,
        (name, shape): (&str, &[usize]),
        mut values: impl FnMut(&mut (dyn Write + Send)) -> std::io::Result<()>,
    ) -> Result<()> {
        let internal =
            |e: &dyn std::fmt::Display| Error::new(Code::Internal, format!("encoding the tensor failed: {e}"));
        let data_offsets = (0, shape.iter().product::<usize>() * size_of::<f32>());
        let tensor = TensorInfo { dtype: Dtype::F32, shape: shape.to_vec(), data_offsets };
        let metadata = HashMap::from([(KEY.to_string(), Self::document_without_hash(document))]);
        let header = Metadata::new(Some(metadata), vec![(name.to_string(), tensor)]).map_err(|e| internal(&e))?;
        let mut header = serde_json::to_vec(&header).map_err(|e| internal(&e))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut head = (header.len() as u64).to_le_bytes().to_vec();
        head.append(&mut header);
        let place = place_of_hash(&head).ok_or_else(|| internal(&"the header has no place for its hash"))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head);
        values(&mut hasher).map_err(|e| Error::io("reading the numbers of", path, e))?;
        head[place..][..NO_HASH.len()].copy_from_slice(hasher.finalize().to_hex().as_bytes());
        write_atomically(path, |out| {
            out.write_all(&head)?;
            values(out)
        })
    }

    /// Reads a file of this or another program. Numbers become float32.
    ///
    /// # Errors
    /// Those of reading; `ERR_INVALID_ARTEFACT` for a file of another kind (it says which), one of this program that is
    /// not as it was written, and a tensor of complex numbers or of floats of 8 bits and fewer, which is named.
    pub fn load(path: &Path) -> Result<TensorFile> {
        let bytes = kind::read(path).map_err(kind::of_rkd)?;
        Self::decode(&bytes).map_err(|error| error.with_subject(path.display().to_string()))
    }

    /// The content of a file with these `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<TensorFile> {
        let damaged = |e: &dyn std::fmt::Display| {
            Error::new(Code::InvalidArtefact, format!("not a readable safetensors file: {e}"))
                .with_advice("the file is damaged or of another kind; write it again, or choose another one")
        };
        match kind::of(bytes, bytes.len() as u64)? {
            Kind::Safetensors => {}
            Kind::Zip | Kind::Pickles => return Err(checkpoint_of_pytorch()),
        }
        check_hash(bytes)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
        let text = header.metadata().as_ref().and_then(|map| map.get(KEY));
        let document = match text {
            Some(text) if text.starts_with(HASH) => match serde_json::from_str(text).map_err(|e| damaged(&e))? {
                Value::Object(mut document) => {
                    document.remove("blake3");
                    if document.is_empty() { Value::Null } else { Value::Object(document) }
                }
                document => document,
            },
            Some(_) => return Err(damaged(&"its document has no hash")),
            None => Value::Null,
        };
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?.tensors() {
            let element = match view.dtype() {
                Dtype::F32 => Element::F32,
                Dtype::F64 => Element::F64,
                Dtype::F16 => Element::F16,
                Dtype::BF16 => Element::BF16,
                Dtype::I8 => Element::I8,
                Dtype::I16 => Element::I16,
                Dtype::I32 => Element::I32,
                Dtype::I64 => Element::I64,
                Dtype::U8 => Element::U8,
                Dtype::U16 => Element::U16,
                Dtype::U32 => Element::U32,
                Dtype::U64 => Element::U64,
                Dtype::BOOL => Element::Bool,
                other => return Err(unreadable(&name, other)),
            };
            let data = element.to_f32(view.data());
            tensors.insert(name, HostTensor { shape: view.shape().to_vec(), data });
        }
        Ok(TensorFile { document, tensors })
    }
}

/// A tensor as the format takes it: its bytes are made when they are written, one tensor's after the other.
struct Encoded<'a>(&'a HostTensor);

impl View for Encoded<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.0.data.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of::<f32>() * self.0.data.len()
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

/// Where the hash stands in a file's bytes.
fn place_of_hash(bytes: &[u8]) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let header = &rest[..rest.len().min(usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX))];
    let marker = header.windows(HASH_IN_HEADER.len()).position(|window| window == HASH_IN_HEADER)?;
    let place = 8 + marker + HASH_IN_HEADER.len();
    (place + NO_HASH.len() <= bytes.len()).then_some(place)
}

/// Compares a file that has a hash with it.
fn check_hash(bytes: &[u8]) -> Result<()> {
    let Some(place) = place_of_hash(bytes) else { return Ok(()) };
    let (before, rest) = bytes.split_at(place);
    let (written, after) = rest.split_at(NO_HASH.len());
    let found = blake3::Hasher::new().update(before).update(&NO_HASH).update(after).finalize().to_hex();
    if written == found.as_bytes() {
        return Ok(());
    }
    let beginning = |hash: &[u8]| String::from_utf8_lossy(&hash[..16]).into_owned();
    Err(Error::new(Code::InvalidArtefact, "the file is damaged: its bytes are not those that were written")
        .with_values(format!("BLAKE3 {}...", beginning(written)), format!("{}...", beginning(found.as_bytes())))
        .with_advice("copy it again from where it is whole, or write it again; a disk or a memory may be failing"))
}

fn checkpoint_of_pytorch() -> Error {
    Error::new(Code::InvalidArtefact, "this is a checkpoint of PyTorch, which does not say how its network is built")
        .with_values("a model.safetensors written by rkd", "a file of torch.save")
        .with_advice("begin a run of train() with these weights, and give the folder of that run")
}

fn unreadable(name: &str, dtype: Dtype) -> Error {
    Error::new(Code::InvalidArtefact, format!("tensor {name:?} has a type that is not read here"))
        .with_values("floats of 16, 32 or 64 bits, whole numbers or bools", format!("{dtype:?}"))
        .with_advice("convert the tensors to float32 before saving them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;
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
    fn what_is_saved_in_pieces_has_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        let tensor = HostTensor { shape: vec![3, 2], data: vec![0.0, 1.5, -2.0, 3.25, 4.0, 5.0] };
        let document = json!({"ids": ["ä \"", "b"]});
        TensorFile { document: document.clone(), tensors: [("rows".to_string(), tensor.clone())].into() }
            .save(&paths[0])
            .unwrap();
        TensorFile::save_in_pieces(&paths[1], &document, ("rows", &[3, 2]), |out| {
            tensor.data.chunks(2).try_for_each(|row| row.iter().try_for_each(|v| out.write_all(&v.to_le_bytes())))
        })
        .unwrap();
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
    }

    #[test]
    fn every_truncation_and_every_bit_that_is_flipped_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        example().save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            assert!(TensorFile::decode(&bytes[..length]).is_err(), "{length}");
        }
        let mut damaged = bytes.clone();
        for bit in 0..8 * bytes.len() {
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(TensorFile::decode(&damaged).unwrap_err().code, Code::InvalidArtefact, "bit {bit}");
            damaged[bit / 8] = bytes[bit / 8];
        }
        *damaged.last_mut().unwrap() ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let text = TensorFile::load(&path).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{}: the file is damaged", path.display())), "{text}");
    }

    #[test]
    fn a_file_of_another_program_has_no_hash_and_one_of_this_program_must_have_one() {
        let data = 1.5f32.to_le_bytes();
        let file = |document: Option<&str>| {
            let metadata = document.map(|text| HashMap::from([(KEY.to_string(), text.to_string())]));
            let view = TensorView::new(Dtype::F32, vec![1], &data).unwrap();
            TensorFile::decode(&safetensors::serialize([("fc.bias", view)], metadata).unwrap())
        };
        assert_eq!(file(None).unwrap().tensors["fc.bias"].data, [1.5]);
        assert!(file(Some("{\"step\":3}")).unwrap_err().to_string().contains("has no hash"));
        // The fields come in any order in a file that was written by hand: no hash in front is none.
        assert!(file(Some("{\"step\":3,\"blake3\":\"00\"}")).is_err());
    }

    #[test]
    fn numbers_of_every_type_are_read_and_others_are_named() {
        let file = |dtype, shape: Vec<usize>, data: &[u8]| {
            let view = TensorView::new(dtype, shape, data).unwrap();
            TensorFile::decode(&safetensors::serialize([("bn1.num_batches_tracked", view)], None).unwrap())
        };
        let table: [(Dtype, &[u8], f32); 10] = [
            (Dtype::I64, &(-7i64).to_le_bytes(), -7.0),
            (Dtype::I32, &(-7i32).to_le_bytes(), -7.0),
            (Dtype::I16, &(-7i16).to_le_bytes(), -7.0),
            (Dtype::I8, &(-7i8).to_le_bytes(), -7.0),
            (Dtype::U64, &(1u64 << 40).to_le_bytes(), 1.099_511_6e12),
            (Dtype::U32, &u32::MAX.to_le_bytes(), 4_294_967_296.0),
            (Dtype::U16, &u16::MAX.to_le_bytes(), 65_535.0),
            (Dtype::U8, &[255], 255.0),
            (Dtype::BOOL, &[1], 1.0),
            (Dtype::BF16, &[0x80, 0x3F], 1.0),
        ];
        for (dtype, bytes, expected) in table {
            let read = file(dtype, vec![], bytes).unwrap();
            assert_eq!(read.tensors["bn1.num_batches_tracked"].data, [expected], "{dtype:?}");
        }
        let error = file(Dtype::C64, vec![1], &[0; 8]).unwrap_err().to_string();
        assert!(error.contains("bn1.num_batches_tracked") && error.contains("C64"), "{error}");
    }

    #[test]
    fn a_huge_header_is_refused_without_being_allocated() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(b"{}");
        let error = TensorFile::decode(&bytes).unwrap_err();
        assert_eq!(error.code, Code::InvalidArtefact);
    }
}
