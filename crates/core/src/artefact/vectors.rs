//! Vectors written as tables: CSV, JSON Lines, Parquet, Arrow IPC. [`read`](crate::vectors::read) reads each of them back, bit by bit.
//!
//! Columns are `id`, `class` where there are labels, and `embedding`: a list of float32, in CSV a column for each number,
//! `embedding_0`, `embedding_1`, ... Parquet and Arrow note the model beside their columns. Numbers in texts are the shortest that give the same float32 again.

use std::collections::HashMap;
use std::io::{Error as IoError, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema};
use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::{ByteArray, ByteArrayType, FloatType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde::Serialize;

use crate::artefact::file::write_atomically;
use crate::error::Result;
use crate::vectors::MadeBy;

/// Numbers of a batch of rows in Parquet and Arrow: 16 MiB.
const BATCH: usize = 4 << 20;

/// Vectors with the ids of their images.
#[derive(Clone, Debug)]
pub struct Embedded<'a> {
    /// The id of each vector.
    pub ids: &'a [String],
    /// The class of each, where there are labels.
    pub classes: Option<&'a [String]>,
    /// Numbers of a vector, at least 1.
    pub dimension: usize,
    /// `[n, d]`, row by row.
    pub rows: &'a [f32],
    /// The model that made them.
    pub made_by: &'a MadeBy,
}

impl<'a> Embedded<'a> {
    fn vectors(&self) -> impl Iterator<Item = &'a [f32]> {
        self.rows.chunks_exact(self.dimension)
    }

    /// The class of row `index`.
    fn class(&self, index: usize) -> Option<&'a str> {
        self.classes.map(|classes| &classes[index][..])
    }

    /// The same in pieces of about [`BATCH`] numbers.
    fn batches(&self) -> impl Iterator<Item = Embedded<'a>> {
        let count = (BATCH / self.dimension).max(1);
        let Embedded { ids, classes, dimension, rows, made_by } = *self;
        (0..ids.len()).step_by(count).map(move |first| {
            let last = ids.len().min(first + count);
            Embedded {
                ids: &ids[first..last],
                classes: classes.map(|classes| &classes[first..last]),
                dimension,
                rows: &rows[first * dimension..last * dimension],
                made_by,
            }
        })
    }
}

/// Writes a table of comma-separated values with a heading.
pub fn write_csv(path: &Path, table: &Embedded<'_>) -> Result<()> {
    write_atomically(path, |out| {
        let mut writer = csv::Writer::from_writer(out);
        let fixed = ["id"].into_iter().chain(table.classes.map(|_| "class")).map(String::from);
        writer.write_record(fixed.chain((0..table.dimension).map(|number| format!("embedding_{number}"))))?;
        for (index, row) in table.vectors().enumerate() {
            writer.write_field(&table.ids[index])?;
            table.class(index).map_or(Ok(()), |class| writer.write_field(class))?;
            row.iter().try_for_each(|number| writer.write_field(number.to_string()))?;
            writer.write_record(None::<&[u8]>)?;
        }
        writer.flush()
    })
}

/// A line of JSON Lines.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    embedding: &'a [f32],
}

