//! Which column of a table holds the ids, and which the vectors.
//!
//! Options name them; else they are found by usual names, else the only column that fits is taken. Where several could
//! be meant, nothing is guessed: the error lists them with their types.

use std::collections::BTreeMap;

use super::options::VectorOptions;
use super::table::invalid;
use crate::error::{Code, Error, Result};
use crate::spelling::likely;

/// Usual names of ids.
const IDS: [&str; 12] =
    ["id", "ids", "path", "paths", "file", "file_name", "filename", "filenames", "image", "image_path", "key", "name"];
/// Usual names of vectors.
const VECTORS: [&str; 9] =
    ["vector", "vectors", "embedding", "embeddings", "features", "feature", "emb", "embs", "image_embeds"];

/// Usual names of labels.
const LABELS: [&str; 4] = ["label", "class", "labels", "category"];

/// Columns that an error lists.
const LISTED: usize = 12;

/// What a column can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Texts: ids.
    Text,
    /// Whole numbers: ids.
    Whole,
    /// Whole numbers in a text, which may be ids or numbers of vectors.
    Digits,
    /// Numbers: one of each vector.
    Number,
    /// Lists of numbers: vectors.
    List,
    /// Neither.
    Other,
}

impl Kind {
    fn is_id(self) -> bool {
        matches!(self, Kind::Text | Kind::Whole | Kind::Digits)
    }

    fn is_number(self) -> bool {
        matches!(self, Kind::Number | Kind::Digits)
    }

    /// Whether it can be a number of each vector where most others of a group are numbers.
    fn is_number_among_others(self) -> bool {
        self.is_number() || self == Kind::Whole
    }
}

/// A column, array or key of a file.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Its name.
    pub name: String,
    /// What it can be.
    pub kind: Kind,
    /// Its type in the format's own words.
    pub type_name: String,
}

impl Column {
    pub(super) fn new(name: impl Into<String>, kind: Kind, type_name: impl Into<String>) -> Self {
        Column { name: name.into(), kind, type_name: type_name.into() }
    }
}

/// The columns that are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// That of the ids; nothing where they come from elsewhere.
    pub id: Option<usize>,
    /// That of the labels; nothing where there is none of a usual name.
    pub label: Option<usize>,
    /// That of the vectors, or those with one number of each vector, in order.
    pub vector: Vec<usize>,
    /// What a user should know.
    pub warnings: Vec<String>,
}

/// Chooses among `columns`. Where `ids_beside`, ids need no column.
pub(super) fn choose(columns: &[Column], options: &VectorOptions, ids_beside: bool) -> Result<Choice> {
    let called =
        |name: &str| columns.iter().position(|column| column.kind.is_id() && column.name.eq_ignore_ascii_case(name));
    let label = LABELS.iter().find_map(|name| called(name));
    let id = if ids_beside { None } else { Some(id_column(columns, options.id_column.as_deref(), label)?) };
    let label = label.filter(|_| label != id);
    let mut choice = Choice { id, label, vector: Vec::new(), warnings: Vec::new() };
    choice.vector = vector_columns(columns, options.vector_column.as_deref(), [id, label], &mut choice.warnings)?;
    Ok(choice)
}

fn id_column(columns: &[Column], name: Option<&str>, label: Option<usize>) -> Result<usize> {
    if let Some(name) = name {
        let index = position_of(columns, name).ok_or_else(|| no_such(columns, "idColumn", name))?;
        return match columns[index].kind {
            kind if kind.is_id() => Ok(index),
            _ => Err(of_type("idColumn", "texts or whole numbers", &columns[index])),
        };
    }
    let fits = |index: &usize| columns[*index].kind.is_id();
    let mut usual: Vec<usize> = (0..columns.len()).filter(fits).filter(|&i| is_usual(&columns[i], &IDS)).collect();
    // A number beside a text is a number of a row, and not what images are called.
    if usual.iter().any(|&index| columns[index].kind == Kind::Text) {
        usual.retain(|&index| columns[index].kind == Kind::Text);
    }
    let of_kind = |kind: Kind| {
        let all: Vec<usize> = (0..columns.len()).filter(|&i| columns[i].kind == kind).collect();
        // Labels are ids only where nothing else is.
        match all.len() {
            0 | 1 => all,
            _ => all.into_iter().filter(|&i| Some(i) != label).collect(),
        }
    };
    let candidates = [usual, of_kind(Kind::Text), of_kind(Kind::Whole)].into_iter().find(|found| !found.is_empty());
    match candidates.as_deref() {
        Some(&[index]) => Ok(index),
        Some(several) => Err(ambiguous("ids", "idColumn", columns, several)),
        None => Err(invalid("no column holds the ids of the vectors")
            .with_values(format!("one of texts or whole numbers, called {} or so", IDS[..3].join(", ")), list(columns))
            .with_advice("name it (idColumn), or give the ids in a file of their own (ids)")),
    }
}

