//! Manifests: files that name images, with their classes, parts and ids.
//!
//! | ending | form |
//! |---|---|
//! | `.txt`, `.lst` | a path a line; behind it, after a tab, a comma or a space, a class |
//! | `.csv`, `.tsv` | a head line that names the columns; without one, path and class |
//! | `.json` | a list of objects, or of paths |
//! | `.jsonl`, `.ndjson` | one of those a line |
//!
//! The path is in the column `path`, `file`, `file_name`, `filename` or `image`; `class` or `label`, `part` or `split`
//! (train, validation, test) and `id` may stand beside it, and whatever else. A relative path begins at the manifest's own
//! folder. An image's id is its path as written, or its `id`.

use std::collections::HashSet;
use std::path::Path;
use std::{fmt, fs};

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ignored::ends_like_image;
use super::layout::part_of;
use super::listing::{self, Entry, Listing};
use super::walk::{Walk, read_failure};
use crate::data::part::{BrokenImage, Part};
use crate::data::stop::{Stop, go_on};
use crate::error::{Code, Error, Result};
use crate::names::{name_of, text_of};

/// Most bytes of a manifest: ten million images of a hundred bytes.
const MAX_BYTES: u64 = 1 << 30;

/// Most images of a manifest; each takes some two hundred bytes here.
const MAX_ROWS: usize = 10_000_000;

/// Most bytes of a line, or of an entry of JSON: what stands beside a path may be long, a row is never this long.
const MAX_ROW_BYTES: usize = 1 << 20;

/// Columns that an error names.
const MAX_COLUMNS: usize = 16;

/// Images that an error names.
const MAX_NAMED: usize = 3;

const PATHS: [&str; 5] = ["path", "file", "file_name", "filename", "image"];
const CLASSES: [&str; 2] = ["class", "label"];
const PARTS: [&str; 2] = ["part", "split"];
const IDS: [&str; 1] = ["id"];

/// How a manifest is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Lines,
    Table { delimiter: u8 },
    Json,
    JsonLines,
}

impl Form {
    /// The form that a file's name tells.
    pub fn of(path: &Path) -> Option<Form> {
        Some(match &path.extension()?.to_string_lossy().to_ascii_lowercase()[..] {
            "txt" | "lst" => Form::Lines,
            "csv" => Form::Table { delimiter: b',' },
            "tsv" => Form::Table { delimiter: b'\t' },
            "json" => Form::Json,
            "jsonl" | "ndjson" => Form::JsonLines,
            _ => return None,
        })
    }
}

/// What a manifest says of one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub path: String,
    pub class: Option<String>,
    pub part: Option<Part>,
    pub id: Option<String>,
}

/// The rows of a manifest's text.
///
/// # Errors
/// `ERR_INVALID_DATA` that says the line, or entry, and what is wrong with it.
pub fn rows(form: Form, text: &str) -> Result<Vec<Row>> {
    if form != Form::Json {
        for (i, line) in text.lines().enumerate() {
            check_count(i, "lines")?;
            check_length(&format_args!("line {}", i + 1), line)?;
        }
    }
    match form {
        Form::Lines => lines(text),
        Form::Table { delimiter } => table(text, delimiter),
        Form::Json => json(text),
        Form::JsonLines => {
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            lines
                .map(|(i, line)| {
                    let at = format!("line {}", i + 1);
                    let value = serde_json::from_str(line).map_err(|e| strange(&at, "JSON", e.to_string()))?;
                    entry(&at, &value)
                })
                .collect()
        }
    }
}

fn strange(at: &str, expected: impl Into<String>, received: impl Into<String>) -> Error {
    Error::new(Code::InvalidData, format!("{at} of the manifest cannot be used")).with_values(expected, received)
}

/// Whether one more than `count` may be read.
fn check_count(count: usize, what: &str) -> Result<()> {
    if count <= MAX_ROWS {
        return Ok(());
    }
    let message = format!("the manifest has too many {what}");
    Err(Error::new(Code::InvalidData, message)
        .with_values(format!("at most {MAX_ROWS} images"), "more")
        .with_advice("divide it, and train on a part"))
}

