//! A table of vectors, and the bounds of what one may hold.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use super::options::VectorOptions;
use crate::error::{Code, Error, Result};

/// The largest table, in bytes of float32: 2.8 million vectors of 1,536 numbers.
pub const LARGEST_TABLE: usize = 16 << 30;
/// The most vectors of a table.
pub const MOST_VECTORS: usize = 50_000_000;
/// The most numbers of a vector.
pub const LARGEST_DIMENSION: usize = 65_536;
/// The longest id, in bytes.
pub const LONGEST_ID: usize = 4096;
/// The longest line of a text, in bytes: the numbers of a large vector, and other columns.
pub(super) const LONGEST_LINE: usize = 16 << 20;

/// The form in which vectors were stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum VectorFormat {
    /// NumPy's array, ids beside.
    Npy,
    /// NumPy's archive of arrays.
    Npz,
    /// A tensor, ids in the metadata or beside.
    Safetensors,
    /// Text: values parted by commas, semicolons or tabs.
    Csv,
    /// Text: a JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, a file or a stream.
    Arrow,
    /// No file: given from code.
    Given,
}

/// The type of the numbers that were stored; all become float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum VectorElement {
    /// IEEE 754 half precision.
    Float16,
    /// The upper half of a float32.
    BFloat16,
    /// IEEE 754 single precision.
    Float32,
    /// IEEE 754 double precision; rounded to the nearest float32.
    Float64,
    /// Decimal digits; rounded to the nearest float32.
    Text,
}

impl VectorElement {
    /// Bytes of one number; of digits none are known.
    pub(super) fn size(self) -> usize {
        match self {
            VectorElement::Float16 | VectorElement::BFloat16 => 2,
            VectorElement::Float32 => 4,
            VectorElement::Float64 => 8,
            VectorElement::Text => 1,
        }
    }

    /// The little-endian numbers of `bytes`, in place of what `row` held.
    fn decode(self, bytes: &[u8], row: &mut Vec<f32>) {
        row.clear();
        match self {
            VectorElement::Float16 => row.extend(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32())),
            VectorElement::BFloat16 => {
                row.extend(bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()));
            }
            VectorElement::Float32 => row.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            VectorElement::Float64 => row.extend(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32)),
            VectorElement::Text => {}
        }
    }

    /// Reads numbers of the shape `[rows, dimension]`, one row after the other; `add` gets each with its place.
    pub(super) fn read_rows(
        self,
        input: &mut impl Read,
        [rows, dimension]: [usize; 2],
        mut add: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let (mut bytes, mut row) = (vec![0; dimension * self.size()], Vec::with_capacity(dimension));
        for index in 0..rows {
            input.read_exact(&mut bytes).map_err(unreadable)?;
            self.decode(&bytes, &mut row);
            add(index, &row)?;
        }
        Ok(())
    }
}

/// The model that made vectors, as `rkd embed` notes it in every form that has a place for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// Its file.
    pub model: String,
    /// The hash of what it says of an image: that of `Model::hash`.
    #[serde(rename = "modelHash")]
    pub hash: Option<String>,
}

impl MadeBy {
    /// The key of the note among those of a file.
    pub const KEY: &str = "rkd";

    /// What the JSON text `note` says; nothing where it says no model.
    pub(super) fn read(note: &[u8]) -> Option<MadeBy> {
        serde_json::from_slice(note).ok()
    }
}

/// Vectors with their ids.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorTable {
    /// The id of each vector, as it was stored; an id may come more than once.
    pub ids: Vec<String>,
    /// The label of each vector; none at all where no column is called so.
    pub labels: Vec<Option<String>>,
    /// Numbers of a vector, d.
    pub dimension: usize,
    /// The vectors `[n, d]`, row by row.
    pub rows: Vec<f32>,
    /// BLAKE3 of ids, dimension and rows: the same vectors have the same hash in every format.
    pub hash: String,
    /// Where they come from.
    pub format: VectorFormat,
    /// The type of the stored numbers.
    pub element: VectorElement,
    /// The model that made them, where the file notes it.
    pub made_by: Option<MadeBy>,
    /// What a user should know about the reading: columns that were left out, rows without a vector.
    pub warnings: Vec<String>,
}

impl VectorTable {
    /// Number of vectors, n.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no vectors; a table that was read has some.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Vector `index`, `[d]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.rows[index * self.dimension..][..self.dimension]
    }
}

/// A table that grows by one vector at a time: what every reader fills, and what code that has vectors of its own does.
#[derive(Debug, Default)]
pub struct TableBuilder {
    ids: Vec<String>,
    labels: Vec<Option<String>>,
    dimension: usize,
    rows: Vec<f32>,
    /// Rows without a vector, and the id of the first.
    empty: usize,
    first_empty: String,
    /// The model that made the vectors, where the file notes it.
    pub(super) made_by: Option<MadeBy>,
    /// What a user should know.
    pub warnings: Vec<String>,
}

