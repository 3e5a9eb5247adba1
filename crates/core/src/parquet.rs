//! Parquet files: metadata, and the values of their columns, checked.
//!
//! The `parquet` crate reads the metadata and decodes the values, column by column. What it would believe of a hostile
//! file is checked here first: places in the file, sizes of pages, counts of values. Pages are unpacked here too, since the
//! crate allocates what their headers say: Snappy, gzip, LZ4 and zstd. Brotli and LZO are refused, and so are the two
//! delta encodings of texts, whose counts cannot be compared with anything.
//!
//! Errors are clauses, which their callers put into an [`Error`](crate::Error). The crate also asserts some of what it reads,
//! so callers catch a panic, [`guarded`].

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parquet::basic::{Compression, Encoding, LogicalType, Type};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

/// The largest page, unpacked, in bytes; writers make them of 1 MiB, but of images often as large as a group of rows.
const LARGEST_PAGE: usize = 256 << 20;
/// The most values of the pages that are read for one batch of rows.
const MOST_VALUES: usize = 64 << 20;
/// Rows that are read at once.
pub const BATCH: usize = 128;
/// The longest text that is read, in bytes: ids, paths and names.
pub const LONGEST_TEXT: usize = 4096;

/// What a clause says of a file that is whole and written in a way that is not read here; behind it stands what to do.
pub const NOT_READ: &str = "which is not read here";

/// What `read` says, or that it panicked.
///
/// # Errors
/// Those of `read`.
pub fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let whole = catch_unwind(AssertUnwindSafe(read));
    whole.unwrap_or_else(|_| Err("what its pages hold is not what they say".into()))
}

/// An open file whose metadata were read.
pub struct ParquetFile {
    file: Arc<File>,
    length: u64,
    metadata: ParquetMetaData,
}

impl ParquetFile {
    /// Reads the metadata.
    ///
    /// # Errors
    /// A clause: why they cannot be read.
    pub fn open(file: File) -> Result<ParquetFile, String> {
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let file = Arc::new(file);
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&*file).map_err(|e| e.to_string())?;
        Ok(ParquetFile { file, length, metadata })
    }

    /// Its columns.
    pub fn schema(&self) -> &SchemaDescriptor {
        self.metadata.file_metadata().schema_descr()
    }

    /// What its writer noted under `key`.
    pub fn note(&self, key: &str) -> Option<&str> {
        let notes = self.metadata.file_metadata().key_value_metadata()?;
        notes.iter().find(|note| note.key == key)?.value.as_deref()
    }

    /// Rows of each of its groups.
    ///
    /// # Errors
    /// A clause: why they cannot be right.
    pub fn groups(&self) -> Result<Vec<usize>, String> {
        let rows = |rows: i64| usize::try_from(rows).map_err(|_| format!("a group of {rows} rows"));
        self.metadata.row_groups().iter().map(|group| rows(group.num_rows())).collect()
    }

    /// The column `index` of a group of rows.
    ///
    /// # Errors
    /// A clause: what is wrong with it.
    pub fn column(&self, group: usize, index: usize) -> Result<ColumnValues, String> {
        let chunk = self.metadata.row_group(group).column(index);
        let name = chunk.column_path().string();
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let end = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
        let end = end.and_then(|(start, size)| start.checked_add(size));
        if end.is_none_or(|end| end > self.length) {
            let (size, length) = (chunk.compressed_size(), self.length);
            return Err(format!("column {name} reaches beyond the file: {size} bytes from {start} on, of {length}"));
        }
        let read = Arc::new(AtomicUsize::new(0));
        let pages = Pages::open(&self.file, chunk, &read).map_err(|e| format!("column {name}: {e}"))?;
        let descriptor = chunk.column_descr_ptr();
        let (most_definition, repeats) = (descriptor.max_def_level(), descriptor.max_rep_level() > 0);
        Ok(ColumnValues {
            name,
            reader: get_column_reader(descriptor, Box::new(pages)),
            read,
            most_definition,
            repeats,
            definitions: Vec::new(),
            repetitions: Vec::new(),
        })
    }
}

/// Whether a column holds texts, or bytes without a meaning, which may be UTF-8.
pub fn is_text(column: &ColumnDescriptor) -> bool {
    column.physical_type() == Type::BYTE_ARRAY
        && matches!(column.logical_type_ref(), None | Some(LogicalType::String | LogicalType::Enum))
}

/// Whether a column holds whole numbers that mean no day or time.
pub fn is_whole(column: &ColumnDescriptor) -> bool {
    matches!(column.physical_type(), Type::INT32 | Type::INT64)
        && matches!(column.logical_type_ref(), None | Some(LogicalType::Integer { .. }))
}

/// The values of a column in a group of rows, a batch at a time.
pub struct ColumnValues {
    name: String,
    reader: ColumnReader,
    /// Values in the pages since it was last set to 0.
    read: Arc<AtomicUsize>,
    /// The level at which a value is there.
    pub most_definition: i16,
    /// Whether a row may have several values.
    pub repeats: bool,
    /// Levels of the batch.
    pub definitions: Vec<i16>,
    /// The same.
    pub repetitions: Vec<i16>,
}

