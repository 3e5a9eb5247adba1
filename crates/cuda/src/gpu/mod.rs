//! The device: the CUDA driver, cuBLAS and cuDNN by cudarc, loaded at run time.
//!
//! One context, a stream for the work and one for large uploads. Work that comes again is recorded as a CUDA graph, unless
//! `RKD_CUDA_GRAPHS` is "off". Products and convolutions are of float32, with TF32 where a handle allows it, or of bfloat16, with
//! sums in float32; algorithms that give the same bits from run to run. cudarc panics where
//! a library or one of its functions is missing, so whatever calls it first is [`guarded`].

mod convolution;
mod engine;
mod libraries;
mod memory;
mod probe;

use std::env;
use std::ffi::CString;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use cudarc::driver::{self, CudaContext, CudaStream, DriverError};

use self::convolution::Convolutions;
use self::engine::{Launcher, Products};
use self::memory::Memory;
pub use self::probe::{Found, Graphics, Library, look};
use crate::device::{Argument, Convolution, Device, Failure, Kind, Pass, Product, Result, SCRATCH};
use crate::pieces::{Buffer, lock};
use crate::queue::{Counts, Engine as _, Numbers, Passed, Queue, Work};

/// The kernels for compute capability 8.0 and later, which the driver compiles when they are loaded.
const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// A CUDA device, and whether its products of float32 may be of TF32. Clones share its memory and its streams.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>, bool);

struct Inner {
    // Dropped in this order: what needs the stream before the stream.
    queue: Mutex<Queue<Launcher>>,
    memory: Memory,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
    name: String,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({}, {})", self.0.context.ordinal(), self.0.name)
    }
}

fn failed(what: &str, error: impl fmt::Debug) -> Failure {
    Failure::Other(format!("{what}: {error:?}"))
}

/// What `call` says, or that it panicked: cudarc does where a library or a function of it is missing.
fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Failure::Other(words.unwrap_or("a library of CUDA panicked").to_owned()))
    })
}

impl Gpu {
    /// The device of this number.
    ///
    /// # Errors
    /// In words why it cannot be used: see [`look`].
    pub fn open(ordinal: usize) -> Result<Self> {
        let found = look();
        if let Some(problem) = found.problem {
            return Err(Failure::Other(problem));
        }
        match found.devices.get(ordinal) {
            None => {
                return Err(Failure::Other(format!("there are {} CUDA devices, counted from 0", found.devices.len())));
            }
            Some(Graphics { problem: Some(problem), .. }) => return Err(Failure::Other(problem.clone())),
            Some(_) => {}
        }
        guarded(|| {
            let said = |what| move |error: DriverError| failed(what, error);
            let context = CudaContext::new(ordinal).map_err(said("the device"))?;
            // SAFETY: all work is in the order of one stream; uploads say by events what they wait for.
            unsafe { context.disable_event_tracking() };
            let [stream, arrivals] = [context.new_stream(), context.new_stream()];
            let (stream, arrivals) = (stream.map_err(said("a stream"))?, arrivals.map_err(said("a stream"))?);
            let image = CString::new(KERNELS).map_err(|error| failed("the kernels", error))?;
            // SAFETY: the image is a text that ends in a zero, as the driver takes it.
            let module = unsafe { driver::result::module::load_data(image.as_ptr().cast()) };
            let module = module.map_err(said("the driver does not take the kernels"))?;
            let (products, convolutions) = (Products::open(&stream)?, Convolutions::open(&stream)?);
            let launcher = Launcher::new(module, products, convolutions, Arc::clone(&stream));
            let records = env::var_os("RKD_CUDA_GRAPHS").is_none_or(|wish| wish != "off");
            let queue = Mutex::new(Queue::new(launcher, records));
            let name = context.name().map_err(said("the name"))?;
            let memory = Memory::new(Arc::clone(&stream), arrivals);
            Ok(Gpu(Arc::new(Inner { queue, memory, stream, context, name }), false))
        })
    }

    /// The name of the device.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Bytes of the device's memory that buffers have taken, in use or free.
    pub fn allocated(&self) -> usize {
        self.0.memory.allocated()
    }

    /// How often work was started.
    pub fn counts(&self) -> Counts {
        lock(&self.0.queue).counts()
    }