impl TableBuilder {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of vectors so far, those that were [left out](TableBuilder::leave_out) not counted.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no vectors yet.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Number of rows that were seen, with a vector or without.
    pub(super) fn seen(&self) -> usize {
        self.ids.len() + self.empty
    }

    /// Adds a vector.
    ///
    /// # Errors
    /// `ERR_INVALID_DATA` if it has no numbers or not as many as those before, or its id is empty; `ERR_INVALID_ARTEFACT`
    /// beyond [`LARGEST_TABLE`], [`MOST_VECTORS`], [`LARGEST_DIMENSION`], [`LONGEST_ID`] or the memory there is.
    pub fn push(&mut self, id: String, row: &[f32]) -> Result<()> {
        let number = self.seen() + 1;
        if row.len() != self.dimension || row.is_empty() {
            self.check_dimension(row.len(), number, &id)?;
        }
        if id.is_empty() || id.len() > LONGEST_ID {
            return Err(invalid(format!("the id of vector {number} cannot be used"))
                .with_values(format!("a text of 1 to {LONGEST_ID} bytes"), format!("{} bytes", id.len()))
                .with_advice("give the column that holds the ids: idColumn"));
        }
        let bytes = (self.rows.len() + row.len()).saturating_mul(size_of::<f32>());
        if bytes > LARGEST_TABLE || self.ids.len() == MOST_VECTORS {
            return Err(too_large(number, row.len()));
        }
        let room = self.rows.try_reserve(row.len()).and_then(|()| self.ids.try_reserve(1));
        room.map_err(|_| no_memory(bytes))?;
        self.rows.extend_from_slice(row);
        self.ids.push(id);
        Ok(())
    }

    /// Says the label of the vector that was added last.
    ///
    /// # Errors
    /// `ERR_INVALID_DATA` beyond [`LONGEST_ID`].
    pub(super) fn label(&mut self, label: Option<String>) -> Result<()> {
        if let Some(long) = label.as_deref().filter(|label| label.len() > LONGEST_ID) {
            return Err(invalid(format!("the label of vector {} cannot be used", self.seen()))
                .with_values(format!("a text of at most {LONGEST_ID} bytes"), format!("{} bytes", long.len()))
                .with_advice("leave the column of labels out, or call it otherwise"));
        }
        self.labels.resize(self.ids.len().saturating_sub(1), None);
        self.labels.push(label.filter(|label| !label.trim().is_empty()));
        Ok(())
    }

    /// Makes room for `vectors` of `dimension` numbers, which the caller knows to be there.
    pub(super) fn reserve(&mut self, vectors: usize, dimension: usize) -> Result<()> {
        let numbers = vectors.saturating_mul(dimension);
        let bytes = numbers.saturating_mul(size_of::<f32>());
        if bytes > LARGEST_TABLE || vectors > MOST_VECTORS {
            return Err(too_large(vectors, dimension));
        }
        self.rows.try_reserve_exact(numbers).map_err(|_| no_memory(bytes))
    }

    /// Leaves a row out that has an id but no vector. [`finish`](TableBuilder::finish) warns of them.
    pub fn leave_out(&mut self, id: String) {
        if self.empty == 0 {
            self.first_empty = id;
        }
        self.empty += 1;
    }

    /// The whole table.
    ///
    /// # Errors
    /// `ERR_INVALID_DATA` if it has no vectors.
    pub fn finish(mut self, format: VectorFormat, element: VectorElement) -> Result<VectorTable> {
        if self.ids.is_empty() {
            return Err(invalid("there are no vectors in it")
                .with_values("at least one vector", format!("{} rows without one", self.empty))
                .with_advice("write it again, or choose another file"));
        }
        if self.empty > 0 {
            let (count, first) = (self.empty, &self.first_empty);
            self.warnings.push(format!("rows without a vector, left out: {count} (the first is {first})"));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.dimension as u64).to_le_bytes()).update(&(self.ids.len() as u64).to_le_bytes());
        for id in &self.ids {
            hasher.update(&(id.len() as u64).to_le_bytes()).update(id.as_bytes());
        }
        let mut bytes = Vec::with_capacity(1 << 16);
        for piece in self.rows.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(piece.iter().flat_map(|number| number.to_le_bytes()));
            hasher.update(&bytes);
        }
        Ok(VectorTable {
            hash: hasher.finalize().to_hex().to_string(),
            ids: self.ids,
            labels: self.labels,
            dimension: self.dimension,
            rows: self.rows,
            format,
            element,
            made_by: self.made_by,
            warnings: self.warnings,
        })
    }

    fn check_dimension(&mut self, length: usize, number: usize, id: &str) -> Result<()> {
        if length == 0 || length > LARGEST_DIMENSION {
            return Err(invalid(format!("vector {number} ({id}) cannot be used"))
                .with_values(format!("1 to {LARGEST_DIMENSION} numbers"), length.to_string())
                .with_advice("give the column that holds the vectors: vectorColumn"));
        }
        if self.ids.is_empty() {
            self.dimension = length;
            return Ok(());
        }
        Err(invalid(format!("the dimension of the vectors changes at vector {number} ({id})"))
            .with_values(format!("{} numbers, as before", self.dimension), length.to_string())
            .with_advice("vectors of two models cannot be compared: write those of one model only"))
    }
}

