//! Arrow IPC: a file (Feather 2 too) or a stream, with a list column or one column a number, ids beside.
//!
//! A file is a stream between two marks, with an index behind that is not needed here: so both are read alike, message by
//! message. The `arrow-ipc` crate decodes them. What it would allocate because a message says so is compared with what is
//! there before it sees the message. Buffers may be packed with LZ4; zstd is refused.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{DataType, Schema};

use super::columns::{Choice, Column, Kind, choose};
use super::ids::{self, Ids};
use super::table::{
    Input, LARGEST_DIMENSION, MadeBy, TableBuilder, VectorElement, VectorFormat, VectorTable, damaged, hole, invalid,
    unreadable, wrong_length,
};
use crate::error::{Error, Result};

const MAGIC: &[u8; 6] = b"ARROW1";
/// The most zeros behind the mark at the beginning, in bytes.
const MOST_FILLED: u64 = 56;
/// What stands before the length of a message.
const CONTINUATION: u32 = u32::MAX;
/// The largest batch of rows, in bytes.
const LARGEST_BATCH: u64 = 4 << 30;
/// The longest header of a message, in bytes.
const LONGEST_HEADER: u64 = 256 << 20;
/// LZ4 makes at most 255 bytes of one.
const LZ4_RATIO: i64 = 255;

/// Reads the file.
pub(super) fn read(input: Input<'_>) -> Result<VectorTable> {
    let beside = ids::given(&input)?;
    let stream = Stream::open(&input)?;
    // The crate asserts some of what it reads: a panic is one more way to say that a file is damaged.
    catch_unwind(AssertUnwindSafe(|| read_all(stream, &input, beside)))
        .unwrap_or_else(|_| Err(unreadable("what its messages hold is not what they say")))
}

fn read_all(mut stream: Stream<'_>, input: &Input<'_>, beside: Option<Ids>) -> Result<VectorTable> {
    let mut decoder = StreamDecoder::new();
    let mut builder = TableBuilder::new();
    let mut chosen: Option<(Choice, VectorElement)> = None;
    while let Some(message) = stream.next()? {
        let mut buffer = Buffer::from_vec(message);
        while !buffer.is_empty() {
            let Some(batch) = decoder.decode(&mut buffer).map_err(unreadable)? else { continue };
            let (choice, _) = match &chosen {
                Some(chosen) => chosen,
                None => chosen.insert(choose_of(&batch.schema(), input, beside.is_some(), &mut builder)?),
            };
            add(&batch, choice, beside.as_ref(), &mut builder)?;
        }
    }
    if let Some(beside) = &beside {
        beside.check(builder.seen())?;
    }
    builder.finish(VectorFormat::Arrow, chosen.map_or(VectorElement::Float32, |(_, element)| element))
}

fn choose_of(
    schema: &Schema,
    input: &Input<'_>,
    ids_beside: bool,
    builder: &mut TableBuilder,
) -> Result<(Choice, VectorElement)> {
    let fields = schema.fields();
    let columns: Vec<Column> = fields
        .iter()
        .map(|field| Column::new(field.name(), kind_of(field.data_type()), field.data_type().to_string()))
        .collect();
    let choice = choose(&columns, input.options, ids_beside)?;
    builder.warnings.clone_from(&choice.warnings);
    builder.made_by = schema.metadata().get(MadeBy::KEY).and_then(|note| MadeBy::read(note.as_bytes()));
    let elements = choice.vector.iter().filter_map(|&index| element_of(fields[index].data_type()));
    let element = elements.max_by_key(|element| element.size()).unwrap_or(VectorElement::Float32);
    Ok((choice, element))
}

fn kind_of(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Kind::Text,
        DataType::Dictionary(_, values) if kind_of(values) == Kind::Text => Kind::Text,
        whole if whole.is_integer() => Kind::Whole,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Kind::Number,
        list if element_of(list).is_some() => Kind::List,
        _ => Kind::Other,
    }
}

/// The type of a column's numbers, those of a list too.
fn element_of(data_type: &DataType) -> Option<VectorElement> {
    match data_type {
        DataType::Float16 => Some(VectorElement::Float16),
        DataType::Float32 => Some(VectorElement::Float32),
        DataType::Float64 => Some(VectorElement::Float64),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let of = item.data_type();
            if of.is_floating() { element_of(of) } else { None }
        }
        _ => None,
    }
}

