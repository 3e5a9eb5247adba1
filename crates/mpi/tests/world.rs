//! Processes under the `mpirun` of the PATH, or of the folders that RKD_TEST_MPI lists as a PATH does. Where there is none,
//! the test says so.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rkd_mpi::World;

/// Says to a process of this file that it is a rank.
const RANK: &str = "RKD_TEST_RANKS";

/// The folders that have an `mpirun`.
fn launchers() -> Vec<PathBuf> {
    let several = std::env::var_os("RKD_TEST_MPI");
    let path = several.clone().or_else(|| std::env::var_os("PATH")).unwrap_or_default();
    let found: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.join("mpirun").is_file()).collect();
    if found.is_empty() {
        eprintln!("NOT RUN: there is no mpirun in the PATH (apt install openmpi-bin, or pip install mpich)");
    }
    if several.is_some() { found } else { found.into_iter().take(1).collect() }
}

/// The test `name` of this file in so many processes.
fn launch(bin: &Path, size: usize, name: &str) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin.to_path_buf()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut command = Command::new(bin.join("mpirun"));
    command.args(["-n", &size.to_string()]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--include-ignored"]);
    // Open MPI refuses more processes than cores, and root.
    let oversubscribed = ["PRTE_MCA_rmaps_default_mapping_policy", "OMPI_MCA_rmaps_base_mapping_policy"];
    command.envs(oversubscribed.map(|name| (name, ":oversubscribe")));
    command.envs(["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"].map(|name| (name, "1")));
    command.env("PATH", path).env(RANK, "1").output().unwrap()
}

#[test]
#[ignore = "a process of the other tests"]
fn exchanges() {
    if std::env::var_os(RANK).is_none() {
        return;
    }
    let world = World::join().unwrap();
    let (rank, size) = (world.rank(), world.size());
    let mut bytes = vec![0; 2 * size];
    world.all_gather(&[rank as u8, 7], &mut bytes).unwrap();
    assert_eq!(bytes, (0..size).flat_map(|rank| [rank as u8, 7]).collect::<Vec<u8>>());
    let mut numbers = vec![0.0; size];
    world.all_gather_numbers(&[rank as f32 + 0.5], &mut numbers).unwrap();
    assert_eq!(numbers, (0..size).map(|rank| rank as f32 + 0.5).collect::<Vec<f32>>());
    let mut mine = vec![0.0; size];
    let from: Vec<f32> = (0..size).map(|to| (10 * rank + to) as f32).collect();
    world.all_to_all(&from, &mut mine).unwrap();
    assert_eq!(mine, (0..size).map(|from| (10 * from + rank) as f32).collect::<Vec<f32>>());
    let mut word = if rank == 0 { *b"word" } else { [0; 4] };
    world.broadcast(&mut word).unwrap();
    assert_eq!(&word, b"word");
    assert!(!world.host().is_empty());
    println!("rank {rank} of {size}, {}.", world.version());
    world.leave();
    world.leave(); // once is enough
}

#[test]
#[ignore = "a process of the other tests"]
fn one_aborts() {
    if std::env::var_os(RANK).is_none() {
        return;
    }
    let world = World::join().unwrap();
    if world.rank() == 1 {
        world.abort(7);
    }
    let _ = world.all_gather(&[0], &mut vec![0; world.size()]); // the others wait for ever
}

#[test]
fn processes_of_any_vendor_exchange_and_end_together() {
    for bin in launchers() {
        for size in [1, 2, 4] {
            let output = launch(&bin, size, "exchanges");
            let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{}: {told}{failed}", bin.display());
            for rank in 0..size {
                assert!(told.contains(&format!("rank {rank} of {size}, ")), "{told}");
            }
        }
        assert!(!launch(&bin, 2, "one_aborts").status.success());
    }
}
