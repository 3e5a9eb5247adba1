//! Cars 196 (Krause et al. 2013), in both layouts it was published in. Annotations are MATLAB files.
//!
//! - `car_ims/000001.jpg`, ..., with `cars_annos.mat`: `annotations` (among its fields `relative_im_path` and `class`)
//!   and `class_names`.
//! - `cars_train/00001.jpg`, ..., `cars_test/00001.jpg`, ..., with `cars_train_annos.mat` and
//!   `cars_test_annos_withlabels.mat` (`annotations` with `fname` and `class`) and `cars_meta.mat` (`class_names`), wherever the last three lie.
//!
//! Train and test of either layout share all classes and are not used.

use std::collections::BTreeSet;

use super::mat::{self, Value};
use super::rows::{Row, by_rows, halves};
use crate::data::source::annotation::Annotation;
use crate::data::source::layout::Layout;

const ALL: &str = "cars_annos.mat";
const META: &str = "cars_meta.mat";
/// Lists of the later layout, and their images' folders.
const LISTS: [(&str, &str); 2] =
    [("cars_train_annos.mat", "cars_train"), ("cars_test_annos_withlabels.mat", "cars_test")];

pub fn recognise(paths: &[&str], annotations: &[Annotation]) -> Option<Layout> {
    let annotation = |name: &str| annotations.iter().find(|annotation| annotation.name() == name);
    let failed = |name: &str, why: &str| Layout {
        name: Some("Cars 196"),
        classes: vec![None; paths.len()],
        parts: vec![None; paths.len()],
        warnings: vec![format!("{name} {why}; copy it again")],
        left_out: Vec::new(),
    };
    // Each list with the folder that its images' names are in, and the file of the class names where that is another.
    let (lists, meta): (Vec<(&Annotation, String)>, Option<&Annotation>) = match annotation(ALL) {
        Some(all) => (vec![(all, all.folder().to_string())], None),
        None => {
            let found = LISTS.iter().filter_map(|(list, images)| Some((annotation(list)?, folder_of(images, paths))));
            (found.collect(), annotation(META))
        }
    };
    if lists.is_empty() {
        return None;
    }
    let damaged = |name: &str| Some(failed(name, "is damaged or no MATLAB 5 file"));
    let meta = match meta.map(|annotation| mat::read(&annotation.bytes)) {
        Some(None) => return damaged(META),
        read => read.flatten(),
    };
    let mut images: Vec<(String, String)> = Vec::new();
    for (list, folder) in &lists {
        let Some(variables) = mat::read(&list.bytes) else { return damaged(list.name()) };
        let names = elements(meta.as_ref().unwrap_or(&variables), "class_names");
        let found: Vec<_> = elements(&variables, "annotations").iter().filter_map(|one| image(one, names)).collect();
        if found.is_empty() {
            return Some(failed(list.name(), "has no annotations with the image's name and class"));
        }
        images.extend(found.into_iter().map(|(name, class)| (format!("{folder}{name}"), class)));
    }
    let parts = halves(images.iter().map(|(_, class)| &class[..]).collect::<BTreeSet<_>>());
    let rows = images.into_iter().map(|(path, class)| Row { part: parts[&class], path, class }).collect();
    let names: Vec<&str> = lists.iter().map(|(list, ..)| list.name()).collect();
    Some(by_rows("Cars 196", paths, rows, &names.join(" and ")))
}

/// The folder called `name` that has images in it, with a `/` at its end.
fn folder_of(name: &str, paths: &[&str]) -> String {
    let mut folders = paths.iter().filter_map(|path| Some(path.rsplit_once('/')?.0));
    let found =
        folders.find(|folder| folder.strip_suffix(name).is_some_and(|above| above.is_empty() || above.ends_with('/')));
    format!("{}/", found.unwrap_or(name))
}

fn elements<'a>(variables: &'a [(String, Value)], name: &str) -> &'a [Value] {
    variables.iter().find(|(found, _)| found == name).map_or(&[], |(_, value)| value.elements())
}

/// Path and class (`001.AM General Hummer SUV 2000`) of one annotation.
fn image(annotation: &Value, names: &[Value]) -> Option<(String, String)> {
    let path = annotation.field("relative_im_path").or_else(|| annotation.field("fname"))?.text()?;
    let number = annotation.field("class")?.number()? as usize;
    let name = names.get(number.checked_sub(1)?).and_then(Value::text).unwrap_or_default().replace('/', "-");
    Some((path.to_string(), format!("{number:03}.{name}")))
}
