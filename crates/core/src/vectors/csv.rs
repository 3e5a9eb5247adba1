//! `.csv` and `.tsv`: a column of ids, and vectors as one column a number or one column of lists.
//!
//! Values are parted by commas, semicolons or tabs, whichever the first line has most of outside of quotes. A list is
//! JSON's (`[0.5, 1]`) or numbers parted by spaces, in brackets or without. The first line is a heading if it
//! has a usual name or no numbers, or counts (0, 1, 2, ...); columns without a heading are called 1, 2, 3, ...

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::rc::Rc;

use csv::{ReaderBuilder, StringRecord};

use super::columns::{Choice, Column, Kind, choose, is_usual_name};
use super::ids::{self, Ids};
use super::table::{
    Input, LARGEST_DIMENSION, LONGEST_LINE, TableBuilder, VectorElement, VectorFormat, VectorTable, damaged, invalid,
    unreadable,
};
use crate::error::{Error, Result};

/// Lines that are looked at for what columns hold.
const SAMPLE: usize = 16;

/// A file that gives no more than a line's bytes between two resets, so that a quote that never ends is no work.
struct Bounded {
    file: File,
    left: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(out)?;
        let left = self.left.get().checked_sub(count);
        self.left.set(left.ok_or_else(|| {
            io::Error::other(format!("a line is longer than {} MiB; is a quote missing?", LONGEST_LINE >> 20))
        })?);
        Ok(count)
    }
}

/// Lines of values.
struct Lines {
    reader: csv::Reader<Bounded>,
    left: Rc<Cell<usize>>,
}

impl Lines {
    fn next(&mut self) -> Result<Option<StringRecord>> {
        let mut record = StringRecord::new();
        self.left.set(LONGEST_LINE);
        match self.reader.read_record(&mut record) {
            Ok(true) => Ok(Some(record)),
            Ok(false) => Ok(None),
            Err(e) => Err(match e.kind() {
                csv::ErrorKind::Utf8 { pos, .. } => {
                    let line = pos.as_ref().map_or(0, csv::Position::line);
                    damaged(format!("line {line} cannot be read"))
                        .with_values("text in UTF-8", "another encoding, Latin-1 for example")
                        .with_advice("save the file as UTF-8")
                }
                _ => unreadable(e),
            }),
        }
    }
}

/// Reads the file, which begins with `head`.
pub(super) fn read(input: Input<'_>, head: &[u8]) -> Result<VectorTable> {
    let beside = ids::given(&input)?;
    let left = Rc::new(Cell::new(0));
    let bounded = Bounded { file: input.file, left: Rc::clone(&left) };
    let delimiter = delimiter(head);
    let reader = ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bounded);
    let mut lines = Lines { reader, left };

    let mut sample = Vec::new();
    while sample.len() <= SAMPLE
        && let Some(record) = lines.next()?
    {
        sample.push(record);
    }
    let Some(first) = sample.first().cloned() else {
        return Err(invalid("there are no lines in it").with_advice("write it again, or choose another file"));
    };
    let named = |option: &Option<String>| {
        let name = option.as_deref().filter(|name| name.parse::<f32>().is_err());
        name.is_some_and(|name| first.iter().any(|field| field.trim() == name))
    };
    let has_heading = is_heading(&first) || named(&input.options.id_column) || named(&input.options.vector_column);
    if has_heading {
        sample.remove(0);
    }
    let columns = columns_of(&first, has_heading, &sample);
    check_decimal_signs(&columns, &sample)?;
    let choice = choose(&columns, input.options, beside.is_some())?;
    if choice.vector.len() > LARGEST_DIMENSION {
        return Err(invalid("there are too many columns")
            .with_values(format!("at most {LARGEST_DIMENSION} numbers"), choice.vector.len().to_string())
            .with_advice("say what the names of those of the vectors begin with: vectorColumn"));
    }
    let list = choice.vector.len() == 1 && columns[choice.vector[0]].kind == Kind::List;
    let mut table = Table { columns, choice, list, beside, builder: TableBuilder::new(), row: Vec::new() };
    table.builder.warnings = std::mem::take(&mut table.choice.warnings);
    for record in sample {
        table.add(&record)?;
    }
    while let Some(record) = lines.next()? {
        table.add(&record)?;
    }
    if let Some(beside) = &table.beside {
        beside.check(table.builder.seen())?;
    }
    table.builder.finish(VectorFormat::Csv, VectorElement::Text)
}

