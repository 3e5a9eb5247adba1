//! Normalisation, pooling, linear, element-wise and optimiser kernels against plain loops in f64.

mod support;

use rkd_kernels::activation::Activation;
use rkd_kernels::elementwise::{activate, activate_backward, add, add_in_place, add_scaled, scale, sum_of_squares};
use rkd_kernels::excitation::{scale_channels, scale_channels_backward_gate, scale_channels_backward_input};
use rkd_kernels::finish::Finish;
use rkd_kernels::linear::{self, Linear};
use rkd_kernels::matrix::{Operand, gemm};
use rkd_kernels::normalization::{
    Passed, batch_norm_backward, batch_norm_eval, batch_norm_eval_backward, batch_norm_max_pool,
    batch_norm_max_pool_backward, batch_norm_train, l2_normalize, l2_normalize_backward,
};
use rkd_kernels::optimizer::{AdamStep, SgdStep, adam, sgd};
use rkd_kernels::pooling::{Pool2d, global_average, global_average_backward, max_pool, max_pool_backward};
use rkd_kernels::{Isa, Team};
use support::{INTERPRETED, activated, check, random, slope};

const TOLERANCE: f64 = 2e-6;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Rows and channels that meet whole and partial column groups and several row blocks.
const ROWS: &[[usize; 2]] = match INTERPRETED {
    true => &[[1, 1], [7, 3], [9, 33]],
    false => &[[1, 1], [7, 3], [64, 16], [50, 33], [3000, 64], [9000, 5]],
};

struct Norm {
    r: usize,
    c: usize,
    x: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    residual: Vec<f32>,
    dy: Vec<f32>,
}

impl Norm {
    fn new([r, c]: [usize; 2]) -> Norm {
        // A mean of 3 beside a spread of 0.3: statistics in f32 would lose digits.
        let x = random(r * c, 1).iter().map(|v| v + 3.0).collect();
        let gamma = random(c, 2).iter().map(|v| v + 1.0).collect();
        Norm { r, c, x, gamma, beta: random(c, 3), residual: random(r * c, 4), dy: random(r * c, 5) }
    }

    fn column(&self, values: &[f64], j: usize) -> Vec<f64> {
        (0..self.r).map(|i| values[i * self.c + j]).collect()
    }

    /// y, mean, rstd, variance, dx, dgamma, dbeta, dresidual in f64, with batch (`train`) or given statistics.
    fn expected(&self, train: bool, residual: bool, activation: Option<Activation>, mask: &[f32]) -> Vec<Vec<f64>> {
        let Norm { r, c, .. } = *self;
        let mut out: Vec<Vec<f64>> = [r * c, c, c, c, r * c, c, c, r * c].iter().map(|&l| vec![0.0; l]).collect();
        for j in 0..c {
            let x = self.column(&wide(&self.x), j);
            let mean = x.iter().sum::<f64>() / r as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / r as f64;
            let rstd = 1.0 / (variance + 1e-5).sqrt();
            let gamma = f64::from(self.gamma[j]);
            let hat: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
            let sums: Vec<f64> = (0..r)
                .map(|i| {
                    let added = if residual { f64::from(self.residual[i * c + j]) } else { 0.0 };
                    gamma * hat[i] + f64::from(self.beta[j]) + added
                })
                .collect();
            let g: Vec<f64> = (0..r)
                .map(|i| {
                    // At a bend of a ReLU rounding decides.
                    let relu = activation.is_some_and(Activation::is_relu);
                    let at = if relu { f64::from(mask[i * c + j]) } else { sums[i] };
                    activation.map_or(1.0, |activation| slope(activation, at)) * f64::from(self.dy[i * c + j])
                })
                .collect();
            let sum: f64 = g.iter().sum();
            let product: f64 = g.iter().zip(&hat).map(|(g, h)| g * h).sum();
            for i in 0..r {
                out[0][i * c + j] = activation.map_or(sums[i], |activation| activated(activation, sums[i]));
                let centred = if train { (sum + hat[i] * product) / r as f64 } else { 0.0 };
                out[4][i * c + j] = gamma * rstd * (g[i] - centred);
                out[7][i * c + j] = g[i];
            }
            (out[1][j], out[2][j], out[3][j], out[5][j], out[6][j]) = (mean, rstd, variance, product, sum);
        }
        out
    }
}

