//! The device's memory: pieces for buffers, and pinned memory through which values go and come.
//!
//! Large uploads have a stream of their own, so that the next batch comes while the device computes with this one: into memory of
//! their own, since a buffer's piece may still be in use, and from there, on the stream of the work, into the buffer.

use std::slice;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cudarc::driver::result::stream::wait_event;
use cudarc::driver::result::{event, free_host, free_sync, malloc_host, malloc_sync, mem_get_info};
use cudarc::driver::result::{memcpy_dtod_async, memcpy_dtoh_async, memcpy_htod_async};
use cudarc::driver::sys::{CUevent, CUevent_flags, CUevent_wait_flags, CUresult};
use cudarc::driver::{CudaStream, DriverError};

use super::failed;
use crate::device::{Failure, Kind, Result, rounded};
use crate::pieces::{Buffer, Pieces, lock};

/// Pieces of pinned memory that are kept: of as many uploads the host may be ahead of the device.
const STAGES: usize = 8;
/// Bytes from which on an upload has a stream of its own.
const LARGE: usize = 1 << 20;

/// Memory of a device.
pub(super) struct Memory {
    pieces: Arc<Pieces>,
    allocated: AtomicUsize,
    stages: Mutex<Vec<Stage>>,
    /// The stream of the work.
    stream: Arc<CudaStream>,
    /// That of large uploads.
    arrivals: Arc<CudaStream>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = self.stream.context().bind_to_thread();
        let _ = self.arrivals.synchronize();
        let _ = self.release();
        lock(&self.stages).drain(..).for_each(|stage| stage.free());
    }
}

impl Memory {
    pub(super) fn new(stream: Arc<CudaStream>, arrivals: Arc<CudaStream>) -> Self {
        let (allocated, stages) = (AtomicUsize::new(0), Mutex::default());
        Memory { pieces: Arc::default(), allocated, stages, stream, arrivals }
    }

    pub(super) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// A buffer of any values. The device is the calling thread's.
    pub(super) fn take(&self, kind: Kind, len: usize) -> Result<Buffer> {
        self.pieces.take(kind, len, |bytes| {
            let pointer = allocate(bytes)?;
            self.allocated.fetch_add(bytes, Ordering::Relaxed);
            Ok(pointer)
        })
    }

    /// Gives back what no buffer has, when all work is done that was started.
    pub(super) fn release(&self) -> Result<()> {
        self.stream.synchronize().map_err(|error| failed("the device", error))?;
        self.pieces.release(|pointer, bytes| {
            // SAFETY: it was allocated, no buffer has it, and the stream has been waited for.
            let _ = unsafe { free_sync(pointer) };
            self.allocated.fetch_sub(bytes, Ordering::Relaxed);
        });
        Ok(())
    }

    /// Copies values into pinned memory, from where the device fetches them. All work that was asked for has been started.
    pub(super) fn upload(&self, values: &[f32], to: &Buffer) -> Result<()> {
        let (mut stages, bytes) = (lock(&self.stages), size_of_val(values));
        let mut stage = take_stage(&mut stages, bytes, bytes >= LARGE)?;
        stage.values(values.len()).copy_from_slice(values);
        let queued = self.fetch(&mut stage, values.len(), to);
        stages.push(stage);
        queued.map_err(|error| failed("an upload", error))
    }

    fn fetch(&self, stage: &mut Stage, len: usize, to: &Buffer) -> std::result::Result<(), DriverError> {
        let (work, arrival, event) = (self.stream.cu_stream(), stage.arrival, stage.event);
        // SAFETY: buffer and stage hold as many values, and neither the stage nor its memory on the device is written before
        // its event has passed on the stream of the work, which is behind the last use of both.
        unsafe {
            match arrival {
                None => memcpy_htod_async(to.pointer, stage.values(len), work)?,
                Some(arrival) => {
                    let own = self.arrivals.cu_stream();
                    memcpy_htod_async(arrival, stage.values(len), own)?;
                    event::record(event, own)?;
                    wait_event(work, event, CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT)?;
                    memcpy_dtod_async(to.pointer, arrival, size_of::<f32>() * len, work)?;
                }
            }
            event::record(event, work)
        }
    }

    /// The values of buffers, by one wait. All work that was asked for has been started.
    pub(super) fn download(&self, buffers: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        assert!(buffers.iter().all(|buffer| buffer.kind == Kind::Float32), "what comes to the host is float32");
        let said = |error: DriverError| failed("a download", error);
        let total: usize = buffers.iter().map(|buffer| buffer.len).sum();
        let mut stages = lock(&self.stages);
        let mut stage = take_stage(&mut stages, size_of::<f32>() * total, false)?;
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

/// So many bytes of any values.
pub(super) fn allocate(bytes: usize) -> Result<u64> {
    // SAFETY: any values will do.
    unsafe { malloc_sync(bytes) }.map_err(|error| match error {
        DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY) => {
            Failure::Memory { wanted: bytes, free: mem_get_info().map_or(0, |(free, _)| free) }
        }
        other => failed("device memory", other),
    })
}

/// Pinned memory, which the device copies from and to by itself.
struct Stage {
    pointer: *mut f32,
    bytes: usize,
    /// Of as many bytes on the device, where large uploads arrive.
    arrival: Option<u64>,
    /// Passes when the device has done with it.
    event: CUevent,
}

// SAFETY: it owns its memory and its event, which any thread may use.
unsafe impl Send for Stage {}

/// One of enough bytes that the device has done with: the smallest such, a new one, or the first that it will be done with.
fn take_stage(stages: &mut Vec<Stage>, bytes: usize, arrives: bool) -> Result<Stage> {
    let said = |error: DriverError| failed("pinned memory", error);
    let fits = |stage: &Stage| stage.bytes >= bytes && stage.arrival.is_some() == arrives;
    // SAFETY: the event lives as long as its stage.
    let done = |stage: &Stage| unsafe { event::query(stage.event) }.is_ok();
    let free = (0..stages.len()).filter(|&place| fits(&stages[place]) && done(&stages[place]));
    if let Some(place) = free.min_by_key(|&place| stages[place].bytes) {
        return Ok(stages.swap_remove(place));
    }
    if stages.len() >= STAGES {
        let oldest = stages.remove(0);
        // SAFETY: as above.
        unsafe { event::synchronize(oldest.event) }.map_err(said)?;
        if fits(&oldest) {
            return Ok(oldest);
        }
        oldest.free();
    }
    let bytes = rounded(bytes);
    let event = event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(said)?;
    // SAFETY: the memory is given back when the stage is freed.
    let pointer = unsafe { malloc_host(bytes, 0) }.map_err(said)?.cast();
    let stage = Stage { pointer, bytes, arrival: None, event };
    match arrives.then(|| allocate(bytes)).transpose() {
        Ok(arrival) => Ok(Stage { arrival, ..stage }),
        Err(failure) => {
            stage.free();
            Err(failure)
        }
    }
}

impl Stage {
    fn values(&mut self, len: usize) -> &mut [f32] {
        debug_assert!(size_of::<f32>() * len <= self.bytes);
        // SAFETY: the memory holds so many values, of which any bits are one, and this stage alone has it.
        unsafe { slice::from_raw_parts_mut(self.pointer, len) }
    }

    /// Gives everything back; the device has done with it.
    fn free(self) {
        // SAFETY: all was made by `take_stage`, and this is the end of it. Nothing can be done about a failure.
        unsafe {
            let _ = (event::destroy(self.event), free_host(self.pointer.cast()));
            let _ = self.arrival.map(|arrival| free_sync(arrival));
        }
    }
}
