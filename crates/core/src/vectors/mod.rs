//! Vectors that a teacher wrote into a file: read, joined to the images of a data set, and judged.
//!
//! [`read`] makes a [`VectorTable`] of a file: one id and one row of `d` float32 numbers for each vector. [`judge`] says
//! what is odd about the numbers, [`join`] which row belongs to which image.
//!
//! What a file is follows from its first bytes; its name decides only between kinds of text. Whatever the bytes are,
//! reading ends in a table or in an error. Sizes that a file declares are compared with its length before anything
//! is allocated for them; rows are read in pieces, so that beside the table itself no more than a page, a batch
//! or a line is held. The bounds stand in [`table`], and beside them those of single formats in their files.
//!
//! Files import from files above them in this list:
//!
//! ```text
//! options, table                               what a user says; ids, rows, bounds
//! columns                                      which columns are meant
//! array, ids                                   an array of NumPy; ids in a file beside
//! npy, npz, safetensors, csv, jsonl, parquet, arrow   one format each
//! join, judge                                  tables and images; the numbers
//! ```

mod array;
mod arrow;
mod columns;
mod csv;
mod ids;
mod join;
mod jsonl;
mod judge;
mod npy;
mod npz;
mod options;
mod parquet;
mod safetensors;
pub mod table;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

pub use join::{ImageNames, Join, JoinReport, JoinRule, join};
pub use judge::{Norms, VectorSummary, judge};
pub use options::VectorOptions;
pub use table::{MadeBy, TableBuilder, VectorElement, VectorFormat, VectorTable};

use crate::error::{Error, Result};
use table::{Input, damaged};

/// Endings of files that hold vectors or a table of anything.
const ENDINGS: [&str; 10] = ["npy", "npz", "csv", "tsv", "jsonl", "ndjson", "parquet", "arrow", "feather", "ipc"];

/// Those of them that hold nothing else.
const ONLY_VECTORS: [&str; 5] = ["npy", "npz", "arrow", "feather", "ipc"];

/// Whether a file may be one of vectors, by its name.
pub fn may_hold_vectors(path: &Path) -> bool {
    ends_with(path, &ENDINGS)
}

/// Whether a file can be nothing but one of vectors, by its name.
pub fn holds_only_vectors(path: &Path) -> bool {
    ends_with(path, &ONLY_VECTORS)
}

/// Whether the Parquet file `path` has columns that may be vectors.
pub fn parquet_has_vectors(path: &Path) -> bool {
    parquet::has_vectors(path)
}

fn ends_with(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().map(OsStr::to_ascii_lowercase).unwrap_or_default();
    endings.iter().any(|it| ending == *it)
}

/// What is read here, for messages.
const READ: &str = ".npy, .npz, .safetensors, .csv, .tsv, .jsonl, Parquet or Arrow IPC";

/// The beginning of a file that [`format_of`] looks at.
const HEAD: usize = 4096;

const PYTHON: &str = "load it where it comes from, and save vectors and ids, in Python: \
                      np.savez(\"vectors.npz\", vectors=vectors, ids=ids)";

/// Beginnings of files of other kinds, what they are, and the way out.
const FOREIGN: [(&[u8], &str, &str); 10] = [
    (b"FEA1", "a Feather file of version 1", "write it anew, in Python: pyarrow.feather.write_feather"),
    (b"Obj\x01", "an Avro file", "write the table as Parquet"),
    (b"SQLite format 3\0", "an SQLite database", "give the rows of a query from code, or export them: .mode csv"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", PYTHON),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (b"\x80\x02", "a pickle of Python", PYTHON),
    (b"\x80\x03", "a pickle of Python", PYTHON),
    (b"\x80\x04", "a pickle of Python", PYTHON),
    (b"\x80\x05", "a pickle of Python", PYTHON),
];

/// Reads the vectors in the file `path`.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT`, naming the file, for one of another kind and one that is damaged or too large;
/// `ERR_INVALID_DATA` for vectors of different dimensions and a list of ids of another length; `ERR_INVALID_OPTION` where
/// several columns could be meant or the one that an option names is not there or of another type; those of reading.
pub fn read(path: &Path, options: &VectorOptions) -> Result<VectorTable> {
    let place = |mut error: Error| {
        error.subject.get_or_insert_with(|| path.display().to_string());
        error
    };
    read_file(path, options).map_err(place)
}

fn read_file(path: &Path, options: &VectorOptions) -> Result<VectorTable> {
    let failed = |e| Error::io("reading", path, e);
    // What is no file may not be opened at all: a pipe without a writer would wait for ever.
    let about = std::fs::metadata(path).map_err(failed)?;
    if !about.is_file() {
        let what = if about.is_dir() { "a folder" } else { "a device or a pipe" };
        return Err(damaged("no vectors can be read from this")
            .with_values(format!("a file: {READ}"), what)
            .with_advice("give the file itself; the rows of a database are given from code"));
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let input = Input { path, file, length: about.len(), options };
    match format_of(path, &head)? {
        VectorFormat::Npy => npy::read(input),
        VectorFormat::Npz => npz::read(input),
        VectorFormat::Safetensors => safetensors::read(input),
        VectorFormat::Csv => csv::read(input, &head),
        VectorFormat::Jsonl => jsonl::read(input),
        VectorFormat::Parquet => parquet::read(input),
        VectorFormat::Arrow => arrow::read(input),
        VectorFormat::Given => Err(Error::new(crate::Code::Internal, "no file is of the kind that is given from code")),
    }
}

/// The kind of a file that begins with `head`.
fn format_of(path: &Path, head: &[u8]) -> Result<VectorFormat> {
    let foreign = |what: &str, advice: &str| {
        Err(damaged("this is no file of vectors that is read here").with_values(READ, what).with_advice(advice))
    };
    if let Some((_, what, advice)) = FOREIGN.iter().find(|(beginning, ..)| head.starts_with(beginning)) {
        return foreign(what, advice);
    }
    match head {
        [] => return foreign("an empty file", "write or copy it again"),
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => return Ok(VectorFormat::Npy),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => return Ok(VectorFormat::Npz),
        [b'P', b'A', b'R', b'1', ..] => return Ok(VectorFormat::Parquet),
        [b'P', b'A', b'R', b'E', ..] => return foreign("an encrypted Parquet file", "write it without encryption"),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] | [0xff, 0xff, 0xff, 0xff, ..] => return Ok(VectorFormat::Arrow),
        // The length of a header below 4 GiB, and the header.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => return Ok(VectorFormat::Safetensors),
        _ => {}
    }
    if head.contains(&0) {
        return foreign("no kind of file that is known here", PYTHON);
    }
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match (&ending[..], text) {
        ("csv" | "tsv", _) => Ok(VectorFormat::Csv),
        (_, [b'{', ..]) => Ok(VectorFormat::Jsonl),
        (_, [b'[', ..]) => foreign("one JSON array", "write one object a line: {\"id\": ..., \"vector\": [...]}"),
        (_, [b'<', ..]) => foreign("an HTML or XML text, not the file it leads to", "download the file itself"),
        ("jsonl" | "ndjson", _) => Ok(VectorFormat::Jsonl),
        _ if std::str::from_utf8(head).is_err_and(|e| e.error_len().is_some()) => {
            foreign("no kind of file that is known here", PYTHON)
        }
        _ => Ok(VectorFormat::Csv),
    }
}
