//! Stanford Online Products (Song et al. 2016): `bicycle_final/*.JPG`, ..., with `Ebay_train.txt` and `Ebay_test.txt`,
//! a head line and then `image_id class_id super_class_id path`.
//!
//! A class is one product of a few photographs; its name is that of the folder and its number: `bicycle/00001`.

use super::rows::{Row, by_rows};
use crate::data::part::Part;
use crate::data::source::annotation::{Annotation, lines};
use crate::data::source::layout::Layout;

const LISTS: [(&str, Part); 2] = [("Ebay_train.txt", Part::Train), ("Ebay_test.txt", Part::Test)];

pub fn recognise(paths: &[&str], annotations: &[Annotation]) -> Option<Layout> {
    let mut rows = Vec::new();
    let mut absent = Vec::new();
    for (name, part) in LISTS {
        match annotations.iter().find(|annotation| annotation.name() == name) {
            Some(list) => rows.extend(lines(&list.text()).filter_map(|line| row(line, list.folder(), part))),
            None => absent.push(name),
        }
    }
    if rows.is_empty() {
        return None;
    }
    let mut layout = by_rows("Stanford Online Products", paths, rows, "Ebay_train.txt and Ebay_test.txt");
    layout.warnings.extend(absent.iter().map(|name| format!("{name} is missing, and with it its part of the images")));
    Some(layout)
}

fn row(line: &str, folder: &str, part: Part) -> Option<Row> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let &[_, class, _, path] = &columns[..] else { return None };
    let class: u32 = class.parse().ok()?; // not so in the head line
    let product = path.split('/').next().unwrap_or_default().trim_end_matches("_final");
    Some(Row { path: format!("{folder}{path}"), class: format!("{product}/{class:05}"), part })
}
