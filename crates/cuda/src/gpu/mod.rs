//! The device: the CUDA driver, cuBLAS and cuDNN by cudarc, loaded at run time.
//!
//! One context and one stream. Products and convolutions of float32 without TF32 unless a handle allows it, and of bfloat16 with sums
//! in float32; algorithms that give the same bits from run to run. cudarc panics where
//! a library or one of its functions is missing, so whatever calls it first is [`guarded`].

mod convolution;
mod libraries;
mod memory;
mod probe;

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::cublas::sys::{
    cublasComputeType_t as Compute, cublasMath_t, cublasOperation_t as Operation, cudaDataType_t,
};
use cudarc::cublas::{self, sys::cublasGemmAlgo_t};
use cudarc::driver::{self, CudaContext, CudaStream, DriverError};

use self::convolution::{Convolutions, Numbers};
pub use self::memory::Buffer;
use self::memory::Pool;
pub use self::probe::{Found, Graphics, Library, look};
use crate::device::{Argument, Convolution, Device, Failure, Kind, Matrix, Pass, Product, Result, SCRATCH};

/// The kernels for compute capability 8.0 and later, which the driver compiles when they are loaded.
const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// A CUDA device, and whether products of float32 may be of TF32. Clones share its memory and its stream.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>, bool);

struct Inner {
    // Dropped in this order: what needs the stream before the stream.
    convolutions: Mutex<Convolutions>,
    products: Mutex<Products>,
    functions: Mutex<HashMap<&'static str, usize>>,
    module: usize,
    pool: Arc<Pool>,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
    name: String,
}

/// cuBLAS's handle.
struct Products(cublas::sys::cublasHandle_t);

