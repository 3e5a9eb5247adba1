//! From the paths of image files to classes and parts, where no [published](super::published) data set says it:
//!
//! 1. Folders that all images share are left out, but never the last one: `photos/flowers/rose/1.jpg` is `rose`.
//! 2. If all first folders then are names of parts (`train`, `val`, `test`, Omniglot's `images_background` and
//!    `images_evaluation`), they are the source's own split and no part of the class.
//! 3. A last folder `images` that all images of a part have is left out (`train/n0144/images/1.JPEG`).
//! 4. The class is what remains, joined by `/`: `rose`, or `Greek/character07`.
//!
//! An image left without a class is left out where classes are labels, and kept where there are no labels.

use std::collections::BTreeMap;

use crate::data::part::Part;

/// Class and part of each path, in their order.
pub struct Layout {
    /// The published data set it is.
    pub name: Option<&'static str>,
    /// `None`: the image has no class and is left out.
    pub classes: Vec<Option<String>>,
    /// The part in the source's own split.
    pub parts: Vec<Option<Part>>,
    /// Things a user should know.
    pub warnings: Vec<String>,
    /// The same, of images that are left out where classes are labels.
    pub left_out: Vec<String>,
}

/// The part that a folder's name, or a word in a manifest, means.
pub fn part_of(folder: &str) -> Option<Part> {
    Some(match &folder.to_ascii_lowercase()[..] {
        "train" | "training" | "images_background" => Part::Train,
        "val" | "valid" | "validation" => Part::Validation,
        "test" | "testing" | "images_evaluation" => Part::Test,
        _ => return None,
    })
}

/// The layout of `paths` (parts divided by `/`) by the rules above.
pub fn by_folders(paths: &[&str]) -> Layout {
    let mut folders: Vec<Vec<&str>> = paths.iter().map(|path| folders_of(path)).collect();
    strip_shared(&mut folders);
    let parts = take_parts(&mut folders);
    strip_images(&mut folders, &parts);
    let class = |folders: &Vec<&str>| (!folders.is_empty()).then(|| folders.join("/"));
    let classes: Vec<Option<String>> = folders.iter().map(class).collect();
    let mut left_out = Vec::new();
    let without = classes.iter().filter(|class| class.is_none()).count();
    if let Some(first) = classes.iter().position(Option::is_none) {
        let count = if without == 1 { "1 image lies".into() } else { format!("{without} images lie") };
        left_out.push(format!("{count} in no class folder and are left out (the first is {})", paths[first]));
    }
    Layout { name: None, classes, parts, warnings: Vec::new(), left_out }
}

/// The parts of `paths` by their first folders, where classes do not count: `train/1.jpg`, `test/2.jpg`.
pub fn parts_of(paths: &[&str]) -> Vec<Option<Part>> {
    let mut folders: Vec<Vec<&str>> = paths.iter().map(|path| folders_of(path)).collect();
    strip_shared(&mut folders);
    let parts = tops(&folders);
    if parts.iter().all(Option::is_some) { parts } else { vec![None; paths.len()] }
}

fn folders_of(path: &str) -> Vec<&str> {
    let mut folders: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    folders.pop();
    folders
}

/// Rule 1. A shared folder that names a part stays, for rule 2.
fn strip_shared(folders: &mut [Vec<&str>]) {
    let inner: Vec<&Vec<&str>> = folders.iter().filter(|f| !f.is_empty()).collect();
    let Some(first) = inner.first() else { return };
    let shortest = inner.iter().map(|f| f.len()).min().unwrap_or(0);
    let shared = (0..shortest.saturating_sub(1))
        .take_while(|&i| part_of(first[i]).is_none() && inner.iter().all(|f| f[i] == first[i]))
        .count();
    folders.iter_mut().filter(|f| !f.is_empty()).for_each(|f| drop(f.drain(..shared)));
}

/// The parts that the first folders mean.
fn tops(folders: &[Vec<&str>]) -> Vec<Option<Part>> {
    folders.iter().map(|f| f.first().and_then(|top| part_of(top))).collect()
}

