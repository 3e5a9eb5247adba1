//! What the operations need of a device.

use std::fmt;

/// Why a device could not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It has too little memory.
    Memory {
        /// Bytes that were asked for.
        wanted: usize,
        /// Bytes that were free.
        free: usize,
    },
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Memory { wanted, free } => write!(f, "{wanted} bytes of device memory are not free, {free} are"),
            Failure::Other(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for Failure {}

/// A specialised result.
pub type Result<T> = std::result::Result<T, Failure>;

/// Values of scratch memory of a GPU: 256 MiB.
pub const SCRATCH: usize = 64 << 20;

/// How a buffer holds its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Four bytes each.
    #[default]
    Float32,
    /// Bfloat16, two bytes each: the first half of the bits of a float32.
    Bfloat16,
}

impl Kind {
    /// Bytes of a value.
    pub const fn bytes(self) -> usize {
        match self {
            Kind::Float32 => 4,
            Kind::Bfloat16 => 2,
        }
    }
}

/// Bytes that are taken for so many: eight sizes for each power of two, so that pieces fit again.
pub(crate) fn rounded(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(512);
    bytes.max(1).next_multiple_of(step)
}

/// A device with one queue: what is asked of it is done in order, not always at once, and only [`download`](Device::download) and
/// [`synchronize`](Device::synchronize) wait.
pub trait Device: Clone + Send + Sync + fmt::Debug + 'static {
    /// Values in the device's memory, which goes back to a pool when dropped.
    type Buffer: Send + Sync + fmt::Debug;

    /// How many values the scratch memory of one operation may have, where it can work in pieces.
    fn scratch(&self) -> usize;
    /// How many values a buffer holds.
    fn len(buffer: &Self::Buffer) -> usize;
    /// How it holds them.
    fn kind(buffer: &Self::Buffer) -> Kind;
    /// The same device. Where `tf32`, its products and convolutions of float32 may round their operands to TF32, of 10 bits behind
    /// the point; at first they do not.
    fn with_tf32(self, tf32: bool) -> Self;
    /// Bytes that nobody has; `None` where the device's memory is the host's.
    ///
    /// # Errors
    /// Where the device does not say.
    fn free_memory(&self) -> Result<Option<usize>>;
    /// Where a buffer's first value is, for tables that kernels read.
    fn address(&self, buffer: &Self::Buffer) -> u64;
    /// A buffer of any values of this kind.
    ///
    /// # Errors
    /// [`Failure::Memory`] where there is too little.
    fn take_as(&self, kind: Kind, len: usize) -> Result<Self::Buffer>;
    /// A buffer of any values in float32.
    ///
    /// # Errors
    /// As of [`take_as`](Device::take_as).
    fn take(&self, len: usize) -> Result<Self::Buffer> {
        self.take_as(Kind::Float32, len)
    }
    /// A buffer with these values.
    ///
    /// # Errors
    /// As of [`take_as`](Device::take_as).
    fn upload(&self, values: &[f32]) -> Result<Self::Buffer>;
    /// The values of several buffers of float32; the host waits once.
    ///
    /// # Errors
    /// What the device has met since it was last waited for.
    ///
    /// # Panics
    /// If a buffer is of another kind.
    fn download(&self, buffers: &[&Self::Buffer]) -> Result<Vec<Vec<f32>>>;
    /// Lets the device begin with all it was asked for. Without this it may wait for more, until somebody waits for it.
    ///
    /// # Errors
    /// Where something could not be started.
    fn flush(&self) -> Result<()>;
    /// Waits until everything is done.
    ///
    /// # Errors
    /// What the device has met since it was last waited for.
    fn synchronize(&self) -> Result<()>;
    /// Runs a kernel of `kernels/` in `grid` blocks of `block` threads.
    ///
    /// # Safety
    /// The arguments are the kernel's parameters, and with them it reads and writes within its buffers.
    ///
    /// # Errors
    /// Where the kernel could not be launched.
    unsafe fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 3],
        block: [u32; 2],
        arguments: &[Argument<'_, Self::Buffer>],
    ) -> Result<()>;
    /// See [`Product`]. A and B are of one kind; sums are float32, and C is that or as A and B are.
    ///
    /// # Errors
    /// Where the product could not be started.
    ///
    /// # Panics
    /// If a matrix exceeds its buffer, or is of another kind.
    fn product(&self, product: &Product, a: &Self::Buffer, b: &Self::Buffer, c: &Self::Buffer) -> Result<()>;
    /// One pass of a convolution: of `x` and the filters to `out = y`, of `dy` and the filters to `out = dx`, or of `x` and
    /// `dy` to the filters' gradient, in the order of [`Pass`]; all three of one kind, sums in float32. `false` where the device's
    /// library does not take it.
    ///
    /// # Errors
    /// Where the pass could not be started.
    ///
    /// # Panics
    /// If a buffer is too short, or of another kind.
    fn convolve(&self, pass: Pass, shape: &Convolution, from: [&Self::Buffer; 2], out: &Self::Buffer) -> Result<bool>;
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a, B> {
    /// A pointer to the first value.
    Buffer(&'a B),
    /// A pointer to the float32 value at this place.
    At(&'a B, usize),
    /// A null pointer.
    Null,
    /// An `int`.
    Int(i32),
    /// A `long long`.
    Long(i64),
    /// A `float`.
    Float(f32),
    /// A `double`.
    Double(f64),
}

impl<'a, B> Argument<'a, B> {
    /// The same with the buffer that `of` makes of this one.
    pub fn map<C>(&self, of: impl FnOnce(&'a B) -> &'a C) -> Argument<'a, C> {
        match *self {
            Argument::Buffer(buffer) => Argument::Buffer(of(buffer)),
            Argument::At(buffer, place) => Argument::At(of(buffer), place),
            Argument::Null => Argument::Null,
            Argument::Int(value) => Argument::Int(value),
            Argument::Long(value) => Argument::Long(value),
            Argument::Float(value) => Argument::Float(value),
            Argument::Double(value) => Argument::Double(value),
        }
    }

    /// Its kind: p for a pointer, h for one to bfloat16, 0 for one to nothing, i and l for an `int` and a `long long`, f and d for a
    /// `float` and a `double`; `kind` is that of a buffer.
    pub fn letter(&self, kind: impl Fn(&B) -> Kind) -> u8 {
        match self {
            Argument::Buffer(buffer) | Argument::At(buffer, _) => match kind(buffer) {
                Kind::Float32 => b'p',
                Kind::Bfloat16 => b'h',
            },
            Argument::Null => b'0',
            Argument::Int(_) => b'i',
            Argument::Long(_) => b'l',
            Argument::Float(_) => b'f',
            Argument::Double(_) => b'd',
        }
    }

    /// Its value as a launch passes it, in the first of these bytes; `address` is that of a buffer's first value.
    pub fn bytes(&self, address: impl Fn(&B) -> u64) -> [u8; 8] {
        let four = |bytes: [u8; 4]| std::array::from_fn(|place| bytes.get(place).copied().unwrap_or(0));
        match *self {
            Argument::Buffer(buffer) => address(buffer).to_ne_bytes(),
            Argument::At(buffer, place) => (address(buffer) + (size_of::<f32>() * place) as u64).to_ne_bytes(),
            Argument::Null => [0; 8],
            Argument::Int(value) => four(value.to_ne_bytes()),
            Argument::Long(value) => value.to_ne_bytes(),
            Argument::Float(value) => four(value.to_ne_bytes()),
            Argument::Double(value) => value.to_ne_bytes(),
        }
    }
}

impl<'a, B> From<&'a B> for Argument<'a, B> {
    fn from(buffer: &'a B) -> Self {
        Argument::Buffer(buffer)
    }
}

impl<'a, B> From<Option<&'a B>> for Argument<'a, B> {
    fn from(buffer: Option<&'a B>) -> Self {
        buffer.map_or(Argument::Null, Argument::Buffer)
    }
}

