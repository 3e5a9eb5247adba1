//! Data sets as they are published: told by their folders and [annotations](super::annotation), with their own classes
//! and parts.
//!
//! | data set | told by | classes | parts |
//! |---|---|---|---|
//! | CUB-200-2011 | `images.txt` beside `images/` | folders | first half of the classes trains, second half tests |
//! | Cars 196 | `cars_annos.mat`, or `cars_train_annos.mat` | their annotations | as CUB |
//! | Stanford Online Products | `Ebay_train.txt`, `Ebay_test.txt` | their `class_id` | the two lists |
//! | Tiny ImageNet | `wnids.txt` or `val/val_annotations.txt` | WordNet ids | `train`, `val` (classes shared) |
//! | miniImageNet | `train.csv`, `val.csv`, `test.csv` of `filename,label` | their labels | the three lists |
//! | Hugging Face's image folders | `metadata.csv`, `metadata.jsonl` with `file_name` and `label` | `label` | `split`, or folders `train`, `test` |
//! | Cars 196, CUB-200-2011, Oxford Flowers 102 | class folders `001.name`, `002.name`, ... | folders | as CUB |
//!
//! Omniglot, CIFAR-100 and IDX files are told earlier, by the names of their archives and files. Halves by class number
//! are the rule of metric learning since Song et al. (2016), and Park et al. (2019, section 4.1).

mod cars;
mod cub;
mod hugging_face;
mod mat;
mod mini_imagenet;
mod numbered;
mod products;
mod rows;
mod tiny_imagenet;

use std::collections::BTreeSet;

use super::annotation::Annotation;
use super::layout::Layout;
use crate::data::part::Part;

/// The layout of a data set that is told by what lies in it; `None`: no published one.
pub fn recognise(paths: &[&str], annotations: &[Annotation]) -> Option<Layout> {
    let all = [
        cub::recognise,
        cars::recognise,
        products::recognise,
        tiny_imagenet::recognise,
        mini_imagenet::recognise,
        hugging_face::recognise,
        numbered::recognise,
    ];
    all.iter().find_map(|recognise| recognise(paths, annotations))
}

/// The ids that lists beside the images give those at `paths`, in their order; nothing where no list has any.
pub fn listed_ids<'a>(paths: impl Iterator<Item = &'a str>, annotations: &[Annotation]) -> Vec<Option<String>> {
    hugging_face::ids(paths, annotations)
}

/// What is published.
struct Size {
    name: &'static str,
    classes: usize,
    /// Images of the train, validation and test part.
    images: [usize; 3],
}

const SIZES: [Size; 8] = [
    Size { name: "CUB-200-2011", classes: 200, images: [5_864, 0, 5_924] },
    Size { name: "Cars 196", classes: 196, images: [8_054, 0, 8_131] },
    Size { name: "Oxford Flowers 102", classes: 102, images: [3_493, 0, 4_696] },
    Size { name: "Stanford Online Products", classes: 22_634, images: [59_551, 0, 60_502] },
    Size { name: "Tiny ImageNet", classes: 200, images: [100_000, 10_000, 0] },
    Size { name: "miniImageNet", classes: 100, images: [38_400, 9_600, 12_000] },
    Size { name: "Omniglot", classes: 1_623, images: [19_280, 0, 13_180] },
    Size { name: "CIFAR-100", classes: 100, images: [50_000, 0, 10_000] },
];

/// A warning where this copy of the data set `name` is not as published.
pub fn compare<'a>(name: &str, images: impl Iterator<Item = (&'a str, Option<Part>)>) -> Option<String> {
    let size = SIZES.iter().find(|size| size.name == name)?;
    let (mut classes, mut found) = (BTreeSet::new(), [0; 3]);
    for (class, part) in images {
        classes.insert(class);
        if let Some(part) = part {
            found[part as usize] += 1;
        }
    }
    if (classes.len(), found) == (size.classes, size.images) {
        return None;
    }
    let text = |classes: usize, [train, validation, test]: [usize; 3]| {
        let parts: Vec<String> = [(train, "train"), (validation, "validation"), (test, "test")]
            .iter()
            .zip(size.images)
            .filter(|((images, _), published)| *images > 0 || *published > 0)
            .map(|((images, part), _)| format!("{images} {part}"))
            .collect();
        format!("{classes} classes, {} images", parts.join(" + "))
    };
    let (published, here) = (text(size.classes, size.images), text(classes.len(), found));
    Some(format!(
        "{name} as published has {published}; here are {here}: numbers measured on this copy do not compare with published ones"
    ))
}

/// Whether the published split of the data set `name` is by classes: its test classes are no training classes.
pub fn splits_by_classes(name: &str) -> bool {
    ["CUB-200-2011", "Cars 196", "Stanford Online Products", "miniImageNet"].contains(&name)
}
