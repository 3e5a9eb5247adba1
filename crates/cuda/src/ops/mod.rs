//! The layer operations: each checks the lengths of its buffers and launches kernels. Sizes are in the order of the
//! kernels: m rows (pixels of all images) of c channels, windows `[vertical, horizontal]`.
//!
//! Activations and their gradients may be float32 or bfloat16 ([`Kind`]); those of one operation are of one kind, which is that of
//! its results, unless it says otherwise. Everything else is float32.
//!
//! An operation whose name ends in `_in_place` writes its first buffer, which no other may share.

mod attention;
mod channels;
mod convolution;
mod elementwise;
mod maps;
mod normalization;
mod optimizer;
mod pooling;
mod relations;

pub use attention::{add_tokens, attention, attention_backward};
pub use channels::{by_image, column_sums, finish_in_place, image_sums};
pub use convolution::{convolution, convolution_backward_input, convolution_backward_weight};
pub use elementwise::{
    Columns, activate, activate_backward, add_in_place, as_kind, blend_in_place, copy, copy_columns, fill,
    scale_in_place, shift_in_place, sum, transpose,
};
pub use maps::{attention_map, average, average_backward, scale_rows, squared_error, squares};
pub use normalization::{
    Activated, LayerGradients, NormGradients, Statistics, batch_norm, batch_norm_backward, batch_statistics,
    l2_normalize, l2_normalize_backward, layer_norm, layer_norm_backward, rstd,
};
pub use optimizer::{AdamUpdate, SgdUpdate, adam_in_place, clip_in_place, norms, sgd_in_place};
pub use pooling::{Pool, PooledNorm, batch_norm_max_pool, batch_norm_max_pool_backward, max_pool, max_pool_backward};
pub use relations::{Relation, rkd_angle, rkd_distance};

use crate::device::{Device, Kind, Result};

use rkd_kernels::activation::Activation;

/// Launches a kernel by its name; `kernel of kind` is its form for activations of that kind.
macro_rules! launch {
    (@ $device:expr, $name:expr, $shape:expr, [$($argument:expr),* $(,)?]) => {{
        let (grid, block): ([u32; 3], [u32; 2]) = $shape;
        let arguments = [$($crate::device::Argument::from($argument)),*];
        // SAFETY: the operation has checked lengths and kinds of the buffers that this kernel reads and writes, and the twin
        // compares the kinds of the arguments with the kernel's parameters.
        unsafe { $device.launch($name, grid, block, &arguments) }
    }};
    ($device:expr, $kernel:ident, $shape:expr, [$($argument:expr),* $(,)?]) => {
        launch!(@ $device, stringify!($kernel), $shape, [$($argument),*])
    };
    ($device:expr, $kernel:ident of $kind:expr, $shape:expr, [$($argument:expr),* $(,)?]) => {{
        let name = match $kind {
            $crate::device::Kind::Float32 => stringify!($kernel),
            $crate::device::Kind::Bfloat16 => concat!(stringify!($kernel), "_bf16"),
        };
        launch!(@ $device, name, $shape, [$($argument),*])
    }};
}
use launch;

/// Launches a kernel from maps `[n, h, w, c]` of one size to such of another, each thread of which writes one value. `$sizes` are in
/// the kernel's order.
macro_rules! between_sizes {
    ($device:expr, $kernel:ident of $kind:expr, $x:expr, [$from:expr, $to:expr], $sizes:expr, [$n:expr, $c:expr]) => {
        between_sizes!(@ $device, $kernel [of $kind], $kind, $x, [$from, $to], $sizes, [$n, $c])
    };
    ($device:expr, $kernel:ident, $x:expr, [$from:expr, $to:expr], $sizes:expr, [$n:expr, $c:expr]) => {
        between_sizes!(@ $device, $kernel [], $crate::device::Kind::Float32, $x, [$from, $to], $sizes, [$n, $c])
    };
    (@ $device:expr, $kernel:ident [$($form:tt)*], $kind:expr, $x:expr, [$from:expr, $to:expr], $sizes:expr, [$n:expr, $c:expr]) => {{
        let (n, c): (usize, usize) = ($n, $c);
        let [from, to]: [[usize; 2]; 2] = [$from, $to];
        $crate::ops::check_as::<D>(stringify!($kernel), $kind, &[("x", $x, n * from[0] * from[1] * c)]);
        let m = n * to[0] * to[1];
        let y = $device.take_as($kind, m * c)?;
        let [[h, w], [to_h, to_w]] = $sizes.map(|size: [usize; 2]| size.map($crate::ops::int));
        let blocks = $crate::ops::columns(m, c);
        $crate::ops::launch!($device, $kernel $($form)*, blocks, [$x, &y, m, h, w, to_h, to_w, $crate::ops::int(c)])?;
        Ok(y)
    }};
}
use between_sizes;

