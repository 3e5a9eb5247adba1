//! The ids of vectors in a file of their own: that of the option `ids`, or one beside the vectors.
//!
//! `NAME.ids.json` is what `rkd embed` writes: a list, or an object with the list `ids`. `NAME.ids.txt` has an id a line.
//! NAME is the file of vectors, with its ending or without.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::array::{Header, read_ids};
use super::table::{Input, LONGEST_ID, MOST_VECTORS, MadeBy, damaged, invalid, unreadable};
use crate::error::{Error, Result};
use crate::names::with_ending;

/// The largest file of ids, in bytes.
const LARGEST_FILE: u64 = 1 << 30;
/// The largest one that is JSON, which is read as a whole.
const LARGEST_JSON: u64 = 256 << 20;

/// A list of ids, one for each vector.
pub(super) struct Ids {
    list: Vec<String>,
    /// The model that made the vectors, where it is noted beside the ids.
    pub made_by: Option<MadeBy>,
    /// What to do where it is of other vectors.
    advice: String,
}

impl Ids {
    /// Ids that stand in the file of the vectors.
    pub(super) fn inside(list: Vec<String>, advice: &str) -> Ids {
        Ids { list, made_by: None, advice: advice.into() }
    }

    /// Refuses another number of ids than of vectors.
    pub(super) fn check(&self, vectors: usize) -> Result<()> {
        if self.list.len() == vectors {
            Ok(())
        } else {
            Err(self.other_count(format!("{vectors}, as there are vectors")))
        }
    }

    /// The id of a vector.
    pub(super) fn get(&self, vector: usize) -> Result<String> {
        self.list.get(vector).cloned().ok_or_else(|| self.other_count(format!("more than {vector}")))
    }

    fn other_count(&self, expected: String) -> Error {
        invalid("there is not one id for each vector")
            .with_values(expected, self.list.len().to_string())
            .with_advice(&self.advice[..])
    }
}

/// A whole number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Whole(i64),
}

impl Id {
    fn text(self) -> String {
        match self {
            Id::Text(text) => text,
            Id::Whole(number) => number.to_string(),
        }
    }
}

/// A list, or what `rkd embed` writes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    List(Vec<Id>),
    Embeddings { ids: Vec<Id> },
}

/// The ids in a JSON text.
pub(super) fn of_json(text: &[u8]) -> Result<Vec<String>> {
    of_document(serde_json::from_slice(text))
}

/// The ids in a JSON value.
pub(super) fn of_value(value: Value) -> Result<Vec<String>> {
    of_document(serde_json::from_value(value))
}

fn of_document(document: serde_json::Result<Document>) -> Result<Vec<String>> {
    match document {
        Ok(Document::List(ids) | Document::Embeddings { ids }) => Ok(ids.into_iter().map(Id::text).collect()),
        Err(e) => Err(damaged("the list of ids cannot be read")
            .with_values("[\"a.jpg\", ...] or {\"ids\": [...]}", e.to_string())
            .with_advice("write it so")),
    }
}

/// The ids of the option, if it is given.
pub(super) fn given(input: &Input<'_>) -> Result<Option<Ids>> {
    input.options.ids.as_deref().map(load).transpose()
}

/// The ids of the option, or of a file beside the vectors, if there is one.
pub(super) fn beside(input: &Input<'_>) -> Result<Option<Ids>> {
    match given(input)? {
        Some(ids) => Ok(Some(ids)),
        None => places(input.path).into_iter().find(|path| path.is_file()).map(|path| load(&path)).transpose(),
    }
}

/// The ids of the option or of a file beside the vectors.
///
/// # Errors
/// `ERR_INVALID_DATA` where there are none: it says which files are looked for.
pub(super) fn needed(input: &Input<'_>) -> Result<Ids> {
    beside(input)?.ok_or_else(|| {
        let names: Vec<String> =
            places(input.path).iter().filter_map(|path| Some(path.file_name()?.display().to_string())).collect();
        invalid("the vectors have no ids, so they cannot be joined to images")
            .with_values(format!("a file with the id of each: {}", names.join(", ")), "none of them")
            .with_advice("write one beside the vectors, or name it: ids")
    })
}

