//! What there is of CUDA on this machine, and in plain words why it cannot be used.

use cudarc::driver::result::{self, device};
use cudarc::driver::sys;

pub use super::libraries::Library;
use super::{failed, guarded, libraries};
use crate::device::{Failure, Result};

/// The driver's version that knows the kernels' form, as CUDA counts: 13.0. It comes with driver 580.
const DRIVER: i32 = 13_000;
/// The least compute capability.
const CAPABILITY: [i32; 2] = [8, 0];

/// A device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graphics {
    /// What its maker calls it.
    pub name: String,
    /// Bytes of its memory.
    pub memory: usize,
    /// Major and minor.
    pub capability: [i32; 2],
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The newest CUDA that the driver runs, "13.0"; nothing without a driver.
    pub driver: Option<String>,
    /// In the driver's order.
    pub devices: Vec<Graphics>,
    /// Those that are needed, found or not.
    pub libraries: Vec<Library>,
    /// Why no device can be used.
    pub problem: Option<String>,
}

/// Looks at driver, devices and libraries. Never panics, and needs none of them.
pub fn look() -> Found {
    let (libraries, folders) = libraries::load();
    let mut found = Found { driver: None, devices: Vec::new(), libraries: libraries.clone(), problem: None };
    found.problem = guarded(|| see(&mut found)).err().map(|failure| failure.to_string());
    let missing: Vec<&str> =
        libraries.iter().filter(|library| library.file.is_none()).map(|library| library.name).collect();
    if found.problem.is_none() && !missing.is_empty() {
        let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        let looked = if looked.is_empty() { "there only".to_owned() } else { looked.join(", ") };
        found.problem = Some(format!(
            "{} not found by the system's loader, nor in RKD_CUDA_LIBRARIES, CUDA_HOME, /usr/local/cuda* or Python's nvidia \
             packages (looked in {looked}): install CUDA 13 and cuDNN 9, or `pip install nvidia-cublas \
             nvidia-cudnn-cu13`, and name the folders of their lib in RKD_CUDA_LIBRARIES if they lie elsewhere",
            missing.join(" and "),
        ));
    }
    found
}

/// Fills in driver and devices; the error is why none can be used.
fn see(found: &mut Found) -> Result<()> {
    let other = |words: &str| Failure::Other(words.to_owned());
    // SAFETY: the library is the driver's, made to be loaded by any program.
    if !unsafe { sys::is_culib_present() } {
        return Err(other("there is no driver of NVIDIA: libcuda.so.1 is not found"));
    }
    let mut version = 0;
    // SAFETY: it writes one number.
    unsafe { sys::cuDriverGetVersion(&mut version) }.result().map_err(|error| failed("the driver's version", error))?;
    found.driver = Some(format!("{}.{}", version / 1000, version % 1000 / 10));
    result::init().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => other("the driver sees no device"),
        code => failed("the driver does not start", code),
    })?;
    let count = device::get_count().map_err(|error| failed("the number of devices", error))?;
    for ordinal in 0..count {
        found.devices.push(graphics(ordinal).map_err(|error| failed("a device", error))?);
    }
    if found.devices.is_empty() {
        return Err(other("the driver sees no device"));
    }
    if version < DRIVER {
        let has = found.driver.as_deref().unwrap_or_default();
        return Err(Failure::Other(format!("the driver runs CUDA {has}, and 13.0 is needed: driver 580 or later")));
    }
    Ok(())
}

fn graphics(ordinal: i32) -> std::result::Result<Graphics, result::DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let device = device::get(ordinal)?;
    // SAFETY: the device is one of the driver's.
    let (memory, major, minor) = unsafe {
        (
            device::total_mem(device)?,
            device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        )
    };
    let capability = [major, minor];
    let problem = (capability < CAPABILITY)
        .then(|| format!("its compute capability is {major}.{minor}, and 8.0 is needed (Ampere or later)"));
    Ok(Graphics { name: device::get_name(device)?, memory, capability, problem })
}

#[cfg(test)]
mod tests {
    use super::look;

    #[test]
    fn a_machine_is_looked_at_without_a_panic_and_says_why_it_has_no_device() {
        let found = look();
        assert_eq!(
            found.problem.is_none(),
            !found.devices.is_empty() && found.libraries.iter().all(|one| one.file.is_some())
        );
        if found.driver.is_none() {
            assert!(found.problem.unwrap().contains("libcuda.so.1"));
            assert!(crate::gpu::Gpu::open(0).unwrap_err().to_string().contains("libcuda.so.1"));
        }
    }
}
