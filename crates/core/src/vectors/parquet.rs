//! Parquet: a list column or one column a number, ids beside.
//!
//! The `parquet` crate reads the metadata and decodes the values, column by column. What it would believe of a hostile
//! file is checked here first: places in the file, sizes of pages, counts of values. Pages are unpacked here too, since the
//! crate allocates what their headers say: Snappy, gzip, LZ4 and zstd. Brotli and LZO are refused, and so are the two
//! delta encodings of texts, whose counts cannot be compared with anything.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use half::f16;
use parquet::basic::{Compression, Encoding, LogicalType, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;

use super::columns::{Choice, Column, Kind, choose};
use super::ids::{self, Ids};
use super::table::{
    Input, LARGEST_DIMENSION, TableBuilder, VectorElement, VectorFormat, VectorTable, damaged, hole, unreadable,
};
use crate::error::{Error, Result};

/// The largest page, unpacked, in bytes; writers make them of 1 MiB.
const LARGEST_PAGE: usize = 256 << 20;
/// The most values of the pages that are read for one batch of rows.
const MOST_VALUES: usize = 64 << 20;
/// Rows that are read at once.
const BATCH: usize = 128;
/// The most columns of a file: a vector's numbers, and others.
const MOST_COLUMNS: usize = LARGEST_DIMENSION + 1024;

/// Reads the file.
pub(super) fn read(input: Input<'_>) -> Result<VectorTable> {
    let beside = ids::given(&input)?;
    // The crate asserts some of what it reads: a panic is one more way to say that a file is damaged.
    catch_unwind(AssertUnwindSafe(|| read_all(&input, beside)))
        .unwrap_or_else(|_| Err(unreadable("what its pages hold is not what they say")))
}

fn read_all(input: &Input<'_>, beside: Option<Ids>) -> Result<VectorTable> {
    let file = Arc::new(input.file.try_clone().map_err(|e| Error::io("reading", input.path, e))?);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&*file).map_err(unreadable)?;
    let schema = metadata.file_metadata().schema_descr();
    if schema.num_columns() > MOST_COLUMNS {
        return Err(damaged("the file has too many columns")
            .with_values(format!("at most {MOST_COLUMNS}"), schema.num_columns().to_string())
            .with_advice("write ids and vectors only"));
    }
    let columns: Vec<Column> = schema.columns().iter().map(|column| column_of(column)).collect();
    let choice = choose(&columns, input.options, beside.is_some())?;
    let elements = choice.vector.iter().map(|&index| element_of(&schema.column(index)));
    let element = elements.flatten().max_by_key(|element| element.size()).unwrap_or(VectorElement::Float32);
    let mut builder = TableBuilder::new();
    builder.warnings.clone_from(&choice.warnings);
    let list = choice.vector.first().is_some_and(|&index| columns[index].kind == Kind::List);
    for metadata in metadata.row_groups() {
        Group { file: &file, length: input.length, metadata, list }.read(&choice, beside.as_ref(), &mut builder)?;
    }
    if let Some(beside) = &beside {
        beside.check(builder.seen())?;
    }
    builder.finish(VectorFormat::Parquet, element)
}

/// What a column of the file is.
fn column_of(column: &ColumnDescriptor) -> Column {
    let name = column.path().parts().first().map_or("", |name| &name[..]);
    let float = element_of(column);
    let is_flat = column.path().parts().len() == 1 && column.max_rep_level() == 0;
    let (kind, what) = match (column.physical_type(), float) {
        (_, Some(_)) if is_flat => (Kind::Number, "float"),
        // Three levels, or two as old writers have it; what is inside of a structure has more.
        (_, Some(_)) if column.max_rep_level() == 1 && column.path().parts().len() <= 3 => {
            (Kind::List, "list of floats")
        }
        (Type::BYTE_ARRAY, _) if is_flat && is_text(column) => (Kind::Text, "string"),
        (Type::INT32 | Type::INT64, _) if is_flat && is_whole(column) => (Kind::Whole, "integer"),
        _ => (Kind::Other, ""),
    };
    let type_name = match what {
        "" => format!("{} of {}", if column.max_rep_level() > 0 { "list" } else { "value" }, column.physical_type()),
        what => what.into(),
    };
    Column::new(name, kind, type_name)
}

