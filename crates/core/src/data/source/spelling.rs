//! Class names that are one name to a person: with accents in another Unicode form, or in other letters of case.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::data::part::Part;
use crate::names::{composed, folded};

/// Pairs that are named in a warning before the rest is only counted.
const MAX_TOLD: usize = 3;

/// Gives classes whose names differ only in the Unicode form of their accents the composed name; they look the same, and each
/// system writes another form. Names that differ in capitals stay two, as `A` and `a` may be two letters; a warning names
/// them where they never lie side by side. `places` are the images' roots and parts.
pub fn unite(classes: &mut [Option<String>], places: &[(usize, Option<Part>)]) -> Vec<String> {
    let names: BTreeSet<&str> = classes.iter().flatten().map(|class| &class[..]).collect();
    let mut warnings = Vec::new();
    let mut forms: BTreeMap<Cow<str>, usize> = BTreeMap::new();
    names.iter().for_each(|name| *forms.entry(composed(name)).or_default() += 1);
    let several: BTreeSet<String> =
        forms.into_iter().filter(|(_, count)| *count > 1).map(|(name, _)| name.into_owned()).collect();
    if !several.is_empty() {
        for class in classes.iter_mut().flatten() {
            if let Some(name) = several.get(&*composed(class)) {
                class.clone_from(name);
            }
        }
        let some: Vec<&str> = several.iter().map(|name| &name[..]).collect();
        warnings.push(format!(
            "these class names are written in two Unicode forms of their accents and count as one each: {}",
            first_of(&some)
        ));
    }
    warnings.extend(by_case(classes, places));
    warnings
}

fn by_case(classes: &[Option<String>], places: &[(usize, Option<Part>)]) -> Option<String> {
    let mut names: BTreeMap<&str, BTreeSet<(usize, Option<Part>)>> = BTreeMap::new();
    for (class, place) in classes.iter().zip(places) {
        if let Some(class) = class {
            names.entry(class).or_default().insert(*place);
        }
    }
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    names.keys().for_each(|name| groups.entry(folded(name)).or_default().push(name));
    let apart = |group: &&Vec<&str>| {
        let places: usize = group.iter().map(|name| names[name].len()).sum();
        group.len() > 1 && group.iter().flat_map(|name| &names[name]).collect::<BTreeSet<_>>().len() == places
    };
    let pairs: Vec<String> = groups.values().filter(apart).map(|group| group.join(" and ")).collect();
    let some: Vec<&str> = pairs.iter().map(|pair| &pair[..]).collect();
    (!pairs.is_empty()).then(|| {
        format!(
            "these class names differ only in capital letters, and each form lies in a part of its own, so they count as \
             different classes: {}; rename the folders if they are the same",
            first_of(&some)
        )
    })
}

fn first_of(names: &[&str]) -> String {
    let rest = names.len().saturating_sub(MAX_TOLD);
    let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    format!("{}{more}", names[..names.len() - rest].join(", "))
}
