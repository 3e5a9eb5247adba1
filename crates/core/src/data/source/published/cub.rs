//! CUB-200-2011 (Wah et al. 2011): `images/001.Black_footed_Albatross/*.jpg`, listed in `images.txt` as `number path`.
//!
//! The archive's own `train_test_split.txt` shares all classes between its parts and is not used.

use super::{Row, by_rows, halves};
use crate::data::source::layout::Layout;
use crate::data::source::note::Note;

pub fn recognise(paths: &[&str], notes: &[Note]) -> Option<Layout> {
    let list = notes.iter().find(|note| note.name() == "images.txt")?;
    let lines = list.lines();
    let names: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once(' ')?.1.trim())).collect();
    let class_of = |name: &'_ str| name.split_once('/').map(|(class, _)| class.to_string());
    let classes: Vec<String> = names.iter().filter_map(|name| class_of(name)).collect();
    if classes.len() != names.len() || names.is_empty() {
        return None;
    }
    let parts = halves(classes.iter().map(|class| &class[..]).collect());
    let row = |(name, class): (&&str, String)| {
        let part = parts[&class];
        Row { path: format!("{}images/{name}", list.folder()), class, part }
    };
    let rows: Vec<Row> = names.iter().zip(classes.iter().cloned()).map(row).collect();
    let any = rows.iter().any(|row| paths.contains(&&row.path[..]));
    any.then(|| by_rows("CUB-200-2011", paths, rows, "images.txt"))
}
