//! The host beside a device: where losses, samplers and metrics compute, whatever the network runs on.

use std::sync::Arc;

use rkd_kernels::Team;

use crate::nn::Cpu;

/// The threads of a run. Clones share them.
#[derive(Clone)]
pub struct Host {
    team: Arc<Team>,
}

impl Host {
    /// So many threads; 0: all cores.
    pub fn new(threads: usize) -> Host {
        Host { team: Arc::new(Team::new(threads)) }
    }

    /// The threads.
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// The backend of the own kernels, on these threads.
    pub fn cpu(&self) -> Cpu {
        Cpu::new(Arc::clone(&self.team))
    }
}
