//! The twin itself, and operations on two ways that must agree, on the device of the tests. What each operation computes is
//! held against the portable form by `crates/core/tests/backends.rs`.
#![cfg(all(feature = "twin", target_os = "linux"))]

use rkd_cuda::Buffer;
use rkd_cuda::device::{Argument, Convolution, Device, Kind, Matrix, Product};
use rkd_cuda::ops;
use rkd_cuda::tested::{Tested, is_gpu_wanted};
use rkd_cuda::twin::{Twin, to_bfloat16, to_tf32};

/// Numbers that repeat nowhere near.
fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn upload(device: &Tested, n: usize, seed: usize) -> Buffer {
    device.upload(&values(n, seed)).unwrap()
}

fn narrow(device: &Tested, values: &[f32]) -> Buffer {
    ops::as_kind(device, &device.upload(values).unwrap(), Kind::Bfloat16).unwrap()
}

/// The values of a buffer of any kind.
fn download(device: &Tested, buffer: &Buffer) -> Vec<f32> {
    let wide = match Tested::kind(buffer) {
        Kind::Float32 => return device.download(&[buffer]).unwrap().pop().unwrap(),
        Kind::Bfloat16 => ops::as_kind(device, buffer, Kind::Float32).unwrap(),
    };
    device.download(&[&wide]).unwrap().pop().unwrap()
}

/// The values as bfloat16 has them.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&value| f32::from_bits(u32::from(to_bfloat16(value)) << 16)).collect()
}

/// What sums in another order may differ by, as a share of the largest.
const ORDER: f32 = 1e-5;
/// That, and a result rounded to bfloat16.
const HALF: f32 = ORDER + 1.0 / 256.0;

#[track_caller]
fn assert_near(what: &str, actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |largest, value| largest.max(value.abs()));
    for (place, (a, b)) in actual.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * largest, "{what} at {place}: {a} instead of {b}");
    }
}

#[test]
fn a_launch_that_is_not_the_kernels_is_refused_by_the_twin() {
    let twin = Twin::default();
    let y = twin.upload(&values(4, 1)).unwrap();
    let launch = |kernel, arguments: &[Argument<'_, Buffer>]| {
        // SAFETY: the kernels are not run, but for the last, whose arguments are its own.
        unsafe { twin.launch(kernel, [1; 3], [32, 1], arguments) }
    };
    let (buffer, factor, n) = (|| Argument::Buffer(&y), || Argument::Float(2.0), || Argument::Long(4));
    assert!(launch("shrink", &[buffer(), factor(), n()]).unwrap_err().to_string().contains("no kernel shrink"));
    assert!(launch("scale", &[buffer(), n(), factor()]).unwrap_err().to_string().contains("plf"));
    let half = twin.take_as(Kind::Bfloat16, 4).unwrap();
    let of_halves = [Argument::Buffer(&half), factor(), n()];
    assert!(launch("scale", &of_halves).unwrap_err().to_string().contains("hfl"));
    launch("scale", &[buffer(), factor(), n()]).unwrap();
    let doubled: Vec<f32> = values(4, 1).iter().map(|value| 2.0 * value).collect();
    assert_eq!(twin.download(&[&y]).unwrap(), [doubled]);
}

#[test]
fn sums_over_blocks_with_barriers_are_those_of_a_loop() {
    let device = Tested::new(true);
    for (m, c) in [(1, 1), (7, 3), (70, 33), (1000, 40), (3000, 5)] {
        let x = upload(&device, m * c, 3);
        let sums = download(&device, &ops::column_sums(&device, &x, None, c).unwrap());
        let all = values(m * c, 3);
        let expected: Vec<f32> =
            (0..c).map(|k| all.iter().skip(k).step_by(c).map(|&value| f64::from(value)).sum::<f64>() as f32).collect();
        // Sums of numbers of both signs: of their size, not of the sum's.
        let near = sums.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5 * (m as f32).sqrt().max(1.0));
        assert!(near, "{m} x {c}: {sums:?} instead of {expected:?}");
    }
}

