//! Convolutions by cuDNN, NHWC, with sums in float32 of float32, TF32 or bfloat16. Descriptors and the algorithm of each shape are
//! kept; only algorithms that give the same bits from run to run are taken, the one that cuDNN expects to be fastest first.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::mem::zeroed;

use cudarc::cudnn::result::{self, CudnnError};
use cudarc::cudnn::sys::{self, cudnnStatus_t as Status};
use cudarc::driver::CudaStream;

use super::failed;
use crate::device::{Convolution, Failure, Pass, Result};
use crate::queue::Numbers;

/// Bytes that an algorithm may work in.
const WORKSPACE: usize = 1 << 30;

/// Algorithms that are asked for: all that there are of any pass.
const ALGORITHMS: usize = 8;

/// A pass of a shape on these numbers.
type Asked = (Pass, Convolution, Numbers);

/// cuDNN's handle, and what it takes to run each shape; `None` where it does not take it.
pub(super) struct Convolutions {
    plans: HashMap<Asked, Option<Plan>>,
    handle: Handle,
}

struct Handle(sys::cudnnHandle_t);

// SAFETY: cuDNN allows a handle and descriptors to be used by any thread, by one at a time, which the mutex around all this
// sees to.
unsafe impl Send for Convolutions {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was created and not destroyed before. Nothing can be done about a failure.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// An algorithm of a pass.
#[derive(Clone, Copy)]
enum Algorithm {
    Forward(sys::cudnnConvolutionFwdAlgo_t),
    Input(sys::cudnnConvolutionBwdDataAlgo_t),
    Filter(sys::cudnnConvolutionBwdFilterAlgo_t),
}

struct Plan {
    described: Described,
    algorithm: Algorithm,
    workspace: usize,
    has_run: bool,
}

/// The descriptors of a shape.
struct Described {
    x: sys::cudnnTensorDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    filters: sys::cudnnFilterDescriptor_t,
    windows: sys::cudnnConvolutionDescriptor_t,
}

impl Drop for Described {
    fn drop(&mut self) {
        // SAFETY: each was created and not destroyed before. Nothing can be done about a failure.
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_filter_descriptor(self.filters);
            let _ = result::destroy_convolution_descriptor(self.windows);
        }
    }
}

impl Described {
    fn new(shape: &Convolution, numbers: Numbers) -> std::result::Result<Self, CudnnError> {
        let described = Described {
            x: result::create_tensor_descriptor()?,
            y: result::create_tensor_descriptor()?,
            filters: result::create_filter_descriptor()?,
            windows: result::create_convolution_descriptor()?,
        };
        let int = |size: usize| size as c_int;
        let (float, nhwc) = (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC);
        let (data, math) = match numbers {
            Numbers::Float32 => (float, sys::cudnnMathType_t::CUDNN_FMA_MATH),
            // From Ampere on this takes TF32.
            Numbers::Tf32 => (float, sys::cudnnMathType_t::CUDNN_DEFAULT_MATH),
            Numbers::Bfloat16 => {
                (sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16, sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH)
            }
        };
        let map = |size: [usize; 2], c: usize| [shape.n, c, size[0], size[1]].map(int);
        let [kernel_h, kernel_w] = shape.kernel;
        let filters = [shape.c_out, shape.c_in / shape.groups, kernel_h, kernel_w].map(int);
        let [padding, stride, dilation] = [shape.padding, shape.stride, shape.dilation].map(|pair| pair.map(int));
        // SAFETY: the descriptors have just been created; the arrays have two entries, as is said.
        unsafe {
            result::set_tensor4d_descriptor(described.x, nhwc, data, map(shape.input, shape.c_in))?;
            result::set_tensor4d_descriptor(described.y, nhwc, data, map(shape.output, shape.c_out))?;
            result::set_filter4d_descriptor(described.filters, data, nhwc, filters)?;
            let cross = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
            let (padding, stride, dilation) = (padding.as_ptr(), stride.as_ptr(), dilation.as_ptr());
            result::set_convolutionnd_descriptor(described.windows, 2, padding, stride, dilation, cross, float)?;
            result::set_convolution_group_count(described.windows, int(shape.groups))?;
            result::set_convolution_math_type(described.windows, math)?;
        }
        Ok(described)
    }
}

/// Whether cuDNN says that it does not take something, rather than that something is wrong: 3000 to 3999, since cuDNN 9.
fn is_unsupported(error: CudnnError) -> bool {
    (3000..4000).contains(&(error.0 as u32))
}

/// The first algorithm of cuDNN's list that can be taken, and the bytes it works in.
macro_rules! first {
    ($perf:ty, $variant:ident, $ask:expr) => {{
        // SAFETY: zeros are a value of every field of these structures.
        let mut found: [$perf; ALGORITHMS] = unsafe { zeroed() };
        let mut count: c_int = 0;
        let ask = $ask;
        ask(ALGORITHMS as c_int, &mut count, found.as_mut_ptr())?;
        let usable = found[..(count.max(0) as usize).min(ALGORITHMS)].iter().find(|one| {
            one.status == Status::CUDNN_STATUS_SUCCESS
                && one.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC
                && one.memory <= WORKSPACE
        });
        usable.map(|one| (Algorithm::$variant(one.algo), one.memory, one.mathType))
    }};
}

