//! What a network runs on: the devices there are, which one a run takes, and in plain words why one cannot be used.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Code, Error, Result};
use crate::input::invalid;
use crate::nn::Precision;

/// Where a network runs. Losses, samplers and metrics run on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(type = "\"cpu\" | \"candle-cpu\" | `cuda:${number}`"))]
pub enum Device {
    /// The own kernels, on the plan's threads.
    #[default]
    Cpu,
    /// candle on the CPU, in float32, on as many threads as `RAYON_NUM_THREADS` says or the machine has cores: what runs
    /// where there are no own kernels.
    CandleCpu,
    /// The NVIDIA GPU of this number, from 0, as the driver counts.
    Cuda(u32),
}

impl Device {
    /// The device of a name in plans: "cpu", "candle-cpu", "cuda:0".
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "cpu" => Some(Device::Cpu),
            "candle-cpu" => Some(Device::CandleCpu),
            _ => {
                let number = name.strip_prefix("cuda:")?;
                // Digits alone, so that a name is written in one way.
                let digits =
                    number.bytes().all(|byte| byte.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
                digits.then(|| number.parse().ok())?.map(Device::Cuda)
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::CandleCpu => f.write_str("candle-cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Device::named(&name).ok_or_else(|| de::Error::unknown_variant(&name, &["cpu", "candle-cpu", "cuda:0"]))
    }
}

/// What there is of CUDA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct CudaReport {
    /// The newest CUDA that the driver runs, for example "13.0"; null where there is no driver, or this build did not look.
    pub driver: Option<String>,
    /// In the driver's order: the first is "cuda:0".
    pub devices: Vec<CudaDevice>,
    /// Those that are needed.
    pub libraries: Vec<CudaLibrary>,
    /// Why no device can be used; null where one can.
    pub problem: Option<String>,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct CudaDevice {
    /// What its maker calls it.
    pub name: String,
    /// Bytes of its memory.
    pub memory: u64,
    /// Its compute capability, for example "9.0".
    pub capability: String,
    /// Why it cannot be used; null where it can.
    pub problem: Option<String>,
}

/// A library of NVIDIA's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct CudaLibrary {
    /// For example "cuDNN".
    pub name: String,
    /// Its file, or its name where the system's loader finds it; null where it is not to be had.
    pub file: Option<String>,
}

/// Looks at driver, devices and libraries; needs none of them, and never fails.
#[cfg(all(feature = "cuda", target_os = "linux"))]
pub fn cuda() -> CudaReport {
    use rkd_cuda::gpu::{Graphics, Library, look};
    let found = look();
    let device = |Graphics { name, memory, capability: [major, minor], problem }: Graphics| CudaDevice {
        name,
        memory: memory as u64,
        capability: format!("{major}.{minor}"),
        problem,
    };
    let library = |Library { name, file }: Library| CudaLibrary { name: name.into(), file };
    CudaReport {
        driver: found.driver,
        devices: found.devices.into_iter().map(device).collect(),
        libraries: found.libraries.into_iter().map(library).collect(),
        problem: found.problem,
    }
}

/// That this build has no CUDA.
#[cfg(not(all(feature = "cuda", target_os = "linux")))]
pub fn cuda() -> CudaReport {
    let problem = Some("this build has no CUDA".into());
    CudaReport { driver: None, devices: Vec::new(), libraries: Vec::new(), problem }
}

/// Whether this build has CUDA.
pub const BUILT: bool = cfg!(all(feature = "cuda", target_os = "linux"));

/// The error of a build without CUDA.
pub fn not_built(device: Device) -> Error {
    Error::new(Code::Device, "this build computes on the CPU only")
        .with_subject("device")
        .with_values("\"auto\", \"cpu\" or \"candle-cpu\"", format!("\"{device}\""))
        .with_advice("say device: \"auto\", which takes the best there is")
}

/// What a user says of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: the best there is.
    Unsaid,
    /// The best there is, and why it is no GPU.
    Best,
    /// This one.
    This(Device),
}

/// The device of a run, and a sentence where it is no GPU although there is one, or although this build could use one and the
/// best was asked for. `together` says that several processes train one network, which they do on the CPU.
///
/// # Errors
/// `ERR_DEVICE` where a GPU is asked for and cannot be used, with the reason.
pub fn choose(wish: Wish, together: bool) -> Result<(Device, Option<String>)> {
    match wish {
        Wish::This(device @ Device::Cuda(_)) if !BUILT => Err(not_built(device)),
        Wish::This(Device::Cuda(number)) => usable(&cuda(), number).map(|device| (device, None)),
        Wish::This(device) => Ok((device, None)),
        _ if together || !BUILT => Ok((Device::Cpu, None)),
        wish => Ok(best(&cuda(), wish == Wish::Best)),
    }
}

