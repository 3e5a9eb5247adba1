//! Peak memory of this process, as Linux counts it: the resident pages of `/proc/self/status`.
//!
//! `bench/pytorch_steps.py` measures itself the same way. Memory that an allocator keeps after earlier work would be used
//! again and not be seen, so one process should measure one workload.

use std::fs;

/// Resident memory before some work.
#[derive(Debug)]
pub struct PeakMemory {
    before: f64,
}

impl PeakMemory {
    /// Starts to watch; `None` on a system that does not say.
    pub fn start() -> Option<PeakMemory> {
        // Sets the peak to what is resident now (man 5 proc_pid_clear_refs). Where that is not allowed the peak of the
        // process's start counts, which is below that of any training.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Some(PeakMemory { before: mebibytes("VmRSS:")? })
    }

    /// The highest resident memory since the start, in MiB above that of the start.
    pub fn mib(&self) -> Option<f64> {
        Some((mebibytes("VmHWM:")? - self.before).max(0.0))
    }
}

fn mebibytes(field: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}
