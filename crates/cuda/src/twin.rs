//! The CPU twin of the device, for tests: the kernels' own text, compiled for the CPU; products as plain loops, and
//! convolutions by `rkd-kernels`. Everything is done at once, so nothing of queues and copies is tested by it.

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::sync::Arc;

use rkd_kernels::{Team, convolution};

use crate::device::{Argument, Convolution, Device, Failure, Pass, Product, Result};

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
    convolutions: bool,
}

impl Twin {
    /// A device with a library of convolutions, as cuDNN is one, or without: then the operations' own are tested.
    pub fn new(convolutions: bool) -> Self {
        Twin { team: Arc::new(Team::new(1)), convolutions }
    }
}

impl fmt::Debug for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Twin({} convolutions)", if self.convolutions { "with" } else { "without" })
    }
}

/// A buffer of the twin.
#[derive(Debug)]
pub struct Memory(UnsafeCell<Box<[f32]>>);

// SAFETY: as on the device, who shares a buffer does not read it while another operation writes it; the operations take
// buffers that are written from one owner.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(values: Box<[f32]>) -> Self {
        Memory(UnsafeCell::new(values))
    }

    fn values(&self) -> &[f32] {
        // SAFETY: nothing writes it meanwhile; see the implementation of `Sync`.
        unsafe { &*self.0.get() }
    }

    fn pointer(&self) -> *mut f32 {
        // SAFETY: only the place of the values is read.
        unsafe { (*self.0.get()).as_mut_ptr() }
    }

    #[allow(clippy::mut_from_ref)] // As kernels have it: what is written is chosen by the operation, not by the type.
    fn values_mut(&self) -> &mut [f32] {
        // SAFETY: an operation writes what no other reads or writes; see the implementation of `Sync`.
        unsafe { &mut *self.0.get() }
    }
}

impl Device for Twin {
    type Buffer = Memory;

    /// Little, so that small shapes are worked on in several pieces.
    fn scratch(&self) -> usize {
        5000
    }

    fn len(buffer: &Memory) -> usize {
        buffer.values().len()
    }

    /// Values that no operation may count on: each is NaN.
    fn take(&self, len: usize) -> Result<Memory> {
        Ok(Memory::new(vec![f32::NAN; len].into()))
    }

    fn upload(&self, values: &[f32]) -> Result<Memory> {
        Ok(Memory::new(values.into()))
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
        let address = |buffer: &Memory| buffer.pointer() as usize as u64;
        // As words, so that each lies where its kind may.
        let mut values: Vec<u64> = arguments.iter().map(|one| u64::from_ne_bytes(one.bytes(address))).collect();
        let kind = |argument: &Argument<'_, Memory>| match argument {
            Argument::Buffer(_) | Argument::At(..) | Argument::Null => b'p',
            Argument::Int(_) => b'i',
            Argument::Long(_) => b'l',
            Argument::Float(_) => b'f',
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
        for place in 0..batch {
            let [a, b] = [(a, product.a, m, k), (b, product.b, k, n)].map(|(buffer, matrix, rows, columns)| {
                let values = &buffer.values()[matrix.first + place * matrix.next..];
                let at = |row: usize, column: usize| match matrix.transposed {
                    false => values[row * matrix.stride + column],
                    true => values[column * matrix.stride + row],
                };
                (0..rows * columns).map(|i| at(i / columns, i % columns)).collect::<Vec<f32>>()
            });
            let to = &mut c.values_mut()[product.c.first + place * product.c.next..];
            for row in 0..m {
                let sums = &mut to[row * product.c.stride..][..n];
                if product.beta == 0.0 {
                    sums.fill(0.0);
                }
                for (inner, &factor) in a[row * k..][..k].iter().enumerate() {
                    sums.iter_mut().zip(&b[inner * n..][..n]).for_each(|(sum, value)| *sum += factor * value);
                }
            }
        }
        Ok(())
    }

    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&Memory; 2], out: &Memory) -> Result<bool> {
        shape.check(pass, from.map(Self::len), Self::len(out));
        if !self.convolutions {
            return Ok(false);
        }
        let &Convolution { n, input: [h, w], c_in, c_out, kernel, stride, padding, dilation, groups, .. } = shape;
        let of = convolution::Conv2d { n, h, w, c_in, c_out, kernel, stride, padding, extra: [0; 2], dilation, groups };
        let (team, rest) = (&*self.team, shape.taps() * (c_in / groups));
        // cuDNN's filters, [c_out, rest], are the transpose of ours.
        let filters =
            |values: &[f32]| -> Vec<f32> { (0..rest * c_out).map(|i| values[i % c_out * rest + i / c_out]).collect() };
        let [first, second] = from.map(Memory::values);
        match pass {
            Pass::Forward => convolution::forward(team, &of, first, &filters(second), None, out.values_mut()),
            Pass::Input => convolution::backward_input(team, &of, first, &filters(second), out.values_mut()),
            Pass::Filter => {
                let mut gradient = vec![0.0; rest * c_out];
                convolution::backward_weight(team, &of, first, second, &mut gradient, None);
                let to = out.values_mut();
                (0..rest * c_out).for_each(|i| to[i % c_out * rest + i / c_out] = gradient[i]);
            }
        }
        Ok(true)
    }
}