#[test]
fn batch_norm_of_a_batch_and_its_gradient() {
    for &size in ROWS {
        let (plain, six) = (Some(Activation::Relu), Some(Activation::Relu6));
        let smooth = [Activation::HardSwish, Activation::Silu].map(|activation| (false, Some(activation)));
        let bent = [(false, None), (false, plain), (true, plain), (true, None), (false, six), (true, six)];
        for (residual, with_relu) in bent.into_iter().chain(smooth) {
            let mut t = Norm::new(size);
            if with_relu.is_some_and(|activation| activation != Activation::Relu) {
                // Sums that reach beyond 6.
                t.gamma.iter_mut().for_each(|gamma| *gamma *= 6.0);
            }
            let run = |team: &Team| {
                let (n, c) = (t.r * t.c, t.c);
                let mut out: Vec<Vec<f32>> = [n, c, c, c, n, c, c, n].iter().map(|&l| vec![f32::NAN; l]).collect();
                let [y, mean, rstd, variance, dx, dgamma, dbeta, dresidual] = &mut out[..] else { unreachable!() };
                let added = residual.then_some(&t.residual[..]);
                batch_norm_train(team, c, 1e-5, &t.x, &t.gamma, &t.beta, added, with_relu, y, mean, rstd, variance);
                let activation = match with_relu {
                    Some(activation) if residual => Passed::Output(activation, y),
                    Some(activation) => Passed::Shift(activation, &t.beta),
                    None => Passed::All,
                };
                batch_norm_backward(
                    team,
                    c,
                    &t.x,
                    activation,
                    &t.dy,
                    &t.gamma,
                    mean,
                    rstd,
                    dx,
                    dgamma,
                    dbeta,
                    Some(dresidual),
                );
                out
            };
            let y = run(&Team::with_isa(1, Isa::PORTABLE)).swap_remove(0);
            // Near-constant columns divide rounding errors by sqrt(eps): a single row is such a case.
            let tolerance = if t.r == 1 { 1e-4 } else { 6e-6 };
            let what = format!("batch norm {size:?}, residual {residual}, {with_relu:?}");
            check(&what, &t.expected(true, residual, with_relu, &y), tolerance, run);
        }
    }
}

#[test]
fn batch_norm_of_constant_statistics_and_its_gradient() {
    for size in &ROWS[1..] {
        for (residual, with_relu) in [(false, None), (true, Some(Activation::Relu)), (true, Some(Activation::Relu6))] {
            let mut t = Norm::new(*size);
            t.gamma.iter_mut().for_each(|gamma| *gamma *= if with_relu == Some(Activation::Relu6) { 6.0 } else { 1.0 });
            let statistics = t.expected(true, residual, with_relu, &t.dy);
            let [mean, rstd] = [1, 2].map(|i| statistics[i].iter().map(|&v| v as f32).collect::<Vec<f32>>());
            let factor: Vec<f32> = t.gamma.iter().zip(&rstd).map(|(g, r)| g * r).collect();
            let shift: Vec<f32> = t.beta.iter().zip(&mean).zip(&factor).map(|((b, m), s)| b - m * s).collect();
            let run = |team: &Team| {
                let (n, c) = (t.r * t.c, t.c);
                let mut out: Vec<Vec<f32>> = [n, n, c, c, n].iter().map(|&l| vec![f32::NAN; l]).collect();
                let [y, dx, dgamma, dbeta, dresidual] = &mut out[..] else { unreachable!() };
                batch_norm_eval(team, c, &t.x, &factor, &shift, residual.then_some(&t.residual), with_relu, y);
                batch_norm_eval_backward(
                    team,
                    c,
                    &t.x,
                    with_relu.map_or(Passed::All, |activation| Passed::Output(activation, y)),
                    &t.dy,
                    &t.gamma,
                    &mean,
                    &rstd,
                    dx,
                    dgamma,
                    dbeta,
                    Some(dresidual),
                );
                out
            };
            let y = run(&Team::with_isa(1, Isa::PORTABLE)).swap_remove(0);
            let mut expected = t.expected(false, residual, with_relu, &y);
            let expected = [0, 4, 5, 6, 7].map(|i| std::mem::take(&mut expected[i]));
            // shift cancels a mean ten times the spread.
            check(&format!("eval {size:?} {residual} {with_relu:?}"), &expected, 2e-5, run);
        }
    }
}

