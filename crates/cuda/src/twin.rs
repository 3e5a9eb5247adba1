//! The CPU twin of the device, for tests: the kernels' own text, compiled for the CPU; products and convolutions by
//! `rkd-kernels`, of operands that are rounded as a GPU does: to bfloat16 where that is their kind, and to TF32 where it may be. It has
//! the device's queue and takes memory as that does: work is done later than it was asked for, and what comes
//! again is done from a recording. Nothing of streams and copies is tested by it.

use std::borrow::Cow;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::slice;
use std::sync::{Arc, Mutex};

use rkd_kernels::matrix::{Operand, gemm};
use rkd_kernels::{Team, convolution};

use crate::device::{Argument, Convolution, Device, Failure, Kind, Matrix, Pass, Product, Result};
use crate::pieces::{Buffer, Pieces, lock};
use crate::queue::{Counts, Engine, Numbers, Passed, Queue, Work};

unsafe extern "C" {
    fn rkd_twin_check(name: *const c_char, letters: *const c_char) -> c_int;
    fn rkd_twin_launch(
        name: *const c_char,
        grid: *const u32,
        threads: *const u32,
        arguments: *mut *mut c_void,
    ) -> c_int;
}

/// The twin, and whether its products of float32 may be of TF32. Clones share its memory, its queue and its threads.
#[derive(Clone)]
pub struct Twin(Arc<Inner>, bool);

struct Inner {
    queue: Mutex<Queue<Processor>>,
    pieces: Arc<Pieces>,
    /// Words of two values, so that these lie where float64 numbers may. None goes before the twin does.
    memory: Mutex<Vec<Box<[u64]>>>,
}

/// What does the work.
struct Processor {
    team: Team,
}

impl Default for Twin {
    /// Of one thread.
    fn default() -> Self {
        let queue = Mutex::new(Queue::new(Processor { team: Team::new(1) }, true));
        Twin(Arc::new(Inner { queue, pieces: Arc::default(), memory: Mutex::default() }), false)
    }
}

impl fmt::Debug for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Twin")
    }
}

impl Twin {
    /// How often work was started.
    pub fn counts(&self) -> Counts {
        lock(&self.0.queue).counts()
    }

    /// The values of a buffer, when all work is done.
    fn values(&self, buffer: &Buffer) -> Result<&[f32]> {
        assert_eq!(buffer.kind, Kind::Float32, "what comes to the host is float32");
        self.flush()?;
        // SAFETY: they are the buffer's, whose piece is the twin's.
        Ok(unsafe { at(buffer.pointer, buffer.len) })
    }
}

fn text(bytes: impl Into<Vec<u8>>) -> CString {
    CString::new(bytes).expect("names have no zero")
}

/// The values at an address.
///
/// # Safety
/// So many are there as long as the twin is, and nothing writes them meanwhile.
unsafe fn at<'a, T: Bits>(address: u64, len: usize) -> &'a [T] {
    // SAFETY: this function's contract.
    unsafe { slice::from_raw_parts(address as *const T, len) }
}

/// The values at an address, to be written.
///
/// # Safety
/// So many are there as long as the twin is, and nothing else reads or writes them meanwhile.
unsafe fn at_mut<'a, T: Bits>(address: u64, len: usize) -> &'a mut [T] {
    // SAFETY: this function's contract.
    unsafe { slice::from_raw_parts_mut(address as *mut T, len) }
}

/// What a value is for the host: an f32, or the bits of a bfloat16. Any bits are one.
trait Bits {}

impl Bits for f32 {}

impl Bits for u16 {}

/// The numbers at an address as a product takes them.
///
/// # Safety
/// As of [`at`].
unsafe fn operands<'a>(address: u64, len: usize, numbers: Numbers) -> Cow<'a, [f32]> {
    // SAFETY: this function's contract.
    unsafe {
        match numbers {
            Numbers::Float32 => Cow::Borrowed(at(address, len)),
            Numbers::Tf32 => at(address, len).iter().map(|&value| to_tf32(value)).collect(),
            Numbers::Bfloat16 => {
                at(address, len).iter().map(|&half: &u16| f32::from_bits(u32::from(half) << 16)).collect()
            }
        }
    }
}