fn element_of(column: &ColumnDescriptor) -> Option<VectorElement> {
    match column.physical_type() {
        Type::FLOAT => Some(VectorElement::Float32),
        Type::DOUBLE => Some(VectorElement::Float64),
        Type::FIXED_LEN_BYTE_ARRAY if column.logical_type_ref() == Some(&LogicalType::Float16) => {
            Some(VectorElement::Float16)
        }
        _ => None,
    }
}

/// Texts, and bytes without a meaning, which are read as UTF-8.
fn is_text(column: &ColumnDescriptor) -> bool {
    matches!(column.logical_type_ref(), None | Some(LogicalType::String | LogicalType::Enum))
}

/// Whole numbers that mean no day or time.
fn is_whole(column: &ColumnDescriptor) -> bool {
    matches!(column.logical_type_ref(), None | Some(LogicalType::Integer { .. }))
}

/// One group of rows.
struct Group<'a> {
    file: &'a Arc<File>,
    length: u64,
    metadata: &'a RowGroupMetaData,
    /// Whether vectors are in one column.
    list: bool,
}

impl Group<'_> {
    fn read(&self, choice: &Choice, beside: Option<&Ids>, builder: &mut TableBuilder) -> Result<()> {
        let rows = usize::try_from(self.metadata.num_rows()).map_err(unreadable)?;
        let mut ids = choice.id.map(|index| self.column(index)).transpose()?;
        let mut vectors = choice.vector.iter().map(|&index| self.column(index)).collect::<Result<Vec<_>>>()?;
        let (mut row, mut done) = (Vec::new(), 0);
        while done < rows {
            let count = BATCH.min(rows - done);
            let mut texts = ids.as_mut().map(|column| column.texts(count)).transpose()?;
            for column in &mut vectors {
                column.read(count)?;
            }
            for index in 0..count {
                let id = ids::of_row(texts.as_mut().map(|texts| texts[index].take()), beside, builder.seen())?;
                row.clear();
                match &mut vectors[..] {
                    [column] if self.list => match column.list(&mut row) {
                        Some(true) => builder.push(id, &row)?,
                        Some(false) => builder.leave_out(id),
                        None => return Err(hole(builder.seen() + 1, &id)),
                    },
                    columns => {
                        for column in columns {
                            if column.list(&mut row) != Some(true) {
                                return Err(hole(builder.seen() + 1, &id));
                            }
                        }
                        builder.push(id, &row)?;
                    }
                }
            }
            done += count;
        }
        Ok(())
    }

    fn column(&self, index: usize) -> Result<Values> {
        let chunk = self.metadata.column(index);
        let name = chunk.column_path().string();
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let end = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
        let end = end.and_then(|(start, size)| start.checked_add(size));
        if end.is_none_or(|end| end > self.length) {
            return Err(damaged(format!("column {name} reaches beyond the file"))
                .with_values(
                    format!("places within {} bytes", self.length),
                    format!("{} bytes from {start} on", chunk.compressed_size()),
                )
                .with_advice("the file is cut short or damaged: write or copy it again"));
        }
        let read = Arc::new(AtomicUsize::new(0));
        let pages = Pages::open(self.file, chunk, &read).map_err(|e| unreadable_column(&name, &e))?;
        let descriptor = chunk.column_descr_ptr();
        let (most_definition, repeats) = (descriptor.max_def_level(), descriptor.max_rep_level() > 0);
        Ok(Values {
            name,
            reader: get_column_reader(descriptor, Box::new(pages)),
            read,
            most_definition,
            repeats,
            definitions: Vec::new(),
            repetitions: Vec::new(),
            numbers: Vec::new(),
            level: 0,
            number: 0,
        })
    }
}

