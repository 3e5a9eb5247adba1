//! The device of the tests: the CPU twin, or, where `RKD_TEST_GPU` is set, the first GPU. So one program of tests checks both,
//! and where a GPU is asked for and cannot be used, its tests fail.

use std::env;

#[cfg(feature = "gpu")]
use crate::device::Failure;
use crate::device::{Argument, Convolution, Device, Kind, Pass, Product, Result};
#[cfg(feature = "gpu")]
use crate::gpu::{Buffer, Gpu};
use crate::twin::{Memory, Twin};

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

/// A buffer of the device of the tests.
#[derive(Debug)]
pub struct TestedBuffer(Place);

#[derive(Debug)]
enum Place {
    Twin(Memory),
    #[cfg(feature = "gpu")]
    Gpu(Buffer),
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

impl TestedBuffer {
    fn twin(&self) -> &Memory {
        match &self.0 {
            Place::Twin(memory) => memory,
            #[cfg(feature = "gpu")]
            Place::Gpu(_) => panic!("a buffer of the GPU came to the twin"),
        }
    }

    #[cfg(feature = "gpu")]
    fn gpu(&self) -> &Buffer {
        match &self.0 {
            Place::Gpu(buffer) => buffer,
            Place::Twin(_) => panic!("a buffer of the twin came to the GPU"),
        }
    }
}

/// Calls a device's own function, with its own buffers: `$of` says how it has them of those of the tests, and `$wrap` how its own
/// become one of those. Each call has both and few use both, hence `unused_variables`.
macro_rules! on {
    ($tested:expr, |$device:ident, $of:ident, $wrap:ident| $call:expr) => {
        match &$tested.hardware {
            Hardware::Twin($device) => {
                #[allow(unused_variables)]
                let ($of, $wrap) = (TestedBuffer::twin, |memory: Memory| TestedBuffer(Place::Twin(memory)));
                $call
            }
            #[cfg(feature = "gpu")]
            Hardware::Gpu($device) => {
                #[allow(unused_variables)]
                let ($of, $wrap) = (TestedBuffer::gpu, |buffer: Buffer| TestedBuffer(Place::Gpu(buffer)));
                $call
            }
        }
    };
}

impl Device for Tested {
    type Buffer = TestedBuffer;

    fn scratch(&self) -> usize {
        on!(self, |device, of, wrap| device.scratch())
    }

    fn len(buffer: &TestedBuffer) -> usize {
        match &buffer.0 {
            Place::Twin(memory) => Twin::len(memory),
            #[cfg(feature = "gpu")]
            Place::Gpu(buffer) => Gpu::len(buffer),
        }
    }

    fn kind(buffer: &TestedBuffer) -> Kind {
        match &buffer.0 {
            Place::Twin(memory) => Twin::kind(memory),
            #[cfg(feature = "gpu")]
            Place::Gpu(buffer) => Gpu::kind(buffer),
        }
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
        on!(self, |device, of, wrap| device.free_memory())
    }

    fn address(&self, buffer: &TestedBuffer) -> u64 {
        on!(self, |device, of, wrap| device.address(of(buffer)))
    }

    fn take_as(&self, kind: Kind, len: usize) -> Result<TestedBuffer> {
        on!(self, |device, of, wrap| device.take_as(kind, len).map(wrap))
    }

    fn upload(&self, values: &[f32]) -> Result<TestedBuffer> {
        on!(self, |device, of, wrap| device.upload(values).map(wrap))
    }

    fn download(&self, buffers: &[&TestedBuffer]) -> Result<Vec<Vec<f32>>> {
        on!(self, |device, of, wrap| {
            let buffers: Vec<_> = buffers.iter().map(|buffer| of(buffer)).collect();
            device.download(&buffers)
        })
    }

    fn synchronize(&self) -> Result<()> {
        on!(self, |device, of, wrap| device.synchronize())
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: [u32; 2],
        arguments: &[Argument<'_, TestedBuffer>],
    ) -> Result<()> {
        on!(self, |device, of, wrap| {
            let arguments: Vec<_> = arguments.iter().map(|argument| argument.map(of)).collect();
            // SAFETY: the contract is this function's own.
            unsafe { device.launch(kernel, grid, block, &arguments) }
        })
    }

    fn product(&self, product: &Product, a: &TestedBuffer, b: &TestedBuffer, c: &TestedBuffer) -> Result<()> {
        on!(self, |device, of, wrap| device.product(product, of(a), of(b), of(c)))
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&TestedBuffer; 2], out: &TestedBuffer) -> Result<bool> {
        if !self.convolutions {
            return Ok(false);
        }
        on!(self, |device, of, wrap| device.convolve(pass, shape, from.map(of), of(out)))
    }
}
