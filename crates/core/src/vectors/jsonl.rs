//! `.jsonl`, `.ndjson`: a JSON object a line, `{"id": "a.jpg", "vector": [0.5, ...]}`.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::columns::{Column, Kind, choose};
use super::ids;
use super::table::{
    Input, LARGEST_DIMENSION, LONGEST_LINE, TableBuilder, VectorElement, VectorFormat, VectorTable, damaged, unreadable,
};
use crate::error::Result;

/// Lines that are looked at for what keys hold.
const SAMPLE: usize = 16;

/// Reads the file.
pub(super) fn read(input: Input<'_>) -> Result<VectorTable> {
    let beside = ids::given(&input)?;
    let mut lines = Lines { input: BufReader::with_capacity(1 << 20, input.file), number: 0, line: Vec::new() };
    let (mut sample, mut columns) = (Vec::new(), Vec::new());
    while sample.len() < SAMPLE && lines.advance()? {
        look(&lines, &mut columns)?;
        sample.push((lines.number, std::mem::take(&mut lines.line)));
    }
    let choice = choose(&columns, input.options, beside.is_some())?;
    let name = |index: usize| columns.get(index).map_or("", |column| &column.name[..]);
    let keys = Keys {
        id: choice.id.map(name),
        label: choice.label.map(name),
        vector: name(choice.vector.first().copied().unwrap_or(usize::MAX)),
    };

    let mut builder = TableBuilder::new();
    builder.warnings = choice.warnings.clone();
    let mut row = Vec::new();
    let mut add = |line: &[u8], number: usize| {
        let mut reader = serde_json::Deserializer::from_slice(line);
        let read =
            Object { keys, row: &mut row }.deserialize(&mut reader).and_then(|found| reader.end().map(|()| found));
        let (own, label, has_vector) = read.map_err(|e| no_object(number, &e))?;
        let id = match &beside {
            Some(beside) => beside.get(builder.seen())?,
            None => own.ok_or_else(|| {
                damaged(format!("line {number} has no id"))
                    .with_values(format!("a text or a whole number: {}", keys.id.unwrap_or_default()), "none")
                    .with_advice("give every line one, or leave the line out")
            })?,
        };
        match has_vector {
            true => {
                builder.push(id, &row)?;
                if keys.label.is_some() { builder.label(label) } else { Ok(()) }
            }
            false => {
                builder.leave_out(id);
                Ok(())
            }
        }
    };
    for (number, line) in &sample {
        add(line, *number)?;
    }
    while lines.advance()? {
        add(&lines.line, lines.number)?;
    }
    if let Some(beside) = &beside {
        beside.check(builder.seen())?;
    }
    builder.finish(VectorFormat::Jsonl, VectorElement::Text)
}

