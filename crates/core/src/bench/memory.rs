//! Peak memory of this process, as Linux counts it: the resident pages of `/proc/self/status`.
//!
//! `bench/pytorch_steps.py` measures itself the same way. Memory that an allocator keeps after earlier work would be used
//! again and not be seen, so one process should measure one workload.

use std::fs;

use crate::limits::Process;

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
        Some(PeakMemory { before: Process::now()?.resident as f64 / MIB })
    }

    /// The highest resident memory since the start, in MiB above that of the start.
    pub fn mib(&self) -> Option<f64> {
        Some((Process::now()?.peak as f64 / MIB - self.before).max(0.0))
    }
}

const MIB: f64 = 1024.0 * 1024.0;
