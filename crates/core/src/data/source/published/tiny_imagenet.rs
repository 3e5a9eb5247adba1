//! Tiny ImageNet (CS231n, Stanford University): `train/<id>/images/*.JPEG`, `val/images/*.JPEG` with
//! `val/val_annotations.txt`, `test/images/*.JPEG` without labels, and `wnids.txt` with the 200 WordNet ids.
//!
//! `val/<id>/...`, into which many scripts sort the validation images, is understood too.

use std::collections::HashMap;

use crate::data::part::Part;
use crate::data::source::annotation::{Annotation, lines};
use crate::data::source::layout::Layout;

const ANNOTATIONS: &str = "val/val_annotations.txt";

pub fn recognise(paths: &[&str], annotations: &[Annotation]) -> Option<Layout> {
    let val_list = annotations.iter().find(|annotation| annotation.path.ends_with(ANNOTATIONS));
    let root = match val_list {
        Some(annotation) => annotation.path.strip_suffix(ANNOTATIONS)?,
        None => annotations.iter().find(|annotation| annotation.name() == "wnids.txt")?.folder(),
    };
    let given = val_list.map(classes).unwrap_or_default();
    let of = |path: &&str| -> (Option<String>, Option<Part>) {
        let inside: Vec<&str> = path.strip_prefix(root).unwrap_or_default().split('/').collect();
        match &inside[..] {
            ["train", id, _, ..] => (Some(id.to_string()), Some(Part::Train)),
            ["val", "images", name] => (given.get(*name).cloned(), Some(Part::Validation)),
            ["val", id, _, ..] => (Some(id.to_string()), Some(Part::Validation)),
            _ => (None, None),
        }
    };
    let (classes, parts): (Vec<_>, Vec<_>) = paths.iter().map(of).unzip();
    if !parts.contains(&Some(Part::Train)) {
        return None;
    }
    let mut left_out = Vec::new();
    let tests = paths.iter().filter(|path| path.strip_prefix(root).is_some_and(|p| p.starts_with("test/"))).count();
    if tests > 0 {
        left_out.push(format!("the {tests} images of test have no published labels and are left out"));
    }
    let without = classes.iter().zip(&parts).filter(|(class, part)| class.is_none() && part.is_some()).count();
    if without > 0 {
        let why = if val_list.is_none() { "is missing" } else { "does not name all of them" };
        left_out.push(format!("{without} images of val have no class and are left out: {ANNOTATIONS} {why}"));
    }
    Some(Layout { name: Some("Tiny ImageNet"), classes, parts, warnings: Vec::new(), left_out })
}

/// File name and class of each line: `val_0.JPEG <tab> n03444034 <tab> a box`.
fn classes(val_list: &Annotation) -> HashMap<String, String> {
    let pair = |line: &str| {
        let mut columns = line.split_whitespace();
        Some((columns.next()?.to_string(), columns.next()?.to_string()))
    };
    lines(&val_list.text()).filter_map(pair).collect()
}