/// Blocks of a flat kernel at most: enough to fill any device.
const MOST_BLOCKS: usize = 4096;
/// Columns and rows of a block of a column kernel.
const BLOCK: [usize; 2] = [32, 8];
/// Threads of a block of a row kernel.
const WIDE: u32 = 128;

/// The blocks of a flat kernel over n values.
fn flat(n: usize) -> ([u32; 3], [u32; 2]) {
    ([n.div_ceil(256).clamp(1, MOST_BLOCKS) as u32, 1, 1], [256, 1])
}

/// The blocks of a column kernel over `m` rows of `c` columns.
fn columns(m: usize, c: usize) -> ([u32; 3], [u32; 2]) {
    with_rows(m.div_ceil(BLOCK[1]).clamp(1, MOST_BLOCKS), c)
}

/// As many rows of blocks of a column kernel as said.
fn with_rows(rows: usize, c: usize) -> ([u32; 3], [u32; 2]) {
    ([c.div_ceil(BLOCK[0]) as u32, rows as u32, 1], BLOCK.map(|size| size as u32))
}

/// The blocks of a row kernel.
fn rows(rows: usize) -> ([u32; 3], [u32; 2]) {
    ([rows as u32, 1, 1], [WIDE, 1])
}

/// Rows in a chunk of a sum over m rows, and chunks: by m alone, so that the device's size does not change a bit.
fn chunks(m: usize) -> [usize; 2] {
    let chunk = m.div_ceil(1024).max(64).next_multiple_of(BLOCK[1]);
    [chunk, m.div_ceil(chunk).max(1)]
}

fn int(size: usize) -> i32 {
    i32::try_from(size).expect("sizes of layers are far below 2^31")
}

/// The kernels' number of an activation.
fn number(kind: Option<Activation>) -> i32 {
    match kind {
        None => 0,
        Some(Activation::Relu) => 1,
        Some(Activation::Relu6) => 2,
        Some(Activation::HardSwish) => 3,
        Some(Activation::Silu) => 4,
        Some(Activation::HardSigmoid) => 5,
        Some(Activation::Sigmoid) => 6,
        Some(Activation::Gelu) => 7,
    }
}

/// Panics, naming operation and buffer, unless each buffer has its length and is of this kind.
#[track_caller]
fn check_as<D: Device>(operation: &str, kind: Kind, buffers: &[(&str, &D::Buffer, usize)]) {
    for &(name, buffer, expected) in buffers {
        let (got, own) = (D::len(buffer), D::kind(buffer));
        assert!(got == expected, "{operation}: `{name}` must have {expected} values and has {got}");
        assert!(own == kind, "{operation}: `{name}` must be {kind:?} and is {own:?}");
    }
}

/// As [`check_as`], of float32.
#[track_caller]
fn check<D: Device>(operation: &str, buffers: &[(&str, &D::Buffer, usize)]) {
    check_as::<D>(operation, Kind::Float32, buffers);
}

/// As [`check_as`], of a buffer that may be left out.
#[track_caller]
fn check_given<D: Device>(operation: &str, kind: Kind, name: &str, buffer: Option<&D::Buffer>, expected: usize) {
    if let Some(buffer) = buffer {
        check_as::<D>(operation, kind, &[(name, buffer, expected)]);
    }
}

/// The column sums of partial `[chunks, c]`.
fn finish_sums<D: Device>(device: &D, partial: &D::Buffer, c: usize, chunks: usize) -> Result<D::Buffer> {
    let sums = device.take(c)?;
    launch!(device, finish_sums, with_rows(1, c), [partial, &sums, int(c), int(chunks)])?;
    Ok(sums)
}