#[test]
fn batch_norm_keeps_a_nan_visible() {
    let (mut y, mut s) = ([0.0; 4], [[0.0; 2]; 3]);
    let [mean, rstd, variance] = &mut s;
    let x = [1.0, 2.0, f32::NAN, 3.0];
    batch_norm_train(
        &Team::new(1),
        2,
        1e-5,
        &x,
        &[1.0; 2],
        &[0.0; 2],
        None,
        Some(Activation::Relu),
        &mut y,
        mean,
        rstd,
        variance,
    );
    assert!(y[0].is_nan() && y[2].is_nan() && variance[0].is_nan() && y[1].is_finite());
}

#[test]
fn the_variance_of_constant_channels_is_never_negative() {
    let (r, c) = (if INTERPRETED { 50 } else { 3001 }, 64);
    // Sums of so many such squares are rounded: they exceed or miss the squared mean by more than eps.
    let x: Vec<f32> = (0..r * c).map(|i| 1e6 + (i % c) as f32 * 12_345.7).collect();
    let (mut y, mut s) = (vec![f32::NAN; r * c], vec![vec![f32::NAN; c]; 3]);
    let [mean, rstd, variance] = &mut s[..] else { unreachable!() };
    let (one, zero) = (vec![1.0; c], vec![0.0; c]);
    batch_norm_train(&Team::new(1), c, 1e-5, &x, &one, &zero, None, None, &mut y, mean, rstd, variance);
    assert!(variance.iter().all(|&v| v >= 0.0) && rstd.iter().chain(&y).all(|v| v.is_finite()), "{variance:?}");
}

#[test]
#[should_panic(expected = "`x` must be rows of 3 channels and has 7")]
fn the_gradient_of_batch_norm_wants_whole_rows() {
    let (x, c, mut dx, mut sums) = ([1.0; 7], [1.0; 3], [0.0; 7], [[0.0; 3]; 2]);
    let [dgamma, dbeta] = &mut sums;
    batch_norm_backward(&Team::new(1), 3, &x, Passed::All, &x, &c, &c, &c, &mut dx, dgamma, dbeta, None);
}

#[test]
fn l2_normalisation_and_its_gradient() {
    let d = 37;
    let mut x = random(5 * d, 1);
    x[d..2 * d].fill(0.0);
    // Shorter than what divides: there the norm is no part of the gradient.
    x[2 * d..3 * d].iter_mut().for_each(|v| *v *= 1e-14);
    let dy = random(5 * d, 2);
    let mut expected = vec![vec![0.0; 5 * d], vec![0.0; 5], vec![0.0; 5 * d]];
    for row in 0..5 {
        let range = row * d..row * d + d;
        let (x, dy) = (wide(&x[range.clone()]), wide(&dy[range]));
        let norm = x.iter().map(|v| v * v).sum::<f64>().sqrt();
        let divisor = norm.max(1e-12);
        let along = if norm < 1e-12 { 0.0 } else { x.iter().zip(&dy).map(|(x, dy)| x * dy).sum::<f64>() / divisor };
        for i in 0..d {
            let y = x[i] / divisor;
            expected[0][row * d + i] = y;
            expected[2][row * d + i] = (dy[i] - y * along) / divisor;
        }
        expected[1][row] = norm;
    }
    let run = |team: &Team| {
        let mut out = vec![vec![f32::NAN; 5 * d], vec![f32::NAN; 5], vec![f32::NAN; 5 * d]];
        let [y, norm, dx] = &mut out[..] else { unreachable!() };
        l2_normalize(team, d, &x, y, norm);
        l2_normalize_backward(team, d, y, norm, &dy, dx);
        // The gradients of these two rows are 1e12 times the others': checked by themselves.
        assert!(dx[d..3 * d].iter().zip(&dy[d..]).all(|(dx, dy)| (dx / (dy * 1e12) - 1.0).abs() < 1e-6));
        dx[d..3 * d].fill(0.0);
        out
    };
    expected[2][d..3 * d].fill(0.0);
    check("l2", &expected, TOLERANCE, run);
}

