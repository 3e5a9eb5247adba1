//! Parquet files with a column of images, as Hugging Face writes them, read in place.
//!
//! | column | what it says |
//! |---|---|
//! | the one that the file's metadata call an image; else `image`, `img`, ...; else the only one that can be | `{ bytes, path }`, or the bytes alone |
//! | `label`, `class`, ..., else the only one that the metadata call a class | the class: a text, or a number with its name in the metadata |
//! | `split`, `part`; else the file's name or folder: `train-00000-of-00002.parquet`, `train/0000.parquet` | the part |
//! | `id` | the image's id |
//!
//! An image is called by its id, where every row has one of its own; else so by its path; else by its file and row:
//! `train-00000-of-00002/12`. Rows are read a few at a time, so beside a page (at most 256 MiB) no more than the images
//! that are being decoded is held.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::Type;
use parquet::data_type::ByteArray;
use parquet::schema::types::ColumnDescriptor;
use serde_json::Value;

use super::archive::{MAX_ENTRY_BYTES, too_large};
use super::layout::part_of;
use super::listing::{Entry, Listing, Row};
use crate::data::part::Part;
use crate::data::stop::{Stop, go_on};
use crate::error::{Code, Error, Result};
use crate::names::name_of;
use crate::parquet::{BATCH, NOT_READ, ParquetFile, guarded, is_text, is_whole};

/// Most images; each takes some two hundred bytes of the listing.
const MAX_ROWS: usize = 10_000_000;

/// Rows whose images are read at once: of large ones a few fill a page.
const IMAGE_BATCH: usize = 16;

/// Columns that an error names.
const MAX_NAMED: usize = 12;

const IMAGES: [&str; 8] = ["image", "img", "images", "picture", "photo", "jpg", "png", "image_bytes"];
const CLASSES: [&str; 5] = ["label", "class", "labels", "fine_label", "category"];
const PARTS: [&str; 2] = ["split", "part"];
const IDS: [&str; 1] = ["id"];
const PATHS: [&str; 4] = ["path", "file_name", "filename", "file"];

/// Whether a file's name ends like that of a Parquet file.
pub fn is_parquet_name(path: &str) -> bool {
    path.to_ascii_lowercase().ends_with(".parquet")
}

/// Whether a file begins like a Parquet file.
pub fn is_parquet(head: &[u8]) -> bool {
    head.starts_with(b"PAR1")
}

/// Files whose rows are the images of one source.
pub struct ParquetImages {
    /// What they lie in, or the only one.
    pub root: PathBuf,
    /// Each with its path inside the root.
    files: Vec<(PathBuf, String)>,
    /// Their images; entry `index` counts the rows of all files.
    pub listing: Listing,
    /// Rows of each file.
    rows: Vec<usize>,
}

/// The columns of one file.
struct Columns {
    bytes: usize,
    /// The path beside the bytes, or in a column of its own.
    path: Option<usize>,
    class: Option<usize>,
    /// A column that is called as one of classes, and holds nothing that can be one.
    unread: Option<String>,
    /// The names of numbered classes.
    names: Vec<String>,
    part: Option<usize>,
    id: Option<usize>,
}

/// What a row says beside its image.
struct Said {
    id: Option<String>,
    path: Option<String>,
    numbered: String,
    class: Option<String>,
    part: Option<Part>,
}

impl ParquetImages {
    /// Lists the images of `files`, each with its path inside `root`.
    ///
    /// # Errors
    /// When a file cannot be read, is damaged, or has no column of images; when stopped.
    pub fn list(root: &Path, files: Vec<(PathBuf, String)>, stop: Stop<'_>) -> Result<ParquetImages> {
        let mut said = Vec::new();
        let mut rows = Vec::new();
        let mut listing = Listing::default();
        for (path, inside) in &files {
            let before = said.len();
            let file = open(path)?;
            let unread = guarded(|| Ok(read_rows(&file, inside, &mut said, stop)))
                .map_err(|what| damaged(path, what))
                .flatten()
                .map_err(|error| {
                    if error.subject.is_some() { error } else { error.with_subject(path.display().to_string()) }
                })?;
            if let Some(column) = unread {
                listing.warnings.push(format!(
                    "the column {column} of {inside} gives no classes: those are texts or numbers, one in a row"
                ));
            }
            rows.push(said.len() - before);
        }
        let by_id = told_apart(&said, |row| row.id.as_deref());
        let by_path = told_apart(&said, |row| row.path.as_deref());
        if !by_path && !by_id && said.iter().any(|row| row.path.is_some()) {
            listing.warnings.push(
                "the paths in the Parquet files do not tell all images apart, so they are called by file and row"
                    .into(),
            );
        }
        let mut kept = Vec::with_capacity(said.len());
        for (index, row) in said.into_iter().enumerate() {
            let path = row.path.filter(|_| by_path).unwrap_or(row.numbered);
            let id = row.id.filter(|_| by_id);
            listing.entries.push(Entry { path: id.clone().unwrap_or_else(|| path.clone()), index });
            kept.push(Row { class: row.class, part: row.part, path, id });
        }
        listing.rows = Some(kept);
        Ok(ParquetImages { root: root.into(), files, listing, rows })
    }