impl Convolutions {
    /// On a stream of the calling thread's device.
    pub(super) fn open(stream: &CudaStream) -> Result<Self> {
        let handle = Handle(result::create_handle().map_err(|error| failed("cuDNN", error))?);
        // SAFETY: handle and stream live; that of the stream is one type by two names.
        unsafe { result::set_stream(handle.0, stream.cu_stream().cast()) }.map_err(|error| failed("cuDNN", error))?;
        Ok(Convolutions { plans: HashMap::new(), handle })
    }

    /// The bytes that a pass works in, and whether it has run before; nothing where cuDNN does not take it.
    pub(super) fn plan(&mut self, asked: Asked) -> Result<Option<(usize, bool)>> {
        let handle = self.handle.0;
        let plan = match self.plans.entry(asked) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => match plan(handle, asked) {
                Ok(plan) => entry.insert(plan),
                Err(error) if is_unsupported(error) => entry.insert(None),
                Err(error) => return Err(failed("cuDNN", error)),
            },
        };
        Ok(plan.as_ref().map(|plan| (plan.workspace, plan.has_run)))
    }

    /// Starts a pass that is planned, with the addresses of what it reads, of what it writes and of what it works in, which are
    /// long enough. Where it is the first time and cuDNN does not take it after all, the plan is gone.
    pub(super) fn start(&mut self, asked: Asked, addresses: [u64; 4]) -> Result<()> {
        let Some(plan) = self.plans.get_mut(&asked).and_then(Option::as_mut) else {
            return Err(Failure::Other(format!("no plan of {asked:?}")));
        };
        match start(self.handle.0, plan, addresses) {
            Ok(()) => plan.has_run = true,
            Err(error) if is_unsupported(error) && !plan.has_run => drop(self.plans.insert(asked, None)),
            Err(error) => return Err(failed("cuDNN", error)),
        }
        Ok(())
    }
}

/// How to run a pass, if cuDNN has an algorithm that can be taken.
fn plan(handle: sys::cudnnHandle_t, (pass, shape, numbers): Asked) -> std::result::Result<Option<Plan>, CudnnError> {
    let described = Described::new(&shape, numbers)?;
    let Described { x, y, filters, windows } = described;
    let found = match pass {
        Pass::Forward => first!(sys::cudnnConvolutionFwdAlgoPerf_t, Forward, |most, count: &mut c_int, list| {
            // SAFETY: handle and descriptors live, and the list has as many places as is said.
            unsafe { result::get_convolution_forward_algorithm(handle, x, filters, windows, y, most, count, list) }
        }),
        Pass::Input => first!(sys::cudnnConvolutionBwdDataAlgoPerf_t, Input, |most, count: &mut c_int, list| {
            // SAFETY: as above.
            unsafe {
                result::get_convolution_backward_data_algorithm(handle, filters, y, windows, x, most, count, list)
            }
        }),
        Pass::Filter => first!(sys::cudnnConvolutionBwdFilterAlgoPerf_t, Filter, |most, count: &mut c_int, list| {
            // SAFETY: as above.
            unsafe {
                result::get_convolution_backward_filter_algorithm(handle, x, y, windows, filters, most, count, list)
            }
        }),
    };
    let Some((algorithm, workspace, math)) = found else { return Ok(None) };
    if numbers != Numbers::Float32 {
        // An algorithm is one with and another one without tensor cores.
        // SAFETY: the descriptor lives.
        unsafe { result::set_convolution_math_type(windows, math) }?;
    }
    Ok(Some(Plan { described, algorithm, workspace, has_run: false }))
}

/// Queues a pass.
fn start(handle: sys::cudnnHandle_t, plan: &Plan, addresses: [u64; 4]) -> std::result::Result<(), CudnnError> {
    let Described { x, y, filters, windows } = plan.described;
    let [first, second, out, work] = addresses.map(|address| address as *mut c_void);
    let (one, zero) = (1.0f32, 0.0f32);
    let (one, zero) = ((&raw const one).cast(), (&raw const zero).cast());
    let bytes = plan.workspace;
    // SAFETY: the buffers are as long as the descriptors say, which the caller has checked; one and zero are read before the
    // call returns.
    unsafe {
        match plan.algorithm {
            Algorithm::Forward(algorithm) => result::convolution_forward(
                handle, one, x, first, filters, second, windows, algorithm, work, bytes, zero, y, out,
            ),
            Algorithm::Input(algorithm) => result::convolution_backward_data(
                handle, one, filters, second, y, first, windows, algorithm, work, bytes, zero, x, out,
            ),
            Algorithm::Filter(algorithm) => result::convolution_backward_filter(
                handle, one, x, first, y, second, windows, algorithm, work, bytes, zero, filters, out,
            ),
        }
    }
}