fn add(batch: &RecordBatch, choice: &Choice, beside: Option<&Ids>, builder: &mut TableBuilder) -> Result<()> {
    let id_column = choice.id.map(|index| batch.column(index));
    let mut row = Vec::new();
    for index in 0..batch.num_rows() {
        let number = builder.seen() + 1;
        let id = ids::of_row(id_column.map(|column| text(column, index)), beside, builder.seen())?;
        row.clear();
        let mut has_vector = true;
        for &column in &choice.vector {
            let column = batch.column(column);
            match list_at(column, index) {
                Some(list) if list.len() > LARGEST_DIMENSION => {
                    return Err(invalid(format!("vector {number} ({id}) cannot be used"))
                        .with_values(format!("at most {LARGEST_DIMENSION} numbers"), list.len().to_string())
                        .with_advice("give the column that holds the vectors: vectorColumn"));
                }
                Some(list) if list.is_empty() => has_vector = false,
                Some(list) if list.null_count() == 0 => append(&*list, &mut row),
                None if choice.vector.len() == 1 && column.is_null(index) => has_vector = false,
                _ => return Err(hole(number, &id)),
            }
        }
        match has_vector {
            true => {
                builder.push(id, &row)?;
                if let Some(label) = choice.label {
                    builder.label(text(batch.column(label), index))?;
                }
            }
            false => builder.leave_out(id),
        }
    }
    Ok(())
}

/// The numbers of row `index`; nothing where it is null.
fn list_at(column: &dyn Array, index: usize) -> Option<arrow_array::ArrayRef> {
    if column.is_null(index) {
        return None;
    }
    Some(match column.data_type() {
        DataType::List(_) => column.as_list::<i32>().value(index),
        DataType::LargeList(_) => column.as_list::<i64>().value(index),
        DataType::FixedSizeList(..) => column.as_fixed_size_list().value(index),
        _ => column.slice(index, 1),
    })
}

fn append(numbers: &dyn Array, row: &mut Vec<f32>) {
    match numbers.data_type() {
        DataType::Float16 => row.extend(numbers.as_primitive::<Float16Type>().values().iter().map(|n| n.to_f32())),
        DataType::Float32 => row.extend_from_slice(numbers.as_primitive::<Float32Type>().values()),
        DataType::Float64 => row.extend(numbers.as_primitive::<Float64Type>().values().iter().map(|&n| n as f32)),
        _ => {}
    }
}

fn text(column: &dyn Array, index: usize) -> Option<String> {
    if column.is_null(index) {
        return None;
    }
    fn whole<T: ArrowPrimitiveType<Native: ToString>>(column: &dyn Array, index: usize) -> Option<String> {
        Some(column.as_primitive::<T>().value(index).to_string())
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(index).into()),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(index).into()),
        DataType::Utf8View => Some(column.as_string_view().value(index).into()),
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = text(dictionary.keys(), index)?.parse().ok();
            key.filter(|&key| key < dictionary.values().len()).and_then(|key| text(dictionary.values(), key))
        }
        DataType::Int8 => whole::<Int8Type>(column, index),
        DataType::Int16 => whole::<Int16Type>(column, index),
        DataType::Int32 => whole::<Int32Type>(column, index),
        DataType::Int64 => whole::<Int64Type>(column, index),
        DataType::UInt8 => whole::<UInt8Type>(column, index),
        DataType::UInt16 => whole::<UInt16Type>(column, index),
        DataType::UInt32 => whole::<UInt32Type>(column, index),
        DataType::UInt64 => whole::<UInt64Type>(column, index),
        _ => None,
    }
}

/// The messages of a file.
struct Stream<'a> {
    input: BufReader<&'a File>,
    /// Bytes that are left of them.
    left: u64,
}