#[test]
fn matrices_are_transposed_at_any_size() {
    let device = Tested::new(true);
    for (rows, columns) in [(1, 1), (3, 70), (33, 31), (64, 65)] {
        let x = upload(&device, 2 * rows * columns, 5);
        let y = download(&device, &ops::transpose(&device, &x, rows, columns).unwrap());
        let all = values(2 * rows * columns, 5);
        for (place, &value) in y.iter().enumerate() {
            let (matrix, column, row) = (place / (rows * columns), place / rows % columns, place % rows);
            assert_eq!(value, all[matrix * rows * columns + row * columns + column]);
        }
    }
}

#[test]
fn bfloat16_is_the_nearest_and_of_two_the_even_one() {
    let device = Tested::new(true);
    let ulp = 1.0 / 128.0;
    for (value, expected) in [
        (1.0, 1.0),
        (1.0 + 0.5 * ulp, 1.0),
        (1.0 + 0.50001 * ulp, 1.0 + ulp),
        (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp),
        (-1.0 - 1.5 * ulp, -1.0 - 2.0 * ulp),
        (2.0 - 0.25 * ulp, 2.0),
        (0.0, 0.0),
        (-0.0, -0.0),
        (f32::from_bits(0x0001_8000), f32::from_bits(0x0002_0000)),
        (f32::MAX, f32::INFINITY),
        (f32::NEG_INFINITY, f32::NEG_INFINITY),
        (f32::NAN, f32::NAN),
        (f32::from_bits(0x7f80_0001), f32::NAN),
    ] {
        let found = download(&device, &narrow(&device, &[value]))[0];
        assert!(found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(), "{value}: {found}");
        assert!(rounded(&[value])[0].to_bits() == found.to_bits() || found.is_nan(), "the twin: {value}");
    }
}

/// A product of a batch with matrices that do not fill their buffers, of either form.
fn product() -> Product {
    let a = Matrix { first: 3, stride: 40, next: 37 * 40, transposed: false };
    let b = Matrix { first: 0, stride: 33, next: 21 * 33, transposed: true };
    Product { m: 37, n: 21, k: 33, batch: 2, a, b, c: Matrix { next: 37 * 21, ..Matrix::rows(21) }, beta: 0.0 }
}

#[test]
fn products_of_bfloat16_are_those_of_rounded_numbers_with_sums_in_float32() {
    let device = Tested::new(true);
    let (product, len) = (product(), 2 * 37 * 21);
    let (a, b) = (values(3 + 2 * 37 * 40, 1), values(2 * 21 * 33, 2));
    let expected = {
        let [a, b] = [&a, &b].map(|values| device.upload(&rounded(values)).unwrap());
        let c = device.take(len).unwrap();
        device.product(&product, &a, &b, &c).unwrap();
        download(&device, &c)
    };
    for (kind, tolerance) in [(Kind::Float32, ORDER), (Kind::Bfloat16, HALF)] {
        let [a, b] = [&a, &b].map(|values| narrow(&device, values));
        let c = device.take_as(kind, len).unwrap();
        device.product(&product, &a, &b, &c).unwrap();
        assert_near(&format!("{kind:?}"), &download(&device, &c), &expected, tolerance);
    }
}

#[test]
fn a_handle_that_allows_tf32_rounds_operands_and_another_one_does_not() {
    let device = Tested::new(true);
    let (product, len) = (product(), 2 * 37 * 21);
    let (a, b) = (values(3 + 2 * 37 * 40, 1), values(2 * 21 * 33, 2));
    let run = |device: &Tested, a: &[f32], b: &[f32]| {
        let [a, b] = [a, b].map(|values| device.upload(values).unwrap());
        let c = device.take(len).unwrap();
        device.product(&product, &a, &b, &c).unwrap();
        download(device, &c)
    };
    let tf32 = device.clone().with_tf32(true);
    let (exact, found) = (run(&device, &a, &b), run(&tf32, &a, &b));
    assert_near("TF32", &found, &exact, 2e-3);
    assert_ne!(found, exact);
    assert_eq!(run(&tf32.with_tf32(false), &a, &b), exact);
    // How a GPU rounds is its own matter; the twin takes the nearest.
    if !is_gpu_wanted() {
        let [a, b] = [a, b].map(|values| values.into_iter().map(to_tf32).collect::<Vec<_>>());
        assert_eq!(found, run(&device, &a, &b));
    }
}