/// Checks that a device computes in this precision: all do in float32, GPUs in the others too.
///
/// # Errors
/// `ERR_INVALID_OPTION` for another one on the CPU.
pub fn check_precision(device: Device, precision: Precision) -> Result<()> {
    match (device, precision) {
        (Device::Cuda(_), _) | (_, Precision::Float32) => Ok(()),
        _ => {
            let expected = format!("\"float32\" on the device {device}");
            Err(invalid("precision", expected, format!("\"{precision}\""))
                .with_advice("leave the precision out, or compute on a GPU with device: \"cuda\""))
        }
    }
}

/// The error of a GPU that is asked for.
fn unusable(why: &dyn fmt::Display) -> Error {
    Error::new(Code::Device, format!("the GPU cannot be used: {why}"))
        .with_subject("device")
        .with_advice("see `rkd doctor`, or say device: \"cpu\"")
}

/// The GPU of this number.
fn usable(report: &CudaReport, number: u32) -> Result<Device> {
    if let Some(problem) = &report.problem {
        return Err(unusable(problem));
    }
    match report.devices.get(number as usize) {
        Some(CudaDevice { problem: None, .. }) => Ok(Device::Cuda(number)),
        Some(CudaDevice { problem: Some(problem), .. }) => Err(unusable(problem)),
        None => Err(unusable(&format!("there are {} of them, counted from cuda:0", report.devices.len()))),
    }
}

/// The first GPU that can be used, or the CPU; with a sentence where there are GPUs and none can, and always where it `is_asked_for`.
fn best(report: &CudaReport, is_asked_for: bool) -> (Device, Option<String>) {
    let usable = report.devices.iter().position(|device| device.problem.is_none());
    if let (None, Some(number)) = (&report.problem, usable) {
        return (Device::Cuda(number as u32), None);
    }
    let reason = report.problem.as_ref().or_else(|| report.devices.first()?.problem.as_ref());
    let reason = reason.filter(|_| is_asked_for || !report.devices.is_empty());
    (Device::Cpu, reason.map(|reason| format!("The run computes on the CPU; no GPU can be used: {reason}.")))
}

/// The backend on the GPU of this number, in float32.
///
/// # Errors
/// `ERR_DEVICE` with the reason.
#[cfg(all(feature = "cuda", target_os = "linux"))]
pub fn open(number: u32) -> Result<crate::nn::Cuda<rkd_cuda::gpu::Gpu>> {
    let gpu = rkd_cuda::gpu::Gpu::open(number as usize);
    gpu.map(crate::nn::Cuda::new).map_err(|failure| unusable(&failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(devices: &[Option<&str>], problem: Option<&str>) -> CudaReport {
        let device = |problem: &Option<&str>| CudaDevice {
            name: "H200".into(),
            memory: 1 << 37,
            capability: "9.0".into(),
            problem: problem.map(Into::into),
        };
        CudaReport {
            driver: Some("13.0".into()),
            devices: devices.iter().map(device).collect(),
            libraries: Vec::new(),
            problem: problem.map(Into::into),
        }
    }

    #[test]
    fn the_best_device_is_the_first_gpu_that_can_be_used() {
        for is_asked_for in [false, true] {
            assert_eq!(best(&report(&[Some("old"), None, None], None), is_asked_for), (Device::Cuda(1), None));
            for unusable in [report(&[None], Some("cuDNN not found")), report(&[Some("cuDNN not found")], None)] {
                let (device, warning) = best(&unusable, is_asked_for);
                assert_eq!(device, Device::Cpu);
                assert!(warning.unwrap().contains("cuDNN not found"));
            }
        }
        // Without a GPU, who asks for the best learns why it is none; others have nothing to learn.
        let none = report(&[], Some("there is no driver"));
        assert_eq!(best(&none, false), (Device::Cpu, None));
        assert!(best(&none, true).1.unwrap().contains("there is no driver"));
    }

    #[test]
    fn a_gpu_that_is_asked_for_is_taken_or_the_reason_given() {
        let two = report(&[None, Some("its compute capability is 7.5")], None);
        assert_eq!(usable(&two, 0).unwrap(), Device::Cuda(0));
        for (report, number, reason) in
            [(&two, 1, "7.5"), (&two, 2, "there are 2"), (&report(&[None], Some("driver 580")), 0, "driver 580")]
        {
            let error = usable(report, number).unwrap_err();
            assert_eq!(error.code, Code::Device);
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for device in [Device::Cpu, Device::CandleCpu, Device::Cuda(0), Device::Cuda(12)] {
            assert_eq!(Device::named(&device.to_string()), Some(device));
        }
        for other in ["cuda", "cuda:", "cuda:01", "cuda:+1", "cuda:-1", "cuda:99999999999", "gpu", "CPU"] {
            assert_eq!(Device::named(other), None, "{other}");
        }
    }
}