/// Before anything is made of it.
fn check_length(at: &impl fmt::Display, row: &str) -> Result<()> {
    if row.len() <= MAX_ROW_BYTES {
        return Ok(());
    }
    let received = format!("{} MiB", row.len().div_ceil(MAX_ROW_BYTES));
    Err(strange(&at.to_string(), "at most 1 MiB", received).with_advice("is this a list of images?"))
}

fn row(at: &str, [path, class, part, id]: [Option<String>; 4]) -> Result<Row> {
    let given = |text: Option<String>| text.map(|text| text.trim().to_string()).filter(|text| !text.is_empty());
    let path = given(path).ok_or_else(|| strange(at, "the path of an image", "none"))?;
    if path.starts_with("http://") || path.starts_with("https://") {
        return Err(
            strange(at, "the path of a file", path).with_advice("nothing is downloaded; fetch the images first")
        );
    }
    let part = given(part)
        .map(|part| part_of(&part).ok_or_else(|| strange(at, "a part: train, validation or test", part)))
        .transpose()?;
    Ok(Row { path, class: given(class), part, id: given(id) })
}

/// A comma or a space divides only what stands behind an image's name, as paths may hold both.
fn lines(text: &str) -> Result<Vec<Row>> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    if let Some((_, head)) = lines.peek() {
        let delimiter = if head.contains('\t') { b'\t' } else { b',' };
        if head.split(char::from(delimiter)).any(|name| PATHS.contains(&&name.trim().to_ascii_lowercase()[..])) {
            return table(text, delimiter);
        }
    }
    lines
        .map(|(i, line)| {
            let behind_name = || {
                let ends = line.match_indices([',', ' ']).map(|(place, _)| place);
                ends.filter(|_| !ends_like_image(line)).find(|&place| ends_like_image(&line[..place]))
            };
            let (path, class) = match line.find('\t').or_else(behind_name) {
                Some(place) => (&line[..place], Some(line[place + 1..].to_string())),
                None => (line, None),
            };
            row(&format!("line {}", i + 1), [Some(path.to_string()), class, None, None])
        })
        .collect()
}

fn table(text: &str, delimiter: u8) -> Result<Vec<Row>> {
    let head = text.lines().next().unwrap_or_default();
    // What spreadsheets write where a comma is the decimal sign.
    let delimiter = if delimiter == b',' && !head.contains(',') && head.contains(';') { b';' } else { delimiter };
    let mut reader = csv::ReaderBuilder::new();
    let mut reader = reader.delimiter(delimiter).has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut columns: Option<[Option<usize>; 4]> = None;
    let mut found = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| strange("a line", "values between delimiters", e.to_string()))?;
        let at = format!("line {}", record.position().map_or(0, csv::Position::line));
        let cell = |column: Option<usize>| column.and_then(|column| record.get(column)).map(str::to_string);
        if let Some(columns) = columns {
            found.push(row(&at, columns.map(cell))?);
            continue;
        }
        let names: Vec<String> = record.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
        let place = |known: &[&str]| known.iter().find_map(|known| names.iter().position(|name| name == known));
        let of_head = [place(&PATHS), place(&CLASSES), place(&PARTS), place(&IDS)];
        if of_head[0].is_some() {
            columns = Some(of_head);
        } else if ends_like_image(&names[0]) {
            let without_head = [Some(0), Some(1), None, None];
            found.push(row(&at, without_head.map(cell))?);
            columns = Some(without_head);
        } else {
            let more = if names.len() > MAX_COLUMNS { ", ..." } else { "" };
            let columns = format!("the columns {}{more}", names[..names.len().min(MAX_COLUMNS)].join(", "));
            return Err(strange(&at, format!("a column of paths: {}", PATHS.join(", ")), columns).with_advice(
                "where its rows are vectors: data: { kind: \"vectors\" }, on the command line --vectors",
            ));
        }
    }
    Ok(found)
}