/// Writes values from an address on, as this kind has them.
///
/// # Safety
/// As of [`at_mut`].
unsafe fn write(address: u64, kind: Kind, values: &[f32]) {
    // SAFETY: this function's contract.
    unsafe {
        match kind {
            Kind::Float32 => at_mut(address, values.len()).copy_from_slice(values),
            Kind::Bfloat16 => {
                let to = at_mut(address, values.len()).iter_mut();
                to.zip(values).for_each(|(to, &value)| *to = to_bfloat16(value));
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
    type Buffer = Buffer;

    /// Little, so that small shapes are worked on in several pieces.
    fn scratch(&self) -> usize {
        5000
    }

    fn len(buffer: &Buffer) -> usize {
        buffer.len
    }

    fn kind(buffer: &Buffer) -> Kind {
        buffer.kind
    }

    fn with_tf32(self, tf32: bool) -> Self {
        Twin(self.0, tf32)
    }

    fn free_memory(&self) -> Result<Option<usize>> {
        Ok(None)
    }

    fn address(&self, buffer: &Buffer) -> u64 {
        buffer.pointer
    }

    /// Values that no operation may count on: each is NaN.
    fn take_as(&self, kind: Kind, len: usize) -> Result<Buffer> {
        let buffer = self.0.pieces.take(kind, len, |bytes| {
            let mut words = vec![0u64; bytes / size_of::<u64>()].into_boxed_slice();
            let pointer = words.as_mut_ptr() as u64;
            lock(&self.0.memory).push(words);
            Ok(pointer)
        })?;
        // Not at once: work that is listed may still read what was there.
        let arguments = [Argument::Buffer(&buffer), Argument::Float(f32::NAN), Argument::from(len)];
        let fill = match kind {
            Kind::Float32 => "fill",
            Kind::Bfloat16 => "fill_bf16",
        };
        // SAFETY: these are the kernel's arguments, and the buffer has so many values.
        unsafe { self.launch(fill, [1; 3], [1, 1], &arguments) }?;
        Ok(buffer)
    }

    fn upload(&self, values: &[f32]) -> Result<Buffer> {
        let buffer = self.take(values.len())?;
        self.flush()?;
        // SAFETY: the buffer has so many values, and all work that was asked for is done.
        unsafe { at_mut(buffer.pointer, buffer.len) }.copy_from_slice(values);
        Ok(buffer)
    }

    fn download(&self, buffers: &[&Buffer]) -> Result<Vec<Vec<f32>>> {
        buffers.iter().map(|buffer| self.values(buffer).map(<[f32]>::to_vec)).collect()
    }

    fn flush(&self) -> Result<()> {
        lock(&self.0.queue).flush()
    }

    fn synchronize(&self) -> Result<()> {
        self.flush()
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
        let arguments: Vec<Passed> = arguments.iter().map(pass).collect();
        let letters = text(arguments.iter().map(|one| one.letter).collect::<Vec<u8>>());
        // SAFETY: the function reads both texts.
        match unsafe { rkd_twin_check(text(kernel).as_ptr(), letters.as_ptr()) } {
            0 => lock(&self.0.queue).push(Work::Launch { kernel, grid, block, arguments }),
            1 => Err(Failure::Other(format!("there is no kernel {kernel}"))),
            _ => Err(Failure::Other(format!("the arguments {letters:?} are not those of {kernel}"))),
        }
    }

    fn product(&self, product: &Product, a: &Buffer, b: &Buffer, c: &Buffer) -> Result<()> {
        product.check::<Self>([a, b, c]);
        let (numbers, kind) = (Numbers::of(a.kind, self.1), c.kind);
        let [a, b, c] = [a, b, c].map(|buffer| buffer.pointer);
        lock(&self.0.queue).push(Work::Product { product: *product, numbers, kind, a, b, c })
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&Buffer; 2], out: &Buffer) -> Result<bool> {
        shape.check::<Self>(pass, from, out);
        let numbers = Numbers::of(out.kind, self.1);
        let (from, out) = (from.map(|buffer| buffer.pointer), out.pointer);
        lock(&self.0.queue).push(Work::Convolve { pass, shape: *shape, numbers, from, out, workspace: 0 })?;
        Ok(true)
    }
}

impl Engine for Processor {
    type Recording = Vec<Work>;

    fn run(&mut self, works: &[Work]) -> Result<()> {
        works.iter().try_for_each(|work| match work {
            Work::Launch { kernel, grid, block, arguments } => launch(kernel, grid, block, arguments),
            Work::Product { product, numbers, kind, a, b, c } => {
                self.product(product, (*numbers, *kind), [*a, *b, *c]);
                Ok(())
            }
            Work::Convolve { pass, shape, numbers, from, out, .. } => {
                self.convolve(*pass, shape, *numbers, *from, *out);
                Ok(())
            }
        })
    }

    fn record(&mut self, works: &[Work]) -> Result<Option<Vec<Work>>> {
        Ok(Some(works.to_vec()))
    }

    fn replay(&mut self, recording: &Vec<Work>) -> Result<()> {
        self.run(recording)
    }
}

fn launch(kernel: &str, grid: &[u32; 3], block: &[u32; 2], arguments: &[Passed]) -> Result<()> {
    // As words, so that each lies where its kind may.
    let mut values: Vec<u64> = arguments.iter().map(|one| u64::from_ne_bytes(one.bytes)).collect();
    let mut places: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
    // SAFETY: the kinds of the arguments were compared with the kernel's; the rest is the contract of `Device::launch`.
    let answer = unsafe { rkd_twin_launch(text(kernel).as_ptr(), grid.as_ptr(), block.as_ptr(), places.as_mut_ptr()) };
    match answer {
        0 => Ok(()),
        _ => Err(Failure::Other(format!("threads of a block of {kernel} part at a barrier"))),
    }
}

impl Processor {
    fn product(&self, product: &Product, (numbers, kind): (Numbers, Kind), [a, b, c]: [u64; 3]) {
        let &Product { m, n, k, batch, beta, .. } = product;
        let [reach_a, reach_b, _] = product.reaches();
        // SAFETY: the buffers were found long enough; operations write what no other reads or writes.
        let (a, b) = unsafe { (operands(a, reach_a, numbers), operands(b, reach_b, numbers)) };
        let mut found = vec![0.0; m * n];
        for place in 0..batch {
            let (a, b) = (operand(&a, &product.a, place), operand(&b, &product.b, place));
            gemm(&self.team, [m, n, k], a, b, None, &mut found);
            for (row, sums) in found.chunks_exact_mut(n).enumerate() {
                let first = product.c.first + place * product.c.next + row * product.c.stride;
                let to = c + (kind.bytes() * first) as u64;
                // SAFETY: as above.
                unsafe {
                    if beta != 0.0 {
                        let before = operands(to, n, Numbers::of(kind, false));
                        sums.iter_mut().zip(before.iter()).for_each(|(sum, before)| *sum += beta * before);
                    }
                    write(to, kind, sums);
                }
            }
        }
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, numbers: Numbers, from: [u64; 2], out: u64) {
        let &Convolution { n, input: [h, w], c_in, c_out, kernel, stride, padding, dilation, groups, .. } = shape;
        let of = convolution::Conv2d { n, h, w, c_in, c_out, kernel, stride, padding, extra: [0; 2], dilation, groups };
        let (team, rest) = (&self.team, shape.taps() * (c_in / groups));
        // cuDNN's filters, [c_out, rest], are the transpose of ours.
        let filters = |values: &[f32]| transposed(values, c_out, rest);
        let [first, second, last] = shape.lengths_of(pass);
        // SAFETY: as in `product`.
        let (first, second) = unsafe { (operands(from[0], first, numbers), operands(from[1], second, numbers)) };
        let mut found = vec![0.0; last];
        match pass {
            Pass::Forward => convolution::forward(team, &of, &first, &filters(&second), None, &mut found),
            Pass::Input => convolution::backward_input(team, &of, &first, &filters(&second), &mut found),
            Pass::Filter => {
                let mut gradient = vec![0.0; rest * c_out];
                convolution::backward_weight(team, &of, &first, &second, &mut gradient, None);
                found = transposed(&gradient, rest, c_out);
            }
        }
        // SAFETY: as in `product`.
        unsafe { write(out, numbers.kind(), &found) }
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
