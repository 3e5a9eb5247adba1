//! The host beside a device: where losses, samplers and metrics compute, whatever the network runs on.

use std::sync::Arc;

use rkd_kernels::Pool;

use crate::nn::Cpu;

/// The threads of a run. Clones share them.
#[derive(Clone)]
pub struct Host {
    pool: Arc<Pool>,
}

impl Host {
    /// So many threads; 0: all cores.
    pub fn new(threads: usize) -> Host {
        Host { pool: Arc::new(Pool::new(threads)) }
    }

    /// The threads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The backend of the own kernels, on these threads.
    pub fn cpu(&self) -> Cpu {
        Cpu::new(Arc::clone(&self.pool))
    }
}
