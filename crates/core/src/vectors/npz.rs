//! `.npz`: a ZIP archive of arrays, stored or deflated, as `numpy.savez` and `numpy.savez_compressed` write it.

use std::fs::File;
use std::io::BufReader;

use zip::ZipArchive;
use zip::result::ZipError;

use super::array::{Header, read_ids, read_rows};
use super::columns::{Column, choose};
use super::ids::{self, Ids};
use super::table::{Input, TableBuilder, VectorFormat, VectorTable, damaged, invalid, unreadable};
use crate::error::{Error, Result};

/// The most arrays of an archive.
const MOST_ARRAYS: usize = 1024;
/// Deflate makes at most 1,032 bytes of one.
const DEFLATE_RATIO: u64 = 1032;

/// Reads the file.
pub(super) fn read(input: Input<'_>) -> Result<VectorTable> {
    let given = ids::given(&input)?;
    let mut archive = ZipArchive::new(BufReader::new(&input.file)).map_err(unreadable)?;
    if archive.len() > MOST_ARRAYS {
        return Err(damaged("the archive has too many members")
            .with_values(format!("at most {MOST_ARRAYS} arrays"), archive.len().to_string())
            .with_advice("this is no .npz of vectors; choose another file"));
    }
    let (mut columns, mut members) = (Vec::new(), Vec::new());
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(unpacking)?;
        let name = member.name().map_err(unpacking)?;
        let Some(name) = name.strip_suffix(".npy").map(str::to_string) else { continue };
        let (size, packed) = (member.size(), member.compressed_size());
        if size / DEFLATE_RATIO > packed {
            return Err(damaged(format!("the array {name} promises more than it can hold"))
                .with_values(format!("at most {DEFLATE_RATIO} times {packed} bytes"), format!("{size} bytes"))
                .with_advice("the file is damaged: write it again"));
        }
        let header = Header::read(&mut member)?;
        header.check_length(size)?;
        columns.push(Column::new(name, header.kind(), header.type_name()));
        members.push((index, header));
    }
    let beside = if given.is_none() && members.len() == 1 { ids::beside(&input)? } else { given };
    let choice = choose(&columns, input.options, beside.is_some())?;
    let ids = match (choice.id, beside) {
        (Some(column), _) => {
            Some(Ids::inside(texts(&mut archive, members[column].0)?, "name the array with their ids: idColumn"))
        }
        (None, beside) => beside,
    };
    let (Some(ids), &[column]) = (ids, &choice.vector[..]) else {
        return Err(invalid("the archive has no array of vectors").with_advice("name it: vectorColumn"));
    };
    let (index, header) = &members[column];
    let (rows, ..) = header.vectors()?;
    ids.check(rows)?;
    let mut builder = TableBuilder::new();
    builder.warnings = choice.warnings;
    let mut member = BufReader::with_capacity(1 << 16, archive.by_index(*index).map_err(unpacking)?);
    let header = Header::read(&mut member)?;
    let element = read_rows(&header, &mut member, |row, numbers| builder.push(ids.get(row)?, numbers))?;
    builder.finish(VectorFormat::Npz, element)
}

fn texts(archive: &mut ZipArchive<BufReader<&File>>, index: usize) -> Result<Vec<String>> {
    let mut member = BufReader::new(archive.by_index(index).map_err(unpacking)?);
    let header = Header::read(&mut member)?;
    read_ids(&header, &mut member)
}

fn unpacking(error: ZipError) -> Error {
    match error {
        ZipError::UnsupportedArchive(what) => damaged("an array of the archive cannot be unpacked")
            .with_values("arrays that are stored or deflated", what)
            .with_advice("write it with numpy.savez or numpy.savez_compressed"),
        other => unreadable(other),
    }
}
