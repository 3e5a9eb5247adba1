//! `.safetensors`: one tensor `[n, d]`; the ids stand in the header's metadata or beside.
//!
//! Files of `rkd embed` have the ids in their document, and a hash of all their bytes that is compared.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value;

use super::columns::{Column, Kind, choose};
use super::ids::{self, Ids};
use super::table::{
    Input, LARGEST_DIMENSION, MadeBy, TableBuilder, VectorElement, VectorFormat, VectorTable, damaged, invalid,
    unreadable, wrong_length,
};
use crate::error::Result;

/// The longest header, in bytes: the format's own bound.
const LONGEST_HEADER: u64 = 100_000_000;
/// The metadata's key for the document of rkd's own files, and what it begins with: in `artefact/tensors.rs` too.
const DOCUMENT: &str = MadeBy::KEY;
const HASH: &str = "{\\\"blake3\\\":\\\"";
const HASH_LENGTH: usize = 64;

/// Reads the file.
pub(super) fn read(input: Input<'_>) -> Result<VectorTable> {
    let given = ids::given(&input)?;
    let mut file = &input.file;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER || length > input.length.saturating_sub(8) {
        return Err(damaged("the header promises too much")
            .with_values(format!("at most {LONGEST_HEADER} bytes, in a file of {}", input.length), length.to_string())
            .with_advice("the file is cut short or damaged: write or copy it again"));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(unreadable)?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(unreadable)?;
    let start = 8 + length;
    let end = start.saturating_add(metadata.data_len() as u64);
    if end != input.length {
        return Err(wrong_length("the file", end, input.length));
    }
    check_hash(&header, file)?;

    let ids = match (given, own_ids(&metadata)?) {
        (Some(given), _) => given,
        (None, Some(own)) => Ids::inside(own, "write the ids of these vectors into the metadata: ids"),
        (None, None) => ids::needed(&input)?,
    };
    let mut names = metadata.offset_keys();
    names.sort();
    let columns: Vec<Column> = names
        .iter()
        .filter_map(|name| {
            let info = metadata.info(name)?;
            let kind = if info.shape.len() == 2 && element(info.dtype).is_some() { Kind::List } else { Kind::Other };
            Some(Column::new(name, kind, format!("{:?} {:?}", info.dtype, info.shape)))
        })
        .collect();
    let choice = choose(&columns, input.options, true)?;
    let found = choice.vector.first().and_then(|&index| metadata.info(&columns[index].name));
    let Some((info, element)) = found.and_then(|info| Some((info, element(info.dtype)?))) else {
        return Err(invalid("the file has no tensor of vectors").with_advice("name it: vectorColumn"));
    };
    let (rows, dimension) = (info.shape[0], info.shape[1]);
    if dimension > LARGEST_DIMENSION {
        return Err(invalid("the tensor holds no vectors")
            .with_values(format!("at most {LARGEST_DIMENSION} numbers in each"), dimension.to_string())
            .with_advice("name another tensor: vectorColumn"));
    }
    ids.check(rows)?;
    let mut builder = TableBuilder::new();
    builder.warnings = choice.warnings;
    let note = metadata.metadata().as_ref().and_then(|texts| texts.get(MadeBy::KEY));
    builder.made_by = note.and_then(|note| MadeBy::read(note.as_bytes()));
    builder.reserve(rows, dimension)?;
    file.seek(SeekFrom::Start(start + info.data_offsets.0 as u64)).map_err(unreadable)?;
    let mut values = BufReader::with_capacity(1 << 20, file);
    // The library has compared the tensor's place with its shape and type, and `end` is that of the last one.
    element.read_rows(&mut values, [rows, dimension], |row, numbers| builder.push(ids.get(row)?, numbers))?;
    builder.finish(VectorFormat::Safetensors, element)
}

fn element(dtype: Dtype) -> Option<VectorElement> {
    match dtype {
        Dtype::F16 => Some(VectorElement::Float16),
        Dtype::BF16 => Some(VectorElement::BFloat16),
        Dtype::F32 => Some(VectorElement::Float32),
        Dtype::F64 => Some(VectorElement::Float64),
        _ => None,
    }
}

/// The ids in the metadata: those of rkd's document, or a JSON list under `ids`.
fn own_ids(metadata: &Metadata) -> Result<Option<Vec<String>>> {
    let Some(texts) = metadata.metadata() else { return Ok(None) };
    if let Some(text) = texts.get("ids") {
        return ids::of_json(text.as_bytes()).map(Some);
    }
    let document = texts.get(DOCUMENT).map(|text| serde_json::from_str::<Value>(text));
    let mut document = document.transpose().map_err(unreadable)?;
    document.as_mut().and_then(|document| document.get_mut("ids")).map(|ids| ids::of_value(ids.take())).transpose()
}

/// Compares a file that rkd wrote with its hash, in which the hash itself counts as zeros.
fn check_hash(header: &[u8], mut file: &File) -> Result<()> {
    let Some(place) = header.windows(HASH.len()).position(|window| window == HASH.as_bytes()) else { return Ok(()) };
    let place = place + HASH.len();
    let Some(written) = header.get(place..place + HASH_LENGTH) else { return Ok(()) };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(header.len() as u64).to_le_bytes()).update(&header[..place]).update(&[b'0'; HASH_LENGTH]);
    hasher.update(&header[place + HASH_LENGTH..]);
    file.seek(SeekFrom::Start(8 + header.len() as u64)).map_err(unreadable)?;
    hasher.update_reader(file).map_err(unreadable)?;
    let found = hasher.finalize().to_hex();
    if written == found.as_bytes() {
        return Ok(());
    }
    let beginning = |hash: &[u8]| String::from_utf8_lossy(&hash[..16]).into_owned();
    Err(damaged("the file is damaged: its bytes are not those that were written")
        .with_values(format!("BLAKE3 {}...", beginning(written)), format!("{}...", beginning(found.as_bytes())))
        .with_advice("copy it again from where it is whole, or write it again"))
}
