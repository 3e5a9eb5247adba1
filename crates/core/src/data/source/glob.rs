//! Patterns of paths: `photos/**/*.jpg`, `photos/{2023,2024}`.
//!
//! `*` and `?` stand for letters of a name, `**` for any folders, `[ab]` for one of these letters, `{a,b}` for one of these
//! texts. A folder that the pattern names stands for all images in it. What is walked is the folder before the first such
//! sign, so hidden files, links and unreadable files are treated as in any folder.

use std::path::{Path, PathBuf};

use globset::GlobBuilder;

use super::walk::Walk;
use crate::data::stop::Stop;
use crate::error::{Code, Error, Result};

/// Whether a path that does not exist is a pattern.
pub fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '[', '{'])
}

/// The image files that `pattern` names.
///
/// # Errors
/// When the pattern cannot be read or names no image, or the folder before it cannot be listed; when stopped.
pub fn walk(pattern: &Path, stop: Stop<'_>) -> Result<Walk> {
    let mut root = PathBuf::new();
    let mut parts = pattern.components().peekable();
    while let Some(part) = parts.next_if(|part| !is_pattern(Path::new(part.as_os_str()))) {
        root.push(part);
    }
    let inner: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).collect();
    let glob = GlobBuilder::new(&inner.join("/")).literal_separator(true).build().map_err(|e| {
        Error::new(Code::InvalidOption, format!("the pattern of paths cannot be read: {}", e.kind()))
            .with_subject(pattern.display().to_string())
            .with_advice("close every bracket and brace; ** stands alone between two slashes")
    })?;
    let glob = glob.compile_matcher();
    let mut walk = Walk::new(&root, stop)?;
    let before = walk.listing.entries.first().map(|entry| entry.path.clone());
    let count = walk.files.len();
    walk.retain(|path| Path::new(path).ancestors().any(|part| part != Path::new("") && glob.is_match(part)));
    if walk.files.is_empty() && walk.parquet.is_empty() {
        let first = before.map_or(String::new(), |path| format!(", such as {path}"));
        return Err(Error::new(Code::InvalidData, "the pattern names no image")
            .with_subject(pattern.display().to_string())
            .with_values(
                format!("images below {} that match {}", root.display(), inner.join("/")),
                format!("none of the {count} images there{first}"),
            )
            .with_advice("** stands for any folders between: photos/**/*.jpg"));
    }
    Ok(walk)
}
