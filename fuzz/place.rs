//! A folder of data that lives as long as the process. On Linux it lies in memory.

use std::fs;
use std::path::{Path, PathBuf};

use rkd_core::data::{AugmentSpec, DataKind, DataPlan, Labels, SplitPlan};
use tempfile::TempDir;

pub struct Place {
    folder: TempDir,
}

impl Place {
    /// With these files, each of the bytes.
    pub fn new(files: &[(&str, &[u8])]) -> Place {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let place = Place { folder: folder.expect("a temporary folder") };
        fs::create_dir(place.data()).expect("a folder");
        files.iter().for_each(|(name, bytes)| place.write(name, bytes));
        place
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.data().join(name);
        fs::create_dir_all(path.parent().expect("inside the folder")).expect("a folder");
        fs::write(path, bytes).expect("a file");
    }

    /// The plan of the folder, or of one file in it.
    pub fn plan(&self, file: &str) -> DataPlan {
        DataPlan {
            kind: DataKind::Images,
            source: self.data().join(file).display().to_string(),
            more: Vec::new(),
            image_size: 8,
            channels: 3,
            vectors: None,
            labels: Labels::default(),
            rotations: false,
            split: SplitPlan::Classes { validation: 0.0, test: 0.0 },
            augment: AugmentSpec::default(),
            cache: self.folder.path().join("cache"),
        }
    }

    /// Opens the data set and forgets it again.
    #[allow(dead_code)] // Some targets only look.
    pub fn open(&self, file: &str) {
        let _ = rkd_core::data::Dataset::open(&self.plan(file), &|| false, &mut |_| {});
        let _ = fs::remove_dir_all(self.folder.path().join("cache"));
    }
}
