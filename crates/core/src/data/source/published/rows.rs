//! What the lists of a data set say, brought together with the images that are there.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::data::part::Part;
use crate::data::source::layout::Layout;
use crate::names::composed;

/// A line of a list: which image is of which class and part.
pub struct Row {
    /// Its path.
    pub path: String,
    /// Its class.
    pub class: String,
    /// Its part.
    pub part: Part,
}

/// The layout that lists give. `lists` names them for the warnings; images in no list are left out.
pub fn by_rows(name: &'static str, paths: &[&str], rows: Vec<Row>, lists: &str) -> Layout {
    // Lists and folders may write accents in different forms.
    let mut given: HashMap<Cow<str>, (&str, Part)> = HashMap::with_capacity(rows.len());
    let listed = rows.len();
    rows.iter().for_each(|row| _ = given.insert(composed(&row.path), (&row.class, row.part)));
    let present: Vec<Cow<str>> = paths.iter().map(|path| composed(path)).collect();
    let found: Vec<Option<&(&str, Part)>> = present.iter().map(|path| given.get(path)).collect();
    let mut warnings = Vec::new();
    let there = found.iter().flatten().count();
    if there < listed {
        let present: HashSet<&str> = present.iter().map(|path| &path[..]).collect();
        let first = given.keys().filter(|path| !present.contains(&path[..])).min();
        let first = first.map_or(String::new(), |path| format!(" (the first is {path})"));
        warnings.push(format!("{} of the {listed} images that {lists} list are missing{first}", listed - there));
    }
    let left_out = found.iter().position(Option::is_none).map(|first| {
        let count = paths.len() - there;
        format!("{count} images are not listed in {lists} and are left out (the first is {})", paths[first])
    });
    Layout {
        name: Some(name),
        classes: found.iter().map(|row| row.map(|(class, _)| class.to_string())).collect(),
        parts: found.iter().map(|row| row.map(|(_, part)| *part)).collect(),
        warnings,
        left_out: left_out.into_iter().collect(),
    }
}

/// The part of each class where the first half of the classes, in the order of `classes`, trains and the second half tests.
pub fn halves(classes: BTreeSet<&str>) -> BTreeMap<String, Part> {
    let half = classes.len() / 2;
    let part = |i| if i < half { Part::Train } else { Part::Test };
    classes.iter().enumerate().map(|(i, class)| (class.to_string(), part(i))).collect()
}
