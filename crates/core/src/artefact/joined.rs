//! One file of vectors out of several of the same form, each read once from its beginning to its end: no more of the numbers is
//! in memory than a buffer, in Arrow a batch of rows. What comes out has the bytes that writing all vectors at once gives; in
//! Parquet and Arrow the rows, in groups as the files have them.
//!
//! The files are those of one writer, `npy` or [`vectors`](super::vectors), and whole: the caller has compared their hashes.

use std::fs::File;
use std::io::{BufRead, BufReader, Error as IoError, Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_ipc::reader::FileReader;
use arrow_ipc::writer::FileWriter;
use parquet::column::writer::ColumnCloseResult;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::writer::SerializedFileWriter;

use super::vectors::{parquet_properties, parquet_schema};
use crate::vectors::MadeBy;

/// Where the files go.
pub type Out<'a> = &'a mut (dyn Write + Send);

/// Called after each file; an error ends the joining.
pub type Step<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Bytes as they are: JSON Lines.
pub fn join_bytes(files: &[PathBuf], out: Out<'_>, step: Step<'_>) -> Result<()> {
    for file in files {
        std::io::copy(&mut File::open(file)?, out)?;
        step()?;
    }
    Ok(())
}

/// CSV: the heading of the first file alone.
pub fn join_csv(files: &[PathBuf], out: Out<'_>, step: Step<'_>) -> Result<()> {
    for (index, file) in files.iter().enumerate() {
        let mut reader = BufReader::new(File::open(file)?);
        if index > 0 {
            reader.skip_until(b'\n')?; // names of columns have no line end
        }
        std::io::copy(&mut reader, out)?;
        step()?;
    }
    Ok(())
}

/// What stands in `.npy` files behind their heads.
pub fn join_npy_values(files: &[PathBuf], out: Out<'_>, step: Step<'_>) -> Result<()> {
    join_values(files, out, step, |file| {
        let mut head = [0; 10];
        file.read_exact(&mut head)?;
        Ok(10 + u64::from(u16::from_le_bytes([head[8], head[9]])))
    })
}

/// What stands in safetensors files of one tensor behind their headers.
pub fn join_tensor_values(files: &[PathBuf], out: Out<'_>, step: Step<'_>) -> Result<()> {
    join_values(files, out, step, |file| {
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        Ok(8 + u64::from_le_bytes(length))
    })
}

fn join_values(
    files: &[PathBuf],
    out: Out<'_>,
    step: Step<'_>,
    begin: impl Fn(&mut File) -> Result<u64>,
) -> Result<()> {
    for file in files {
        let mut file = File::open(file)?;
        let begin = begin(&mut file)?;
        file.seek(SeekFrom::Start(begin))?;
        std::io::copy(&mut file, out)?;
        step()?;
    }
    Ok(())
}

/// Parquet: the columns of each group of rows as they are.
pub fn join_parquet(files: &[PathBuf], labelled: bool, made_by: &MadeBy, out: Out<'_>, step: Step<'_>) -> Result<()> {
    let schema = parquet_schema(labelled).map_err(IoError::other)?;
    let mut writer =
        SerializedFileWriter::new(out, schema, Arc::new(parquet_properties(made_by)?)).map_err(IoError::other)?;
    for file in files {
        let file = File::open(file)?;
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(IoError::other)?;
        for rows in metadata.row_groups() {
            let mut group = writer.next_row_group().map_err(IoError::other)?;
            for column in rows.columns() {
                let close = ColumnCloseResult {
                    bytes_written: column.compressed_size().unsigned_abs(),
                    rows_written: rows.num_rows().unsigned_abs(),
                    metadata: column.clone(),
                    bloom_filter: None,
                    column_index: None,
                    offset_index: None,
                };
                group.append_column(&file, close).map_err(IoError::other)?;
            }
            group.close().map_err(IoError::other)?;
        }
        step()?;
    }
    writer.close().map(drop).map_err(IoError::other)
}

/// Arrow IPC: batch after batch, with what the first file notes.
pub fn join_arrow(files: &[PathBuf], out: Out<'_>, step: Step<'_>) -> Result<()> {
    let open = |file: &Path| FileReader::try_new_buffered(File::open(file)?, None).map_err(IoError::other);
    let first = files.first().ok_or_else(|| IoError::other("there are no files"))?;
    let mut writer = FileWriter::try_new(out, &open(first)?.schema()).map_err(IoError::other)?;
    for file in files {
        for batch in open(file)? {
            writer.write(&batch.map_err(IoError::other)?).map_err(IoError::other)?;
        }
        step()?;
    }
    writer.finish().map_err(IoError::other)
}
