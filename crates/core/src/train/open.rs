//! The one place that chooses what a session runs on.

use super::event::Control;
use super::host::Host;
use super::plan::Plan;
use super::session::Session;
use super::start::Start;
use super::training::Training;
use crate::devices::{self, Device};
use crate::error::{Code, Error, Result};
use crate::nn::Portable;
use crate::ranks::Ranks;

/// Opens a session on the plan's device, in this process alone.
///
/// # Errors
/// Those of [`Session::open`].
pub fn open(plan: Plan, start: &Start, control: &Control) -> Result<Box<dyn Training>> {
    open_on(&Ranks::one(), plan, start, control)
}

/// Opens the session of one of `ranks`, all of which do so.
///
/// # Errors
/// Those of [`Session::open`]; `ERR_INVALID_OPTION` for a device that several ranks do not train on, or that does not compute in
/// the plan's precision.
pub(super) fn open_on(ranks: &Ranks, plan: Plan, start: &Start, control: &Control) -> Result<Box<dyn Training>> {
    devices::check_precision(plan.device, plan.precision)?;
    let host = Host::on(ranks.clone(), plan.threads);
    Ok(match plan.device {
        Device::Cpu => Box::new(Session::open(host.cpu(), host, plan, start, control)?),
        Device::CandleCpu | Device::Cuda(_) if ranks.size() > 1 => {
            return Err(Error::new(Code::InvalidOption, "this device does not train on several ranks")
                .with_subject("device")
                .with_values("cpu", plan.device.to_string())
                .with_advice("leave the device out, or start one process"));
        }
        Device::CandleCpu => Box::new(Session::open(Portable::cpu_f32(), host, plan, start, control)?),
        #[cfg(all(feature = "cuda", target_os = "linux"))]
        Device::Cuda(number) => {
            let backend = devices::open(number)?.with_precision(plan.precision);
            Box::new(Session::open(backend, host, plan, start, control)?)
        }
        #[cfg(not(all(feature = "cuda", target_os = "linux")))]
        device @ Device::Cuda(_) => return Err(devices::not_built(device)),
    })
}