impl ColumnValues {
    /// A clause about this column.
    pub fn error(&self, what: impl std::fmt::Display) -> String {
        format!("column {}: {what}", self.name)
    }

    /// Reads levels and values of `count` rows.
    ///
    /// # Errors
    /// A clause: why not.
    pub fn records(&mut self, count: usize) -> Result<Batch, String> {
        self.read.store(0, Ordering::Relaxed);
        self.definitions.clear();
        self.repetitions.clear();
        let (definitions, repetitions) = (Some(&mut self.definitions), Some(&mut self.repetitions));
        macro_rules! values {
            ($reader:expr, $kind:path) => {{
                let mut values = Vec::new();
                $reader.read_records(count, definitions, repetitions, &mut values).map(|read| (read.0, $kind(values)))
            }};
        }
        let read = match &mut self.reader {
            ColumnReader::FloatColumnReader(reader) => values!(reader, Batch::Floats),
            ColumnReader::DoubleColumnReader(reader) => values!(reader, Batch::Doubles),
            ColumnReader::Int32ColumnReader(reader) => values!(reader, Batch::Ints),
            ColumnReader::Int64ColumnReader(reader) => values!(reader, Batch::Longs),
            ColumnReader::ByteArrayColumnReader(reader) => values!(reader, Batch::Bytes),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => values!(reader, Batch::Fixed),
            _ => return Err(self.error("a type that is not read here")),
        };
        match read.map_err(|e| self.error(e))? {
            (rows, batch) if rows == count => Ok(batch),
            (rows, _) => Err(self.error(format_args!("it ends {} rows too early", count - rows))),
        }
    }

    /// Gives every row of a batch of a flat column its value of `values`, nothing where it has none.
    fn by_row<T>(&self, count: usize, mut values: impl Iterator<Item = T>) -> Result<Vec<Option<T>>, String> {
        let is_there =
            |row: usize| self.most_definition == 0 || self.definitions.get(row) == Some(&self.most_definition);
        let value = |row: usize| match is_there(row) {
            false => Ok(None),
            true => values.next().map(Some).ok_or_else(|| self.error("values are missing")),
        };
        (0..count).map(value).collect()
    }

    /// Reads the texts, or numbers as texts, of `count` rows of a flat column.
    ///
    /// # Errors
    /// A clause, also where one is no UTF-8 or longer than [`LONGEST_TEXT`].
    pub fn texts(&mut self, count: usize) -> Result<Vec<Option<String>>, String> {
        let text = |bytes: ByteArray| match std::str::from_utf8(bytes.data()) {
            Ok(text) if text.len() <= LONGEST_TEXT => Ok(text.to_string()),
            Ok(text) => Err(format!("a text of {} bytes, where {LONGEST_TEXT} are read at most", text.len())),
            Err(_) => Err("a text is not in UTF-8".into()),
        };
        let texts: Result<Vec<String>, String> = match self.records(count)? {
            Batch::Ints(numbers) => Ok(numbers.iter().map(i32::to_string).collect()),
            Batch::Longs(numbers) => Ok(numbers.iter().map(i64::to_string).collect()),
            Batch::Floats(numbers) => Ok(numbers.iter().map(f32::to_string).collect()),
            Batch::Doubles(numbers) => Ok(numbers.iter().map(f64::to_string).collect()),
            Batch::Bytes(texts) => texts.into_iter().map(text).collect(),
            _ => Err("a type that is not read here".into()),
        };
        let texts = texts.map_err(|what| self.error(what))?;
        self.by_row(count, texts.into_iter())
    }

    /// Reads the bytes of `count` rows of a flat column. They are those of the page, not copied.
    ///
    /// # Errors
    /// A clause: why not.
    pub fn bytes(&mut self, count: usize) -> Result<Vec<Option<ByteArray>>, String> {
        let Batch::Bytes(bytes) = self.records(count)? else {
            return Err(self.error("a type that is not read here"));
        };
        self.by_row(count, bytes.into_iter())
    }
}

/// Values of some rows, one after the other, rows without one left out.
pub enum Batch {
    /// float32.
    Floats(Vec<f32>),
    /// float64.
    Doubles(Vec<f64>),
    /// Whole numbers of 32 bits.
    Ints(Vec<i32>),
    /// Whole numbers of 64 bits.
    Longs(Vec<i64>),
    /// Texts and bytes of any length.
    Bytes(Vec<ByteArray>),
    /// Bytes of one length.
    Fixed(Vec<FixedLenByteArray>),
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
            return refuse(format!("its texts are delta encoded, {NOT_READ}: write them plain or with a dictionary"));
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
        other => refuse(format!("it is packed with {other}, {NOT_READ}: write it with zstd or snappy")),
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
