//! The CPU twin of the device, for tests: the kernels' own text, compiled for the CPU; products and convolutions by
//! `rkd-kernels`, of operands that are rounded as a GPU does: to bfloat16 where that is their kind, and to TF32 where it may be.
//! Everything is done at once, so nothing of queues and copies is tested by it.

use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::slice;
use std::sync::Arc;

use rkd_kernels::matrix::{Operand, gemm};
use rkd_kernels::{Team, convolution};

use crate::device::{Argument, Convolution, Device, Failure, Kind, Matrix, Pass, Product, Result};

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
    tf32: bool,
}

impl Default for Twin {
    /// Of one thread.
    fn default() -> Self {
        Twin { team: Arc::new(Team::new(1)), tf32: false }
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
    /// Eight bytes each, so that values lie where float64 numbers may.
    words: UnsafeCell<Box<[u64]>>,
    len: usize,
    kind: Kind,
}

// SAFETY: as on the device, who shares a buffer does not read it while another operation writes it; the operations take
// buffers that are written from one owner.
unsafe impl Sync for Memory {}

/// What a value is for the host.
trait Bits {
    const KIND: Kind;
}

impl Bits for f32 {
    const KIND: Kind = Kind::Float32;
}

impl Bits for u16 {
    const KIND: Kind = Kind::Bfloat16;
}

impl Memory {
    /// Values that are NaN.
    fn of_nothing(kind: Kind, len: usize) -> Self {
        let word = match kind {
            Kind::Float32 => 0x7fc0_0000_7fc0_0000,
            Kind::Bfloat16 => 0x7fc0_7fc0_7fc0_7fc0,
        };
        Memory { words: UnsafeCell::new(vec![word; (kind.bytes() * len).div_ceil(8)].into()), len, kind }
    }

    fn pointer<T>(&self) -> *mut T {
        // SAFETY: only the place of the values is read.
        unsafe { (*self.words.get()).as_mut_ptr().cast() }
    }

    /// The values, as f32 or as the bits of bfloat16.
    #[track_caller]
    fn values<T: Bits>(&self) -> &[T] {
        assert_eq!(self.kind, T::KIND, "the values are of another kind");
        // SAFETY: there are so many, of which any bits are one, and nothing writes them meanwhile; see the implementation of `Sync`.
        unsafe { slice::from_raw_parts(self.pointer(), self.len) }
    }

    #[allow(clippy::mut_from_ref)] // As kernels have it: what is written is chosen by the operation, not by the type.
    #[track_caller]
    fn values_mut<T: Bits>(&self) -> &mut [T] {
        assert_eq!(self.kind, T::KIND, "the values are of another kind");
        // SAFETY: as of `values`, and an operation writes what no other reads or writes.
        unsafe { slice::from_raw_parts_mut(self.pointer(), self.len) }
    }

    /// The values as a product takes them.
    fn operands(&self, tf32: bool) -> Cow<'_, [f32]> {
        match self.kind {
            Kind::Float32 if tf32 => self.values().iter().map(|&value| to_tf32(value)).collect(),
            Kind::Float32 => Cow::Borrowed(self.values()),
            Kind::Bfloat16 => self.values().iter().map(|&half: &u16| f32::from_bits(u32::from(half) << 16)).collect(),
        }
    }

    /// Writes values from the place `first` on, as this kind has them.
    fn write(&self, first: usize, values: impl Iterator<Item = f32>) {
        match self.kind {
            Kind::Float32 => self.values_mut()[first..].iter_mut().zip(values).for_each(|(to, value)| *to = value),
            Kind::Bfloat16 => {
                self.values_mut()[first..].iter_mut().zip(values).for_each(|(to, value)| *to = to_bfloat16(value));
            }
        }
    }
}

/// The value without its last `bits` bits: the nearest such, of two the even one; NaN stays NaN.
fn rounded(value: f32, bits: u32) -> f32 {
    if value.is_nan() {
        return value;
    }
    let all = value.to_bits();
    let half = (1 << (bits - 1)) - 1 + (all >> bits & 1);
    f32::from_bits((all + half) >> bits << bits)
}

/// The nearest number of TF32.
pub fn to_tf32(value: f32) -> f32 {
    rounded(value, 13)
}

/// The bits of the nearest bfloat16.
pub fn to_bfloat16(value: f32) -> u16 {
    (rounded(value, 16).to_bits() >> 16) as u16
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

    fn kind(buffer: &Memory) -> Kind {
        buffer.kind
    }

    fn with_tf32(self, tf32: bool) -> Self {
        Twin { tf32, ..self }
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        Ok(None)
    }

    fn address(&self, buffer: &Memory) -> u64 {
        buffer.pointer::<u8>() as usize as u64
    }

    /// Values that no operation may count on: each is NaN.
    fn take_as(&self, kind: Kind, len: usize) -> Result<Memory> {
        Ok(Memory::of_nothing(kind, len))
    }

    fn upload(&self, values: &[f32]) -> Result<Memory> {
        let memory = self.take(values.len())?;
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
            Argument::Buffer(buffer) | Argument::At(buffer, _) => match buffer.kind {
                Kind::Float32 => b'p',
                Kind::Bfloat16 => b'h',
            },
            Argument::Null => b'0',
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
        product.check::<Self>([a, b, c]);
        let &Product { m, n, k, batch, beta, .. } = product;
        let [a, b] = [a, b].map(|memory| memory.operands(self.tf32));
        let mut found = vec![0.0; m * n];
        for place in 0..batch {
            let (a, b) = (operand(&a, &product.a, place), operand(&b, &product.b, place));
            gemm(&self.team, [m, n, k], a, b, None, &mut found);
            let first = |row: usize| product.c.first + place * product.c.next + row * product.c.stride;
            if beta != 0.0 {
                let before = c.operands(false);
                for (row, sums) in found.chunks_exact_mut(n).enumerate() {
                    sums.iter_mut().zip(&before[first(row)..]).for_each(|(sum, before)| *sum += beta * before);
                }
            }
            found.chunks_exact(n).enumerate().for_each(|(row, sums)| c.write(first(row), sums.iter().copied()));
        }
        Ok(())
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&Memory; 2], out: &Memory) -> Result<bool> {
        shape.check::<Self>(pass, from, out);
        let &Convolution { n, input: [h, w], c_in, c_out, kernel, stride, padding, dilation, groups, .. } = shape;
        let of = convolution::Conv2d { n, h, w, c_in, c_out, kernel, stride, padding, extra: [0; 2], dilation, groups };
        let (team, rest) = (&*self.team, shape.taps() * (c_in / groups));
        // cuDNN's filters, [c_out, rest], are the transpose of ours.
        let filters = |values: &[f32]| transposed(values, c_out, rest);
        let [first, second] = from.map(|memory| memory.operands(self.tf32));
        let mut found = vec![0.0; Self::len(out)];
        match pass {
            Pass::Forward => convolution::forward(team, &of, &first, &filters(&second), None, &mut found),
            Pass::Input => convolution::backward_input(team, &of, &first, &filters(&second), &mut found),
            Pass::Filter => {
                let mut gradient = vec![0.0; rest * c_out];
                convolution::backward_weight(team, &of, &first, &second, &mut gradient, None);
                found = transposed(&gradient, rest, c_out);
            }
        }
        out.write(0, found.into_iter());
        Ok(true)
    }
}

/// A matrix of the product at `place` in a batch.
fn operand<'a>(values: &'a [f32], matrix: &Matrix, place: usize) -> Operand<'a> {
    let data = &values[matrix.first + place * matrix.next..];
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
