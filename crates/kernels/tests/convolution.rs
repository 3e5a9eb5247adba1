//! The three passes of a convolution against loops in f64, over shapes that meet every edge of the kernels.

mod support;

use rkd_kernels::Team;
use rkd_kernels::activation::Activation;
use rkd_kernels::convolution::normalized::{self, Normalized};
use rkd_kernels::convolution::{Conv2d, Finish, backward_input, backward_weight, forward, forward_finished};
use rkd_kernels::normalization::{Passed, batch_norm_backward, batch_norm_eval, batch_norm_eval_backward};
use support::{INTERPRETED, activated, assert_close, check, emulated, random};

/// The largest error allowed, of the largest entry: f32 rounding of at most some thousand terms.
const TOLERANCE: f64 = 3e-6;

fn shape(n: usize, size: [usize; 2], channels: [usize; 2], kernel: usize, stride: usize, padding: usize) -> Conv2d {
    Conv2d {
        n,
        h: size[0],
        w: size[1],
        c_in: channels[0],
        c_out: channels[1],
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        extra: [0; 2],
        dilation: [1; 2],
        groups: 1,
    }
}

/// The same with every channel a group of its own.
fn depthwise(shape: Conv2d) -> Conv2d {
    Conv2d { groups: shape.c_in, ..shape }
}

