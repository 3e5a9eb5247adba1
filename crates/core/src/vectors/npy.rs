//! `.npy`: vectors in one array; the ids stand beside.

use std::io::BufReader;

use super::array::{Header, read_rows};
use super::ids;
use super::table::{Input, TableBuilder, VectorFormat, VectorTable};
use crate::error::Result;

/// Reads the file.
pub(super) fn read(input: Input<'_>) -> Result<VectorTable> {
    let ids = ids::needed(&input)?;
    let mut file = BufReader::with_capacity(1 << 20, input.file);
    let header = Header::read(&mut file)?;
    let (rows, dimension, element) = header.vectors()?;
    header.check_length(input.length)?;
    ids.check(rows)?;
    let mut builder = TableBuilder::new();
    builder.made_by.clone_from(&ids.made_by);
    builder.reserve(rows, dimension)?;
    read_rows(&header, &mut file, |row, numbers| builder.push(ids.get(row)?, numbers))?;
    builder.finish(VectorFormat::Npy, element)
}