/// Rule 2.
fn take_parts(folders: &mut [Vec<&str>]) -> Vec<Option<Part>> {
    let tops = tops(folders);
    let all_parts = folders.iter().zip(&tops).all(|(f, top)| f.is_empty() || top.is_some());
    let below = folders.iter().any(|f| f.len() > 1);
    if !all_parts || !below {
        return vec![None; folders.len()];
    }
    folders.iter_mut().filter(|f| !f.is_empty()).for_each(|f| {
        f.remove(0);
    });
    tops
}

/// Rule 3.
fn strip_images(folders: &mut [Vec<&str>], parts: &[Option<Part>]) {
    let mut all_images: BTreeMap<Option<Part>, bool> = BTreeMap::new();
    for (folder, part) in folders.iter().zip(parts) {
        *all_images.entry(*part).or_insert(true) &= folder.last() == Some(&"images");
    }
    for (folder, part) in folders.iter_mut().zip(parts) {
        // Without parts, a lone folder `images` is a class like any other.
        if all_images[part] && (folder.len() > 1 || part.is_some()) {
            folder.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(paths: &[&str]) -> Vec<String> {
        by_folders(paths).classes.into_iter().map(|class| class.unwrap_or("-".into())).collect()
    }

    #[test]
    fn the_class_is_the_path_of_the_folder_without_what_all_share() {
        assert_eq!(classes(&["a/1.png", "b/1.png"]), ["a", "b"]);
        assert_eq!(classes(&["p/q/a/1.png", "p/q/b/1.png"]), ["a", "b"]);
        assert_eq!(classes(&["x/Greek/c1/1.png", "x/Latin/c1/1.png"]), ["Greek/c1", "Latin/c1"]);
        assert_eq!(classes(&["p/only/1.png", "p/only/2.png"]), ["only", "only"]);
        assert_eq!(classes(&["1.png", "2.png"]), ["-", "-"]);
        assert_eq!(classes(&["a/1.png", "stray.png", "b/1.png"]), ["a", "-", "b"]);
    }

    #[test]
    fn part_names_on_top_are_the_sources_own_split() {
        let found = by_folders(&["d/train/a/1.png", "d/test/b/1.png", "d/val/a/2.png"]);
        assert_eq!(found.parts, [Some(Part::Train), Some(Part::Test), Some(Part::Validation)]);
        assert_eq!(found.classes, [Some("a".into()), Some("b".into()), Some("a".into())]);
        // `train` beside `car` is a class: a data set of vehicles.
        let vehicles = by_folders(&["train/1.png", "car/1.png"]);
        assert_eq!(vehicles.parts, [None, None]);
        assert_eq!(vehicles.classes, [Some("train".into()), Some("car".into())]);
        let background = by_folders(&["images_background/A/c1/1.png", "images_background/A/c2/1.png"]);
        assert_eq!(background.parts, [Some(Part::Train); 2]);
    }

    #[test]
    fn a_folder_images_that_all_share_is_no_class() {
        let found = by_folders(&["train/n1/images/1.JPEG", "train/n2/images/1.JPEG", "test/images/t1.JPEG"]);
        assert_eq!(found.classes, [Some("n1".into()), Some("n2".into()), None]);
        assert!(found.left_out[0].contains("test/images/t1.JPEG"), "{:?}", found.left_out);
    }

    #[test]
    fn without_classes_the_first_folders_are_parts_where_all_are() {
        let [train, test] = [Some(Part::Train), Some(Part::Test)];
        assert_eq!(parts_of(&["train/1.png", "test/2.png"]), [train, test]);
        assert_eq!(parts_of(&["d/train/a/1.png", "d/test/2.png"]), [train, test]);
        assert_eq!(parts_of(&["train/1.png", "2.png"]), [None, None]);
        assert_eq!(parts_of(&["train/1.png", "car/1.png"]), [None, None]);
    }
}
