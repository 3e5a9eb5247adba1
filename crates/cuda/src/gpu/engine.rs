//! What starts the work of a [`Queue`](crate::queue::Queue): launches of kernels, products by cuBLAS, convolutions by cuDNN, and
//! graphs of them.

use std::collections::HashMap;
use std::ffi::{CString, c_int, c_void};
use std::sync::Arc;

use cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasMath_t, cublasOperation_t as Operation, cudaDataType_t,
};
use cudarc::cublas::{self, result::CublasError};
use cudarc::driver::result::free_sync;
use cudarc::driver::sys::{CUfunction, CUgraphInstantiate_flags, CUmodule, CUstreamCaptureMode};
use cudarc::driver::{self, CudaGraph, CudaStream, DriverError};

use super::convolution::Convolutions;
use super::memory::allocate;
use super::{failed, guarded};
use crate::device::{Kind, Matrix, Product, Result};
use crate::queue::{Engine, Numbers, Passed, Work};

/// What starts work on a stream. The device is the calling thread's.
pub(super) struct Launcher {
    // Dropped in this order: what needs the stream before the stream.
    pub(super) convolutions: Convolutions,
    products: Products,
    functions: HashMap<&'static str, CUfunction>,
    module: CUmodule,
    stream: Arc<CudaStream>,
}

// SAFETY: the driver's functions and modules may be used by any thread that has the device.
unsafe impl Send for Launcher {}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.stream.synchronize();
        // SAFETY: the module was loaded, and nothing runs any more.
        let _ = unsafe { driver::result::module::unload(self.module) };
    }
}

/// A list of work that is started at once.
pub(super) struct Graph(CudaGraph);

// SAFETY: a graph may be used by any thread, by one at a time, which the mutex around the queue sees to.
unsafe impl Send for Graph {}

impl Launcher {
    /// With a module of kernels, which it unloads.
    pub(super) fn new(
        module: CUmodule,
        products: Products,
        convolutions: Convolutions,
        stream: Arc<CudaStream>,
    ) -> Self {
        Launcher { convolutions, products, functions: HashMap::new(), module, stream }
    }

    fn function(&mut self, kernel: &'static str) -> Result<CUfunction> {
        if let Some(&function) = self.functions.get(kernel) {
            return Ok(function);
        }
        let name = CString::new(kernel).map_err(|error| failed(kernel, error))?;
        // SAFETY: the module is loaded until this is dropped.
        let function = unsafe { driver::result::module::get_function(self.module, name) };
        let function = function.map_err(|error| failed(kernel, error))?;
        self.functions.insert(kernel, function);
        Ok(function)
    }

    fn launch(
        &mut self,
        kernel: &'static str,
        [x, y, z]: [u32; 3],
        [wide, tall]: [u32; 2],
        arguments: &[Passed],
    ) -> Result<()> {
        let function = self.function(kernel)?;
        let mut values: Vec<[u8; 8]> = arguments.iter().map(|one| one.bytes).collect();
        let mut places: Vec<*mut c_void> = values.iter_mut().map(|value| value.as_mut_ptr().cast()).collect();
        let stream = self.stream.cu_stream();
        // SAFETY: the contract of `Device::launch`, which has listed this.
        unsafe { driver::result::launch_kernel(function, (x, y, z), (wide, tall, 1), 0, stream, &mut places) }
            .map_err(|error| failed(kernel, error))
    }
}

impl Engine for Launcher {
    type Recording = Graph;

    fn run(&mut self, works: &[Work]) -> Result<()> {
        works.iter().try_for_each(|work| match work {
            Work::Launch { kernel, grid, block, arguments } => self.launch(kernel, *grid, *block, arguments),
            Work::Product { product, numbers, kind, a, b, c } => {
                guarded(|| self.products.start(product, (*numbers, *kind), [*a, *b, *c]))
            }
            Work::Convolve { pass, shape, numbers, from, out, workspace } => {
                let asked = (*pass, *shape, *numbers);
                guarded(|| self.convolutions.start(asked, [from[0], from[1], *out, *workspace]))
            }
        })
    }

