//! What a look at a place with image files finds.

use super::annotation::{Annotation, MAX_ANNOTATION_BYTES, MAX_NOTE_LINES, MAX_NOTES_BYTES};
use super::ignored::Ignored;
use crate::data::part::{BrokenImage, Part};
use crate::error::Result;

/// One image file of a root, before decoding.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Path inside the root, parts divided by `/`.
    pub path: String,
    /// What the root needs to find it again.
    pub index: usize,
}

/// What a manifest says of one of its images.
#[derive(Clone, Debug)]
pub struct Row {
    pub class: Option<String>,
    pub part: Option<Part>,
    /// The path as written.
    pub path: String,
    /// What stands in the entry in place of the path.
    pub id: Option<String>,
}

/// The image files of a root, and what was noticed on the way.
#[derive(Default)]
pub struct Listing {
    /// Image files.
    pub entries: Vec<Entry>,
    /// What the manifest that named the entries says of each.
    pub rows: Option<Vec<Row>>,
    /// Files that say what the images are.
    pub annotations: Vec<Annotation>,
    /// Files and folders that could not be read.
    pub broken: Vec<BrokenImage>,
    /// Folders without any image.
    pub empty: Vec<String>,
    /// Things a user should know.
    pub warnings: Vec<String>,
    /// Files that are no images.
    pub ignored: Ignored,
}

impl Listing {
    /// Reads the annotation at `path`, which says to have `size` bytes, if it is within the bounds of annotations.
    /// `read` gives at most so many bytes of it, or a clause that says why not.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn annotation(
        &mut self,
        path: String,
        size: u64,
        read: impl FnOnce(u64) -> Result<Result<Vec<u8>, String>>,
    ) -> Result<()> {
        let before: u64 = self.annotations.iter().map(|annotation| annotation.bytes.len() as u64).sum();
        let most = MAX_ANNOTATION_BYTES.min(MAX_NOTES_BYTES.saturating_sub(before));
        let bytes = if size > most { Ok(None) } else { read(most + 1)?.map(Some) };
        let fits = |bytes: &Vec<u8>| {
            bytes.len() as u64 <= most && bytes.iter().filter(|&&byte| byte == b'\n').count() < MAX_NOTE_LINES
        };
        match bytes {
            Ok(Some(bytes)) if fits(&bytes) => self.annotations.push(Annotation { path, bytes }),
            Ok(_) => self.warnings.push(format!(
                "{path} was not read: lists may have {} MiB and {MAX_NOTE_LINES} lines, and all together {} MiB",
                MAX_ANNOTATION_BYTES >> 20,
                MAX_NOTES_BYTES >> 20
            )),
            Err(reason) => self.broken.push(BrokenImage { path, reason }),
        }
        Ok(())
    }
}