/// A table that is being read.
struct Table {
    columns: Vec<Column>,
    choice: Choice,
    /// Whether a vector is one field.
    list: bool,
    beside: Option<Ids>,
    builder: TableBuilder,
    row: Vec<f32>,
}

impl Table {
    fn add(&mut self, record: &StringRecord) -> Result<()> {
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != self.columns.len() {
            return Err(damaged(format!("line {line} has another number of values than the first"))
                .with_values(self.columns.len().to_string(), record.len().to_string())
                .with_advice("put texts with commas, quotes or line ends into quotes"));
        }
        let id = match (&self.beside, self.choice.id) {
            (Some(beside), _) => beside.get(self.builder.seen())?,
            (None, id) => id.and_then(|id| record.get(id)).unwrap_or_default().to_string(),
        };
        self.row.clear();
        if self.list {
            let text = record.get(self.choice.vector[0]).unwrap_or_default();
            if is_nothing(text) {
                self.builder.leave_out(id);
                return Ok(());
            }
            numbers(text, &mut self.row).map_err(|word| no_number(line, &self.columns[self.choice.vector[0]], word))?;
        } else {
            for &column in &self.choice.vector {
                let text = record.get(column).unwrap_or_default().trim();
                self.row.push(text.parse().map_err(|_| no_number(line, &self.columns[column], text))?);
            }
        }
        self.builder.push(id, &self.row)?;
        match self.choice.label.and_then(|label| record.get(label)) {
            Some(label) => self.builder.label(Some(label.to_string())),
            None => Ok(()),
        }
    }
}

fn no_number(line: u64, column: &Column, word: &str) -> Error {
    let shown: String = word.chars().take(40).collect();
    let advice = match word.contains("...") {
        true => "NumPy shortens long arrays when it prints them: write vector.tolist()",
        false => "write numbers with a decimal point, and every one of them",
    };
    damaged(format!("line {line}, column {} is no vector", column.name))
        .with_values("numbers", format!("{shown:?}"))
        .with_advice(advice)
}

/// The numbers of a list; the error is the word that is none.
fn numbers<'a>(text: &'a str, row: &mut Vec<f32>) -> std::result::Result<(), &'a str> {
    let inner = text.trim().trim_start_matches(['[', '(', '{']).trim_end_matches([']', ')', '}']);
    for word in inner.split([',', ';', ' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()) {
        if row.len() > LARGEST_DIMENSION {
            break; // The table says that it is too long.
        }
        row.push(word.parse().map_err(|_| word)?);
    }
    Ok(())
}

/// An empty field, and what programs write for one.
fn is_nothing(text: &str) -> bool {
    matches!(text.trim(), "" | "[]" | "null" | "NULL" | "None" | "NaN" | "nan" | "NA")
}

/// What a field can be; nothing of an empty one.
fn kind_of(text: &str) -> Option<Kind> {
    let text = text.trim();
    if is_nothing(text) {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Kind::Digits);
    }
    if text.parse::<f32>().is_ok() {
        return Some(Kind::Number);
    }
    let mut row = Vec::new();
    let list = match numbers(text, &mut row) {
        Ok(()) => !row.is_empty(),
        // A list that is damaged is still meant as one.
        Err(_) => text.starts_with('[') && !row.is_empty(),
    };
    Some(if list { Kind::List } else { Kind::Text })
}