fn unreadable_column(name: &str, error: &dyn std::fmt::Display) -> Error {
    unreadable(format!("column {name}: {error}"))
}

/// The values of a column in a group of rows, a batch at a time.
struct Values {
    name: String,
    reader: ColumnReader,
    /// Values in the pages since it was last set to 0.
    read: Arc<AtomicUsize>,
    /// The level at which a value is there.
    most_definition: i16,
    repeats: bool,
    /// Levels and numbers of the batch, and how many of them are taken.
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    numbers: Vec<f32>,
    level: usize,
    number: usize,
}

impl Values {
    /// Reads levels and values of `count` rows.
    fn records(&mut self, count: usize) -> Result<Batch> {
        self.read.store(0, Ordering::Relaxed);
        self.definitions.clear();
        self.repetitions.clear();
        (self.level, self.number) = (0, 0);
        let (definitions, repetitions) = (Some(&mut self.definitions), Some(&mut self.repetitions));
        macro_rules! values {
            ($reader:expr, $kind:path) => {{
                let mut values = Vec::new();
                $reader.read_records(count, definitions, repetitions, &mut values).map(|read| (read.0, $kind(values)))
            }};
        }
        let (rows, batch) = match &mut self.reader {
            ColumnReader::FloatColumnReader(reader) => values!(reader, Batch::Floats),
            ColumnReader::DoubleColumnReader(reader) => values!(reader, Batch::Doubles),
            ColumnReader::Int32ColumnReader(reader) => values!(reader, Batch::Ints),
            ColumnReader::Int64ColumnReader(reader) => values!(reader, Batch::Longs),
            ColumnReader::ByteArrayColumnReader(reader) => values!(reader, Batch::Bytes),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => values!(reader, Batch::Fixed),
            _ => return Err(unreadable_column(&self.name, &"a type that is not read here")),
        }
        .map_err(|e| unreadable_column(&self.name, &e))?;
        if rows != count {
            return Err(unreadable_column(&self.name, &format!("it ends {} rows too early", count - rows)));
        }
        Ok(batch)
    }

    /// Reads the numbers of `count` rows.
    fn read(&mut self, count: usize) -> Result<()> {
        self.numbers = match self.records(count)? {
            Batch::Floats(numbers) => numbers,
            Batch::Doubles(numbers) => numbers.into_iter().map(|number| number as f32).collect(),
            Batch::Fixed(numbers) => {
                let number = |bytes: &[u8]| bytes.first_chunk().map(|&two| f16::from_le_bytes(two).to_f32());
                numbers.iter().map(|bytes| number(bytes.data())).collect::<Option<_>>().unwrap_or_default()
            }
            _ => return Err(unreadable_column(&self.name, &"a type that is not read here")),
        };
        Ok(())
    }

    /// Reads the ids of `count` rows.
    fn texts(&mut self, count: usize) -> Result<Vec<Option<String>>> {
        let mut texts: Box<dyn Iterator<Item = Option<String>>> = match self.records(count)? {
            Batch::Ints(numbers) => Box::new(numbers.into_iter().map(|number| Some(number.to_string()))),
            Batch::Longs(numbers) => Box::new(numbers.into_iter().map(|number| Some(number.to_string()))),
            Batch::Bytes(texts) => {
                Box::new(texts.into_iter().map(|text| std::str::from_utf8(text.data()).ok().map(str::to_string)))
            }
            _ => return Err(unreadable_column(&self.name, &"a type that is not read here")),
        };
        let mut found = Vec::with_capacity(count);
        for row in 0..count {
            let is_there = self.most_definition == 0 || self.definitions.get(row) == Some(&self.most_definition);
            found.push(match is_there {
                false => None,
                true => {
                    Some(texts.next().flatten().ok_or_else(|| {
                        unreadable_column(&self.name, &format!("row {} is no text in UTF-8", row + 1))
                    })?)
                }
            });
        }
        Ok(found)
    }