fn vector_columns(
    columns: &[Column],
    name: Option<&str>,
    names: [Option<usize>; 2],
    warnings: &mut Vec<String>,
) -> Result<Vec<usize>> {
    let groups = groups(columns, names)?;
    if let Some(name) = name {
        if let Some(index) = position_of(columns, name) {
            return match columns[index].kind {
                Kind::List => Ok(vec![index]),
                _ => Err(of_type("vectorColumn", "lists of floats", &columns[index])),
            };
        }
        return groups.get(name).cloned().ok_or_else(|| no_such(columns, "vectorColumn", name));
    }
    let lists: Vec<usize> = (0..columns.len()).filter(|&i| columns[i].kind == Kind::List).collect();
    let usual: Vec<usize> = lists.iter().copied().filter(|&i| is_usual(&columns[i], &VECTORS)).collect();
    match (&usual[..], &lists[..]) {
        (&[index], _) | (&[], &[index]) => return Ok(vec![index]),
        (&[], &[]) => {}
        (several @ [_, ..], _) | (&[], several) => {
            return Err(ambiguous("vectors", "vectorColumn", columns, several));
        }
    }
    let numbers: Vec<usize> =
        (0..columns.len()).filter(|&i| !names.contains(&Some(i)) && columns[i].kind.is_number()).collect();
    let named = |indices: &[usize]| listed(indices.iter().map(|&index| shown(&columns[index].name)).collect());
    match groups.len() {
        0 if numbers.is_empty() => Err(invalid("no column holds vectors")
            .with_values("lists of floats, or one column of floats for each number", list(columns))
            .with_advice("name it (vectorColumn), or write the vectors as lists of float32")),
        0 => {
            warnings.push(format!("a vector is made of the columns {}", named(&numbers)));
            Ok(numbers)
        }
        1 => {
            let group = groups.into_values().next().unwrap_or_default();
            let others: Vec<usize> = numbers.into_iter().filter(|index| !group.contains(index)).collect();
            if !others.is_empty() {
                warnings.push(format!("columns of numbers that are no part of the vectors: {}", named(&others)));
            }
            Ok(group)
        }
        _ => {
            let beginnings: Vec<String> =
                groups.iter().map(|(beginning, group)| format!("{beginning:?} ({} columns)", group.len())).collect();
            Err(invalid("several groups of columns could be the vectors")
                .with_values("one group", listed(beginnings))
                .with_advice("say what the names begin with: vectorColumn"))
        }
    }
}

/// Columns of numbers that are counted: what their names begin with, and the columns from 0, 1 or (behind an id) 2 on.
///
/// # Errors
/// Where most of those that are counted are numbers, and some are not.
fn groups(columns: &[Column], names: [Option<usize>; 2]) -> Result<BTreeMap<&str, Vec<usize>>> {
    let is_free = |index: usize| !names.contains(&Some(index));
    let mut groups = counted(columns, |index| is_free(index) && columns[index].kind.is_number());
    for (beginning, all) in counted(columns, is_free) {
        let count = |fits: fn(Kind) -> bool| all.iter().filter(|&&index| fits(columns[index].kind)).count();
        if count(Kind::is_number) < 2 || 2 * count(Kind::is_number) <= all.len() {
            continue;
        }
        let others: Vec<Column> = all
            .iter()
            .map(|&index| &columns[index])
            .filter(|column| !column.kind.is_number_among_others())
            .cloned()
            .collect();
        if !others.is_empty() {
            return Err(invalid("some columns of the vectors hold no numbers")
                .with_values(format!("a number in each of the {} columns {beginning}...", all.len()), list(&others))
                .with_advice("write them as floats, with a decimal point; a column that is no part of the vectors is called otherwise"));
        }
        groups.insert(beginning, all);
    }
    Ok(groups)
}