/// The window's best pixel by the definition: first maximum, NaN above all.
fn naive_max_pool(s: &Pool2d, x: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let [oh, ow] = s.output();
    let (mut y, mut indices) = (Vec::new(), Vec::new());
    for at in 0..s.n * oh * ow * s.c {
        let (n, i, j, c) = (at / (oh * ow * s.c), at / (ow * s.c) % oh, at / s.c % ow, at % s.c);
        let mut best: Option<(f32, usize)> = None;
        for p in 0..s.kernel[0] * s.kernel[1] {
            let row = (i * s.stride[0] + p / s.kernel[1]).wrapping_sub(s.padding[0]);
            let column = (j * s.stride[1] + p % s.kernel[1]).wrapping_sub(s.padding[1]);
            if row < s.h && column < s.w {
                let value = x[((n * s.h + row) * s.w + column) * s.c + c];
                if best.is_none_or(|(max, _)| value > max || value.is_nan()) {
                    best = Some((value, row * s.w + column));
                }
            }
        }
        let (value, pixel) = best.expect("every window has a pixel");
        y.push(value);
        indices.push(pixel as u32);
    }
    (y, indices)
}

/// Pools whose windows fit, overlap, hang over the edge and leave pixels out.
fn pools() -> Vec<Pool2d> {
    let shape = |size: [usize; 2], c, kernel, stride, padding, ceil| Pool2d {
        n: 3,
        h: size[0],
        w: size[1],
        c,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        ceil,
    };
    let all = [
        shape([8, 8], 16, 2, 2, 0, false),
        shape([7, 9], 5, 3, 2, 1, false),
        shape([7, 7], 33, 3, 2, 0, true),
        shape([6, 5], 3, 2, 2, 0, true),
        shape([5, 5], 1, 3, 1, 1, true),
        shape([1, 1], 4, 1, 1, 0, false),
        shape([3, 3], 4, 2, 3, 1, true),
        // A last window that would see only padding is left out.
        shape([3, 5], 4, 2, 2, 1, true),
    ];
    all.into_iter().filter(|s| !INTERPRETED || s.c < 8).collect()
}

#[test]
fn max_pooling_and_its_gradient() {
    for s in pools() {
        // Few different values, so that windows have ties.
        let x: Vec<f32> = random(s.n * s.h * s.w * s.c, 1).iter().map(|v| (v * 8.0).round()).collect();
        let (y, indices) = naive_max_pool(&s, &x);
        let dy = random(y.len(), 2);
        let mut dx = vec![0.0; x.len()];
        let image = y.len() / s.n;
        for (at, &index) in indices.iter().enumerate() {
            dx[(at / image * s.h * s.w + index as usize) * s.c + at % s.c] += f64::from(dy[at]);
        }
        check(&format!("{s:?}"), &[wide(&y), dx], TOLERANCE, |team| {
            let (mut got, mut got_indices, mut dx) =
                (vec![f32::NAN; y.len()], vec![9; y.len()], vec![f32::NAN; x.len()]);
            max_pool(team, &s, &x, &mut got, &mut got_indices);
            assert_eq!(got_indices, indices);
            max_pool_backward(team, &s, &indices, &dy, &mut dx);
            vec![got, dx]
        });
    }
}

#[test]
fn batch_norm_with_max_pool_is_one_after_the_other() {
    for s in pools() {
        let t = Norm::new([s.n * s.h * s.w, s.c]);
        let ([oh, ow], n, c) = (s.output(), t.r * t.c, t.c);
        let windows = s.n * oh * ow * c;
        let dy = random(windows, 6);
        let new = |lengths: &[usize]| lengths.iter().map(|&l| vec![f32::NAN; l]).collect::<Vec<_>>();
        let apart = |team: &Team| {
            let mut out = new(&[windows, c, c, c, n, c, c, n, n]);
            let [y, mean, rstd, variance, dx, dgamma, dbeta, map, dmap] = &mut out[..] else { unreachable!() };
            let mut indices = vec![0; windows];
            batch_norm_train(
                team,
                c,
                1e-5,
                &t.x,
                &t.gamma,
                &t.beta,
                None,
                Some(Activation::Relu),
                map,
                mean,
                rstd,
                variance,
            );
            max_pool(team, &s, map, y, &mut indices);
            max_pool_backward(team, &s, &indices, &dy, dmap);
            let activation = Passed::Shift(Activation::Relu, &t.beta);
            batch_norm_backward(team, c, &t.x, activation, dmap, &t.gamma, mean, rstd, dx, dgamma, dbeta, None);
            out.truncate(7);
            out
        };
        let expected = apart(&Team::new(1));
        check(&format!("{s:?}"), &expected.iter().map(|v| wide(v)).collect::<Vec<_>>(), TOLERANCE, |team| {
            let mut out = new(&[windows, c, c, c, n, c, c, windows]);
            let [y, mean, rstd, variance, dx, dgamma, dbeta, winners] = &mut out[..] else { unreachable!() };
            let mut indices = vec![9; windows];
            let (x, gamma, beta) = (&t.x, &t.gamma, &t.beta);
            batch_norm_max_pool(team, &s, 1e-5, x, gamma, beta, y, winners, &mut indices, mean, rstd, variance);
            batch_norm_max_pool_backward(
                team, &s, x, winners, &indices, &dy, gamma, beta, mean, rstd, dx, dgamma, dbeta,
            );
            assert!(y.iter().zip(&apart(team)[0]).all(|(a, b)| a.to_bits() == b.to_bits()), "the same bits: {s:?}");
            out.truncate(7);
            out
        });
    }
}

