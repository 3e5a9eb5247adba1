//! Tests of a file as ranks, under the `mpirun` of the PATH, or of the folders that RKD_TEST_MPI lists as a PATH does.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Says to a process that it is a rank; what it is set to is the test's own.
pub const RANK: &str = "RKD_TEST_RANKS";

/// The folders that have an `mpirun`; where there is none, a line says that the test was not run.
pub fn launchers() -> Vec<PathBuf> {
    let several = std::env::var_os("RKD_TEST_MPI");
    let path = several.clone().or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.join("mpirun").is_file()).collect();
    if found.is_empty() {
        eprintln!("NOT RUN: there is no mpirun in the PATH (apt install openmpi-bin, or pip install mpich)");
    }
    if several.is_some() { found } else { found.into_iter().take(1).collect() }
}

/// The ignored test `name` of the running file in so many processes, which find `rank` in [`RANK`].
pub fn launch(bin: &Path, size: usize, name: &str, rank: impl AsRef<OsStr>) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin.to_path_buf()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new(bin.join("mpirun"));
    command.args(["-n", &size.to_string()]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--include-ignored"]);
    // Open MPI refuses more processes than cores, and root.
    let oversubscribed = ["PRTE_MCA_rmaps_default_mapping_policy", "OMPI_MCA_rmaps_base_mapping_policy"];
    command.envs(oversubscribed.map(|name| (name, ":oversubscribe")));
    command.envs(["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"].map(|name| (name, "1")));
    command.env("PATH", path).env(RANK, rank).output().unwrap()
}