// SAFETY: cuBLAS allows a handle to be used by any thread, by one at a time, which the mutex around it sees to.
unsafe impl Send for Products {}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: it was created and not destroyed before. Nothing can be done about a failure.
        let _ = unsafe { cublas::result::destroy_handle(self.0) };
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
        // SAFETY: the module was loaded, and nothing runs any more.
        let _ = unsafe { driver::result::module::unload(self.module as driver::sys::CUmodule) };
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({}, {})", self.0.context.ordinal(), self.0.name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            // SAFETY: there is one stream, whose order is all the order there is.
            unsafe { context.disable_event_tracking() };
            let stream = context.new_stream().map_err(said("a stream"))?;
            let image = CString::new(KERNELS).map_err(|error| failed("the kernels", error))?;
            // SAFETY: the image is a text that ends in a zero, as the driver takes it.
            let module = unsafe { driver::result::module::load_data(image.as_ptr().cast()) };
            let module = module.map_err(said("the driver does not take the kernels"))? as usize;
            let handle = cublas::result::create_handle().map_err(|error| failed("cuBLAS", error))?;
            let products = Products(handle);
            // SAFETY: handle and stream live; that of the stream is one type by two names.
            unsafe { cublas::result::set_stream(handle, stream.cu_stream().cast()) }
                .map_err(|error| failed("cuBLAS", error))?;
            // What is added up of parts of a product is float32, whatever its result is.
            let math = cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
            // SAFETY: the handle lives.
            unsafe { cublas::sys::cublasSetMathMode(handle, math) }
                .result()
                .map_err(|error| failed("cuBLAS", error))?;
            let convolutions = Convolutions::open(&stream)?;
            let name = context.name().map_err(said("the name"))?;
            let pool = Arc::new(Pool::new(Arc::clone(&stream)));
            let (convolutions, products, functions) =
                (Mutex::new(convolutions), Mutex::new(products), Mutex::default());
            let inner = Inner { convolutions, products, functions, module, pool, stream, context, name };
            Ok(Gpu(Arc::new(inner), false))
        })
    }

    /// The name of the device.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Bytes of the device's memory that buffers have taken, in use or free.
    pub fn allocated(&self) -> usize {
        self.0.pool.allocated()
    }

    /// Makes the device this thread's.
    fn bind(&self) -> Result<()> {
        self.0.context.bind_to_thread().map_err(|error| failed("the device", error))
    }

    fn function(&self, kernel: &'static str) -> Result<driver::sys::CUfunction> {
        let mut functions = lock(&self.0.functions);
        if let Some(&function) = functions.get(kernel) {
            return Ok(function as driver::sys::CUfunction);
        }
        let name = CString::new(kernel).map_err(|error| failed(kernel, error))?;
        // SAFETY: the module is loaded until the device is dropped.
        let function = unsafe { driver::result::module::get_function(self.0.module as driver::sys::CUmodule, name) };
        let function = function.map_err(|error| failed(kernel, error))?;
        functions.insert(kernel, function as usize);
        Ok(function)
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
        self.0.pool.take(kind, len)
    }

    fn upload(&self, values: &[f32]) -> Result<Buffer> {
        let buffer = self.take(values.len())?;
        self.0.pool.upload(values, &buffer)?;
        Ok(buffer)
    }

    fn download(&self, buffers: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        self.bind()?;
        self.0.pool.download(buffers)
    }

    fn synchronize(&self) -> Result<()> {
        self.bind()?;
        self.0.stream.synchronize().map_err(|error| failed("the device", error))
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: [u32; 2],
        arguments: &[Argument<'_, Buffer>],
    ) -> Result<()> {
        self.bind()?;
        let function = self.function(kernel)?;
        let mut values: Vec<[u8; 8]> = arguments.iter().map(|one| one.bytes(|buffer| self.address(buffer))).collect();
        let mut places: Vec<*mut c_void> = values.iter_mut().map(|value| value.as_mut_ptr().cast()).collect();
        let ([x, y, z], [wide, tall]) = (grid, block);
        let stream = self.0.stream.cu_stream();
        // SAFETY: this function's contract.
        unsafe { driver::result::launch_kernel(function, (x, y, z), (wide, tall, 1), 0, stream, &mut places) }
            .map_err(|error| failed(kernel, error))
    }

    fn product(&self, product: &Product, a: &Buffer, b: &Buffer, c: &Buffer) -> Result<()> {
        product.check::<Self>([a, b, c]);
        let &Product { m, n, k, batch, beta, .. } = product;
        if m * n * batch == 0 {
            return Ok(());
        }
        self.bind()?;
        let place = |buffer: &Buffer, matrix: &Matrix| buffer.pointer + (buffer.kind.bytes() * matrix.first) as u64;
        let numbers = |buffer: &Buffer| match buffer.kind {
            Kind::Float32 => cudaDataType_t::CUDA_R_32F,
            Kind::Bfloat16 => cudaDataType_t::CUDA_R_16BF,
        };
        let compute = match (a.kind, self.1) {
            (Kind::Float32, true) => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => Compute::CUBLAS_COMPUTE_32F,
        };
        let (one, beta) = (1.0f32, beta);
        let operation = |matrix: &Matrix| match matrix.transposed {
            false => Operation::CUBLAS_OP_N,
            true => Operation::CUBLAS_OP_T,
        };
        let int = |size: usize| size as c_int;
        let handle = lock(&self.0.products);
        // cuBLAS has columns where we have rows: it sees the transposes, and C^T = B^T A^T.
        // SAFETY: the matrices are within their buffers, which was checked, and the handle lives.
        guarded(|| unsafe {
            cublas::result::gemm_strided_batched_ex(
                handle.0,
                operation(&product.b),
                operation(&product.a),
                int(n),
                int(m),
                int(k),
                (&raw const one).cast(),
                place(b, &product.b) as *const c_void,
                numbers(b),
                int(product.b.stride),
                product.b.next as i64,
                place(a, &product.a) as *const c_void,
                numbers(a),
                int(product.a.stride),
                product.a.next as i64,
                (&raw const beta).cast(),
                place(c, &product.c) as *mut c_void,
                numbers(c),
                int(product.c.stride),
                product.c.next as i64,
                int(batch),
                compute,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
            .map_err(|error| failed("cuBLAS", error))
        })
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&Buffer; 2], out: &Buffer) -> Result<bool> {
        shape.check::<Self>(pass, from, out);
        self.bind()?;
        let numbers = match (out.kind, self.1) {
            (Kind::Bfloat16, _) => Numbers::Bfloat16,
            (Kind::Float32, true) => Numbers::Tf32,
            (Kind::Float32, false) => Numbers::Float32,
        };
        guarded(|| lock(&self.0.convolutions).run(&self.0.pool, (pass, *shape, numbers), from, out))
    }
}
