//! Small data sets for the tests.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rkd_core::data::Dataset;
use rkd_core::data::{AugmentSpec, DataKind, DataPlan, Labels, SplitPlan};
use rkd_core::{Error, Result};
use tempfile::TempDir;

/// A temporary place with a data folder and a cache folder.
pub struct Place {
    pub folder: TempDir,
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Place { folder }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Writes `bytes` to `path` inside the data folder.
    pub fn write(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.data().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a small grey PNG of brightness `value` to each path.
    pub fn images(&self, paths: &[(&str, u8)]) {
        paths.iter().for_each(|(path, value)| drop(self.write(path, &png(*value))));
    }

    pub fn plan(&self) -> DataPlan {
        self.plan_of(&self.data())
    }

    pub fn plan_of(&self, source: &Path) -> DataPlan {
        plan(&source.display().to_string(), &self.cache())
    }

    pub fn open(&self) -> Result<Dataset> {
        open(&self.plan())
    }

    /// The error of opening the data folder.
    pub fn error(&self) -> Error {
        self.open().expect_err("this data set cannot be used")
    }
}

pub fn plan(source: &str, cache: &Path) -> DataPlan {
    DataPlan {
        kind: DataKind::Images,
        source: source.into(),
        more: Vec::new(),
        image_size: 8,
        channels: 1,
        vectors: None,
        labels: Labels::Classes,
        rotations: false,
        split: SplitPlan::Classes { validation: 0.0, test: 0.0 },
        augment: AugmentSpec::default(),
        cache: cache.into(),
    }
}

pub fn open(plan: &DataPlan) -> Result<Dataset> {
    Dataset::open(plan, &|| false, &mut |_| {})
}

/// An 8 x 8 grey PNG of one brightness.
pub fn png(value: u8) -> Vec<u8> {
    png_of(8, 8, value)
}

pub fn png_of(width: u32, height: u32, value: u8) -> Vec<u8> {
    let image = image::GrayImage::from_pixel(width, height, image::Luma([value]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// The bytes of a ZIP of these files.
pub fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The bytes of a tar of these files. Names are written as they are, unsafe ones too.
pub fn tar_of<N: AsRef<[u8]>>(files: &[(N, &[u8])]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let name = name.as_ref();
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        out.append(&header, *bytes).unwrap();
    }
    out.into_inner().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// (id, class, brightness) of every item.
pub fn content(data: &Dataset) -> Vec<(String, String, u8)> {
    (0..data.len() as u32)
        .map(|i| (data.id(i).to_string(), data.class_name(data.label(i)).to_string(), data.pixels(i)[0]))
        .collect()
}

/// Asserts that an error's text has all of these parts.
#[track_caller]
pub fn says(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    parts.iter().for_each(|part| assert!(text.contains(part), "{text:?} does not say {part:?}"));
}

/// As [`says`], for one warning of a data set.
#[track_caller]
pub fn warns(data: &Dataset, parts: &[&str]) {
    let warnings = data.describe().warnings;
    let found = warnings.iter().any(|warning| parts.iter().all(|part| warning.contains(part)));
    assert!(found, "none of {warnings:?} says {parts:?}");
}
