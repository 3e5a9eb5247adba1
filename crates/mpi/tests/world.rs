//! Processes under the `mpirun` of the PATH, or of the folders that RKD_TEST_MPI lists as a PATH does. Where there is none,
//! the test says so.
#![cfg(unix)]

#[path = "world/launch.rs"]
mod launch;

use launch::{RANK, launch, launchers};
use rkd_mpi::World;

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
            let output = launch(&bin, size, "exchanges", "1");
            let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "{}: {told}{failed}", bin.display());
            for rank in 0..size {
                assert!(told.contains(&format!("rank {rank} of {size}, ")), "{told}");
            }
        }
        assert!(!launch(&bin, 2, "one_aborts", "1").status.success());
    }
}
