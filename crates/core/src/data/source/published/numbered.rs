//! Class folders with their published number in front: `001.AM General Hummer SUV 2000`, `002.Acura RL Sedan 2012`, ...
//!
//! The form of CUB-200-2011, in which copies of other fine-grained sets are passed on too. The first or the last class,
//! whose names stand in the table below, tells which set it is. Flowers has no published split by classes; halves are
//! the usual one.

use crate::data::part::Part;
use crate::data::source::annotation::Annotation;
use crate::data::source::layout::{Layout, by_folders};

/// Name, number of classes, and the first and the last class in small letters.
const SETS: [(&str, usize, [&str; 2]); 3] = [
    ("CUB-200-2011", 200, ["blackfootedalbatross", "commonyellowthroat"]),
    ("Cars 196", 196, ["amgeneralhummersuv2000", "smartfortwoconvertible2012"]),
    ("Oxford Flowers 102", 102, ["pinkprimrose", "blackberrylily"]),
];

pub fn recognise(paths: &[&str], _: &[Annotation]) -> Option<Layout> {
    let mut layout = by_folders(paths);
    if layout.parts.iter().any(Option::is_some) {
        return None;
    }
    let numbers: Vec<Option<(usize, &str)>> = layout.classes.iter().map(|class| numbered(class.as_deref()?)).collect();
    if layout.classes.iter().zip(&numbers).any(|(class, number)| class.is_some() && number.is_none()) {
        return None;
    }
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let (name, count, _) = SETS.iter().find(|(_, count, ends)| {
        let is_end = |(n, class): &(usize, &str)| {
            (*n == 1 && plain(class) == ends[0]) || (*n == *count && plain(class) == ends[1])
        };
        numbers.iter().flatten().all(|(n, _)| (1..=*count).contains(n)) && numbers.iter().flatten().any(is_end)
    })?;
    let part = |(n, _): (usize, &str)| if n <= count / 2 { Part::Train } else { Part::Test };
    layout.parts = numbers.iter().map(|number| number.map(part)).collect();
    layout.name = Some(name);
    Some(layout)
}

/// The number and the name of `017.Cardinal`.
fn numbered(class: &str) -> Option<(usize, &str)> {
    let (number, name) = class.split_once('.')?;
    Some((number.parse().ok().filter(|_| number.len() == 3)?, name))
}