    /// The paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// Reads the images whose indices are `wanted` (ascending, an index may come several times) and hands each to `take` with
    /// its place in `wanted`; `take` says whether to go on.
    ///
    /// # Errors
    /// When a file cannot be read any more, or is damaged.
    pub fn read(&self, wanted: &[usize], mut take: impl FnMut(usize, Result<ByteArray, String>) -> bool) -> Result<()> {
        let (mut position, mut first) = (0, 0);
        for ((path, _), rows) in self.files.iter().zip(&self.rows) {
            let end = first + rows;
            if wanted.get(position).is_some_and(|&index| index < end) {
                let file = open(path)?;
                let columns = columns_of(&file).map_err(|error| error.with_subject(path.display().to_string()))?;
                let read = || {
                    let mut index = first;
                    for (group, rows) in file.groups()?.into_iter().enumerate() {
                        let mut column = file.column(group, columns.bytes)?;
                        let mut done = 0;
                        while done < rows {
                            let count = IMAGE_BATCH.min(rows - done);
                            for bytes in column.bytes(count)? {
                                while wanted.get(position) == Some(&index) {
                                    position += 1;
                                    if !take(position - 1, image_of(bytes.clone())) {
                                        return Ok(false);
                                    }
                                }
                                index += 1;
                            }
                            done += count;
                        }
                    }
                    Ok(true)
                };
                if !guarded(read).map_err(|what| damaged(path, what))? {
                    return Ok(());
                }
            }
            first = end;
        }
        Ok(())
    }
}

fn image_of(bytes: Option<ByteArray>) -> Result<ByteArray, String> {
    match bytes {
        None => Err("has no bytes in its row, only a path or nothing".into()),
        Some(bytes) if bytes.len() as u64 > MAX_ENTRY_BYTES => Err(too_large()),
        Some(bytes) => Ok(bytes),
    }
}

fn open(path: &Path) -> Result<ParquetFile> {
    let file = File::open(path).map_err(|e| Error::io("reading the Parquet file", path, e))?;
    guarded(|| ParquetFile::open(file)).map_err(|what| damaged(path, what))
}

fn damaged(path: &Path, what: String) -> Error {
    unreadable(what).with_subject(path.display().to_string())
}

/// The error that `what`, a clause, is the reason of. One about what is not read here says itself what to do.
fn unreadable(what: String) -> Error {
    if what.contains(NOT_READ) {
        return Error::new(Code::InvalidArchive, format!("the Parquet file cannot be read: {what}"));
    }
    Error::new(Code::InvalidArchive, format!("the Parquet file is damaged, or of a kind that is not read: {what}"))
        .with_advice("download or write it again")
}

/// Whether `name` gives every row a name of its own.
fn told_apart(rows: &[Said], name: impl Fn(&Said) -> Option<&str>) -> bool {
    let mut seen = HashSet::with_capacity(rows.len());
    rows.iter().all(|row| name(row).is_some_and(|name| !name.is_empty() && seen.insert(name)))
}