/// The id of a row: what the column of ids has there, where there is one, else that of the list beside.
///
/// # Errors
/// `ERR_INVALID_DATA` where the column has none, or the list is too short.
pub(super) fn of_row(column: Option<Option<String>>, beside: Option<&Ids>, row: usize) -> Result<String> {
    match (column, beside) {
        (Some(id), _) => id.ok_or_else(|| {
            invalid(format!("vector {} has no id", row + 1))
                .with_values("a text or a whole number", "null")
                .with_advice("give every row an id, or leave the row out")
        }),
        (None, Some(beside)) => beside.get(row),
        (None, None) => Ok(String::new()),
    }
}

/// Where ids are looked for, in this order.
fn places(path: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for ending in [".ids.json", ".ids.txt"] {
        all.extend([path, &path.with_extension("")].map(|path| with_ending(path, ending)));
    }
    all.dedup();
    all
}

fn load(path: &Path) -> Result<Ids> {
    let failed = |e| Error::io("reading the ids", path, e);
    let about = std::fs::metadata(path).map_err(failed)?;
    let mut made_by = None;
    let list = if about.is_file() && about.len() <= LARGEST_FILE {
        let mut file = File::open(path).map_err(failed)?;
        let mut head = [0; 64];
        let count = file.read(&mut head).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        list(file, about.len(), &head[..count], &mut made_by)
    } else {
        let received = if about.is_file() { format!("{} MiB", about.len() >> 20) } else { "no file".into() };
        Err(damaged("the ids cannot be read")
            .with_values(format!("a file of at most {} MiB", LARGEST_FILE >> 20), received)
            .with_advice("give the ids in a column beside the vectors"))
    };
    let list = list.map_err(|error| error.with_subject(path.display().to_string()))?;
    Ok(Ids { list, made_by, advice: format!("look at {}: it may be of other vectors", path.display()) })
}

fn list(file: File, length: u64, head: &[u8], made_by: &mut Option<MadeBy>) -> Result<Vec<String>> {
    let mut input = BufReader::new(file);
    if head.starts_with(b"\x93NUMPY") {
        let header = Header::read(&mut input)?;
        header.check_length(length)?;
        return read_ids(&header, &mut input);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    if text.trim_ascii_start().starts_with(b"[") || text.trim_ascii_start().starts_with(b"{") {
        if length > LARGEST_JSON {
            return Err(damaged("the list of ids is too large")
                .with_values(format!("at most {} MiB of JSON", LARGEST_JSON >> 20), format!("{} MiB", length >> 20))
                .with_advice("write an id a line, as NAME.ids.txt"));
        }
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes).map_err(unreadable)?;
        let json = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        *made_by = MadeBy::read(json);
        return of_json(json);
    }
    lines(input)
}

fn lines(mut input: impl BufRead) -> Result<Vec<String>> {
    let (mut ids, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        let count = input.by_ref().take(LONGEST_ID as u64 + 3).read_until(b'\n', &mut line).map_err(unreadable)?;
        if count == 0 {
            return Ok(ids);
        }
        let number = ids.len() + 1;
        if number == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        let id = std::str::from_utf8(&line).ok().map(|text| text.trim_end_matches(['\n', '\r']));
        match id.filter(|id| !id.is_empty() && id.len() <= LONGEST_ID && number <= MOST_VECTORS) {
            Some(id) => ids.push(id.to_string()),
            None => {
                return Err(damaged(format!("line {number} of the ids is no id"))
                    .with_values(format!("a text in UTF-8 of 1 to {LONGEST_ID} bytes"), format!("{count} bytes"))
                    .with_advice("write an id a line, and no empty lines"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_list_gives_the_same_ids() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a.json", "[\"a/1.jpg\", \"ä\", \"7\"]"),
            ("b.json", " {\"ids\": [\"a/1.jpg\", \"ä\", 7], \"classes\": [\"a\", \"b\", \"c\"]}"),
            ("c.txt", "a/1.jpg\nä\n7\n"),
            ("d.txt", "\u{feff}a/1.jpg\r\nä\r\n7"),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            assert_eq!(load(&path).unwrap().list, ["a/1.jpg", "ä", "7"], "{name}");
        }
    }

    #[test]
    fn what_is_no_list_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ids");
        let long = "x".repeat(LONGEST_ID + 1);
        for (text, says) in [
            ("{\"names\": []}", "expected [\"a.jpg\", ...] or {\"ids\": [...]}"),
            ("[1, null]", "the list of ids cannot be read"),
            ("a\n\nb", "line 2 of the ids is no id"),
            (&long, "line 1 of the ids is no id"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = load(&path).map(|ids| ids.list).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("ids: "), "{error}");
        }
        assert!(load(folder.path()).map(|ids| ids.list).unwrap_err().to_string().contains("no file"));
    }
}
