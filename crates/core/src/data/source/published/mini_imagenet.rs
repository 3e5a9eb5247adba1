//! miniImageNet (Vinyals et al. 2016; the split of Ravi and Larochelle 2017): `train.csv`, `val.csv` and `test.csv`
//! with the head line `filename,label`, and the images in one folder `images` or in a folder for each class.
//!
//! The lists give images names of their own, `n0153282900000005.jpg`. Copies that keep ImageNet's names in a folder for
//! each class have no such file; there the lists say of which part a class is.

use std::collections::{BTreeSet, HashMap};

use super::rows::{Row, by_rows};
use crate::data::part::Part;
use crate::data::source::annotation::{Annotation, lines};
use crate::data::source::layout::Layout;

const LISTS: [(&str, Part); 3] = [("train.csv", Part::Train), ("val.csv", Part::Validation), ("test.csv", Part::Test)];

pub fn recognise(paths: &[&str], annotations: &[Annotation]) -> Option<Layout> {
    let there: BTreeSet<&str> = paths.iter().copied().collect();
    let by_name: HashMap<&str, &str> =
        paths.iter().map(|path| (path.rsplit('/').next().unwrap_or(path), *path)).collect();
    let (mut rows, mut absent) = (Vec::new(), Vec::new());
    for (list, part) in LISTS {
        let named = annotations
            .iter()
            .filter(|annotation| annotation.name() == list)
            .map(|annotation| (annotation, annotation.text()));
        let Some((annotation, text)) = named.into_iter().find(|(_, text)| is_list(text)) else {
            absent.push(list);
            continue;
        };
        for line in lines(&text).skip(1) {
            let Some((name, label)) = line.split_once(',') else { continue };
            let (name, label, folder) = (name.trim(), label.trim(), annotation.folder());
            let places = ["images/".to_string(), format!("images/{label}/"), format!("{label}/"), String::new()];
            let path =
                places.iter().map(|place| format!("{folder}{place}{name}")).find(|path| there.contains(&path[..]));
            let path = path.or_else(|| by_name.get(name).map(|path| path.to_string()));
            let path = path.unwrap_or_else(|| format!("{folder}images/{name}"));
            rows.push(Row { path, class: label.to_string(), part });
        }
    }
    if rows.is_empty() {
        return None;
    }
    if !rows.iter().any(|row| there.contains(&row.path[..])) {
        let parts: HashMap<&str, Part> = rows.iter().map(|row| (&row.class[..], row.part)).collect();
        let of_folder = |path: &&str| {
            let class = path.rsplit('/').nth(1)?;
            Some(Row { path: path.to_string(), class: class.to_string(), part: *parts.get(class)? })
        };
        let by_folder: Vec<Row> = paths.iter().filter_map(of_folder).collect();
        if !by_folder.is_empty() {
            rows = by_folder;
        }
    }
    let mut layout = by_rows("miniImageNet", paths, rows, "train.csv, val.csv and test.csv");
    layout.warnings.extend(absent.iter().map(|name| format!("{name} is missing, and with it its part of the images")));
    Some(layout)
}

/// Whether a CSV has the head line of these lists; another one of that name is somebody else's.
fn is_list(text: &str) -> bool {
    lines(text).next().is_some_and(|head| head.replace(' ', "").eq_ignore_ascii_case("filename,label"))
}