/// Whether the first line is a heading.
fn is_heading(first: &StringRecord) -> bool {
    let counts = |from: usize| {
        let counted = first.iter().filter_map(|field| field.trim().parse::<usize>().ok()).collect::<Vec<_>>();
        let enough = counted.len() > if first.get(0) == Some("") { 1 } else { 2 };
        enough && counted.len() + 1 >= first.len() && counted.iter().copied().eq(from..from + counted.len())
    };
    let is_number = |field: &str| matches!(kind_of(field), Some(Kind::Digits | Kind::Number | Kind::List));
    first.iter().any(|field| is_usual_name(field.trim())) || !first.iter().any(is_number) || counts(0) || counts(1)
}

/// The columns, by the first line and some others: texts, where one of them is no number.
fn columns_of(first: &StringRecord, has_heading: bool, sample: &[StringRecord]) -> Vec<Column> {
    let mut columns: Vec<Column> = first
        .iter()
        .enumerate()
        .map(|(index, name)| match has_heading {
            true => Column::new(name.trim(), Kind::Other, "nothing"),
            false => Column::new((index + 1).to_string(), Kind::Other, "nothing"),
        })
        .collect();
    for (index, column) in columns.iter_mut().enumerate() {
        let kinds: Vec<Kind> = sample.iter().filter_map(|record| kind_of(record.get(index)?)).collect();
        // A first list is meant as one, whatever is wrong with those behind it.
        if kinds.first() == Some(&Kind::List) {
            (column.kind, column.type_name) = (Kind::List, "list".into());
            continue;
        }
        let all = [(Kind::Text, "text"), (Kind::List, "list"), (Kind::Number, "number"), (Kind::Digits, "digits")];
        if let Some((kind, type_name)) = all.into_iter().find(|(kind, _)| kinds.contains(kind)) {
            (column.kind, column.type_name) = (kind, type_name.into());
        }
    }
    columns
}

/// Refuses a table whose numbers have decimal commas: two columns or more of pairs such as `0,5`.
fn check_decimal_signs(columns: &[Column], sample: &[StringRecord]) -> Result<()> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let has_comma = |text: &str| {
        let pair = text.trim().trim_start_matches('-').split_once(',');
        pair.is_some_and(|(whole, rest)| is_digits(whole) && is_digits(rest))
    };
    let fields =
        |index: usize| sample.iter().filter_map(move |record| record.get(index)).filter(|text| !is_nothing(text));
    let comma = |&index: &usize| columns[index].kind == Kind::List && fields(index).all(has_comma);
    let mut found = (0..columns.len()).filter(comma);
    let (Some(first), Some(_)) = (found.next(), found.next()) else { return Ok(()) };
    let shown = fields(first).next().unwrap_or_default();
    Err(damaged("the numbers are written with decimal commas")
        .with_values("a decimal point, as in 0.5", format!("{shown:?} in column {}", columns[first].name))
        .with_advice("write the table with decimal points"))
}