impl<B> From<i32> for Argument<'_, B> {
    fn from(value: i32) -> Self {
        Argument::Int(value)
    }
}

impl<B> From<usize> for Argument<'_, B> {
    fn from(value: usize) -> Self {
        Argument::Long(value as i64)
    }
}

impl<B> From<f32> for Argument<'_, B> {
    fn from(value: f32) -> Self {
        Argument::Float(value)
    }
}

impl<B> From<f64> for Argument<'_, B> {
    fn from(value: f64) -> Self {
        Argument::Double(value)
    }
}

/// A matrix in a buffer, row-major: rows that begin `stride` values apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// The place of the first value.
    pub first: usize,
    /// Values from one row to the next.
    pub stride: usize,
    /// Values from the matrix of one product of a batch to that of the next.
    pub next: usize,
    /// Whether the product takes its transpose.
    pub transposed: bool,
}

impl Matrix {
    /// Rows of `columns` values, one behind the other from the buffer's beginning.
    pub fn rows(columns: usize) -> Self {
        Matrix { first: 0, stride: columns, next: 0, transposed: false }
    }

    /// Its transpose.
    pub fn transpose(self) -> Self {
        Matrix { transposed: !self.transposed, ..self }
    }
}

/// `C = A B + beta C` of `batch` matrices: `A [m, k]`, `B [k, n]`, `C [m, n]`, as they are after transposition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Products.
    pub batch: usize,
    /// Where A is.
    pub a: Matrix,
    /// Where B is.
    pub b: Matrix,
    /// Where C is; never transposed.
    pub c: Matrix,
    /// 0, or 1 to add.
    pub beta: f32,
}

