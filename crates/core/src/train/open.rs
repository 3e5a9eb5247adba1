//! The one place that chooses what a session runs on.

use super::device::Device;
use super::event::Control;
use super::host::Host;
use super::plan::Plan;
use super::session::Session;
use super::start::Start;
use super::training::Training;
use crate::error::Result;
use crate::nn::Portable;

/// Opens a session on the plan's device.
///
/// # Errors
/// Those of [`Session::open`].
pub fn open(plan: Plan, start: &Start, control: &Control) -> Result<Box<dyn Training>> {
    let host = Host::new(plan.threads);
    Ok(match plan.device {
        Device::Cpu => Box::new(Session::open(host.cpu(), host, plan, start, control)?),
        Device::CandleCpu => Box::new(Session::open(Portable::cpu_f32(), host, plan, start, control)?),
    })
}
