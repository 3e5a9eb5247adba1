//! The CPU twin of the device, for tests: the kernels' own text, compiled for the CPU; products and convolutions by
//! `rkd-kernels`. Everything is done at once, so nothing of queues and copies is tested by it.

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::slice;
use std::sync::Arc;

use rkd_kernels::matrix::{Operand, gemm};
use rkd_kernels::{Team, convolution};

use crate::device::{Argument, Convolution, Device, Failure, Matrix, Pass, Product, Result};

unsafe extern "C" {
    fn rkd_twin_launch(
        name: *const c_char,
        grid: *const u32,
        threads: *const u32,
        letters: *const c_char,
        arguments: *mut *mut c_void,
    ) -> c_int;
}

/// The twin. Clones share its threads.
#[derive(Clone)]
pub struct Twin {
    team: Arc<Team>,
}

impl Default for Twin {
    /// Of one thread.
    fn default() -> Self {
        Twin { team: Arc::new(Team::new(1)) }
    }
}

impl fmt::Debug for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Twin")
    }
}

/// A buffer of the twin.
#[derive(Debug)]
pub struct Memory {
    /// Two values in each, so that they lie where float64 numbers may.
    words: UnsafeCell<Box<[u64]>>,
    len: usize,
}

// SAFETY: as on the device, who shares a buffer does not read it while another operation writes it; the operations take
// buffers that are written from one owner.
unsafe impl Sync for Memory {}

impl Memory {
    fn filled(value: f32, len: usize) -> Self {
        let bits = u64::from(value.to_bits());
        Memory { words: UnsafeCell::new(vec![bits << 32 | bits; len.div_ceil(2)].into()), len }
    }

    fn pointer(&self) -> *mut f32 {
        // SAFETY: only the place of the values is read.
        unsafe { (*self.words.get()).as_mut_ptr().cast() }
    }

    fn values(&self) -> &[f32] {
        // SAFETY: there are so many, and nothing writes them meanwhile; see the implementation of `Sync`.
        unsafe { slice::from_raw_parts(self.pointer(), self.len) }
    }

    #[allow(clippy::mut_from_ref)] // As kernels have it: what is written is chosen by the operation, not by the type.
    fn values_mut(&self) -> &mut [f32] {
        // SAFETY: there are so many, and an operation writes what no other reads or writes; see the implementation of `Sync`.
        unsafe { slice::from_raw_parts_mut(self.pointer(), self.len) }
    }
}

impl Device for Twin {
    type Buffer = Memory;

    /// Little, so that small shapes are worked on in several pieces.
    fn scratch(&self) -> usize {
        5000
    }

    fn len(buffer: &Memory) -> usize {
        buffer.len
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        Ok(None)
    }

    fn address(&self, buffer: &Memory) -> u64 {
        buffer.pointer() as usize as u64
    }

    /// Values that no operation may count on: each is NaN.
    fn take(&self, len: usize) -> Result<Memory> {
        Ok(Memory::filled(f32::NAN, len))
    }

    fn upload(&self, values: &[f32]) -> Result<Memory> {
        let memory = Memory::filled(0.0, values.len());
        memory.values_mut().copy_from_slice(values);
        Ok(memory)
    }

    fn download(&self, buffers: &[&Memory]) -> Result<Vec<Vec<f32>>> {
        Ok(buffers.iter().map(|buffer| buffer.values().to_vec()).collect())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: [u32; 2],
        arguments: &[Argument<'_, Memory>],
    ) -> Result<()> {
        let address = |buffer: &Memory| self.address(buffer);
        // As words, so that each lies where its kind may.
        let mut values: Vec<u64> = arguments.iter().map(|one| u64::from_ne_bytes(one.bytes(address))).collect();
        let kind = |argument: &Argument<'_, Memory>| match argument {
            Argument::Buffer(_) | Argument::At(..) | Argument::Null => b'p',
            Argument::Int(_) => b'i',
            Argument::Long(_) => b'l',
            Argument::Float(_) => b'f',
            Argument::Double(_) => b'd',
        };
        let letters = arguments.iter().map(kind).collect();
        let mut places: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let text = |bytes: Vec<u8>| CString::new(bytes).expect("letters have no zero");
        let (name, letters) = (text(kernel.into()), text(letters));
        // SAFETY: the function compares the kinds of the arguments with the kernel's; the rest is this function's contract.
        let answer = unsafe {
            rkd_twin_launch(name.as_ptr(), grid.as_ptr(), block.as_ptr(), letters.as_ptr(), places.as_mut_ptr())
        };
        match answer {
            0 => Ok(()),
            1 => Err(Failure::Other(format!("there is no kernel {kernel}"))),
            2 => Err(Failure::Other(format!("the arguments {letters:?} are not those of {kernel}"))),
            _ => Err(Failure::Other(format!("threads of a block of {kernel} part at a barrier"))),
        }
    }

    fn product(&self, product: &Product, a: &Memory, b: &Memory, c: &Memory) -> Result<()> {
        product.check([a, b, c].map(Self::len));
        let &Product { m, n, k, batch, .. } = product;
        let mut found = vec![0.0; m * n];
        for place in 0..batch {
            let (a, b) = (operand(a, &product.a, place), operand(b, &product.b, place));
            gemm(&self.team, [m, n, k], a, b, None, &mut found);
            let to = &mut c.values_mut()[product.c.first + place * product.c.next..];
            for (sums, found) in to.chunks_mut(product.c.stride).zip(found.chunks_exact(n)) {
                let sums = sums.iter_mut().zip(found);
                match product.beta {
                    0.0 => sums.for_each(|(sum, found)| *sum = *found),
                    beta => sums.for_each(|(sum, found)| *sum = beta * *sum + found),
                }
            }
        }
        Ok(())
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&Memory; 2], out: &Memory) -> Result<bool> {
        shape.check(pass, from.map(Self::len), Self::len(out));
        let &Convolution { n, input: [h, w], c_in, c_out, kernel, stride, padding, dilation, groups, .. } = shape;
        let of = convolution::Conv2d { n, h, w, c_in, c_out, kernel, stride, padding, extra: [0; 2], dilation, groups };
        let (team, rest) = (&*self.team, shape.taps() * (c_in / groups));
        // cuDNN's filters, [c_out, rest], are the transpose of ours.
        let filters = |values: &[f32]| transposed(values, c_out, rest);
        let [first, second] = from.map(Memory::values);
        match pass {
            Pass::Forward => convolution::forward(team, &of, first, &filters(second), None, out.values_mut()),
            Pass::Input => convolution::backward_input(team, &of, first, &filters(second), out.values_mut()),
            Pass::Filter => {
                let mut gradient = vec![0.0; rest * c_out];
                convolution::backward_weight(team, &of, first, second, &mut gradient, None);
                out.values_mut()[..rest * c_out].copy_from_slice(&transposed(&gradient, rest, c_out));
            }
        }
        Ok(true)
    }
}

/// A matrix of the product at `place` in a batch.
fn operand<'a>(buffer: &'a Memory, matrix: &Matrix, place: usize) -> Operand<'a> {
    let data = &buffer.values()[matrix.first + place * matrix.next..];
    let (row, column) = if matrix.transposed { (1, matrix.stride) } else { (matrix.stride, 1) };
    Operand { data, row, column }
}

/// The transpose of a matrix, by tiles that stay in the cache.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 16;
    let mut transposed = vec![0.0; rows * columns];
    for top in (0..rows).step_by(TILE) {
        for left in (0..columns).step_by(TILE) {
            for row in top..rows.min(top + TILE) {
                for column in left..columns.min(left + TILE) {
                    transposed[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    transposed
}