/// Reads what the rows of a file say beside their images. Gives the column of classes that holds none, if there is one.
fn read_rows(file: &ParquetFile, inside: &str, said: &mut Vec<Said>, stop: Stop<'_>) -> Result<Option<String>> {
    let columns = columns_of(file)?;
    let of_file = part_of_file(inside);
    let stem = inside.rsplit_once('.').map_or(inside, |(stem, _)| stem);
    let mut number = 0;
    for (group, rows) in file.groups().map_err(unreadable)?.into_iter().enumerate() {
        if rows > MAX_ROWS - said.len() {
            return Err(Error::new(Code::InvalidData, "the Parquet files have too many rows")
                .with_values(format!("at most {MAX_ROWS} images"), "more")
                .with_advice("give some of the files, and train on a part"));
        }
        let column =
            |index: Option<usize>| index.map(|index| file.column(group, index)).transpose().map_err(unreadable);
        let mut sources = [column(columns.id)?, column(columns.path)?, column(columns.class)?, column(columns.part)?];
        let mut done = 0;
        while done < rows {
            go_on(stop)?;
            let count = BATCH.min(rows - done);
            let mut texts = Vec::with_capacity(sources.len());
            for source in &mut sources {
                let read = source.as_mut().map(|column| column.texts(count)).transpose().map_err(unreadable)?;
                texts.push(read.unwrap_or_else(|| vec![None; count]).into_iter());
            }
            for _ in 0..count {
                let mut text = |column: usize| texts[column].next().flatten().filter(|text| !text.trim().is_empty());
                let name = |text: Option<String>| text.map(|text| name_of(text.as_bytes()).into_owned());
                let (id, path, class, part) = (name(text(0)), name(text(1)), text(2), text(3));
                let part = part.map(|part| part_of(&part).ok_or_else(|| strange_part(number, part))).transpose()?;
                said.push(Said {
                    id,
                    path,
                    numbered: format!("{stem}/{number}"),
                    class: class.and_then(|class| class_of(class, &columns.names)),
                    part: part.or(of_file),
                });
                number += 1;
            }
            done += count;
        }
    }
    Ok(columns.unread)
}

fn strange_part(row: usize, part: String) -> Error {
    Error::new(Code::InvalidData, format!("row {row} of the Parquet file, counted from 0, is in no part that is known"))
        .with_values(format!("in the column of parts ({}): train, validation or test", PARTS.join(", ")), part)
        .with_advice("call the parts so, or the column otherwise; then the images are split at random")
}

/// A class by its name; that of a number is in `names`, where there are such, and below 0 there is none. Python writes whole
/// numbers as floats where one is missing, and NaN for it.
fn class_of(text: String, names: &[String]) -> Option<String> {
    match text.parse::<i64>() {
        _ if text == "NaN" => None,
        Ok(number) if number < 0 => None,
        Ok(number) if !names.is_empty() => Some(names.get(usize::try_from(number).ok()?).cloned().unwrap_or(text)),
        _ => Some(text),
    }
}

/// The part that a file's name begins with, or that its folder is called.
fn part_of_file(inside: &str) -> Option<Part> {
    let mut names = inside.rsplit('/');
    let name = names.next().unwrap_or_default();
    let first = name.split(['-', '_', '.']).next().unwrap_or_default();
    part_of(first).or_else(|| names.next().and_then(part_of))
}

/// Whether a file has a column that may be images.
///
/// # Errors
/// When it cannot be read, or is damaged.
pub fn has_images(path: &Path) -> Result<bool> {
    let file = open(path)?;
    let features = features_of(&file);
    Ok(file.schema().columns().iter().any(|column| Leaf::of(column, &features).may_be_images()))
}

/// The columns of a file.
fn columns_of(file: &ParquetFile) -> Result<Columns> {
    let features = features_of(file);
    let leaves: Vec<Leaf> = file.schema().columns().iter().map(|column| Leaf::of(column, &features)).collect();
    let bytes = images_of(&leaves)?;
    let beside = &leaves[bytes];
    let inside = |leaf: &Leaf| leaf.path.len() == 2 && beside.path.len() == 2 && leaf.path[0] == beside.path[0];
    let usual = |names: &[&str], fits: fn(&Leaf) -> bool| {
        let named =
            |name: &&str| leaves.iter().position(|leaf| leaf.path.len() == 1 && leaf.name() == *name && fits(leaf));
        names.iter().find_map(named)
    };
    let is_name = |leaf: &Leaf| leaf.is_text || leaf.is_whole;
    let path = leaves.iter().position(|leaf| inside(leaf) && leaf.path[1] == "path" && leaf.is_text);
    let labels: Vec<usize> =
        (0..leaves.len()).filter(|&i| leaves[i].feature.as_deref() == Some("ClassLabel")).collect();
    let class = usual(&CLASSES, |leaf| leaf.is_text || leaf.is_whole || leaf.is_float).or(if let [only] = labels[..] {
        Some(only)
    } else {
        None
    });
    let unread = leaves.iter().find(|leaf| class.is_none() && CLASSES.contains(&leaf.name()));
    Ok(Columns {
        bytes,
        unread: unread.map(|leaf| leaf.path.join(".")),
        path: path.or_else(|| usual(&PATHS, |leaf| leaf.is_text)),
        class,
        names: class.map(|class| names_of(&features, leaves[class].name())).unwrap_or_default(),
        part: usual(&PARTS, |leaf| leaf.is_text),
        id: usual(&IDS, is_name),
    })
}