impl Product {
    /// One product of matrices that fill their buffers, `[m, k]` times `[k, n]`.
    pub fn of([m, n, k]: [usize; 3]) -> Self {
        let [a, b, c] = [k, n, n].map(Matrix::rows);
        Product { m, n, k, batch: 1, a, b, c, beta: 0.0 }
    }

    /// A, B and C with their rows and columns as they lie in their buffers.
    fn stored(&self) -> [(Matrix, [usize; 2]); 3] {
        let &Product { m, n, k, a, b, c, .. } = self;
        [(a, [m, k]), (b, [k, n]), (c, [m, n])].map(|(matrix, [rows, columns])| {
            (matrix, if matrix.transposed { [columns, rows] } else { [rows, columns] })
        })
    }

    /// How many values each buffer must have.
    pub fn reaches(&self) -> [usize; 3] {
        self.stored().map(|(matrix, [rows, columns])| {
            matrix.first + (self.batch.max(1) - 1) * matrix.next + (rows.max(1) - 1) * matrix.stride + columns
        })
    }

    /// Panics if a matrix exceeds its buffer, or is of a kind that does not go with the others.
    #[track_caller]
    pub fn check<D: Device>(&self, buffers: [&D::Buffer; 3]) {
        let [left, right, result] = buffers.map(D::kind);
        let goes = left == right && (result == left || result == Kind::Float32);
        assert!(goes, "a product of {left:?} and {right:?} is not {result:?}");
        assert!(!self.c.transposed, "a product's result is not transposed: {self:?}");
        for (matrix, [rows, columns]) in self.stored() {
            assert!(columns <= matrix.stride || rows <= 1, "a product's rows overlap: {self:?}");
        }
        for ((name, has), needs) in ["a", "b", "c"].into_iter().zip(buffers.map(D::len)).zip(self.reaches()) {
            assert!(has >= needs, "product: {name} holds {has} values, not {needs}: {self:?}");
        }
    }
}

/// Which pass of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// `x` and the filters to `y`.
    Forward,
    /// `dy` and the filters to `dx`.
    Input,
    /// `x` and `dy` to the gradient of the filters.
    Filter,
}

/// A convolution as cuDNN describes it: `x [n, h, w, c_in]`, filters `[c_out, kernel_h, kernel_w, c_in / groups]`,
/// `y [n, output_h, output_w, c_out]`, with as many zeros before as behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Images.
    pub n: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Channels of the input.
    pub c_in: usize,
    /// Channels of the output.
    pub c_out: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step between two windows.
    pub stride: [usize; 2],
    /// Zeros on each side.
    pub padding: [usize; 2],
    /// Step between two taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not mix.
    pub groups: usize,
}

impl Convolution {
    /// Values of x, of the filters and of y.
    pub fn lengths(&self) -> [usize; 3] {
        let pixels = |size: [usize; 2]| self.n * size[0] * size[1];
        [
            pixels(self.input) * self.c_in,
            self.c_out * self.taps() * (self.c_in / self.groups),
            pixels(self.output) * self.c_out,
        ]
    }

    /// Positions of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// How many values the buffers of a pass must have: the two that it reads, and the one that it writes.
    pub fn lengths_of(&self, pass: Pass) -> [usize; 3] {
        let [x, filters, y] = self.lengths();
        match pass {
            Pass::Forward => [x, filters, y],
            Pass::Input => [y, filters, x],
            Pass::Filter => [x, y, filters],
        }
    }

    /// Panics if a buffer is too short, or the buffers are not of one kind.
    #[track_caller]
    pub fn check<D: Device>(&self, pass: Pass, [first, second]: [&D::Buffer; 2], out: &D::Buffer) {
        let buffers = [first, second, out];
        let kinds = buffers.map(D::kind);
        assert!(kinds.iter().all(|&kind| kind == kinds[0]), "{pass:?} of a convolution: {kinds:?} are not one kind");
        let (has, needs) = (buffers.map(D::len), self.lengths_of(pass));
        assert!(
            has.iter().zip(needs).all(|(&has, needs)| has >= needs),
            "{pass:?}: {has:?} values, not {needs:?}: {self:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn sizes_are_rounded_up_by_a_quarter_at_most() {
        assert_eq!([0, 1, 512, 513, 5000].map(rounded), [512, 512, 512, 1024, 5120]);
        for bytes in (4096..3_000_000).step_by(997) {
            let taken = rounded(bytes);
            assert!(taken >= bytes && (taken - bytes) as f64 <= 0.25 * bytes as f64, "{bytes}: {taken}");
        }
    }
}