/// Those of the columns that `fits` whose names count without a gap: what they begin with, and their places in order.
fn counted(columns: &[Column], fits: impl Fn(usize) -> bool) -> BTreeMap<&str, Vec<usize>> {
    let mut numbered: BTreeMap<&str, BTreeMap<usize, usize>> = BTreeMap::new();
    for (index, column) in columns.iter().enumerate().filter(|&(index, _)| fits(index)) {
        let beginning = column.name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        if let Ok(number) = column.name[beginning.len()..].parse() {
            numbered.entry(beginning).or_default().insert(number, index);
        }
    }
    let whole = |numbers: &BTreeMap<usize, usize>| {
        let first = numbers.keys().next().copied().unwrap_or(usize::MAX);
        first <= 2 && numbers.len() > 1 && numbers.keys().zip(first..).all(|(&number, expected)| number == expected)
    };
    numbered.retain(|_, numbers| whole(numbers));
    numbered.into_iter().map(|(beginning, numbers)| (beginning, numbers.into_values().collect())).collect()
}

/// Whether a name is a usual one: a line that has one is a heading.
pub(super) fn is_usual_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    IDS.contains(&&name[..]) || VECTORS.contains(&&name[..])
}

fn is_usual(column: &Column, names: &[&str]) -> bool {
    names.contains(&&column.name.to_ascii_lowercase()[..])
}

fn position_of(columns: &[Column], name: &str) -> Option<usize> {
    columns.iter().position(|column| column.name == name)
}

fn no_such(columns: &[Column], option: &str, name: &str) -> Error {
    let names: Vec<&str> = columns.iter().map(|column| &column.name[..]).collect();
    let error = Error::new(Code::InvalidOption, "the file of vectors has no such column")
        .with_subject(option)
        .with_values(list(columns), format!("{name:?}"));
    match likely(name, &names) {
        Some(near) => error.with_advice(format!("did you mean {near:?}?")),
        None => error,
    }
}

fn of_type(option: &str, expected: &str, column: &Column) -> Error {
    Error::new(Code::InvalidOption, format!("column {:?} cannot be that", column.name))
        .with_subject(option)
        .with_values(expected, &column.type_name)
        .with_advice("name another column")
}

fn ambiguous(what: &str, option: &str, columns: &[Column], several: &[usize]) -> Error {
    let several: Vec<Column> = several.iter().map(|&index| columns[index].clone()).collect();
    Error::new(Code::InvalidOption, format!("several columns could hold the {what}"))
        .with_values("one column", list(&several))
        .with_advice(format!("name the one that is meant: {option}"))
}

/// Columns with their types, for messages.
fn list(columns: &[Column]) -> String {
    listed(columns.iter().map(|column| format!("{} ({})", shown(&column.name), column.type_name)).collect())
}

fn shown(name: &str) -> String {
    if name.is_empty() { "one without a name".into() } else { name.into() }
}