#[test]
fn batch_norm_with_max_pool_keeps_a_nan_visible() {
    let s = Pool2d { n: 1, h: 2, w: 2, c: 1, kernel: [2; 2], stride: [2; 2], padding: [0; 2], ceil: false };
    let (mut y, mut winners, mut indices) = ([0.0], [0.0], [9]);
    let [mut mean, mut rstd, mut variance] = [[0.0]; 3];
    let x = [1.0, f32::NAN, 2.0, 3.0];
    let statistics = (&mut mean, &mut rstd, &mut variance);
    batch_norm_max_pool(
        &Team::new(1),
        &s,
        1e-5,
        &x,
        &[1.0],
        &[0.0],
        &mut y,
        &mut winners,
        &mut indices,
        statistics.0,
        statistics.1,
        statistics.2,
    );
    assert!(y[0].is_nan());
}

#[test]
fn max_pooling_sees_nan_and_minus_infinity() {
    let s = Pool2d { n: 1, h: 2, w: 4, c: 1, kernel: [2; 2], stride: [2; 2], padding: [0; 2], ceil: false };
    let low = f32::NEG_INFINITY;
    let (mut y, mut indices) = ([0.0; 2], [9; 2]);
    max_pool(&Team::new(1), &s, &[1.0, f32::NAN, low, low, 5.0, 2.0, low, low], &mut y, &mut indices);
    assert!(y[0].is_nan() && indices[0] == 1);
    assert_eq!((y[1], indices[1]), (low, 2));
}

#[test]
fn global_average_and_its_gradient() {
    let (n, hw, c) = (4, 35, 13);
    let (x, dy) = (random(n * hw * c, 1), random(n * c, 2));
    let mut y = vec![0.0; n * c];
    (0..x.len()).for_each(|at| y[at / (hw * c) * c + at % c] += f64::from(x[at]) / hw as f64);
    let dx = (0..x.len()).map(|at| f64::from(dy[at / (hw * c) * c + at % c]) / hw as f64).collect();
    check("global average", &[y, dx], TOLERANCE, |team| {
        let (mut y, mut dx) = (vec![f32::NAN; n * c], vec![f32::NAN; x.len()]);
        global_average(team, hw, c, &x, &mut y);
        global_average_backward(team, hw, c, &dy, &mut dx);
        vec![y, dx]
    });
}

#[test]
fn linear_and_its_gradients() {
    let sizes = [(1, 1, 1), (5, 7, 3), (7, 33, 100), (64, 512, 64), (200, 300, 33)];
    for &(n, inputs, outputs) in if INTERPRETED { &sizes[..2] } else { &sizes[..] } {
        let s = Linear { n, inputs, outputs };
        let (x, weight) = (random(n * inputs, 1), random(outputs * inputs, 2));
        let (bias, dy) = (random(outputs, 3), random(n * outputs, 4));
        let lengths = [n * outputs, n * inputs, outputs * inputs, outputs];
        let mut expected: Vec<Vec<f64>> = lengths.iter().map(|&l| vec![0.0; l]).collect();
        for (i, o) in (0..n).flat_map(|i| (0..outputs).map(move |o| (i, o))) {
            let (at, gradient) = (i * outputs + o, f64::from(dy[i * outputs + o]));
            expected[0][at] += f64::from(bias[o]);
            expected[3][o] += gradient;
            for j in 0..inputs {
                let (x, w) = (f64::from(x[i * inputs + j]), f64::from(weight[o * inputs + j]));
                expected[0][at] += x * w;
                expected[1][i * inputs + j] += gradient * w;
                expected[2][o * inputs + j] += gradient * x;
            }
        }
        check(&format!("{s:?}"), &expected, TOLERANCE, |team| {
            let mut out: Vec<Vec<f32>> = lengths.iter().map(|&l| vec![f32::NAN; l]).collect();
            let [y, dx, dweight, dbias] = &mut out[..] else { unreachable!() };
            linear::forward(team, &s, &x, &weight, Finish { bias: Some(&bias), ..Finish::default() }, y);
            linear::backward_input(team, &s, &dy, &weight, dx);
            linear::backward_weight(team, &s, &x, &dy, dweight, Some(dbias));
            out
        });
    }
}

