//! Annotations: the small files beside the images by which published data sets say what their images are.

use crate::names::text_of;

/// Largest annotation that is read, in bytes; the largest published one has 3 MB.
pub const MAX_ANNOTATION_BYTES: u64 = 16 << 20;

/// Most lines of an annotation; the longest published one has 60,000.
pub const MAX_NOTE_LINES: usize = 1_000_000;

/// Most bytes of all annotations of a source.
pub const MAX_NOTES_BYTES: u64 = 64 << 20;

const NAMES: [&str; 14] = [
    "Ebay_test.txt",
    "Ebay_train.txt",
    "cars_annos.mat",
    "cars_meta.mat",
    "cars_test_annos_withlabels.mat",
    "cars_train_annos.mat",
    "images.txt",
    "metadata.csv",
    "metadata.jsonl",
    "test.csv",
    "train.csv",
    "val.csv",
    "val_annotations.txt",
    "wnids.txt",
];

/// One such file.
#[derive(Clone, Debug)]
pub struct Annotation {
    /// Path inside the source, parts divided by `/`.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

impl Annotation {
    /// Whether a file at `path` is one, by its name.
    pub fn is_at(path: &str) -> bool {
        NAMES.contains(&name(path))
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        name(&self.path)
    }

    /// The folder it lies in: empty, or a path with a `/` at its end.
    pub fn folder(&self) -> &str {
        &self.path[..self.path.len() - self.name().len()]
    }

    /// Its text; a byte-order mark and other encodings are understood.
    pub fn text(&self) -> String {
        text_of(&self.bytes)
    }
}

fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The lines of an annotation's text that are not empty, trimmed.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}
