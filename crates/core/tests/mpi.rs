//! Ranks that are processes under the `mpirun` of the PATH, or of the folders that RKD_TEST_MPI lists as a PATH does: the same
//! bytes as one process. Where there is none, the test says so.

#[path = "../../mpi/tests/world/launch.rs"]
mod launch;
#[path = "ranks/run.rs"]
mod run;

use std::path::PathBuf;

use launch::{RANK, launch, launchers};
use rkd_core::ranks::{join, joined};
use rkd_core::train::{Control, Start, open};
use run::{distillation, plan, run};
use serde_json::json;

#[test]
#[ignore = "a process of the other tests"]
fn as_one_of_several() {
    let Some(folder) = std::env::var_os(RANK).map(PathBuf::from) else { return };
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
                let output = launch(&bin, size, "as_one_of_several", folder.path());
                let text = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{}: {text}", bin.display());
                let model = std::fs::read(folder.path().join("model")).unwrap();
                assert!(model == one, "plan {place}, {size} processes of {}", bin.display());
                std::fs::remove_file(folder.path().join("model")).unwrap();
            }
        }
    }
}
