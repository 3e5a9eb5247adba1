//! Where an MPI library may be.

use std::fmt;
use std::path::PathBuf;

/// The environment variable that names the library.
pub const VARIABLE: &str = "RKD_MPI";

/// What was tried, and why it could not be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Each name or path with the loader's words; none where this platform is not supported.
    pub tried: Vec<(String, String)>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, why)) in self.tried.iter().enumerate() {
            write!(f, "{}{name} ({why})", if place > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// The names of a library, by vendor.
#[cfg(target_os = "macos")]
const FILES: [&str; 3] = ["libmpi.40.dylib", "libmpi_abi.1.dylib", "libmpi.12.dylib"];
#[cfg(not(target_os = "macos"))]
const FILES: [&str; 3] = ["libmpi.so.40", "libmpi_abi.so.1", "libmpi.so.12"];

/// The names to try, in order: what `RKD_MPI` names and nothing else; otherwise those of the vendor whose launcher started
/// this process first, each beside the `mpirun` of the `PATH` and then where the system looks.
pub fn names(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    if let Some(named) = variable(VARIABLE).filter(|named| !named.is_empty()) {
        return vec![named];
    }
    let mut files = FILES;
    let of_mpich = ["PMI_SIZE", "PMI_PORT"].into_iter().any(|name| variable(name).is_some());
    if variable("OMPI_COMM_WORLD_SIZE").is_none() && of_mpich {
        files.rotate_left(1); // MPICH's launcher
    }
    let beside = launcher(variable("PATH").as_deref()).map(|bin| bin.with_file_name("lib"));
    let beside = files.iter().filter_map(|file| Some(beside.as_ref()?.join(file)).filter(|path| path.is_file()));
    let paths: Vec<String> = beside.map(|path| path.display().to_string()).collect();
    paths.into_iter().chain(files.map(String::from)).collect()
}

/// The folder of the `mpirun` that the `PATH` has, where it really lies.
fn launcher(path: Option<&str>) -> Option<PathBuf> {
    let folders = std::env::split_paths(path?).collect::<Vec<_>>();
    let found = folders.iter().find(|folder| folder.join("mpirun").is_file())?;
    Some(found.canonicalize().unwrap_or_else(|_| found.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_library_is_the_only_one() {
        let variable = |name: &str| (name == VARIABLE).then(|| "/opt/mpi/libmpi.so".to_string());
        assert_eq!(names(variable), ["/opt/mpi/libmpi.so"]);
        assert_eq!(names(|name| (name == VARIABLE).then(String::new)), FILES);
    }

    #[test]
    fn the_library_of_the_launcher_comes_first() {
        let of = |launcher: &'static str| names(move |name| (name == launcher).then(|| "2".to_string()));
        assert_eq!(of("OMPI_COMM_WORLD_SIZE")[0], FILES[0]);
        assert_eq!(of("PMI_PORT"), of("PMI_SIZE"));
        assert_eq!(of("PMI_SIZE"), [FILES[1], FILES[2], FILES[0]]);
    }

    #[test]
    fn a_library_beside_the_launcher_is_tried_before_those_of_the_system() {
        let root = std::env::temp_dir().join(format!("rkd-mpi-{}", std::process::id()));
        let (bin, lib) = (root.join("bin"), root.join("lib"));
        [&bin, &lib].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        [bin.join("mpirun"), lib.join(FILES[2])].iter().for_each(|file| std::fs::write(file, "").unwrap());
        let path = std::env::join_paths([root.join("none"), bin]).unwrap().into_string().unwrap();
        let found = names(|name| (name == "PATH").then(|| path.clone()));
        let there = lib.canonicalize().unwrap().join(FILES[2]).display().to_string();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, [&[there.as_str()], &FILES[..]].concat());
    }
}