/// Writes a JSON object a line.
pub fn write_jsonl(path: &Path, table: &Embedded<'_>) -> Result<()> {
    write_atomically(path, |out| {
        for (index, embedding) in table.vectors().enumerate() {
            let line = Line { id: &table.ids[index], class: table.class(index), embedding };
            serde_json::to_writer(&mut *out, &line)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// Writes Apache Parquet, not packed: embeddings hardly shrink.
pub fn write_parquet(path: &Path, table: &Embedded<'_>) -> Result<()> {
    write_atomically(path, |out| {
        let schema = parquet_schema(table.classes.is_some()).map_err(IoError::other)?;
        let properties = Arc::new(parquet_properties(table.made_by)?);
        let mut writer = SerializedFileWriter::new(out, schema, properties).map_err(IoError::other)?;
        for batch in table.batches() {
            let mut group = writer.next_row_group().map_err(IoError::other)?;
            parquet_group(&mut group, &batch).map_err(IoError::other)?;
            group.close().map_err(IoError::other)?;
        }
        writer.close().map(drop).map_err(IoError::other)
    })
}

/// How a file is written, with the model noted in it.
pub(super) fn parquet_properties(made_by: &MadeBy) -> std::io::Result<WriterProperties> {
    let note = KeyValue::new(MadeBy::KEY.to_string(), serde_json::to_string(made_by)?);
    let properties = WriterProperties::builder().set_dictionary_enabled(false);
    Ok(properties.set_key_value_metadata(Some(vec![note])).build())
}

/// The columns of a file.
pub(super) fn parquet_schema(labelled: bool) -> parquet::errors::Result<TypePtr> {
    let text = |name: &str| {
        let text = Type::primitive_type_builder(name, PhysicalType::BYTE_ARRAY);
        text.with_repetition(Repetition::REQUIRED).with_logical_type(Some(LogicalType::String)).build().map(Arc::new)
    };
    let element = Type::primitive_type_builder("element", PhysicalType::FLOAT);
    let element = Arc::new(element.with_repetition(Repetition::REQUIRED).build()?);
    let list = Type::group_type_builder("list").with_repetition(Repetition::REPEATED).with_fields(vec![element]);
    let embedding = Type::group_type_builder("embedding").with_repetition(Repetition::REQUIRED);
    let embedding =
        embedding.with_logical_type(Some(LogicalType::List)).with_fields(vec![Arc::new(list.build()?)]).build()?;
    let mut fields = vec![text("id")?];
    if labelled {
        fields.push(text("class")?);
    }
    fields.push(Arc::new(embedding));
    Type::group_type_builder("schema").with_fields(fields).build().map(Arc::new)
}

fn parquet_group<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    batch: &Embedded<'_>,
) -> parquet::errors::Result<()> {
    for texts in [Some(batch.ids), batch.classes].into_iter().flatten() {
        let values: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(text.as_bytes().to_vec())).collect();
        let Some(mut column) = group.next_column()? else { continue };
        column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
        column.close()?;
    }
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    // A list goes on where its level of repetition is 1.
    let goes_on: Vec<i16> = (0..batch.rows.len()).map(|place| i16::from(place % batch.dimension > 0)).collect();
    let there = vec![1; batch.rows.len()];
    column.typed::<FloatType>().write_batch(batch.rows, Some(&there), Some(&goes_on))?;
    column.close()
}

/// Writes an Arrow IPC file (Feather 2).
pub fn write_arrow(path: &Path, table: &Embedded<'_>) -> Result<()> {
    write_atomically(path, |out| {
        let number = Arc::new(Field::new("item", DataType::Float32, false));
        let list = DataType::FixedSizeList(Arc::clone(&number), table.dimension as i32);
        let mut fields = vec![Field::new("id", DataType::Utf8, false)];
        fields.extend(table.classes.map(|_| Field::new("class", DataType::Utf8, false)));
        fields.push(Field::new("embedding", list, false));
        let note = HashMap::from([(MadeBy::KEY.to_string(), serde_json::to_string(table.made_by)?)]);
        let schema = Arc::new(Schema::new(fields).with_metadata(note));
        let mut writer = FileWriter::try_new(out, &schema).map_err(IoError::other)?;
        for batch in table.batches() {
            let texts = [Some(batch.ids), batch.classes].into_iter().flatten();
            let mut columns: Vec<ArrayRef> =
                texts.map(|texts| Arc::new(StringArray::from_iter_values(texts)) as ArrayRef).collect();
            let numbers = Arc::new(Float32Array::from(batch.rows.to_vec()));
            let lists = FixedSizeListArray::try_new(Arc::clone(&number), table.dimension as i32, numbers, None);
            columns.push(Arc::new(lists.map_err(IoError::other)?));
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(IoError::other)?;
            writer.write(&batch).map_err(IoError::other)?;
        }
        writer.finish().map_err(IoError::other)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{VectorOptions, read};

    fn made_by() -> MadeBy {
        MadeBy { model: "runs/ä/model.safetensors".into(), hash: Some("0a".into()) }
    }

    #[test]
    fn every_table_is_read_back_bit_by_bit() {
        let ids: Vec<String> = ["a/1.jpg", "b \"2\", ä.png", "c\n3.png"].map(String::from).into();
        let classes: Vec<String> = ["1", "2", "x, y"].map(String::from).into();
        let rows = [0.1f32, -1e-39, 3.4e38, 1.0 / 3.0, -0.0, 16_777_217.0];
        let folder = tempfile::tempdir().unwrap();
        type Write = fn(&Path, &Embedded<'_>) -> Result<()>;
        let writers: [(&str, Write); 4] =
            [("csv", write_csv), ("jsonl", write_jsonl), ("parquet", write_parquet), ("arrow", write_arrow)];
        for (ending, write) in writers {
            for classes in [None, Some(&classes[..])] {
                let path = folder.path().join(format!("vectors.{ending}"));
                write(&path, &Embedded { ids: &ids, classes, dimension: 2, rows: &rows, made_by: &made_by() }).unwrap();
                let table = read(&path, &VectorOptions::default()).unwrap();
                assert_eq!((&table.ids, table.dimension), (&ids, 2), "{ending}");
                let bits = |rows: &[f32]| rows.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&table.rows), bits(&rows), "{ending}");
                let noted = matches!(ending, "parquet" | "arrow").then(made_by);
                assert_eq!(table.made_by, noted, "{ending}");
            }
        }
    }

    #[test]
    fn tables_of_several_batches_have_all_rows_in_order() {
        let dimension = BATCH / 2;
        let ids: Vec<String> = (0..5).map(|row| format!("{row}.png")).collect();
        let rows: Vec<f32> = (0..5 * dimension).map(|place| (place / dimension) as f32).collect();
        let folder = tempfile::tempdir().unwrap();
        let table = Embedded { ids: &ids, classes: None, dimension, rows: &rows, made_by: &made_by() };
        assert_eq!(table.batches().map(|batch| batch.ids.len()).collect::<Vec<_>>(), [2, 2, 1]);
        let path = folder.path().join("vectors.parquet");
        write_parquet(&path, &table).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let metadata = parquet::file::metadata::ParquetMetaDataReader::new().parse_and_finish(&file).unwrap();
        let counts: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(counts, [2, 2, 1]);
    }
}