fn shapes() -> Vec<Conv2d> {
    let mut shapes = vec![
        shape(2, [7, 5], [3, 5], 3, 1, 1),
        shape(1, [1, 1], [1, 1], 1, 1, 0),
        shape(3, [1, 1], [5, 33], 3, 1, 1),
        shape(2, [4, 4], [33, 17], 3, 1, 1),
        shape(2, [9, 11], [16, 32], 3, 2, 1),
        shape(1, [8, 8], [3, 64], 7, 2, 3),
        shape(2, [8, 6], [32, 48], 1, 1, 0),
        shape(2, [7, 7], [24, 10], 1, 2, 0),
        shape(1, [3, 3], [2, 4], 3, 1, 4),
        shape(2, [10, 10], [4, 6], 2, 3, 0),
        shape(1, [12, 13], [5, 3], 5, 4, 2),
        shape(3, [14, 14], [64, 64], 3, 1, 1),
        shape(1, [6, 6], [300, 40], 3, 1, 1),
        shape(5, [30, 31], [8, 16], 3, 1, 1),
        shape(2, [9, 9], [20, 36], 3, 1, 0),
        shape(1, [5, 5], [32, 32], 3, 1, 2),
        Conv2d { dilation: [2, 2], ..shape(2, [9, 8], [5, 7], 3, 1, 2) },
        Conv2d { dilation: [3, 2], stride: [2, 3], ..shape(2, [15, 14], [4, 6], 3, 1, 3) },
        Conv2d { groups: 3, ..shape(2, [6, 7], [9, 6], 3, 1, 1) },
        Conv2d { groups: 8, ..shape(2, [6, 7], [8, 8], 3, 2, 1) },
        Conv2d { groups: 2, dilation: [2, 1], ..shape(1, [8, 8], [8, 34], 3, 1, 2) },
        Conv2d { kernel: [1, 3], padding: [0, 1], ..shape(2, [5, 6], [6, 7], 3, 1, 1) },
        Conv2d { kernel: [3, 1], stride: [1, 2], padding: [2, 0], ..shape(2, [5, 6], [6, 7], 3, 1, 1) },
        shape(1, [40, 40], [1, 3], 3, 1, 1),
        shape(0, [4, 4], [3, 5], 3, 1, 1),
        shape(0, [4, 4], [32, 32], 3, 1, 1),
        shape(1, [6, 6], [40, 300], 1, 1, 0),
        Conv2d { groups: 2, ..shape(3, [20, 20], [6, 320], 3, 2, 1) },
        // Winograd: maps of one pixel and of whole and partial tiles, all paddings, several blocks and stretches of
        // channels, and the weight gradient's several rounds.
        shape(2, [1, 1], [32, 32], 3, 1, 1),
        shape(1, [1, 3], [32, 48], 3, 1, 2),
        shape(2, [3, 3], [48, 32], 3, 1, 0),
        shape(2, [7, 10], [144, 32], 3, 1, 1),
        Conv2d { padding: [0, 2], ..shape(2, [5, 9], [32, 80], 3, 1, 0) },
        shape(1, [4, 4], [256, 272], 3, 1, 1),
        shape(8, [45, 45], [32, 32], 3, 1, 1),
        // Pairs of pixels: few images and several blocks and stretches of them, channels that fill no panel, pixels
        // that see only padding, kernel positions that see no pixel, strides that leave pixels out.
        shape(1, [2, 2], [16, 40], 3, 1, 1),
        shape(300, [2, 2], [17, 33], 3, 1, 1),
        shape(60, [2, 2], [272, 48], 3, 1, 1),
        shape(4, [1, 1], [32, 16], 3, 1, 1),
        shape(3, [4, 4], [20, 36], 3, 2, 1),
        shape(2, [3, 3], [16, 16], 3, 1, 4),
        shape(2, [4, 5], [16, 16], 2, 3, 0),
        shape(0, [2, 2], [32, 32], 3, 1, 1),
        Conv2d { dilation: [2, 1], ..shape(5, [2, 3], [24, 32], 3, 1, 2) },
        // Zeros on one side only, on every way: by products, Winograd and pairs.
        Conv2d { extra: [1, 1], ..shape(2, [8, 6], [3, 32], 3, 2, 0) },
        Conv2d { extra: [1, 0], ..shape(2, [6, 9], [32, 32], 3, 1, 1) },
        Conv2d { extra: [0, 1], ..shape(3, [4, 4], [20, 36], 3, 2, 1) },
        // Depthwise: tiles and pixels between them, vectors of channels and rests of them, kernels that hang over on both
        // sides, a stride beyond the kernel, several blocks of rows and of channels.
        depthwise(shape(2, [9, 11], [48, 48], 3, 1, 1)),
        depthwise(shape(2, [7, 8], [144, 144], 5, 1, 2)),
        depthwise(shape(3, [2, 2], [40, 40], 5, 1, 2)),
        depthwise(shape(1, [1, 1], [24, 24], 5, 1, 2)),
        depthwise(shape(2, [9, 7], [33, 33], 7, 1, 3)),
        depthwise(shape(2, [9, 7], [16, 16], 1, 2, 0)),
        depthwise(shape(1, [11, 10], [5, 5], 2, 3, 1)),
        depthwise(Conv2d { extra: [1, 1], ..shape(2, [12, 16], [32, 32], 3, 2, 0) }),
        depthwise(Conv2d { extra: [1, 1], ..shape(2, [4, 6], [272, 272], 5, 2, 1) }),
        depthwise(Conv2d { dilation: [2, 3], ..shape(2, [9, 13], [20, 20], 3, 2, 2) }),
        depthwise(Conv2d { kernel: [5, 3], ..shape(0, [9, 7], [16, 16], 3, 1, 2) }),
        depthwise(shape(3, [50, 40], [48, 48], 3, 1, 1)),
        // Spans of every length, of both steps, whose last vector of channels overlaps.
        depthwise(shape(1, [4, 14], [24, 24], 3, 1, 1)),
        depthwise(shape(1, [4, 13], [40, 40], 5, 1, 2)),
        depthwise(shape(1, [6, 24], [24, 24], 3, 2, 1)),
        depthwise(shape(1, [7, 25], [18, 18], 5, 2, 2)),
        // Strips of a first layer: several units and panels, kernel rows apart, a step beyond the kernel.
        shape(2, [70, 66], [3, 40], 3, 2, 1),
        Conv2d { dilation: [2, 1], ..shape(2, [9, 8], [3, 7], 3, 1, 2) },
        Conv2d { extra: [1, 1], ..shape(1, [14, 15], [2, 16], 2, 5, 1) },
    ];
    shapes.retain(|shape| !INTERPRETED || shape.flops() < 4e4);
    shapes.retain(|shape| !emulated() || shape.flops() < 2e7);
    shapes
}