/// A file to read: at its beginning, `length` bytes long.
pub(super) struct Input<'a> {
    pub path: &'a Path,
    pub file: File,
    pub length: u64,
    pub options: &'a VectorOptions,
}

/// An error about a file that cannot be read.
pub(super) fn damaged(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArtefact, message)
}

/// An error about a file that ends too early or is longer than it says.
pub(super) fn wrong_length(what: &str, expected: u64, received: u64) -> Error {
    damaged(format!("{what} is not as long as its header says"))
        .with_values(format!("{expected} bytes"), received.to_string())
        .with_advice("the file is cut short or damaged: write or copy it again")
}

/// An error about what a readable file holds.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidData, message)
}

/// An error about a vector of which some numbers are missing.
pub(super) fn hole(number: usize, id: &str) -> Error {
    invalid(format!("vector {number} ({id}) has a hole"))
        .with_values("a number at every place", "null")
        .with_advice("write no vector where one is not whole")
}

/// An error of reading.
pub(super) fn unreadable(error: impl std::fmt::Display) -> Error {
    damaged(format!("reading it failed: {error}"))
        .with_advice("the file is cut short or damaged: write or copy it again")
}

fn too_large(vectors: usize, dimension: usize) -> Error {
    damaged("there are too many vectors")
        .with_values(
            format!("at most {MOST_VECTORS} vectors and {} GiB of float32", LARGEST_TABLE >> 30),
            format!("at least {vectors} vectors of {dimension} numbers"),
        )
        .with_advice("keep those of the images that are trained on")
}

fn no_memory(bytes: usize) -> Error {
    damaged(format!("there is no memory for the vectors, {} MiB as float32", bytes >> 20))
        .with_advice("keep those of the images that are trained on, or use a machine with more memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, &[f32])]) -> Result<VectorTable> {
        let mut builder = TableBuilder::new();
        rows.iter().try_for_each(|(id, row)| builder.push(id.to_string(), row))?;
        builder.finish(VectorFormat::Given, VectorElement::Float32)
    }

    #[test]
    fn a_change_of_dimension_is_refused_with_the_row() {
        let text = table(&[("a", &[1.0, 2.0]), ("b", &[1.0, 2.0]), ("c", &[1.0])]).unwrap_err().to_string();
        assert!(text.contains("changes at vector 3 (c): expected 2 numbers, as before, received 1"), "{text}");
    }

    #[test]
    fn what_is_no_vector_or_id_is_refused() {
        for (rows, says) in [
            (vec![("a", &[][..])], "expected 1 to 65536 numbers, received 0"),
            (vec![("", &[1.0][..])], "expected a text of 1 to 4096 bytes, received 0 bytes"),
            (vec![("a", &[0.0; LARGEST_DIMENSION + 1][..])], "received 65537"),
            (vec![], "there are no vectors in it"),
        ] {
            let text = table(&rows).unwrap_err().to_string();
            assert!(text.contains(says), "{text}");
        }
        let long = "x".repeat(LONGEST_ID + 1);
        assert!(table(&[(&long, &[1.0])]).unwrap_err().to_string().contains("received 4097 bytes"));
    }

    #[test]
    fn the_hash_is_of_ids_and_numbers() {
        let hash = |rows: &[(&str, &[f32])]| table(rows).unwrap().hash;
        let one = hash(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.0])]);
        assert_eq!(one, hash(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.0])]));
        for other in [
            hash(&[("a", &[1.0, 2.0]), ("c", &[3.0, 4.0])]),
            hash(&[("a", &[1.0, 2.0, 3.0, 4.0])]),
            hash(&[("a", &[1.0, 2.0]), ("b", &[3.0, 4.5])]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn rows_without_a_vector_are_counted() {
        let mut builder = TableBuilder::new();
        builder.leave_out("x".into());
        builder.push("a".into(), &[1.0]).unwrap();
        builder.leave_out("y".into());
        let table = builder.finish(VectorFormat::Given, VectorElement::Float32).unwrap();
        assert_eq!(table.warnings, ["rows without a vector, left out: 2 (the first is x)"]);
    }
}