#[test]
#[should_panic(expected = "`b` must be Float32 and is Bfloat16")]
fn an_operation_takes_one_kind() {
    let device = Tested::new(true);
    let [a, b] = [device.upload(&[1.0]).unwrap(), narrow(&device, &[1.0])];
    let _ = ops::sum(&device, &a, &b);
}

/// What convolutions are tested on: `(n, input, c_in, c_out, kernel, stride, padding, dilation, groups, extra)`.
type Case = (usize, [usize; 2], usize, usize, [usize; 2], [usize; 2], [usize; 2], [usize; 2], usize, [usize; 2]);

const CASES: [Case; 7] = [
    (2, [9, 7], 3, 4, [3, 3], [1, 1], [1, 1], [1, 1], 1, [0, 0]),
    (3, [13, 12], 8, 6, [3, 5], [2, 1], [1, 2], [1, 1], 2, [0, 0]),
    (2, [8, 9], 4, 8, [3, 3], [2, 2], [0, 0], [1, 1], 1, [1, 1]),
    (1, [11, 10], 6, 9, [2, 3], [3, 2], [1, 0], [2, 3], 3, [0, 1]),
    (9, [12, 12], 5, 7, [1, 1], [2, 2], [0, 0], [1, 1], 1, [0, 0]),
    (2, [6, 5], 12, 8, [1, 1], [1, 1], [0, 0], [1, 1], 1, [0, 0]),
    (2, [9, 8], 6, 6, [3, 3], [2, 1], [1, 1], [1, 1], 6, [0, 0]),
];

/// A case as a device is asked, and its map, weight and gradient.
fn convolution(place: usize) -> (Convolution, [usize; 2], [Vec<f32>; 3]) {
    let (n, input, c_in, c_out, kernel, stride, padding, dilation, groups, extra) = CASES[place];
    let output = [0, 1].map(|axis| {
        let span = dilation[axis] * (kernel[axis] - 1) + 1;
        (input[axis] + 2 * padding[axis] + extra[axis] - span) / stride[axis] + 1
    });
    let shape = Convolution { n, input, output, c_in, c_out, kernel, stride, padding, dilation, groups };
    (shape, extra, [0, 1, 2].map(|which| values(shape.lengths()[which], which + 10 * place)))
}

/// y, dx and dweight, in float32, of a convolution whose operands `make` uploads.
fn convolved(
    device: &Tested,
    (shape, extra, operands): &(Convolution, [usize; 2], [Vec<f32>; 3]),
    make: impl Fn(&[f32]) -> Buffer,
) -> [Vec<f32>; 3] {
    let [x, weight, dy] = [0, 1, 2].map(|which| make(&operands[which]));
    let y = ops::convolution(device, shape, *extra, &x, &weight).unwrap();
    let dx = ops::convolution_backward_input(device, shape, *extra, &weight, &dy).unwrap();
    let dweight = ops::convolution_backward_weight(device, shape, *extra, &x, &dy).unwrap();
    assert_eq!([&y, &dx, &dweight].map(Tested::kind), [Tested::kind(&x), Tested::kind(&x), Kind::Float32]);
    [y, dx, dweight].map(|buffer| download(device, &buffer))
}

#[test]
fn convolutions_by_the_library_and_by_columns_agree() {
    let (library, columns) = (Tested::new(true), Tested::new(false));
    for place in 0..CASES.len() {
        let case = convolution(place);
        let run = |device: &Tested| convolved(device, &case, |values| device.upload(values).unwrap());
        let (expected, actual) = (run(&library), run(&columns));
        for (what, (actual, expected)) in ["y", "dx", "dweight"].iter().zip(actual.iter().zip(&expected)) {
            assert_near(&format!("{what} of {:?}", case.0), actual, expected, ORDER);
        }
    }
}

#[test]
fn convolutions_of_bfloat16_are_those_of_rounded_numbers_with_sums_in_float32() {
    for place in 0..CASES.len() {
        let case = convolution(place);
        for device in [Tested::new(true), Tested::new(false)] {
            let expected = convolved(&device, &case, |values| device.upload(&rounded(values)).unwrap());
            let actual = convolved(&device, &case, |values| narrow(&device, values));
            for (what, (actual, expected)) in ["y", "dx", "dweight"].iter().zip(actual.iter().zip(&expected)) {
                assert_near(&format!("{what} of {:?}", case.0), actual, expected, HALF);
            }
        }
    }
}
