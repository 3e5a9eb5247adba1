//! What a hash takes of a file without reading it.

use std::fs;

/// Adds a file's name, size and times.
pub fn hash_metadata(hasher: &mut blake3::Hasher, name: &str, meta: &fs::Metadata) {
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(&meta.len().to_le_bytes());
    let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    hasher.update(&modified.map_or(0, |t| t.as_nanos()).to_le_bytes());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        hasher.update(&meta.ctime().to_le_bytes()).update(&meta.ctime_nsec().to_le_bytes());
    }
}
