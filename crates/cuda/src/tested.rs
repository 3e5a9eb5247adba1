//! The device of the tests: the CPU twin, or, where `RKD_TEST_GPU` is set, the first GPU. So one program of tests checks both,
//! and where a GPU is asked for and cannot be used, its tests fail.

use std::env;

#[cfg(feature = "gpu")]
use crate::device::Failure;
use crate::device::{Argument, Convolution, Device, Kind, Pass, Product, Result};
#[cfg(feature = "gpu")]
use crate::gpu::Gpu;
use crate::pieces::Buffer;
use crate::queue::Counts;
use crate::twin::Twin;

/// Calls a device's own function.
macro_rules! on {
    ($tested:expr, |$device:ident| $call:expr) => {
        match &$tested.hardware {
            Hardware::Twin($device) => $call,
            #[cfg(feature = "gpu")]
            Hardware::Gpu($device) => $call,
        }
    };
}

/// The device of the tests.
#[derive(Clone, Debug)]
pub struct Tested {
    hardware: Hardware,
    /// Whether the library of convolutions is used.
    convolutions: bool,
}

#[derive(Clone, Debug)]
enum Hardware {
    Twin(Twin),
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
}

/// Whether `RKD_TEST_GPU` asks for a GPU.
pub fn is_gpu_wanted() -> bool {
    env::var_os("RKD_TEST_GPU").is_some_and(|value| !value.is_empty() && value != "0")
}

impl Tested {
    /// With a library of convolutions, as cuDNN is one, or without: then the operations' own are tested.
    ///
    /// # Panics
    /// Where a GPU is asked for and cannot be used, with the reason.
    pub fn new(convolutions: bool) -> Self {
        let hardware = if is_gpu_wanted() { Hardware::gpu() } else { Hardware::Twin(Twin::default()) };
        Tested { hardware, convolutions }
    }

    /// How often work was started.
    pub fn counts(&self) -> Counts {
        on!(self, |device| device.counts())
    }
}

impl Hardware {
    /// The GPU, which all tests of a process share.
    #[cfg(feature = "gpu")]
    fn gpu() -> Self {
        use std::sync::OnceLock;
        static OPENED: OnceLock<std::result::Result<Gpu, Failure>> = OnceLock::new();
        match OPENED.get_or_init(|| Gpu::open(0)) {
            Ok(gpu) => Hardware::Gpu(gpu.clone()),
            Err(failure) => panic!("RKD_TEST_GPU asks for a GPU, which cannot be used: {failure}"),
        }
    }

    #[cfg(not(feature = "gpu"))]
    fn gpu() -> Self {
        panic!("RKD_TEST_GPU asks for a GPU, and these tests were built without the feature for one");
    }
}

impl Device for Tested {
    type Buffer = Buffer;

    fn scratch(&self) -> usize {
        on!(self, |device| device.scratch())
    }

    fn len(buffer: &Buffer) -> usize {
        buffer.len
    }

    fn kind(buffer: &Buffer) -> Kind {
        buffer.kind
    }

    fn with_tf32(self, tf32: bool) -> Self {
        let hardware = match self.hardware {
            Hardware::Twin(twin) => Hardware::Twin(twin.with_tf32(tf32)),
            #[cfg(feature = "gpu")]
            Hardware::Gpu(gpu) => Hardware::Gpu(gpu.with_tf32(tf32)),
        };
        Tested { hardware, ..self }
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        on!(self, |device| device.free_memory())
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        on!(self, |device| device.address(buffer))
    }

    fn take_as(&self, kind: Kind, len: usize) -> Result<Buffer> {
        on!(self, |device| device.take_as(kind, len))
    }

    fn upload(&self, values: &[f32]) -> Result<Buffer> {
        on!(self, |device| device.upload(values))
    }

    fn download(&self, buffers: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        on!(self, |device| device.download(buffers))
    }

    fn flush(&self) -> Result<()> {
        on!(self, |device| device.flush())
    }

    fn synchronize(&self) -> Result<()> {
        on!(self, |device| device.synchronize())
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: [u32; 2],
        arguments: &[Argument<'_, Buffer>],
    ) -> Result<()> {
        // SAFETY: the contract is this function's own.
        on!(self, |device| unsafe { device.launch(kernel, grid, block, arguments) })
    }

    fn product(&self, product: &Product, a: &Buffer, b: &Buffer, c: &Buffer) -> Result<()> {
        on!(self, |device| device.product(product, a, b, c))
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&Buffer; 2], out: &Buffer) -> Result<bool> {
        if !self.convolutions {
            return Ok(false);
        }
        on!(self, |device| device.convolve(pass, shape, from, out))
    }
}