impl<'a> Stream<'a> {
    fn open(input: &'a Input<'_>) -> Result<Stream<'a>> {
        let (mut file, mut left) = (&input.file, input.length);
        let mut start = [0; 8];
        file.read_exact(&mut start).map_err(unreadable)?;
        if start.starts_with(MAGIC) {
            // Behind the messages: the index, its length, and the mark once more.
            let mut end = [0; 10];
            file.seek(SeekFrom::End(-10)).and_then(|_| file.read_exact(&mut end)).map_err(unreadable)?;
            let [a, b, c, d, mark @ ..] = end;
            let index = u64::from(u32::from_le_bytes([a, b, c, d]));
            left = match left.checked_sub(8 + 10 + index) {
                _ if mark != *MAGIC => return Err(unreadable("it does not end with the mark of an Arrow file")),
                Some(left) => left,
                None => return Err(wrong_length("the file", 18 + index, input.length)),
            };
            file.seek(SeekFrom::Start(8)).map_err(unreadable)?;
            // Zeros fill the mark up to a multiple of 8 bytes, or to what a writer aligns buffers to.
            let (mut filled, mut word) = (0, [0; 8]);
            while filled < MOST_FILLED && filled < left {
                file.read_exact(&mut word).map_err(unreadable)?;
                if word != [0; 8] {
                    break;
                }
                filled += 8;
            }
            left = left.saturating_sub(filled);
            file.seek(SeekFrom::Start(8 + filled)).map_err(unreadable)?;
        } else {
            file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        }
        Ok(Stream { input: BufReader::with_capacity(1 << 16, &input.file), left })
    }

    /// The next message, with its length in front and its body behind.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut message = Vec::new();
        self.take(4, &mut message)?;
        let mut header = word(&message);
        if header == CONTINUATION {
            self.take(4, &mut message)?;
            header = word(&message[4..]);
        }
        if header == 0 {
            return Ok(None); // The mark of the end.
        }
        if u64::from(header) > LONGEST_HEADER.min(self.left) {
            return Err(promises("a message's header", LONGEST_HEADER.min(self.left), u64::from(header)));
        }
        let start = message.len();
        self.take(u64::from(header), &mut message)?;
        let parsed = arrow_ipc::root_as_message(&message[start..]).map_err(unreadable)?;
        let body = u64::try_from(parsed.bodyLength()).map_err(unreadable)?;
        if body > LARGEST_BATCH.min(self.left) {
            return Err(promises("a batch of rows", LARGEST_BATCH.min(self.left), body));
        }
        let place = message.len();
        message.try_reserve_exact(body as usize).map_err(|_| promises("a batch of rows", self.left, body))?;
        self.take(body, &mut message)?;
        check(&message[start..place], &message[place..])?;
        Ok(Some(message))
    }

    fn take(&mut self, count: u64, out: &mut Vec<u8>) -> Result<()> {
        let read = self.input.by_ref().take(count.min(self.left)).read_to_end(out).map_err(unreadable)?;
        self.left -= read as u64;
        if read as u64 == count { Ok(()) } else { Err(unreadable("it ends in the middle of a message")) }
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |&four| u32::from_le_bytes(four))
}

fn promises(what: &str, most: u64, received: u64) -> Error {
    damaged(format!("{what} promises too much"))
        .with_values(format!("at most {most} bytes"), received.to_string())
        .with_advice("the file is cut short or damaged, or its batches are too large: write it again")
}

/// Refuses a message whose buffers reach beyond it, promise more than they can hold, or are not packed with LZ4.
fn check(header: &[u8], body: &[u8]) -> Result<()> {
    let message = arrow_ipc::root_as_message(header).map_err(unreadable)?;
    let batch = message.header_as_record_batch();
    let Some(batch) = batch.or_else(|| message.header_as_dictionary_batch()?.data()) else { return Ok(()) };
    let codec = batch.compression().map(|compression| compression.codec());
    if let Some(other) = codec.filter(|&codec| codec != CompressionType::LZ4_FRAME) {
        return Err(damaged("the file is packed in a way that is not read here")
            .with_values("LZ4, or not packed", format!("{other:?}"))
            .with_advice("write it with compression=\"lz4\", or as Parquet, whose zstd is read"));
    }
    let mut sum = 0i64;
    for buffer in batch.buffers().into_iter().flatten() {
        let place = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = place.and_then(|(from, length)| body.get(from..from.checked_add(length)?));
        let Some(bytes) = bytes else { return Err(unreadable("a buffer reaches beyond its message")) };
        let Some(&length) = bytes.first_chunk::<8>().filter(|_| codec.is_some()) else { continue };
        let length = i64::from_le_bytes(length);
        sum = sum.saturating_add(length.max(0));
        if length / LZ4_RATIO > bytes.len() as i64 || sum as u64 > LARGEST_BATCH {
            return Err(promises("a packed buffer", LARGEST_BATCH, length.unsigned_abs()));
        }
    }
    Ok(())
}