/// What parts the values: which of three the first line has most of outside of quotes and brackets.
fn delimiter(head: &[u8]) -> u8 {
    let (mut counts, mut quoted, mut depth) = ([0usize; 3], false, 0usize);
    for byte in head {
        match byte {
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'\n' => break,
            b'[' => depth += 1,
            b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => counts[0] += 1,
            b'\t' => counts[1] += 1,
            b';' if depth == 0 => counts[2] += 1,
            _ => {}
        }
    }
    let most = counts.iter().max().copied().unwrap_or_default();
    match counts {
        [commas, ..] if commas == most => b',',
        [_, tabs, _] if tabs == most => b'\t',
        _ => b';',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::VectorOptions;

    fn table(text: &str) -> Result<VectorTable> {
        table_with(text, &VectorOptions::default())
    }

    fn table_with(text: &str, options: &VectorOptions) -> Result<VectorTable> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        crate::vectors::read(&path, options)
    }

    #[test]
    fn every_way_to_write_two_vectors_gives_the_same() {
        let tables = [
            "id,vector\na,\"[0.5, 1]\"\nb,\"[-2.25,0]\"\n",
            "id,vector\na,0.5 1\nb,-2.25 0\n",
            "id,vector\r\na,[0.5 1.]\r\nb,\"[-2.25\n0]\"\r\n",
            "\u{feff}id;vector\na;[0.5,1]\nb;[-2.25,0]\n",
            "id\tvector\na\t[0.5, 1]\nb\t[-2.25, 0]\n",
            "id,0,1\na,0.5,1\nb,-2.25,0\n",
            ",0,1\na,0.5,1\nb,-2.25,0\n",
            "path,dim_1,dim_2\na,0.5,1\nb,-2.25,0\n",
            "a,0.5,1\nb,-2.25,0\n",
            "a,\"[0.5, 1]\"\nb,\"[-2.25, 0]\"\n",
            "id,x,y\na,5e-1,1\nb,-2.25,0\n",
            "id,vector\nx,\na,0.5 1\nb,-2.25 0\n",
        ];
        for text in tables {
            let table = table(text).unwrap();
            assert_eq!((&table.ids[..], table.dimension), (&["a".to_string(), "b".to_string()][..], 2), "{text}");
            assert_eq!(table.rows, [0.5, 1.0, -2.25, 0.0], "{text}");
        }
    }

    #[test]
    fn ids_are_texts_with_commas_quotes_and_line_ends() {
        let table = table("id,v\n\"a, \"\"b\"\"\nc\",\"[1]\"\n17,\"[2]\"\n").unwrap();
        assert_eq!(table.ids, ["a, \"b\"\nc", "17"]);
    }

    #[test]
    fn columns_without_a_heading_are_numbered() {
        let options = VectorOptions { id_column: Some("1".into()), ..Default::default() };
        let table = table_with("17,0.5,1\n18,2.5,3\n", &options).unwrap();
        assert_eq!((&table.ids[..], &table.rows[..]), (&["17".into(), "18".into()][..], &[0.5, 1.0, 2.5, 3.0][..]));
        let text = table_with("17,0.5,1\n", &VectorOptions::default()).unwrap_err().to_string();
        assert!(text.contains("1 (digits), 2 (number), 3 (digits)"), "{text}");
    }

    #[test]
    fn damage_is_told_with_its_line() {
        for (text, says) in [
            ("id,vector\na,0.5 1\nb,0.5 x\n", "line 3, column vector is no vector: expected numbers, received \"x\""),
            ("id,vector\na,[0.5 1 ... 3]\n", "write vector.tolist()"),
            ("id,e0,e1\na,1,2\nb,1,\n", "line 3, column e1 is no vector: expected numbers, received \"\""),
            ("id,e0,e1\na,1,2\nb,1\n", "line 3 has another number of values than the first: expected 3, received 2"),
            ("id,vector\na,1 2\nb,1 2 3\n", "the dimension of the vectors changes at vector 2 (b)"),
            ("id,vector\n", "no column holds"),
            (
                "id;e0;e1\na;0,5;-1,25\n",
                "decimal commas: expected a decimal point, as in 0.5, received \"0,5\" in column e0",
            ),
            ("id,e0,e1,e2\na,0.5,1.5,\"0,5\"\n", "some columns of the vectors hold no numbers"),
            ("id,e0,e1,e2\na,0.5,-,2.5\nb,1,2,3\n", "received e1 (text)"),
        ] {
            let error = table(text).unwrap_err().to_string().to_lowercase();
            assert!(error.contains(&says.to_lowercase()), "{error}");
        }
    }

    #[test]
    fn another_encoding_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, b"id,vector\na,1 2\n\xe9,3 4\n").unwrap();
        let error = crate::vectors::read(&path, &VectorOptions::default()).unwrap_err().to_string();
        assert!(
            error.contains("line 3 cannot be read: expected text in UTF-8") && !error.contains("damaged"),
            "{error}"
        );
    }

    #[test]
    fn a_quote_that_never_ends_is_bounded() {
        let text = format!("id,vector\na,1 2\nb,\"{}", "1 2\n".repeat(LONGEST_LINE / 4 + 10_000));
        let error = table(&text).unwrap_err().to_string();
        assert!(error.contains("a line is longer than 16 MiB; is a quote missing?"), "{error}");
    }
}