/// Calls `visit(x index, weight index, y index)` for every multiplication of the convolution.
fn each_product(s: &Conv2d, mut visit: impl FnMut(usize, usize, usize)) {
    let [oh, ow] = s.output();
    let (inputs, outputs) = (s.c_in / s.groups, s.c_out / s.groups);
    for (n, i, j) in (0..s.n).flat_map(|n| (0..oh).flat_map(move |i| (0..ow).map(move |j| (n, i, j)))) {
        for (p, q) in (0..s.kernel[0]).flat_map(|p| (0..s.kernel[1]).map(move |q| (p, q))) {
            let row = (i * s.stride[0] + p * s.dilation[0]).wrapping_sub(s.padding[0]);
            let column = (j * s.stride[1] + q * s.dilation[1]).wrapping_sub(s.padding[1]);
            if row >= s.h || column >= s.w {
                continue;
            }
            for c in 0..inputs {
                for o in 0..s.c_out {
                    let x = ((n * s.h + row) * s.w + column) * s.c_in + o / outputs * inputs + c;
                    let weight = ((p * s.kernel[1] + q) * inputs + c) * s.c_out + o;
                    visit(x, weight, ((n * oh + i) * ow + j) * s.c_out + o);
                }
            }
        }
    }
}

struct Case {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
    /// y, dx, dweight, dbias.
    expected: Vec<Vec<f64>>,
}

fn case(s: &Conv2d) -> Case {
    let (x, weight) = (random(s.input_len(), 1), random(s.weight_len(), 2));
    let (bias, dy) = (random(s.c_out, 3), random(s.output_len(), 4));
    let mut y: Vec<f64> = (0..s.output_len()).map(|i| f64::from(bias[i % s.c_out])).collect();
    let (mut dx, mut dweight, mut dbias) = (vec![0.0; x.len()], vec![0.0; weight.len()], vec![0.0; s.c_out]);
    each_product(s, |xi, wi, yi| {
        y[yi] += f64::from(x[xi]) * f64::from(weight[wi]);
        dx[xi] += f64::from(dy[yi]) * f64::from(weight[wi]);
        dweight[wi] += f64::from(dy[yi]) * f64::from(x[xi]);
    });
    dy.iter().enumerate().for_each(|(i, &dy)| dbias[i % s.c_out] += f64::from(dy));
    Case { x, weight, bias, dy, expected: vec![y, dx, dweight, dbias] }
}

fn run(team: &Team, s: &Conv2d, case: &Case) -> Vec<Vec<f32>> {
    // NaN where a kernel forgets to write.
    let mut out: Vec<Vec<f32>> = case.expected.iter().map(|expected| vec![f32::NAN; expected.len()]).collect();
    forward(team, s, &case.x, &case.weight, Some(&case.bias), &mut out[0]);
    backward_input(team, s, &case.dy, &case.weight, &mut out[1]);
    let [_, _, dweight, dbias] = &mut out[..] else { unreachable!() };
    backward_weight(team, s, &case.x, &case.dy, dweight, Some(dbias));
    out
}

#[test]
fn all_passes_equal_loops_on_every_isa_and_thread_count() {
    for s in shapes() {
        let case = case(&s);
        check(&format!("{s:?}"), &case.expected, TOLERANCE, |team| run(team, &s, &case));
    }
}

#[test]
fn forward_without_bias_overwrites() {
    let s = shape(2, [5, 5], [7, 9], 3, 1, 1);
    let case = case(&s);
    let expected: Vec<f64> =
        case.expected[0].iter().enumerate().map(|(i, y)| y - f64::from(case.bias[i % s.c_out])).collect();
    let mut y = vec![f32::NAN; s.output_len()];
    forward(&Team::new(1), &s, &case.x, &case.weight, None, &mut y);
    assert_close("y", &y, &expected, TOLERANCE);
}