fn json(text: &str) -> Result<Vec<Row>> {
    let list = "a list of objects, or of paths";
    let Entries(entries) = serde_json::from_str(text).map_err(|e| strange("the text", list, e.to_string()))?;
    check_count(entries.len(), "entries")?;
    let entry_of = |(i, text): (usize, &&RawValue)| {
        let at = format!("entry {}", i + 1);
        check_length(&at, text.get())?;
        let value = serde_json::from_str(text.get()).map_err(|e| strange(&at, "JSON", e.to_string()))?;
        entry(&at, &value)
    };
    entries.iter().enumerate().map(entry_of).collect()
}

/// The entries of a list, unread; of a list that is too long one more than it may have.
struct Entries<'t>(Vec<&'t RawValue>);

impl<'t> Deserialize<'t> for Entries<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'t> Visitor<'t> for EntriesVisitor {
    type Value = Entries<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Entries<'t>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = list.next_element::<&RawValue>()? {
            if entries.len() <= MAX_ROWS {
                entries.push(entry);
            }
        }
        Ok(Entries(entries))
    }
}

/// An object with a path, or a path.
fn entry(at: &str, value: &Value) -> Result<Row> {
    if let Value::String(path) = value {
        return row(at, [Some(path.clone()), None, None, None]);
    }
    let Some(fields) = value.as_object() else {
        return Err(strange(at, "an object, or a path", crate::input::show(value)));
    };
    let field = |names: &[&str]| {
        let Some((name, value)) = names.iter().find_map(|name| Some((name, fields.get(*name)?))) else {
            return Ok(None);
        };
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
            _ => Err(strange(at, format!("a text in {name}"), crate::input::show(value))),
        }
    };
    let path = field(&PATHS)?;
    if path.is_none() {
        return Err(strange(at, format!("a path in one of {}", PATHS.join(", ")), crate::input::show(value)));
    }
    row(at, [path, field(&CLASSES)?, field(&PARTS)?, field(&IDS)?])
}

