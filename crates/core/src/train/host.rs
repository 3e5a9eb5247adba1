//! The host beside a device: where losses, samplers and metrics compute, whatever the network runs on; and the other ranks.

use std::sync::Arc;

use rkd_kernels::Team;

use crate::nn::Cpu;
use crate::ranks::Ranks;

/// The threads of a run, and the ranks that it is on. Clones share them.
#[derive(Clone)]
pub struct Host {
    team: Arc<Team>,
    ranks: Ranks,
}

impl Host {
    /// So many threads; 0: all cores.
    pub fn new(threads: usize) -> Host {
        Host::on(Ranks::one(), threads)
    }

    /// One of `ranks`, with so many threads; 0: all cores.
    pub fn on(ranks: Ranks, threads: usize) -> Host {
        Host { team: Arc::new(Team::new(threads)), ranks }
    }

    /// The ranks.
    pub fn ranks(&self) -> &Ranks {
        &self.ranks
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
