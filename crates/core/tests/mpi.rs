//! Ranks that are processes under the `mpirun` of the PATH, or of the folders that RKD_TEST_MPI lists as a PATH does: the same
//! bytes as one process. Where there is none, the test says so.

#[path = "ranks/run.rs"]
mod run;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rkd_core::ranks::{join, joined};
use rkd_core::train::{Control, Start, open};
use run::{distillation, plan, run};
use serde_json::json;

/// Says to a process of this file that it is a rank, and where the run is.
const FOLDER: &str = "RKD_TEST_RANKS";

/// The folders that have an `mpirun`.
fn launchers() -> Vec<PathBuf> {
    let path = std::env::var_os("RKD_TEST_MPI").or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found = std::env::split_paths(&path).filter(|folder| folder.join("mpirun").is_file());
    let mut folders: Vec<PathBuf> = found.collect();
    if std::env::var_os("RKD_TEST_MPI").is_none() {
        folders.truncate(1);
    }
    if folders.is_empty() {
        eprintln!("NOT RUN: there is no mpirun in the PATH (apt install openmpi-bin, or pip install mpich)");
    }
    folders
}

/// This file's test `as_one_of_several` in so many processes.
fn launch(bin: &Path, size: usize, folder: &Path) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin.to_path_buf()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new(bin.join("mpirun"));
    command.args(["-n", &size.to_string()]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "as_one_of_several", "--nocapture", "--include-ignored"]);
    // Open MPI refuses more processes than cores, and root.
    let oversubscribed = ["PRTE_MCA_rmaps_default_mapping_policy", "OMPI_MCA_rmaps_base_mapping_policy"];
    command.envs(oversubscribed.map(|name| (name, ":oversubscribe")));
    command.envs(["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"].map(|name| (name, "1")));
    command.env("PATH", path).env(FOLDER, folder).output().unwrap()
}

#[test]
#[ignore = "a process of the other tests"]
fn as_one_of_several() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let plan = serde_json::from_slice(&std::fs::read(folder.join("plan")).unwrap()).unwrap();
    let (ranks, world) = join().unwrap();
    let found = run(&ranks, &plan, &folder, false, 4).unwrap();
    assert_eq!(found.is_some(), ranks.is_first());
    assert!(joined().is_some());
    world.leave();
}

#[test]
fn processes_give_the_bytes_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let plans = [plan(folder.path(), json!({})), distillation(folder.path())];
    for (place, plan) in plans.iter().enumerate() {
        let silent = Control::silent();
        let mut session = open(plan.clone(), &Start::default(), &silent).unwrap();
        session.train(4, &silent).unwrap();
        session.save_model(&folder.path().join("one"), false).unwrap();
        let one = std::fs::read(folder.path().join("one")).unwrap();
        std::fs::write(folder.path().join("plan"), serde_json::to_vec(plan).unwrap()).unwrap();
        for bin in launchers() {
            for size in [2, 4] {
                let output = launch(&bin, size, folder.path());
                let text = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{}: {text}", bin.display());
                let model = std::fs::read(folder.path().join("model")).unwrap();
                assert!(model == one, "plan {place}, {size} processes of {}", bin.display());
                std::fs::remove_file(folder.path().join("model")).unwrap();
            }
        }
    }
}
