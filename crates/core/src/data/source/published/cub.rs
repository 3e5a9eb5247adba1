//! CUB-200-2011 (Wah et al. 2011): `images/001.Black_footed_Albatross/*.jpg`, listed in `images.txt` as `number path`.
//!
//! The archive's own `train_test_split.txt` shares all classes between its parts and is not used.

use std::borrow::Cow;
use std::collections::HashSet;

use super::rows::{Row, by_rows, halves};
use crate::data::source::annotation::{Annotation, lines};
use crate::data::source::layout::Layout;
use crate::names::composed;

pub fn recognise(paths: &[&str], annotations: &[Annotation]) -> Option<Layout> {
    let list = annotations.iter().find(|annotation| annotation.name() == "images.txt")?;
    let text = list.text();
    let names: Vec<&str> = lines(&text).filter_map(|line| Some(line.split_once(' ')?.1.trim())).collect();
    let classes: Vec<&str> = names.iter().filter_map(|name| Some(name.split_once('/')?.0)).collect();
    if classes.len() != names.len() || names.is_empty() {
        return None;
    }
    let parts = halves(classes.iter().copied().collect());
    let row = |(name, class): (&&str, &&str)| Row {
        path: format!("{}images/{name}", list.folder()),
        class: class.to_string(),
        part: parts[*class],
    };
    let rows: Vec<Row> = names.iter().zip(&classes).map(row).collect();
    let there: HashSet<Cow<str>> = paths.iter().map(|path| composed(path)).collect();
    let any = rows.iter().any(|row| there.contains(&composed(&row.path)));
    any.then(|| by_rows("CUB-200-2011", paths, rows, "images.txt"))
}
