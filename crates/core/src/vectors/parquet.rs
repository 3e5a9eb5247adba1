//! Parquet: a list column or one column a number, ids beside.

use std::fs::File;
use std::path::Path;

use half::f16;
use parquet::basic::{LogicalType, Type};
use parquet::schema::types::ColumnDescriptor;

use super::columns::{Choice, Column, Kind, choose};
use super::ids::{self, Ids};
use super::table::{
    self, Input, LARGEST_DIMENSION, MadeBy, TableBuilder, VectorElement, VectorFormat, VectorTable, damaged, hole,
};
use crate::error::{Error, Result};
use crate::parquet::{BATCH, Batch, ColumnValues, NOT_READ, ParquetFile, guarded, is_text, is_whole};

/// The most columns of a file: a vector's numbers, and others.
const MOST_COLUMNS: usize = LARGEST_DIMENSION + 1024;

/// Reads the file.
pub(super) fn read(input: Input<'_>) -> Result<VectorTable> {
    let beside = ids::given(&input)?;
    guarded(|| Ok(read_all(&input, beside))).map_err(unreadable)?
}

fn read_all(input: &Input<'_>, beside: Option<Ids>) -> Result<VectorTable> {
    let file = input.file.try_clone().map_err(|e| Error::io("reading", input.path, e))?;
    let file = ParquetFile::open(file).map_err(unreadable)?;
    let schema = file.schema();
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
    builder.made_by = file.note(MadeBy::KEY).and_then(|note| MadeBy::read(note.as_bytes()));
    let list = choice.vector.first().is_some_and(|&index| columns[index].kind == Kind::List);
    for (group, rows) in file.groups().map_err(unreadable)?.into_iter().enumerate() {
        Group { file: &file, group, rows, list }.read(&choice, beside.as_ref(), &mut builder)?;
    }
    if let Some(beside) = &beside {
        beside.check(builder.seen())?;
    }
    builder.finish(VectorFormat::Parquet, element)
}

/// The error that `what`, a clause, is the reason of. One about what is not read here says itself what to do.
fn unreadable(what: String) -> Error {
    if what.contains(NOT_READ) {
        return damaged(format!("the file cannot be read: {what}"));
    }
    table::unreadable(what)
}

/// Whether the file has a column of vectors, or more columns of numbers than a table of anything else.
pub(super) fn has_vectors(path: &Path) -> bool {
    let Ok(file) = File::open(path).map_err(|e| e.to_string()).and_then(|file| guarded(|| ParquetFile::open(file)))
    else {
        return false;
    };
    let kinds = file.schema().columns().iter().map(|column| column_of(column).kind);
    let (mut lists, mut numbers) = (0, 0);
    kinds.for_each(|kind| match kind {
        Kind::List => lists += 1,
        Kind::Number => numbers += 1,
        _ => {}
    });
    lists > 0 || numbers > 1
}

/// What a column of the file is.
fn column_of(column: &ColumnDescriptor) -> Column {
    let name = column.path().parts().first().map_or("", |name| &name[..]);
    let float = element_of(column);
    let is_flat = column.path().parts().len() == 1 && column.max_rep_level() == 0;
    let (kind, what) = match float {
        Some(_) if is_flat => (Kind::Number, "float"),
        // Three levels, or two as old writers have it; what is inside of a structure has more.
        Some(_) if column.max_rep_level() == 1 && column.path().parts().len() <= 3 => (Kind::List, "list of floats"),
        _ if is_flat && is_text(column) => (Kind::Text, "string"),
        _ if is_flat && is_whole(column) => (Kind::Whole, "integer"),
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

/// One group of rows.
struct Group<'a> {
    file: &'a ParquetFile,
    group: usize,
    rows: usize,
    /// Whether vectors are in one column.
    list: bool,
}

impl Group<'_> {
    fn read(&self, choice: &Choice, beside: Option<&Ids>, builder: &mut TableBuilder) -> Result<()> {
        let open = |&index: &usize| self.file.column(self.group, index).map_err(unreadable);
        let mut ids = choice.id.as_ref().map(open).transpose()?;
        let mut labels = choice.label.as_ref().map(open).transpose()?;
        let vector = |index| open(index).map(Values::new);
        let mut vectors = choice.vector.iter().map(vector).collect::<Result<Vec<_>>>()?;
        let (mut row, mut done) = (Vec::new(), 0);
        while done < self.rows {
            let count = BATCH.min(self.rows - done);
            let mut texts = ids.as_mut().map(|column| column.texts(count)).transpose().map_err(unreadable)?;
            let label = labels.as_mut().map(|column| column.texts(count)).transpose();
            let mut label = label.map_err(unreadable)?;
            for column in &mut vectors {
                column.read(count).map_err(unreadable)?;
            }
            for index in 0..count {
                let id = ids::of_row(texts.as_mut().map(|texts| texts[index].take()), beside, builder.seen())?;
                row.clear();
                match &mut vectors[..] {
                    [column] if self.list => match column.list(&mut row) {
                        Some(true) => builder.push(id, &row)?,
                        Some(false) => {
                            builder.leave_out(id);
                            continue;
                        }
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
                if let Some(labels) = &mut label {
                    builder.label(labels[index].take())?;
                }
            }
            done += count;
        }
        Ok(())
    }
}

/// The numbers of a column in a group of rows, a batch at a time.
struct Values {
    column: ColumnValues,
    /// Numbers of the batch.
    numbers: Vec<f32>,
    /// How many of the batch's levels and numbers are taken.
    level: usize,
    number: usize,
}

impl Values {
    fn new(column: ColumnValues) -> Values {
        Values { column, numbers: Vec::new(), level: 0, number: 0 }
    }

    /// Reads the numbers of `count` rows.
    fn read(&mut self, count: usize) -> Result<(), String> {
        (self.level, self.number) = (0, 0);
        self.numbers = match self.column.records(count)? {
            Batch::Floats(numbers) => numbers,
            Batch::Doubles(numbers) => numbers.into_iter().map(|number| number as f32).collect(),
            Batch::Ints(numbers) => numbers.into_iter().map(|number| number as f32).collect(),
            Batch::Longs(numbers) => numbers.into_iter().map(|number| number as f32).collect(),
            Batch::Fixed(numbers) => {
                let number = |bytes: &[u8]| bytes.first_chunk().map(|&two| f16::from_le_bytes(two).to_f32());
                numbers.iter().map(|bytes| number(bytes.data())).collect::<Option<_>>().unwrap_or_default()
            }
            _ => return Err(self.column.error("a type that is not read here")),
        };
        Ok(())
    }

    /// Appends the numbers of the next row to `row`. False where it has none at all, nothing where one is missing.
    fn list(&mut self, row: &mut Vec<f32>) -> Option<bool> {
        if self.column.most_definition == 0 {
            row.push(*self.numbers.get(self.number)?);
            self.number += 1;
            return Some(true);
        }
        let from = self.level;
        let begins = |level: usize| !self.column.repeats || self.column.repetitions.get(level) == Some(&0);
        let mut to = from + 1;
        while to < self.column.definitions.len() && !begins(to) {
            to += 1;
        }
        self.level = to;
        let levels = self.column.definitions.get(from..to)?;
        let there = levels.iter().filter(|&&level| level == self.column.most_definition).count();
        row.extend_from_slice(self.numbers.get(self.number..self.number + there)?);
        self.number += there;
        match (there, levels.len()) {
            (0, 1) => Some(false),
            (there, all) if there == all => Some(true),
            _ => None,
        }
    }
}
