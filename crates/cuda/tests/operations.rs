//! The twin itself, and operations on two ways that must agree, on the device of the tests. What each operation computes is
//! held against the portable form by `crates/core/tests/backends.rs`.
#![cfg(all(feature = "twin", target_os = "linux"))]

use rkd_cuda::Buffer;
use rkd_cuda::device::{Argument, Convolution, Device};
use rkd_cuda::ops;
use rkd_cuda::tested::Tested;
use rkd_cuda::twin::Twin;

/// Numbers that repeat nowhere near.
fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn upload(device: &Tested, n: usize, seed: usize) -> Buffer {
    device.upload(&values(n, seed)).unwrap()
}

fn download(device: &Tested, buffer: &Buffer) -> Vec<f32> {
    device.download(&[buffer]).unwrap().pop().unwrap()
}

#[track_caller]
fn assert_near(what: &str, actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1e-3f32, |largest, value| largest.max(value.abs()));
    for (place, (a, b)) in actual.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-5 * largest, "{what} at {place}: {a} instead of {b}");
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
fn convolutions_by_the_library_and_by_columns_agree() {
    let (library, columns) = (Tested::new(true), Tested::new(false));
    for (place, (n, input, c_in, c_out, kernel, stride, padding, dilation, groups, extra)) in [
        (2, [9, 7], 3, 4, [3, 3], [1, 1], [1, 1], [1, 1], 1, [0, 0]),
        (3, [13, 12], 8, 6, [3, 5], [2, 1], [1, 2], [1, 1], 2, [0, 0]),
        (2, [8, 9], 4, 8, [3, 3], [2, 2], [0, 0], [1, 1], 1, [1, 1]),
        (1, [11, 10], 6, 9, [2, 3], [3, 2], [1, 0], [2, 3], 3, [0, 1]),
        (9, [12, 12], 5, 7, [1, 1], [2, 2], [0, 0], [1, 1], 1, [0, 0]),
    ]
    .into_iter()
    .enumerate()
    {
        let output = [0, 1].map(|axis| {
            let span = dilation[axis] * (kernel[axis] - 1) + 1;
            (input[axis] + 2 * padding[axis] + extra[axis] - span) / stride[axis] + 1
        });
        let shape = Convolution { n, input, output, c_in, c_out, kernel, stride, padding, dilation, groups };
        let [x, weight, dy] = [0, 1, 2].map(|which| values(shape.lengths()[which], which + 10 * place));
        let run = |device: &Tested| {
            let [x, weight, dy] = [&x, &weight, &dy].map(|values| device.upload(values).unwrap());
            let y = ops::convolution(device, &shape, extra, &x, &weight).unwrap();
            let dx = ops::convolution_backward_input(device, &shape, extra, &weight, &dy).unwrap();
            let dweight = ops::convolution_backward_weight(device, &shape, extra, &x, &dy).unwrap();
            [y, dx, dweight].map(|buffer| download(device, &buffer))
        };
        let (expected, actual) = (run(&library), run(&columns));
        for (what, (actual, expected)) in ["y", "dx", "dweight"].iter().zip(actual.iter().zip(&expected)) {
            assert_near(&format!("{what} of {shape:?}"), actual, expected);
        }
    }
}
