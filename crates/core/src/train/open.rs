//! The one place that chooses what a session runs on.

use std::path::Path;

use super::device::Device;
use super::event::Control;
use super::host::Host;
use super::plan::Plan;
use super::session::Session;
use super::training::Training;
use crate::error::Result;
use crate::nn::Portable;

/// Opens a session on the plan's device.
///
/// # Errors
/// Those of [`Session::open`].
pub fn open(plan: Plan, resume: Option<&Path>, control: &Control) -> Result<Box<dyn Training>> {
    let host = Host::new(plan.threads);
    Ok(match plan.device {
        Device::Cpu => Box::new(Session::open(host.cpu(), host, plan, resume, control)?),
        Device::CandleCpu => Box::new(Session::open(Portable::cpu_f32(), host, plan, resume, control)?),
    })
}