    /// Appends the numbers of the next row to `row`. False where it has none at all, nothing where one is missing.
    fn list(&mut self, row: &mut Vec<f32>) -> Option<bool> {
        if self.most_definition == 0 {
            row.push(*self.numbers.get(self.number)?);
            self.number += 1;
            return Some(true);
        }
        let from = self.level;
        let begins = |level: usize| !self.repeats || self.repetitions.get(level) == Some(&0);
        let mut to = from + 1;
        while to < self.definitions.len() && !begins(to) {
            to += 1;
        }
        self.level = to;
        let levels = self.definitions.get(from..to)?;
        let there = levels.iter().filter(|&&level| level == self.most_definition).count();
        row.extend_from_slice(self.numbers.get(self.number..self.number + there)?);
        self.number += there;
        match (there, levels.len()) {
            (0, 1) => Some(false),
            (there, all) if there == all => Some(true),
            _ => None,
        }
    }
}

/// Values of some rows.
enum Batch {
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Ints(Vec<i32>),
    Longs(Vec<i64>),
    Bytes(Vec<parquet::data_type::ByteArray>),
    Fixed(Vec<parquet::data_type::FixedLenByteArray>),
}

/// The pages of a column, unpacked here and checked.
struct Pages {
    /// Gives them as they are packed.
    packed: SerializedPageReader<File>,
    codec: Compression,
    read: Arc<AtomicUsize>,
}

impl Pages {
    fn open(file: &Arc<File>, chunk: &ColumnChunkMetaData, read: &Arc<AtomicUsize>) -> ParquetResult<Pages> {
        let codec = chunk.compression();
        let unpacked = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let packed = SerializedPageReader::new(Arc::clone(file), &unpacked, 0, None)?;
        Ok(Pages { packed, codec, read: Arc::clone(read) })
    }

    fn check(&self, page: &Page) -> ParquetResult<()> {
        let values = page.num_values() as usize;
        if page.is_dictionary_page() {
            // Each value of a dictionary takes a byte at least.
            return if values <= page.buffer().len() { Ok(()) } else { refuse("a dictionary is shorter than it says") };
        }
        if let Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY = page.encoding() {
            return refuse(
                "its texts are delta encoded, which is not read here: write them plain or with a dictionary",
            );
        }
        match self.read.fetch_add(values, Ordering::Relaxed).checked_add(values) {
            Some(sum) if sum <= MOST_VALUES => Ok(()),
            _ => refuse(format!("more than {MOST_VALUES} values stand in {BATCH} rows")),
        }
    }
}

impl Iterator for Pages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let Some(mut page) = self.packed.get_next_page()? else { return Ok(None) };
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => *buf = unpack(self.codec, buf)?.into(),
            // The levels in front are not packed.
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, is_compressed: true, .. } => {
                let levels = (*def_levels_byte_len as usize).saturating_add(*rep_levels_byte_len as usize);
                let Some((levels, values)) = buf.split_at_checked(levels) else {
                    return refuse("a page is shorter than its levels");
                };
                *buf = [levels, &unpack(self.codec, values)?].concat().into();
            }
            Page::DataPageV2 { .. } => {}
        }
        self.check(&page)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.packed.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.packed.skip_next_page()
    }
}

fn refuse<T>(message: impl Into<String>) -> ParquetResult<T> {
    Err(ParquetError::General(message.into()))
}