    fn record(&mut self, works: &[Work]) -> Result<Option<Graph>> {
        let said = |error: DriverError| failed("a graph", error);
        // Another thread may take memory meanwhile.
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).map_err(said)?;
        let listed = self.run(works);
        // Ended in any case: until then the stream does nothing else.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        match (listed, graph) {
            (Ok(()), Ok(graph)) => Ok(graph.map(Graph)),
            // All of this work was run before: what fails is the recording.
            _ => Ok(None),
        }
    }

    fn replay(&mut self, Graph(graph): &Graph) -> Result<()> {
        graph.launch().map_err(|error| failed("a graph", error))
    }
}

/// Bytes that cuBLAS works in: what NVIDIA recommends for compute capability 9.0.
const WORKSPACE: usize = 32 << 20;

/// cuBLAS's handle, and the memory it works in: without its own, a graph would take some whenever it is started.
pub(super) struct Products {
    handle: cublas::sys::cublasHandle_t,
    workspace: u64,
}

// SAFETY: cuBLAS allows a handle to be used by any thread, by one at a time, which the mutex around the queue sees to.
unsafe impl Send for Products {}

impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: both were made and not given back before. Nothing can be done about a failure.
        let _ = unsafe { (cublas::result::destroy_handle(self.handle), free_sync(self.workspace)) };
    }
}

impl Products {
    /// On a stream of the calling thread's device.
    pub(super) fn open(stream: &CudaStream) -> Result<Self> {
        let said = |error: CublasError| failed("cuBLAS", error);
        let handle = cublas::result::create_handle().map_err(said)?;
        let mut products = Products { handle, workspace: 0 };
        // SAFETY: handle and stream live; that of the stream is one type by two names.
        unsafe { cublas::result::set_stream(handle, stream.cu_stream().cast()) }.map_err(said)?;
        products.workspace = allocate(WORKSPACE)?;
        // SAFETY: so many bytes are there, as long as the handle is.
        let set = unsafe { cublas::sys::cublasSetWorkspace_v2(handle, products.workspace as *mut c_void, WORKSPACE) };
        set.result().map_err(said)?;
        // Parts of a product are added up in float32, whatever its result is.
        let math = cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
        // SAFETY: the handle lives.
        unsafe { cublas::sys::cublasSetMathMode(handle, math) }.result().map_err(said)?;
        Ok(products)
    }

    /// Starts a product of matrices of these numbers at these addresses, which are within their buffers; the result is of `kind`.
    fn start(&self, product: &Product, (numbers, kind): (Numbers, Kind), [a, b, c]: [u64; 3]) -> Result<()> {
        let &Product { m, n, k, batch, ref beta, .. } = product;
        let from = numbers.kind();
        let place = |buffer: u64, kind: Kind, matrix: &Matrix| buffer + (kind.bytes() * matrix.first) as u64;
        let kept_as = |kind: Kind| match kind {
            Kind::Float32 => cudaDataType_t::CUDA_R_32F,
            Kind::Bfloat16 => cudaDataType_t::CUDA_R_16BF,
        };
        let compute = match numbers {
            Numbers::Float32 | Numbers::Bfloat16 => cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Numbers::Tf32 => cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        };
        let one = 1.0f32;
        let operation = |matrix: &Matrix| match matrix.transposed {
            false => Operation::CUBLAS_OP_N,
            true => Operation::CUBLAS_OP_T,
        };
        let int = |size: usize| size as c_int;
        // cuBLAS has columns where we have rows: it sees the transposes, and C^T = B^T A^T.
        // SAFETY: this function's contract, and the handle lives.
        unsafe {
            cublas::result::gemm_strided_batched_ex(
                self.handle,
                operation(&product.b),
                operation(&product.a),
                int(n),
                int(m),
                int(k),
                (&raw const one).cast(),
                place(b, from, &product.b) as *const c_void,
                kept_as(from),
                int(product.b.stride),
                product.b.next as i64,
                place(a, from, &product.a) as *const c_void,
                kept_as(from),
                int(product.a.stride),
                product.a.next as i64,
                (&raw const *beta).cast(),
                place(c, kind, &product.c) as *mut c_void,
                kept_as(kind),
                int(product.c.stride),
                product.c.next as i64,
                int(batch),
                compute,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .map_err(|error| failed("cuBLAS", error))
    }
}