#[test]
fn a_product_of_no_terms_is_the_bias() {
    let mut c = [f32::NAN; 4];
    let empty = Operand::row_major(&[], 0);
    gemm(&Team::new(2), [2, 2, 0], empty, empty, Some(&[1.0, 2.0]), &mut c);
    assert_eq!(c, [1.0, 2.0, 1.0, 2.0]);
    gemm(&Team::new(2), [0, 2, 3], empty, Operand::row_major(&[1.0; 6], 2), None, &mut []);
}

#[test]
fn elementwise_operations() {
    let n = if INTERPRETED { 43 } else { 40_003 };
    let (a, b) = (random(n, 1), random(n, 2));
    let both = |f: fn(f64, f64) -> f64| (0..n).map(|i| f(f64::from(a[i]), f64::from(b[i]))).collect::<Vec<f64>>();
    let expected = [both(|a, b| a + b), both(|a, b| a + b), both(|a, b| a + 0.25 * b), both(|a, _| a * 0.25)];
    check("elementwise", &expected, 1e-7, |team| {
        let mut out = vec![vec![f32::NAN; n]];
        out.extend([a.clone(), a.clone(), a.clone()]);
        add(team, &a, &b, &mut out[0]);
        add_in_place(team, &b, &mut out[1]);
        add_scaled(team, 0.25, &b, &mut out[2]);
        scale(team, 0.25, &mut out[3]);
        out
    });
    let expected: f64 = a.iter().map(|&v| f64::from(v).powi(2)).sum();
    let sums: Vec<f64> = support::teams().iter().flatten().map(|team| sum_of_squares(team, &a)).collect();
    assert!(sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits() && (sum / expected - 1.0).abs() < 1e-12));
}

const ACTIVATIONS: [Activation; 7] = [
    Activation::Relu,
    Activation::Relu6,
    Activation::HardSwish,
    Activation::Silu,
    Activation::HardSigmoid,
    Activation::Sigmoid,
    Activation::Gelu,
];

#[test]
fn activations_and_their_gradients() {
    let n = if INTERPRETED { 43 } else { 40_003 };
    for activation in ACTIVATIONS {
        // To both sides of every bend, and to where exponentials end.
        for reach in [1.0, 20.0, 400.0] {
            let x: Vec<f32> = random(n, 1).iter().map(|x| reach * x).collect();
            let dy = random(n, 2);
            let value = |x: &f32| activated(activation, f64::from(*x));
            let gradient = |(x, dy): (&f32, &f32)| slope(activation, f64::from(*x)) * f64::from(*dy);
            let expected = [x.iter().map(value).collect(), x.iter().zip(&dy).map(gradient).collect()];
            check(&format!("{activation:?} to {reach}"), &expected, 1e-6, |team| {
                let mut out = vec![vec![f32::NAN; n]; 2];
                activate(team, activation, &x, &mut out[0]);
                let saved = if activation.is_relu() { out[0].clone() } else { x.clone() };
                activate_backward(team, activation, &saved, &dy, &mut out[1]);
                out
            });
        }
        for team in support::teams().iter().flatten() {
            let mut y = [0.0; 3];
            activate(team, activation, &[f32::NAN, 7.0, -7.0], &mut y);
            assert!(y[0].is_nan() && y[1] > y[2], "{activation:?}: {y:?}");
        }
    }
}