/// Reads the manifest at `path` and looks for its images.
///
/// # Errors
/// When it cannot be read or understood, names no image or one twice, or most of its images do not exist; when stopped.
pub fn open(path: &Path, form: Form, stop: Stop<'_>) -> Result<Walk> {
    let subject = || path.display().to_string();
    let failed = |e| Error::io("reading the manifest", path, e);
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_BYTES {
        return Err(Error::new(Code::InvalidData, "the manifest is too large")
            .with_subject(subject())
            .with_values(format!("at most {} MiB", MAX_BYTES >> 20), format!("{} MiB", bytes >> 20)));
    }
    let rows = rows(form, &text_of(&fs::read(path).map_err(failed)?)).map_err(|error| error.with_subject(subject()))?;
    if rows.is_empty() {
        return Err(Error::new(Code::InvalidData, "the manifest names no image")
            .with_subject(subject())
            .with_values("the paths of images, one a line or in a column path", "none"));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let paths: Vec<String> = rows.iter().map(|row| path_of(row, folder)).collect();
    let ids: Vec<String> = rows.iter().zip(&paths).map(|(row, path)| id_of(row).unwrap_or(path.clone())).collect();
    check_unique(path, &ids)?;
    let (mut files, mut listing, mut kept) = (Vec::new(), Listing::default(), Vec::new());
    for ((row, id), written) in rows.into_iter().zip(ids).zip(paths) {
        go_on(stop)?;
        let file = folder.join(&row.path);
        let reason = match fs::metadata(&file) {
            Ok(meta) if meta.is_file() => {
                let given = row.id.is_some().then(|| id.clone());
                kept.push(listing::Row { class: row.class, part: row.part, path: written, id: given });
                listing.entries.push(Entry { path: id, index: files.len() });
                files.push((file, meta));
                continue;
            }
            Ok(_) => "is no file".into(),
            Err(e) => read_failure(&e),
        };
        listing.broken.push(BrokenImage { path: id, reason });
    }
    if listing.broken.len() > files.len() {
        let first: Vec<&str> = listing.broken.iter().take(MAX_NAMED).map(|image| &image.path[..]).collect();
        let (broken, all) = (listing.broken.len(), listing.broken.len() + files.len());
        let message = format!("{broken} of the {all} images that the manifest names cannot be read");
        return Err(Error::new(Code::InvalidData, message)
            .with_subject(subject())
            .with_values(
                format!("files at paths that are absolute or begin at {}", folder.display()),
                format!("{} ({})", first.join(", "), listing.broken[0].reason),
            )
            .with_advice("write the paths so, or put the manifest beside the images"));
    }
    listing.rows = Some(kept);
    Ok(Walk::of_files(folder, files, listing))
}

/// The path as written: without `./`, and without the manifest's own folder.
fn path_of(row: &Row, folder: &Path) -> String {
    let own = Path::new(&row.path).strip_prefix(folder).ok().and_then(Path::to_str).unwrap_or(&row.path);
    name_of(own.trim_start_matches("./").as_bytes()).into_owned()
}

/// The id that stands in place of the path.
fn id_of(row: &Row) -> Option<String> {
    row.id.as_ref().map(|id| name_of(id.as_bytes()).into_owned())
}

fn check_unique(path: &Path, ids: &[String]) -> Result<()> {
    let mut seen = HashSet::with_capacity(ids.len());
    let twice: Vec<&String> = ids.iter().filter(|id| !seen.insert(*id)).collect();
    if twice.is_empty() {
        return Ok(());
    }
    let some: Vec<&str> = twice.iter().take(MAX_NAMED).map(|id| &id[..]).collect();
    let more = if twice.len() > MAX_NAMED { ", ..." } else { "" };
    Err(Error::new(Code::InvalidData, "the manifest names images more than once")
        .with_subject(path.display().to_string())
        .with_values(
            "each id, or each path where there is no id, once",
            format!("{} again: {}{more}", twice.len(), some.join(", ")),
        )
        .with_advice("take the repeated lines out, or give each an id of its own"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row_of(path: &str, class: Option<&str>) -> Row {
        Row { path: path.into(), class: class.map(str::to_string), ..Row::default() }
    }

    #[test]
    fn lines_are_paths_and_classes_behind_a_tab_a_comma_or_a_space() {
        let text = "a, b.jpg\nc d.png\trose, red\n\ne.jpg,rose, red\nf.jpeg 17\n./x/y\n../a/g.jpg 17\n";
        let expected = [
            row_of("a, b.jpg", None),
            row_of("c d.png", Some("rose, red")),
            row_of("e.jpg", Some("rose, red")),
            row_of("f.jpeg", Some("17")),
            row_of("./x/y", None),
            row_of("../a/g.jpg", Some("17")),
        ];
        assert_eq!(rows(Form::Lines, text).unwrap(), expected);
        assert_eq!(rows(Form::Lines, "path\tlabel\na.jpg\trose\n").unwrap(), [row_of("a.jpg", Some("rose"))]);
    }

    #[test]
    fn tables_and_json_say_the_same() {
        let test = Row { part: Some(Part::Test), id: Some("7".into()), ..row_of("a, b.jpg", Some("rose")) };
        let train = Row { part: Some(Part::Train), id: Some("8".into()), ..row_of("c.jpg", None) };
        let comma = "id,width,file_name,Label,split\n7,3,\"a, b.jpg\",rose,test\n8,3,c.jpg,,train\n";
        let tab = "id\timage\tclass\tpart\n7\ta, b.jpg\trose\ttesting\n8\tc.jpg\t\tTrain\n";
        let lines = "{\"id\":7,\"path\":\"a, b.jpg\",\"label\":\"rose\",\"split\":\"test\",\"box\":[1,2]}\n\n\
                     {\"id\":8,\"path\":\"c.jpg\",\"label\":null,\"part\":\"train\"}\n";
        let list = format!("[{}]", lines.trim().replace("\n\n", ",").replace('\n', ","));
        for (form, text) in [
            (Form::Table { delimiter: b',' }, comma),
            (
                Form::Table { delimiter: b',' },
                &comma.replace("\"a, b.jpg\"", "\"a; b.jpg\"").replace(',', ";").replace("a; b", "a, b"),
            ),
            (Form::Table { delimiter: b'\t' }, tab),
            (Form::JsonLines, lines),
            (Form::Json, &list),
        ] {
            assert_eq!(rows(form, text).unwrap(), [test.clone(), train.clone()], "{text}");
        }
        let headless = rows(Form::Table { delimiter: b',' }, "a.jpg,rose\nb.jpg\n").unwrap();
        assert_eq!(headless, [row_of("a.jpg", Some("rose")), row_of("b.jpg", None)]);
        assert_eq!(rows(Form::Json, "[\"a.jpg\"]").unwrap(), [row_of("a.jpg", None)]);
        assert_eq!(rows(Form::JsonLines, "{\"file\":\"a\",\"label\":3}").unwrap(), [row_of("a", Some("3"))]);
    }

    #[test]
    fn what_cannot_be_used_is_named_with_its_line() {
        let table = Form::Table { delimiter: b',' };
        for (form, text, expected) in [
            (table, "name,label\nx,rose\n", ["line 1", "a column of paths: path, file", "the columns name, label"]),
            (table, "path,part\na.jpg,train\nb.jpg,unknown\n", ["line 3", "train, validation or test", "unknown"]),
            (table, "path,label\n,rose\n", ["line 2", "the path of an image", "none"]),
            (Form::Lines, "https://x.org/a.jpg\n", ["line 1", "https://x.org/a.jpg", "Nothing is downloaded"]),
            (Form::JsonLines, "{\"file\":\"a\"}\n{\"file\":", ["line 2", "expected JSON", "EOF"]),
            (Form::JsonLines, "{\"label\":\"a\"}", ["line 1", "a path in one of path, file", "an object with label"]),
            (Form::Json, "{\"a\":1}", ["the text", "a list of objects, or of paths", "map"]),
            (Form::Json, "[{\"image\":{\"bytes\":1}}]", ["entry 1", "a text in image", "an object with bytes"]),
        ] {
            let error = rows(form, text).unwrap_err().to_string();
            expected.iter().for_each(|part| assert!(error.contains(part), "{error:?} lacks {part:?}"));
        }
    }

    #[test]
    fn images_are_counted_before_anything_is_made_of_them() {
        for (form, text, what) in [
            (Form::Lines, "a\n".repeat(MAX_ROWS + 2), "lines"),
            (Form::Table { delimiter: b',' }, "a\n".repeat(MAX_ROWS + 2), "lines"),
            (Form::Json, format!("[{}1]", "1,".repeat(MAX_ROWS)), "entries"),
        ] {
            let error = rows(form, &text).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("at most 10000000 images"), "{error}");
        }
    }

    #[test]
    fn a_row_has_a_bound_and_an_error_a_length() {
        let long = "a".repeat(MAX_ROW_BYTES + 1);
        for form in [Form::Lines, Form::Table { delimiter: b',' }, Form::JsonLines, Form::Json] {
            let text = if form == Form::Json { format!("[\"a.png\", \"{long}\"]") } else { format!("a.png\n{long}\n") };
            let error = rows(form, &text).unwrap_err().to_string();
            assert!(error.contains("2 of the manifest") && error.contains("at most 1 MiB"), "{error}");
        }
        let head = "x,".repeat(MAX_ROW_BYTES / 4);
        let error = rows(Form::Table { delimiter: b',' }, &head).unwrap_err();
        let received = error.received.as_deref().unwrap_or_default();
        assert!(error.to_string().len() < 400 && received.ends_with("x, ..."), "{error}");
    }
}
