//! Where the libraries of CUDA are.
//!
//! cudarc asks the system's loader for them by name. What lies elsewhere, in a toolkit or in Python's packages, is loaded by
//! its path first, into the names of the process: then the loader finds it by name.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A library that is needed, with the names it may have, the newest first. cuBLAS needs the first itself.
const NEEDED: [(&str, &[&str]); 3] = [
    ("cuBLASLt", &["libcublasLt.so.13", "libcublasLt.so.12"]),
    ("cuBLAS", &["libcublas.so.13", "libcublas.so.12"]),
    ("cuDNN", &["libcudnn.so.9"]),
];

/// What became of a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// What it is called.
    pub name: &'static str,
    /// The file, or its bare name where the system's loader knows it; nothing where it is not to be had.
    pub file: Option<String>,
}

/// The libraries, loaded if need be, and the folders that were looked through for those that the system does not know.
pub(super) fn load() -> &'static (Vec<Library>, Vec<PathBuf>) {
    static FOUND: OnceLock<(Vec<Library>, Vec<PathBuf>)> = OnceLock::new();
    FOUND.get_or_init(|| {
        let given = given();
        let all: Vec<PathBuf> = given.iter().cloned().chain(known()).collect();
        let find = |(name, files): &(&'static str, &[&str])| {
            let in_folders = |folders: &[PathBuf]| {
                let paths = folders.iter().flat_map(|folder| files.iter().map(|file| folder.join(file)));
                paths.filter(|path| path.exists()).find(|path| open(path)).map(|path| path.display().to_string())
            };
            let by_system = || files.iter().find(|file| open(Path::new(file))).map(|&file| file.to_owned());
            Library { name, file: in_folders(&given).or_else(by_system).or_else(|| in_folders(&all)) }
        };
        (NEEDED.iter().map(find).collect(), all)
    })
}

/// Loads a library for the whole process, for good.
fn open(file: &Path) -> bool {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: it is NVIDIA's, whose initialisers are made to be run by any program that links it.
    let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_GLOBAL) };
    library.map(std::mem::forget).is_ok()
}

/// The folders of RKD_CUDA_LIBRARIES, which go before everything.
fn given() -> Vec<PathBuf> {
    env::var_os("RKD_CUDA_LIBRARIES").map_or_else(Vec::new, |list| env::split_paths(&list).collect())
}

/// The usual folders: toolkits, then Python's packages of NVIDIA.
fn known() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for home in ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(env::var_os) {
        folders.extend(["lib64", "lib"].map(|lib| Path::new(&home).join(lib)));
    }
    folders.extend(inside(Path::new("/usr/local"), |name| name.starts_with("cuda")).map(|home| home.join("lib64")));
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(env::var_os).map(PathBuf::from).collect();
    prefixes.extend(env::var_os("HOME").map(|home| Path::new(&home).join(".local")));
    prefixes.extend(["/usr/local", "/usr"].map(PathBuf::from));
    for prefix in prefixes {
        for python in inside(&prefix.join("lib"), |name| name.starts_with("python3")) {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                folders.extend(inside(&nvidia, |_| true).map(|package| package.join("lib")));
            }
        }
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

/// What is in a folder by names that are wanted, sorted; nothing where it cannot be read.
fn inside(folder: &Path, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted)).collect();
    found.sort();
    found.into_iter()
}