#[test]
fn residual_and_activation_follow_the_sums() {
    for s in shapes() {
        let case = case(&s);
        // Sums that reach beyond the ceiling of 6.
        let residual: Vec<f32> = random(s.output_len(), 5).iter().map(|v| 20.0 * v).collect();
        let (plain, six) = (Some(Activation::Relu), Some(Activation::Relu6));
        let smooth = [Activation::HardSwish, Activation::Silu].map(|activation| (true, Some(activation)));
        let bent = [(true, plain), (true, None), (false, plain), (true, six)];
        for (added, activation) in bent.into_iter().chain(smooth) {
            let sum = |(y, r): (&f64, &f32)| if added { y + f64::from(*r) } else { *y };
            let sums: Vec<f64> = case.expected[0].iter().zip(&residual).map(sum).collect();
            // Rounding is that of the sums, the largest of which a ceiling cuts off.
            let largest = sums.iter().fold(0.0, |m: f64, y| m.max(*y));
            let cut = if activation == six { (largest / 6.0).max(1.0) } else { 1.0 };
            let expected: Vec<f64> =
                sums.into_iter().map(|y| activation.map_or(y, |activation| activated(activation, y))).collect();
            let finish = Finish { bias: Some(&case.bias), residual: added.then_some(&residual[..]), activation };
            check(&format!("{s:?}, {added}, {activation:?}"), &[expected], cut * TOLERANCE, |team| {
                let mut y = vec![f32::NAN; s.output_len()];
                forward_finished(team, &s, &case.x, &case.weight, finish, &mut y);
                vec![y]
            });
        }
    }
}

#[test]
fn a_normalisation_before_a_depthwise_convolution_is_one_after_the_other() {
    let team = Team::new(1);
    let sizes = [([9, 7], 24, 3, 1), ([13, 13], 9, 5, 2), ([60, 50], 40, 3, 2)];
    for ([h, w], c, kernel, stride) in if INTERPRETED { &sizes[..1] } else { &sizes[..] }.iter().copied() {
        let s = depthwise(shape(2, [h, w], [c, c], kernel, stride, kernel / 2));
        let (x, dy, weight) = (random(s.input_len(), 1), random(s.output_len(), 2), random(s.weight_len(), 3));
        let [gamma, beta, mean] = [4, 5, 6].map(|seed| random(c, seed));
        let rstd: Vec<f32> = random(c, 7).iter().map(|v| 1.5 + v).collect();
        let scale: Vec<f32> = gamma.iter().zip(&rstd).map(|(gamma, rstd)| gamma * rstd).collect();
        for (activation, batch) in [(None, true), (Some(Activation::Relu6), true), (Some(Activation::HardSwish), false)]
        {
            let mut expected: Vec<Vec<f32>> =
                [s.output_len(), x.len(), weight.len(), c, c].iter().map(|&length| vec![f32::NAN; length]).collect();
            let (mut z, mut dz) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            let shift: Vec<f32> = (0..c).map(|i| beta[i] - mean[i] * scale[i]).collect();
            batch_norm_eval(&team, c, &x, &scale, &shift, None, activation, &mut z);
            let [y, dx, dweight, dgamma, dbeta] = &mut expected[..] else { unreachable!() };
            forward(&team, &s, &z, &weight, None, y);
            backward_weight(&team, &s, &z, &dy, dweight, None);
            backward_input(&team, &s, &dy, &weight, &mut dz);
            let passed = activation.map_or(Passed::All, |activation| Passed::Shift(activation, &beta));
            let back = if batch { batch_norm_backward } else { batch_norm_eval_backward };
            back(&team, c, &x, passed, &dz, &gamma, &mean, &rstd, dx, dgamma, dbeta, None);
            let expected: Vec<Vec<f64>> =
                expected.iter().map(|values| values.iter().map(|&v| f64::from(v)).collect()).collect();
            check(&format!("{s:?}, {activation:?}, {batch}"), &expected, 1e-5, |team| {
                let mut out: Vec<Vec<f32>> = expected.iter().map(|values| vec![f32::NAN; values.len()]).collect();
                let [y, dx, dweight, dgamma, dbeta] = &mut out[..] else { unreachable!() };
                let normal = Normalized { mean: &mean, scale: &scale, shift: &beta, activation };
                normalized::forward(team, &s, normal, &x, &weight, y);
                let factors = [&gamma[..], &beta, &mean, &rstd];
                normalized::backward(
                    team, &s, batch, activation, &x, &dy, &weight, factors, dx, dweight, dgamma, dbeta,
                );
                out
            });
        }
    }
}