fn external(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// The bytes that were packed into `packed`: at most [`LARGEST_PAGE`].
fn unpack(codec: Compression, packed: &[u8]) -> ParquetResult<Vec<u8>> {
    if packed.is_empty() {
        return Ok(Vec::new());
    }
    match codec {
        Compression::UNCOMPRESSED => Ok(packed.to_vec()),
        Compression::SNAPPY => match snap::raw::decompress_len(packed).map_err(external)? {
            // A copy of 64 bytes takes three.
            length if length <= LARGEST_PAGE && length / 32 <= packed.len() => {
                snap::raw::Decoder::new().decompress_vec(packed).map_err(external)
            }
            length => refuse(format!("a page of {} bytes unpacks to {length}", packed.len())),
        },
        Compression::GZIP(_) => bounded(flate2::read::MultiGzDecoder::new(packed)),
        Compression::ZSTD(_) => bounded(ruzstd::decoding::StreamingDecoder::new(packed).map_err(external)?),
        Compression::LZ4_RAW => lz4(packed),
        // Hadoop's framing; some writers left it out.
        Compression::LZ4 => hadoop(packed).map_or_else(|| lz4(packed), Ok),
        other => refuse(format!("it is packed with {other}, which is not read here: write it with zstd or snappy")),
    }
}

fn bounded(unpacking: impl Read) -> ParquetResult<Vec<u8>> {
    let mut out = Vec::new();
    unpacking.take(LARGEST_PAGE as u64 + 1).read_to_end(&mut out).map_err(external)?;
    if out.len() > LARGEST_PAGE { refuse(format!("a page is larger than {} MiB", LARGEST_PAGE >> 20)) } else { Ok(out) }
}

/// A block of LZ4, whose length nothing says: room is doubled until it fits. At most 255 bytes come of one.
fn lz4(packed: &[u8]) -> ParquetResult<Vec<u8>> {
    let most = packed.len().saturating_mul(255).min(LARGEST_PAGE);
    let mut room = packed.len().saturating_mul(4).clamp(1 << 12, most.max(1 << 12));
    loop {
        let mut out = vec![0; room];
        match lz4_flex::block::decompress_into(packed, &mut out) {
            Ok(length) => {
                out.truncate(length);
                return Ok(out);
            }
            Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) if room < most => room = (2 * room).min(most),
            Err(e) => return Err(external(e)),
        }
    }
}

/// Blocks of LZ4, each behind its unpacked and packed length, big-endian.
fn hadoop(mut packed: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while !packed.is_empty() {
        let (&length, rest) = packed.split_first_chunk::<4>()?;
        let (&size, rest) = rest.split_first_chunk::<4>()?;
        let (length, size) = (u32::from_be_bytes(length) as usize, u32::from_be_bytes(size) as usize);
        let (block, rest) = rest.split_at_checked(size)?;
        let block = lz4(block).ok().filter(|block| block.len() == length && out.len() + length <= LARGEST_PAGE)?;
        out.extend(block);
        packed = rest;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let mut snappy = vec![0xff, 0xff, 0xff, 0xff, 0x0f]; // 4 GiB, as a length.
        snappy.extend([0; 64]);
        assert!(unpack(Compression::SNAPPY, &snappy).unwrap_err().to_string().contains("unpacks to 4294967295"));
        let zeros = vec![0; LARGEST_PAGE + 1];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &zeros).unwrap();
        let packed = gzip.finish().unwrap();
        let error = unpack(Compression::GZIP(Default::default()), &packed).unwrap_err().to_string();
        assert!(error.contains("a page is larger than 256 MiB"), "{error}");
    }

    #[test]
    fn what_is_packed_with_lz4_has_any_length() {
        for length in [1usize, 4000, 70_000, 3 << 20] {
            let bytes: Vec<u8> = (0..length).map(|i| (i / 1000) as u8).collect();
            let packed = lz4_flex::block::compress(&bytes);
            assert_eq!(unpack(Compression::LZ4_RAW, &packed).unwrap(), bytes);
            assert_eq!(unpack(Compression::LZ4, &packed).unwrap(), bytes);
            let framed = [&(length as u32).to_be_bytes()[..], &(packed.len() as u32).to_be_bytes(), &packed].concat();
            assert_eq!(unpack(Compression::LZ4, &framed).unwrap(), bytes);
        }
        assert!(unpack(Compression::LZ4_RAW, &[0xf0; 40]).is_err());
    }
}
