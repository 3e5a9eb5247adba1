//! The peak of a process is only its own where nothing else runs in it: one test, in a file of its own.

use rkd_core::bench::PeakMemory;

#[test]
fn a_peak_is_seen_after_it_has_gone() {
    let Some(memory) = PeakMemory::start() else { return };
    drop(std::hint::black_box(vec![1_u8; 64 << 20]));
    let peak = memory.mib().unwrap();
    assert!(peak >= 60.0, "{peak} MiB after 64 MiB");
}