    /// Makes the device this thread's.
    fn bind(&self) -> Result<()> {
        self.0.context.bind_to_thread().map_err(|error| failed("the device", error))
    }

    /// What `call` gives; where memory is lacking, once more after what is free in other sizes was given back.
    fn with_room<T>(&self, call: impl Fn() -> Result<T>) -> Result<T> {
        match call() {
            Err(Failure::Memory { .. }) => {
                // Work that is listed may still use what is free.
                self.flush()?;
                self.0.memory.release()?;
                call()
            }
            other => other,
        }
    }

    /// Adds to what the device is to do.
    fn push(&self, work: Work) -> Result<()> {
        self.bind()?;
        lock(&self.0.queue).push(work)
    }
}

impl Device for Gpu {
    type Buffer = Buffer;

    fn scratch(&self) -> usize {
        SCRATCH
    }

    fn len(buffer: &Buffer) -> usize {
        buffer.len
    }

    fn kind(buffer: &Buffer) -> Kind {
        buffer.kind
    }

    fn with_tf32(self, tf32: bool) -> Self {
        Gpu(self.0, tf32)
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        self.bind()?;
        let (free, _) = driver::result::mem_get_info().map_err(|error| failed("the device's memory", error))?;
        Ok(Some(free))
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        buffer.pointer
    }

    fn take_as(&self, kind: Kind, len: usize) -> Result<Buffer> {
        self.bind()?;
        self.with_room(|| self.0.memory.take(kind, len))
    }

    fn upload(&self, values: &[f32]) -> Result<Buffer> {
        let buffer = self.take(values.len())?;
        self.with_room(|| {
            let mut queue = lock(&self.0.queue);
            queue.flush()?;
            self.0.memory.upload(values, &buffer)
        })?;
        Ok(buffer)
    }

    fn download(&self, buffers: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        self.bind()?;
        let mut queue = lock(&self.0.queue);
        queue.flush()?;
        self.0.memory.download(buffers)
    }

    fn flush(&self) -> Result<()> {
        self.bind()?;
        lock(&self.0.queue).flush()
    }

    fn synchronize(&self) -> Result<()> {
        self.flush()?;
        self.0.stream.synchronize().map_err(|error| failed("the device", error))
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: [u32; 2],
        arguments: &[Argument<'_, Buffer>],
    ) -> Result<()> {
        let pass = |one: &Argument<'_, Buffer>| Passed {
            bytes: one.bytes(|buffer| buffer.pointer),
            letter: one.letter(|buffer| buffer.kind),
        };
        self.push(Work::Launch { kernel, grid, block, arguments: arguments.iter().map(pass).collect() })
    }

    fn product(&self, product: &Product, a: &Buffer, b: &Buffer, c: &Buffer) -> Result<()> {
        product.check::<Self>([a, b, c]);
        if product.m * product.n * product.batch == 0 {
            return Ok(());
        }
        let (numbers, kind) = (Numbers::of(a.kind, self.1), c.kind);
        let [a, b, c] = [a, b, c].map(|buffer| buffer.pointer);
        self.push(Work::Product { product: *product, numbers, kind, a, b, c })
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&Buffer; 2], out: &Buffer) -> Result<bool> {
        shape.check::<Self>(pass, from, out);
        self.bind()?;
        let numbers = Numbers::of(out.kind, self.1);
        let asked = (pass, *shape, numbers);
        let plan = guarded(|| lock(&self.0.queue).engine().convolutions.plan(asked))?;
        let Some((bytes, has_run)) = plan else { return Ok(false) };
        // Taken now, since what is free now may not be when the work is started.
        let workspace = self.take(bytes.div_ceil(Kind::Float32.bytes()))?;
        let (from, out, workspace) = (from.map(|buffer| buffer.pointer), out.pointer, workspace.pointer);
        let work = Work::Convolve { pass, shape: *shape, numbers, from, out, workspace };
        let mut queue = lock(&self.0.queue);
        if has_run {
            return queue.push(work).map(|()| true);
        }
        // Only by running it is it known whether cuDNN takes it.
        queue.flush()?;
        queue.engine().run(&[work])?;
        Ok(queue.engine().convolutions.plan(asked)?.is_some())
    }
}
