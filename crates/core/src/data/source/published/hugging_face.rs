//! Hugging Face's image folders: `metadata.jsonl` or `metadata.csv` beside the images, in the root or in each part's folder,
//! with a column `file_name` and, where there are such, `label` and `id`. Without `label` the folders say the classes.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::data::part::Part;
use crate::data::source::annotation::Annotation;
use crate::data::source::layout::{Layout, by_folders, parts_of};
use crate::data::source::manifest::{Form, Row, rows};
use crate::error::Result;

/// The rows of each list of metadata, with the paths of their images.
fn metadata(annotations: &[Annotation]) -> impl Iterator<Item = (&Annotation, Result<Vec<(String, Row)>>)> {
    let lists = annotations.iter().filter(|annotation| annotation.name().starts_with("metadata."));
    lists.filter_map(|annotation| Some((annotation, Form::of(Path::new(annotation.name()))?))).map(
        |(annotation, form)| {
            let at = |row: Row| (format!("{}{}", annotation.folder(), row.path.trim_start_matches("./")), row);
            (annotation, rows(form, &annotation.text()).map(|rows| rows.into_iter().map(at).collect()))
        },
    )
}

/// The ids that the metadata give the images at `paths`; nothing where they give none.
pub fn ids<'a>(paths: impl Iterator<Item = &'a str>, annotations: &[Annotation]) -> Vec<Option<String>> {
    let rows = metadata(annotations).filter_map(|(_, rows)| rows.ok()).flatten();
    let mut given: HashMap<String, String> = rows.filter_map(|(path, row)| Some((path, row.id?))).collect();
    if given.is_empty() { Vec::new() } else { paths.map(|path| given.remove(path)).collect() }
}

pub fn recognise(paths: &[&str], annotations: &[Annotation]) -> Option<Layout> {
    let mut given: HashMap<String, (Option<String>, Option<Part>)> = HashMap::new();
    let mut warnings = Vec::new();
    for (annotation, rows) in metadata(annotations) {
        match rows {
            Ok(rows) => given.extend(rows.into_iter().map(|(path, row)| (path, (row.class, row.part)))),
            Err(error) => warnings.push(format!("{} is not used: {error}", annotation.path)),
        }
    }
    let found: Vec<_> = paths.iter().map(|path| given.get(*path).cloned()).collect();
    if !found.iter().flatten().any(|(class, _)| class.is_some()) {
        return (!warnings.is_empty()).then(|| Layout { warnings, ..by_folders(paths) });
    }
    let (there, listed) = (found.iter().flatten().count(), given.len());
    if there < listed {
        let present: HashSet<&str> = paths.iter().copied().collect();
        let first = given.keys().filter(|path| !present.contains(&path[..])).min();
        let first = first.map_or(String::new(), |path| format!(" (the first is {path})"));
        warnings.push(format!("{} of the {listed} images that the metadata list are missing{first}", listed - there));
    }
    let tops = parts_of(paths);
    let parts = found.iter().zip(tops).map(|(row, top)| row.as_ref().and_then(|row| row.1).or(top)).collect();
    let classes: Vec<Option<String>> = found.into_iter().map(|row| row?.0).collect();
    let without = classes.iter().filter(|class| class.is_none()).count();
    let left_out = classes.iter().position(Option::is_none).map(|first| {
        format!("{without} images have no label in the metadata and are left out (the first is {})", paths[first])
    });
    Some(Layout { name: None, classes, parts, warnings, left_out: left_out.into_iter().collect() })
}