/// What a file's metadata say of its columns, as Hugging Face's `datasets` writes them.
fn features_of(file: &ParquetFile) -> Value {
    let said: Option<Value> = file.note("huggingface").and_then(|text| serde_json::from_str(text).ok());
    said.map(|mut said| said["info"]["features"].take()).unwrap_or_default()
}

/// The names of numbered classes.
fn names_of(features: &Value, column: &str) -> Vec<String> {
    let names = features[column]["names"].as_array();
    names.into_iter().flatten().map(|name| name.as_str().map_or_else(|| name.to_string(), str::to_string)).collect()
}

/// A column without columns inside.
struct Leaf {
    path: Vec<String>,
    /// What the metadata call the column it is in.
    feature: Option<String>,
    /// Whether it may hold images.
    is_binary: bool,
    is_text: bool,
    is_whole: bool,
    is_float: bool,
}

impl Leaf {
    fn of(column: &ColumnDescriptor, features: &Value) -> Leaf {
        let path = column.path().parts().to_vec();
        let flat = column.max_rep_level() == 0;
        let feature = path.first().and_then(|name| features[&name[..]]["_type"].as_str()).map(str::to_string);
        let is_binary = flat && column.physical_type() == Type::BYTE_ARRAY && column.logical_type_ref().is_none();
        let is_float = flat && matches!(column.physical_type(), Type::FLOAT | Type::DOUBLE);
        Leaf {
            path,
            feature,
            is_binary,
            is_text: flat && is_text(column),
            is_whole: flat && is_whole(column),
            is_float,
        }
    }

    fn name(&self) -> &str {
        self.path.first().map_or("", |name| &name[..])
    }

    /// Whether images can be in it: bytes of their own, or as `bytes` of a structure.
    fn may_be_images(&self) -> bool {
        self.is_binary && (self.path.len() == 1 || (self.path.len() == 2 && self.path[1] == "bytes"))
    }
}

/// The column of the images' bytes.
fn images_of(leaves: &[Leaf]) -> Result<usize> {
    let fits: Vec<usize> = (0..leaves.len()).filter(|&i| leaves[i].may_be_images()).collect();
    let of = |wanted: &dyn Fn(&Leaf) -> bool| fits.iter().copied().filter(|&i| wanted(&leaves[i])).collect::<Vec<_>>();
    let called = of(&|leaf| leaf.feature.as_deref() == Some("Image"));
    let usual = IMAGES.iter().find_map(|name| fits.iter().copied().find(|&i| leaves[i].name() == *name));
    match (&called[..], usual, &fits[..]) {
        (&[only], ..) | (&[], None, &[only]) => Ok(only),
        (several, Some(usual), _) if several.is_empty() || several.contains(&usual) => Ok(usual),
        (&[], _, &[]) => Err(Error::new(Code::InvalidData, "no column of the Parquet file holds images")
            .with_values("a column image of { bytes, path }, or of bytes", listed(leaves, 0..leaves.len()))
            .with_advice("write the bytes of the image files into a column called image")),
        (called, _, fits) => {
            let several = if called.is_empty() { fits } else { called };
            Err(Error::new(Code::InvalidData, "several columns of the Parquet file could be the images")
                .with_values("one, or one called image", listed(leaves, several.iter().copied()))
                .with_advice("call the one that is meant image, or write a file with that one only"))
        }
    }
}

fn listed(leaves: &[Leaf], indices: impl Iterator<Item = usize>) -> String {
    let names: Vec<String> = indices.map(|index| leaves[index].path.join(".")).collect();
    let more = names.len().saturating_sub(MAX_NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", names[..names.len() - more].join(", "))
}