#[test]
fn channels_of_an_image_times_their_gate() {
    let sizes: &[[usize; 3]] =
        if INTERPRETED { &[[2, 3, 17]] } else { &[[1, 1, 1], [3, 20, 7], [5, 49, 40], [2, 3000, 33]] };
    for &[n, hw, c] in sizes {
        let [x, dy] = [1, 2].map(|seed| random(n * hw * c, seed));
        let [gate, dmean] = [3, 4].map(|seed| random(n * c, seed));
        let mut expected: Vec<Vec<f64>> = [n * hw * c, n * c, n * hw * c].iter().map(|&l| vec![0.0; l]).collect();
        for (at, (&x, &dy)) in x.iter().zip(&dy).enumerate() {
            let channel = at / (hw * c) * c + at % c;
            let [x, dy, gate, dmean] = [x, dy, gate[channel], dmean[channel]].map(f64::from);
            expected[0][at] = x * gate;
            expected[1][channel] += x * dy;
            expected[2][at] = dy * gate + dmean / hw as f64;
        }
        check(&format!("gate of {n} x {hw} x {c}"), &expected, TOLERANCE, |team| {
            let mut out: Vec<Vec<f32>> = expected.iter().map(|values| vec![f32::NAN; values.len()]).collect();
            let [y, dgate, dx] = &mut out[..] else { unreachable!() };
            scale_channels(team, [hw, c], &x, &gate, y);
            scale_channels_backward_gate(team, [hw, c], &x, &dy, dgate);
            scale_channels_backward_input(team, [hw, c], &dy, &gate, &dmean, dx);
            out
        });
    }
}

/// PyTorch's Adam in f64 (torch.optim.Adam and AdamW, single tensor).
fn naive_adam(s: &AdamStep, [p, g, m, v]: [f64; 4]) -> [f64; 3] {
    let (p, g) = match s.decoupled {
        true => (p * (1.0 - s.learning_rate * s.weight_decay), g),
        false => (p, g + s.weight_decay * p),
    };
    let (m, v) = (s.beta1 * m + (1.0 - s.beta1) * g, s.beta2 * v + (1.0 - s.beta2) * g * g);
    let (c1, c2) = (1.0 - s.beta1.powf(s.step as f64), 1.0 - s.beta2.powf(s.step as f64));
    [p - s.learning_rate / c1 * m / ((v / c2).sqrt() + s.epsilon), m, v]
}

#[test]
fn three_steps_of_adam_and_adamw() {
    let n = if INTERPRETED { 40 } else { 20_000 };
    for decoupled in [false, true] {
        let step = |step| AdamStep {
            learning_rate: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
            decoupled,
            step,
        };
        let mut expected = [wide(&random(n, 1)), vec![0.0; n], vec![0.0; n]];
        for t in 1..=3 {
            for (i, g) in wide(&random(n, 10 + t)).into_iter().enumerate() {
                let new = naive_adam(&step(t), [expected[0][i], g, expected[1][i], expected[2][i]]);
                (0..3).for_each(|k| expected[k][i] = new[k]);
            }
        }
        check(&format!("adam, decoupled {decoupled}"), &expected, TOLERANCE, |team| {
            let mut out = vec![random(n, 1), vec![0.0; n], vec![0.0; n]];
            let [p, m, v] = &mut out[..] else { unreachable!() };
            (1..=3).for_each(|t| adam(team, &step(t), p, &random(n, 10 + t), m, v));
            out
        });
    }
}

#[test]
fn three_steps_of_sgd() {
    let n = if INTERPRETED { 40 } else { 20_000 };
    for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        let step = SgdStep { learning_rate: 0.1, momentum, nesterov, weight_decay: 5e-4 };
        let mut expected = [wide(&random(n, 1)), vec![0.0; n]];
        for t in 1..=3_u64 {
            for (i, g) in wide(&random(n, 10 + t)).into_iter().enumerate() {
                let g = g + 5e-4 * expected[0][i];
                let v = if t == 1 { g } else { momentum * expected[1][i] + g };
                expected[1][i] = if momentum == 0.0 { 0.0 } else { v };
                expected[0][i] -= 0.1 * if nesterov { g + momentum * v } else { v };
            }
        }
        check(&format!("sgd {momentum} {nesterov}"), &expected, TOLERANCE, |team| {
            let mut out = vec![random(n, 1), vec![0.0; n]];
            let [p, v] = &mut out[..] else { unreachable!() };
            (1..=3).for_each(|t| sgd(team, &step, p, &random(n, 10 + t), v));
            out
        });
    }
}
