//! The device's memory: a pool of buffers, and pinned memory through which values go and come.
//!
//! All work is in the order of one stream, so a buffer that is dropped can be given to the next operation at once: it runs
//! after the last that used it.

use std::collections::HashMap;
use std::fmt;
use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cudarc::driver::result::{event, free_host, free_sync, malloc_host, malloc_sync, mem_get_info};
use cudarc::driver::result::{memcpy_dtoh_async, memcpy_htod_async};
use cudarc::driver::sys::{CUevent, CUevent_flags, CUresult};
use cudarc::driver::{CudaStream, DriverError};

use super::{failed, lock};
use crate::device::{Failure, Kind, Result, rounded};

/// Pieces of pinned memory that are kept: of as many uploads the host may be ahead of the device.
const STAGES: usize = 8;

/// Values in the device's memory.
pub struct Buffer {
    pub(super) pointer: u64,
    pub(super) len: usize,
    pub(super) kind: Kind,
    bytes: usize,
    pool: Arc<Free>,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} values, {:?})", self.len, self.kind)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        lock(&self.pool.0).entry(self.bytes).or_default().push(self.pointer);
    }
}

/// Pieces of memory that no buffer uses, by their bytes.
#[derive(Default)]
struct Free(Mutex<HashMap<usize, Vec<u64>>>);

/// Memory of a device.
pub(super) struct Pool {
    free: Arc<Free>,
    allocated: AtomicUsize,
    stages: Mutex<Vec<Stage>>,
    stream: Arc<CudaStream>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.stream.context().bind_to_thread();
        let _ = self.stream.synchronize();
        self.release();
        lock(&self.stages).drain(..).for_each(|stage| stage.free());
    }
}

impl Pool {
    pub(super) fn new(stream: Arc<CudaStream>) -> Self {
        Pool { free: Arc::default(), allocated: AtomicUsize::new(0), stages: Mutex::default(), stream }
    }

    pub(super) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// A buffer of any values. The device is the calling thread's.
    pub(super) fn take(&self, kind: Kind, len: usize) -> Result<Buffer> {
        let bytes = rounded(kind.bytes() * len);
        let kept = lock(&self.free.0).get_mut(&bytes).and_then(Vec::pop);
        let pointer = match kept {
            Some(pointer) => pointer,
            None => self.allocate(bytes)?,
        };
        Ok(Buffer { pointer, len, kind, bytes, pool: Arc::clone(&self.free) })
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        // SAFETY: any values will do.
        let allocate = || unsafe { malloc_sync(bytes) };
        let pointer = match allocate() {
            Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                // What is free in other sizes may be enough.
                self.stream.synchronize().map_err(|error| failed("the device", error))?;
                self.release();
                allocate()
            }
            other => other,
        };
        let pointer = pointer.map_err(|error| match error {
            DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY) => {
                Failure::Memory { wanted: bytes, free: mem_get_info().map_or(0, |(free, _)| free) }
            }
            other => failed("device memory", other),
        })?;
        self.allocated.fetch_add(bytes, Ordering::Relaxed);
        Ok(pointer)
    }

    /// Gives back what no buffer uses; nothing runs that could.
    fn release(&self) {
        for (bytes, pointers) in lock(&self.free.0).drain() {
            for pointer in pointers {
                // SAFETY: it was allocated, no buffer has it, and the stream has been waited for.
                let _ = unsafe { free_sync(pointer) };
                self.allocated.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
    }

    /// Copies values into pinned memory, from where the device fetches them when it comes to it.
    pub(super) fn upload(&self, values: &[f32], to: &Buffer) -> Result<()> {
        let mut stages = lock(&self.stages);
        let mut stage = take_stage(&mut stages, size_of_val(values))?;
        stage.values(values.len()).copy_from_slice(values);
        // SAFETY: the buffer holds as many values, and the stage is not written before its event has passed.
        let queued = unsafe { memcpy_htod_async(to.pointer, stage.values(values.len()), self.stream.cu_stream()) };
        let queued = queued.and_then(|()| stage.record(&self.stream));
        stages.push(stage);
        queued.map_err(|error| failed("an upload", error))
    }

    /// The values of buffers, by one wait.
    pub(super) fn download(&self, buffers: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        let said = |error: DriverError| failed("a download", error);
        assert!(buffers.iter().all(|buffer| buffer.kind == Kind::Float32), "what comes to the host is float32");
        let total: usize = buffers.iter().map(|buffer| buffer.len).sum();
        let mut stages = lock(&self.stages);
        let mut stage = take_stage(&mut stages, size_of::<f32>() * total)?;
        let mut rest = stage.values(total);
        let mut queued = Ok(());
        for buffer in buffers {
            let (to, behind) = rest.split_at_mut(buffer.len);
            rest = behind;
            // SAFETY: the buffer holds as many values, and the stage is read after the wait only.
            queued = queued.and_then(|()| unsafe { memcpy_dtoh_async(to, buffer.pointer, self.stream.cu_stream()) });
        }
        let done = queued.and_then(|()| self.stream.synchronize());
        let mut all = &*stage.values(total);
        let values = buffers.iter().map(|buffer| {
            let (values, behind) = all.split_at(buffer.len);
            all = behind;
            values.to_vec()
        });
        let values = values.collect();
        stages.push(stage);
        done.map_err(said)?;
        Ok(values)
    }
}

/// Pinned memory, which the device copies from and to by itself.
struct Stage {
    pointer: *mut f32,
    bytes: usize,
    event: CUevent,
}

// SAFETY: it owns its memory and its event, which any thread may use.
unsafe impl Send for Stage {}

/// One of enough bytes that the device has done with: the smallest such, a new one, or the first that it will be done with.
fn take_stage(stages: &mut Vec<Stage>, bytes: usize) -> Result<Stage> {
    let said = |error: DriverError| failed("pinned memory", error);
    // SAFETY: the event lives as long as its stage.
    let done = |stage: &Stage| unsafe { event::query(stage.event) }.is_ok();
    let fits = (0..stages.len()).filter(|&place| stages[place].bytes >= bytes && done(&stages[place]));
    if let Some(place) = fits.min_by_key(|&place| stages[place].bytes) {
        return Ok(stages.swap_remove(place));
    }
    if stages.len() >= STAGES {
        let oldest = stages.remove(0);
        // SAFETY: as above.
        unsafe { event::synchronize(oldest.event) }.map_err(said)?;
        if oldest.bytes >= bytes {
            return Ok(oldest);
        }
        oldest.free();
    }
    let bytes = rounded(bytes);
    let event = event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(said)?;
    // SAFETY: the memory is given back when the stage is freed.
    let pointer = unsafe { malloc_host(bytes, 0) }.map_err(said)?;
    Ok(Stage { pointer: pointer.cast(), bytes, event })
}

impl Stage {
    fn values(&mut self, len: usize) -> &mut [f32] {
        debug_assert!(size_of::<f32>() * len <= self.bytes);
        // SAFETY: the memory holds so many values, of which any bits are one, and this stage alone has it.
        unsafe { slice::from_raw_parts_mut(self.pointer, len) }
    }

    /// Notes that the device has done with it when it has come here.
    fn record(&self, stream: &CudaStream) -> std::result::Result<(), DriverError> {
        // SAFETY: both live.
        unsafe { event::record(self.event, stream.cu_stream()) }
    }

    /// Gives everything back; the device has done with it.
    fn free(self) {
        // SAFETY: both were made by `take_stage`, and this is the end of them. Nothing can be done about a failure.
        let _ = unsafe { (event::destroy(self.event), free_host(self.pointer.cast())) };
    }
}