fn listed(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    match (names.is_empty(), more) {
        (true, _) => "none".into(),
        (_, 0) => names.join(", "),
        _ => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(text: &str) -> Vec<Column> {
        let of = |word: &str| match word {
            "text" => Kind::Text,
            "whole" => Kind::Whole,
            "digits" => Kind::Digits,
            "number" => Kind::Number,
            "list" => Kind::List,
            _ => Kind::Other,
        };
        let column = |part: &str| part.split_once(':').map(|(name, kind)| Column::new(name, of(kind), kind)).unwrap();
        text.split_whitespace().map(column).collect()
    }

    fn options(id: &str, vector: &str) -> VectorOptions {
        let given = |name: &str| (!name.is_empty()).then(|| name.to_string());
        VectorOptions { id_column: given(id), vector_column: given(vector), ..VectorOptions::default() }
    }

    #[test]
    fn columns_are_found_by_option_then_by_name_then_by_type() {
        for (text, id, vector, found) in [
            ("id:text vector:list", "", "", (0, vec![1])),
            ("a:list b:list name:text c:text", "c", "b", (3, vec![1])),
            ("Path:text Embedding:list other:list", "", "", (0, vec![1])),
            ("id:whole path:text emb:list", "", "", (1, vec![2])),
            ("label:whole place:text x:list", "", "", (1, vec![2])),
            ("n:whole x:list", "", "", (0, vec![1])),
            ("id:digits e1:number e0:digits e2:number", "", "", (0, vec![2, 1, 3])),
            ("id:text e0:number e1:number f0:number f1:number", "", "f", (0, vec![3, 4])),
            ("id:text x:number y:digits", "", "", (0, vec![1, 2])),
            ("id:text e0:number e1:whole e2:number", "", "", (0, vec![1, 2, 3])),
            ("id:text e0:number e1:number e2_name:text", "", "", (0, vec![1, 2])),
        ] {
            let choice = choose(&columns(text), &options(id, vector), false).unwrap();
            assert_eq!((choice.id.unwrap(), choice.vector), found, "{text}");
        }
        for (text, label) in [
            ("id:text label:digits e0:number e1:number", Some(1)),
            ("id:text class:text label:whole v:list", Some(2)),
            ("label:whole v:list", None),
            ("place:text label:text v:list", Some(1)),
        ] {
            assert_eq!(choose(&columns(text), &options("", ""), false).unwrap().label, label, "{text}");
        }
        let beside = choose(&columns("a:list"), &options("", ""), true).unwrap();
        assert_eq!((beside.id, beside.vector), (None, vec![0]));
    }

    #[test]
    fn what_could_be_meant_is_listed_with_its_type() {
        for (text, id, vector, says) in [
            ("id:text path:text v:list", "", "", "expected one column, received id (text), path (text)"),
            ("a:text b:text v:list", "", "", "received a (text), b (text). Name the one that is meant: idColumn"),
            ("v:list", "", "", "no column holds the ids of the vectors"),
            ("id:text a:list b:list", "", "", "a (list), b (list). Name the one that is meant: vectorColumn"),
            ("id:text vector:list emb:list", "", "", "vector (list), emb (list)"),
            ("id:text x:other", "", "", "no column holds vectors: expected lists of floats"),
            ("id:text a0:number a1:number b0:number b1:number", "", "", "\"a\" (2 columns), \"b\" (2 columns)"),
            (
                "id:text e0:number e1:number e2:text",
                "",
                "",
                "a number in each of the 3 columns e..., received e2 (text)",
            ),
            ("id:text e0:number e1:list e2:number", "", "", "received e1 (list)"),
            ("id:text e0:other e1:number e2:number", "", "e", "received e0 (other)"),
            ("id:text v:list", "ids", "", "idColumn: the file of vectors has no such column"),
            ("id:text v:list", "ids", "", "Did you mean \"id\"?"),
            ("id:text v:list", "v", "", "column \"v\" cannot be that: expected texts or whole numbers, received list"),
            ("id:text v:list", "", "id", "vectorColumn: column \"id\" cannot be that: expected lists of floats"),
            ("id:text v:list", "", "w", "vectorColumn: the file of vectors has no such column"),
        ] {
            let text_of = choose(&columns(text), &options(id, vector), false).unwrap_err().to_string();
            assert!(text_of.contains(says), "{text}: {text_of}");
        }
    }

    #[test]
    fn numbers_that_are_left_out_or_taken_without_a_number_in_their_name_are_told() {
        let warnings = |text: &str| choose(&columns(text), &options("", ""), false).unwrap().warnings;
        assert_eq!(
            warnings("id:text score:digits e0:number e1:number"),
            ["columns of numbers that are no part of the vectors: score"]
        );
        assert_eq!(warnings("id:text x:number y:number"), ["a vector is made of the columns x, y"]);
        assert!(warnings("id:text e0:number e1:number").is_empty());
    }
}