/// The lines of a file.
struct Lines<R> {
    input: R,
    /// That of the current one, from 1.
    number: usize,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Reads the next line that is not empty; false at the end.
    fn advance(&mut self) -> Result<bool> {
        loop {
            self.line.clear();
            let count = self.input.by_ref().take(LONGEST_LINE as u64 + 1).read_until(b'\n', &mut self.line);
            if count.map_err(unreadable)? == 0 {
                return Ok(false);
            }
            self.number += 1;
            if self.line.len() > LONGEST_LINE {
                return Err(damaged(format!("line {} is too long", self.number))
                    .with_values(format!("at most {} MiB", LONGEST_LINE >> 20), "more")
                    .with_advice("write an object a line, with id and vector only"));
            }
            if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") {
                self.line.drain(..3);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }
}

fn no_object(number: usize, error: &serde_json::Error) -> crate::Error {
    damaged(format!("line {number} cannot be read"))
        .with_values("a JSON object with an id and a list of numbers", error.to_string())
        .with_advice("JSON has no NaN and no infinity; each object stands on a line of its own")
}

/// Adds what the keys of a line hold to the columns.
fn look(lines: &Lines<impl BufRead>, columns: &mut Vec<Column>) -> Result<()> {
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(&lines.line).map_err(|e| no_object(lines.number, &e))?;
    for (name, value) in object {
        let (kind, type_name) = match &value {
            Value::String(_) => (Kind::Text, "text"),
            Value::Number(number) if number.is_f64() => (Kind::Other, "number"),
            Value::Number(_) => (Kind::Whole, "whole number"),
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_number) => (Kind::List, "list"),
            Value::Array(_) => (Kind::Other, "list"),
            Value::Object(_) => (Kind::Other, "object"),
            Value::Bool(_) => (Kind::Other, "bool"),
            Value::Null => (Kind::Other, "null"),
        };
        match columns.iter_mut().find(|column| column.name == name) {
            None => columns.push(Column::new(name, kind, type_name)),
            Some(column) if column.kind == Kind::Other || kind == Kind::Text && column.kind == Kind::Whole => {
                (column.kind, column.type_name) = (kind, type_name.into());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Which keys are meant.
#[derive(Clone, Copy)]
struct Keys<'a> {
    id: Option<&'a str>,
    label: Option<&'a str>,
    vector: &'a str,
}

/// A line: its id and its label, if it has them, and whether it has a vector, which goes into `row`.
struct Object<'a> {
    keys: Keys<'a>,
    row: &'a mut Vec<f32>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = (Option<String>, Option<String>, bool);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = (Option<String>, Option<String>, bool);

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut id, mut label, mut has_vector) = (None, None, false);
        while let Some(key) = map.next_key::<String>()? {
            if key == self.keys.vector {
                has_vector = map.next_value_seed(Row(self.row))?;
            } else if Some(&key[..]) == self.keys.id {
                id = name_in(map.next_value()?, "an id")?;
            } else if Some(&key[..]) == self.keys.label {
                label = name_in(map.next_value()?, "a label")?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok((id, label, has_vector))
    }
}

fn name_in<E: serde::de::Error>(value: Value, what: &str) -> Result<Option<String>, E> {
    match value {
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) if !number.is_f64() => Ok(Some(number.to_string())),
        Value::Null => Ok(None),
        _ => Err(E::custom(format!("{what} that is no text and no whole number"))),
    }
}

/// A list of numbers, in place of what was there; false for null and an empty one.
struct Row<'a>(&'a mut Vec<f32>);

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        self.0.clear();
        while let Some(number) = list.next_element()? {
            if self.0.len() == LARGEST_DIMENSION {
                return Err(A::Error::custom(format!("a list of more than {LARGEST_DIMENSION} numbers")));
            }
            self.0.push(number);
        }
        Ok(!self.0.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::VectorOptions;

    fn table(text: &str) -> Result<VectorTable> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, text).unwrap();
        crate::vectors::read(&path, &VectorOptions::default())
    }

    #[test]
    fn keys_come_in_any_order_and_others_are_passed_over() {
        let table = table(concat!(
            "{\"id\": \"a\", \"vector\": [0.5, 1], \"score\": 1.5, \"tags\": [\"x\"]}\n\n",
            "{\"vector\": [-2.25, 0], \"box\": [1, 2], \"id\": 7}\n",
            "{\"id\": \"c\", \"vector\": null}\n",
        ));
        let table = table.unwrap();
        assert_eq!((&table.ids[..], &table.rows[..]), (&["a".into(), "7".into()][..], &[0.5, 1.0, -2.25, 0.0][..]));
        assert_eq!(table.warnings, ["rows without a vector, left out: 1 (the first is c)"]);
    }

    #[test]
    fn damage_is_told_with_its_line() {
        for (text, says) in [
            ("{\"id\": \"a\", \"vector\": [1, NaN]}", "line 1 cannot be read"),
            ("{\"id\": \"a\", \"vector\": [1]}\n{\"id\": \"b\", \"vector\": [null]}", "line 2 cannot be read"),
            ("{\"id\": \"a\", \"vector\": [1]}\n{\"vector\": [1]}", "line 2 has no id"),
            ("{\"id\": \"a\", \"vector\": [1]}\n{\"id\": \"b\", \"vector\": [1, 2]}", "changes at vector 2 (b)"),
            ("{\"id\": \"a\", \"vector\": [1]} {}", "line 1 cannot be read"),
            ("{\"id\": \"a\", \"vector\": {\"x\": 1}}", "no column holds vectors"),
        ] {
            let error = table(text).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let long = format!("{{\"id\": \"a\", \"vector\": [{}1]}}", "1,".repeat(LARGEST_DIMENSION));
        assert!(table(&long).unwrap_err().to_string().contains("a list of more than 65536 numbers"));
        let error = table(&format!("{{\"x\": \"{}\"}}", "x".repeat(LONGEST_LINE))).unwrap_err().to_string();
        assert!(error.contains("line 1 is too long: expected at most 16 MiB"), "{error}");
    }
}