#[test]
fn a_relu_keeps_a_nan_visible_on_every_way() {
    // By products, by pairs of pixels, by Winograd and depthwise.
    for s in [
        shape(1, [5, 5], [3, 5], 3, 1, 1),
        shape(3, [2, 2], [16, 24], 3, 1, 1),
        shape(1, [8, 8], [32, 32], 3, 1, 1),
        depthwise(shape(1, [8, 8], [24, 24], 3, 1, 1)),
    ] {
        let (mut x, weight) = (random(s.input_len(), 1), random(s.weight_len(), 2));
        x[0] = f32::NAN;
        for team in support::teams().iter().flatten() {
            let mut y = vec![0.0; s.output_len()];
            forward_finished(
                team,
                &s,
                &x,
                &weight,
                Finish { activation: Some(Activation::Relu6), ..Finish::default() },
                &mut y,
            );
            assert!(y[0].is_nan(), "{s:?}, {:?}", team.isa());
        }
    }
}

#[test]
#[should_panic(expected = "`y` must have 450 elements and has 449")]
fn a_wrong_length_names_the_slice() {
    let s = shape(2, [5, 5], [7, 9], 3, 1, 1);
    forward(&Team::new(1), &s, &random(s.input_len(), 1), &random(s.weight_len(), 2), None, &mut [0.0; 449]);
}

#[test]
#[should_panic(expected = "the kernel exceeds the padded input")]
fn an_impossible_geometry_is_refused() {
    shape(1, [2, 2], [1, 1], 5, 1, 1).output();
}

/// The value of y at (n, i, j, o) in f64.
fn exact_output(s: &Conv2d, x: &[f32], weight: &[f32], [n, i, j, o]: [usize; 4]) -> f64 {
    let mut sum = 0.0;
    for position in 0..s.kernel[0] * s.kernel[1] {
        let row = (i * s.stride[0] + position / s.kernel[1]).wrapping_sub(s.padding[0]);
        let column = (j * s.stride[1] + position % s.kernel[1]).wrapping_sub(s.padding[1]);
        if row < s.h && column < s.w {
            let pixel = ((n * s.h + row) * s.w + column) * s.c_in;
            let terms =
                (0..s.c_in).map(|c| f64::from(x[pixel + c]) * f64::from(weight[(position * s.c_in + c) * s.c_out + o]));
            sum += terms.sum::<f64>();
        }
    }
    sum
}

#[test]
#[cfg_attr(miri, ignore = "hours of interpretation")]
fn rounding_stays_small_for_the_widest_layers_after_a_relu() {
    for s in [shape(2, [8, 8], [512, 512], 3, 1, 1), shape(2, [16, 16], [256, 256], 3, 2, 1)] {
        let x: Vec<f32> = random(s.input_len(), 1).iter().map(|v| v.max(0.0)).collect();
        let weight = random(s.weight_len(), 2);
        let mut y = vec![f32::NAN; s.output_len()];
        forward(&Team::new(0), &s, &x, &weight, None, &mut y);
        let [oh, ow] = s.output();
        let sampled: Vec<usize> = (0..y.len()).step_by(97).collect();
        let expected: Vec<f64> = sampled
            .iter()
            .map(|&at| {
                let pixel = at / s.c_out;
                exact_output(&s, &x, &weight, [pixel / (oh * ow), pixel / ow % oh, pixel % ow, at % s.c_out])
            })
            .collect();
        let got: Vec<f32> = sampled.iter().map(|&at| y[at]).collect();
        assert_close(&format!("{s:?}"), &got, &expected, 4e-6);
    }
}
