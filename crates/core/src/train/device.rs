//! What a network runs on.

use serde::{Deserialize, Serialize};

/// Where a network runs. Losses, samplers and metrics run on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The own kernels, on the plan's threads.
    #[default]
    Cpu,
    /// candle on the CPU, in float32, on as many threads as `RAYON_NUM_THREADS` says or the machine has cores: what runs
    /// where there are no own kernels.
    CandleCpu,
}

impl Device {
    /// The name in plans and messages.
    pub fn name(self) -> &'static str {
        match self {
            Device::Cpu => "cpu",
            Device::CandleCpu => "candle-cpu",
        }
    }
}
