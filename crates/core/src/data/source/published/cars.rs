//! Cars 196 (Krause et al. 2013): `car_ims/000001.jpg`, ..., with `cars_annos.mat`, a MATLAB file of `annotations` (among its
//! fields `relative_im_path` and `class`) and `class_names`.
//!
//! The field `test` shares all classes between its parts and is not used.

use std::collections::BTreeSet;

use super::mat::{self, Value};
use super::{Row, by_rows, halves};
use crate::data::source::layout::Layout;
use crate::data::source::note::Note;

pub fn recognise(paths: &[&str], notes: &[Note]) -> Option<Layout> {
    let note = notes.iter().find(|note| note.name() == "cars_annos.mat")?;
    let failed = |why: &str| Layout {
        name: Some("Cars 196"),
        classes: vec![None; paths.len()],
        parts: vec![None; paths.len()],
        warnings: vec![format!("cars_annos.mat {why}; copy it again")],
    };
    let Some(variables) = mat::read(&note.bytes) else { return Some(failed("is damaged or no MATLAB 5 file")) };
    let named = |name: &str| variables.iter().find(|(found, _)| found == name).map(|(_, value)| value);
    let annotations = named("annotations").map_or(&[][..], Value::elements);
    let names = named("class_names").map_or(&[][..], Value::elements);
    let images: Vec<(String, String)> = annotations.iter().filter_map(|one| image(one, names)).collect();
    if images.is_empty() {
        return Some(failed("has no annotations with relative_im_path and class"));
    }
    let parts = halves(images.iter().map(|(_, class)| &class[..]).collect::<BTreeSet<_>>());
    let row = |(path, class): (String, String)| {
        let part = parts[&class];
        Row { path: format!("{}{path}", note.folder()), class, part }
    };
    Some(by_rows("Cars 196", paths, images.into_iter().map(row).collect(), "cars_annos.mat"))
}

/// Path and class (`001.AM General Hummer SUV 2000`) of one annotation.
fn image(annotation: &Value, names: &[Value]) -> Option<(String, String)> {
    let path = annotation.field("relative_im_path")?.text()?;
    let number = annotation.field("class")?.number()? as usize;
    let name = names.get(number.checked_sub(1)?).and_then(Value::text).unwrap_or_default().replace('/', "-");
    Some((path.to_string(), format!("{number:03}.{name}")))
}
