//! Small calls of the kernels, and a hash of the bits that each gave: by it processors are compared, and of these calls an
//! emulator counts the instructions (`bench/neon.mjs`).
//!
//! `cargo run -p rkd-kernels --example bits -- [NAME [TIMES]]`
//!
//! With every instruction set of the processor, or that of `RKD_ISA`, on one thread. Each, or the one of that name, is called so many
//! times (once) and prints the instruction set, its name, the hash, and the multiply-adds of one call by the definition.

use rkd_kernels::activation::Activation;
use rkd_kernels::attention::{self, Attention};
use rkd_kernels::convolution::{Conv2d, Finish, backward_input, backward_weight, forward, forward_finished};
use rkd_kernels::matrix::{Operand, gemm};
use rkd_kernels::normalization::{Passed, batch_norm_backward, batch_norm_train, layer_norm, layer_norm_backward};
use rkd_kernels::optimizer::{AdamStep, adam};
use rkd_kernels::relations::{angle_huber, distance_huber, pull_back, squared_distances, widen};
use rkd_kernels::{Isa, Team};

/// One thing to call: its name, the multiply-adds of a call, and what makes its inputs, calls it so many times, and gives what it gave.
type Call = (&'static str, usize, fn(&Team, usize) -> Vec<f32>);

/// Rows and channels of what has neither kernel nor heads.
const ROWS: usize = 60;
const CHANNELS: usize = 44;
/// Rows, columns and terms of the matrix product: whole tiles of 14 x 32 and of 6 x 16.
const PRODUCT: [usize; 3] = [84, 64, 256];
const ATTENTION: Attention = Attention { n: 2, tokens: 37, heads: 2, channels: 24 };

const CALLS: [Call; 11] = [
    ("product", PRODUCT[0] * PRODUCT[1] * PRODUCT[2], product),
    ("winograd", 16 * 16 * 9 * 32 * 32, |team, times| convolution(team, times, winograd())),
    ("winograd-gradients", 2 * 16 * 16 * 9 * 32 * 32, |team, times| gradients(team, times, winograd())),
    ("depthwise", 16 * 16 * 9 * 32, |team, times| convolution(team, times, depthwise())),
    ("depthwise-gradients", 2 * 16 * 16 * 9 * 32, |team, times| gradients(team, times, depthwise())),
    // Channels that fill no vector.
    ("strided", 8 * 8 * 9 * 5 * 19, |team, times| convolution(team, times, strided())),
    ("strided-gradients", 2 * 8 * 8 * 9 * 5 * 19, |team, times| gradients(team, times, strided())),
    ("batch-norm", 0, batch_norm),
    ("transformer", 0, transformer),
    ("relations", 0, relations),
    ("adam", 0, optimizer),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next();
    let times = arguments.next().map_or(1, |times| times.parse().expect("TIMES is a number"));
    let wanted = |call: &&Call| name.as_ref().is_none_or(|name| name == call.0);
    for set in Isa::compared().unwrap_or_else(|message| panic!("{message}")) {
        let team = Team::with_isa(1, set);
        for (name, multiply_adds, run) in CALLS.iter().filter(wanted) {
            println!("{} {name} {:016x} {multiply_adds}", set.name(), hash(&run(&team, times)));
        }
    }
}

/// FNV-1a of all bits.
fn hash(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|value| value.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Numbers in [-0.5, 0.5] that use all of their digits.
fn wave(length: usize) -> Vec<f32> {
    (0..length).map(|i| ((i * 7919 % 10_007) as f32 - 5003.0) / 10_007.0).collect()
}

fn product(team: &Team, times: usize) -> Vec<f32> {
    let [m, n, k] = PRODUCT;
    let (a, b, mut c) = (wave(m * k), wave(k * n), vec![0.0; m * n]);
    for _ in 0..times {
        gemm(team, PRODUCT, Operand::row_major(&a, k), Operand::row_major(&b, n), None, &mut c);
    }
    c
}

fn square(size: usize, channels: [usize; 2], stride: usize, groups: usize) -> Conv2d {
    Conv2d {
        n: 1,
        h: size,
        w: size,
        c_in: channels[0],
        c_out: channels[1],
        kernel: [3; 2],
        stride: [stride; 2],
        padding: [1; 2],
        extra: [0; 2],
        dilation: [1; 2],
        groups,
    }
}

fn winograd() -> Conv2d {
    square(16, [32, 32], 1, 1)
}

fn depthwise() -> Conv2d {
    square(16, [32, 32], 1, 32)
}

fn strided() -> Conv2d {
    square(16, [5, 19], 2, 1)
}

fn convolution(team: &Team, times: usize, shape: Conv2d) -> Vec<f32> {
    let (x, weight, mut y) = (wave(shape.input_len()), wave(shape.weight_len()), vec![0.0; shape.output_len()]);
    for _ in 0..times {
        forward(team, &shape, &x, &weight, None, &mut y);
    }
    y
}

fn gradients(team: &Team, times: usize, shape: Conv2d) -> Vec<f32> {
    let (x, weight, dy) = (wave(shape.input_len()), wave(shape.weight_len()), wave(shape.output_len()));
    let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    for _ in 0..times {
        backward_input(team, &shape, &dy, &weight, &mut dx);
        backward_weight(team, &shape, &x, &dy, &mut dweight, None);
    }
    [dx, dweight].concat()
}

fn batch_norm(team: &Team, times: usize) -> Vec<f32> {
    let (c, eps, relu) = (CHANNELS, 1e-5, Activation::Relu);
    let (x, dy, gamma, beta) = (wave(ROWS * c), wave(ROWS * c), wave(c), wave(c));
    let [mut y, mut dx] = [(); 2].map(|()| vec![0.0; ROWS * c]);
    let [mut mean, mut rstd, mut variance, mut dgamma, mut dbeta] = [(); 5].map(|()| vec![0.0; c]);
    for _ in 0..times {
        let (mean, rstd, variance) = (&mut mean, &mut rstd, &mut variance);
        batch_norm_train(team, c, eps, &x, &gamma, &beta, None, Some(relu), &mut y, mean, rstd, variance);
        let passed = Passed::Shift(relu, &beta);
        let (dgamma, dbeta) = (&mut dgamma, &mut dbeta);
        batch_norm_backward(team, c, &x, passed, &dy, &gamma, mean, rstd, &mut dx, dgamma, dbeta, None);
    }
    [y, dx, mean, rstd, variance, dgamma, dbeta].concat()
}

/// Attention, layer norm and, of a convolution of one pixel, GELU.
fn transformer(team: &Team, times: usize) -> Vec<f32> {
    let Attention { n, tokens, heads, channels } = ATTENTION;
    let (rows, c) = (n * tokens, heads * channels);
    let (x, dy, weight, bias) = (wave(3 * rows * c), wave(rows * c), wave(c), wave(c));
    let linear = Conv2d { kernel: [1; 2], padding: [0; 2], ..square(1, [c, c], 1, 1) };
    let linear = Conv2d { n: rows, ..linear };
    let factors = wave(linear.weight_len());
    let mut dx = vec![0.0; x.len()];
    let [mut attended, mut y, mut activated, mut dnorm] = [(); 4].map(|()| vec![0.0; rows * c]);
    let ([mut mean, mut rstd], [mut dweight, mut dbias]) =
        ([(); 2].map(|()| vec![0.0; rows]), [(); 2].map(|()| vec![0.0; c]));
    for _ in 0..times {
        attention::forward(team, &ATTENTION, &x, &mut attended);
        attention::backward(team, &ATTENTION, &x, &dy, &mut dx);
        layer_norm(team, c, 1e-6, &attended, &weight, &bias, &mut y, &mut mean, &mut rstd);
        let (dweight, dbias) = (&mut dweight, &mut dbias);
        layer_norm_backward(team, &attended, &weight, &mean, &rstd, &dy, None, &mut dnorm, dweight, dbias);
        let finish = Finish { activation: Some(Activation::Gelu), ..Finish::default() };
        forward_finished(team, &linear, &y, &factors, finish, &mut activated);
    }
    [attended, dx, y, mean, rstd, dnorm, dweight, dbias, activated].concat()
}

/// Both relational losses, with their gradients over the rows, rounded to float32.
fn relations(team: &Team, times: usize) -> Vec<f32> {
    let (n, d) = (21, 13);
    let [student, teacher] = [wave(n * d), wave(2 * n * d).split_off(n * d)].map(|rows| widen(&rows, n, d));
    let mut out = Vec::new();
    for _ in 0..times {
        let [s, t] = [&student, &teacher].map(|rows| squared_distances(team, rows, n, d));
        let (distance, angle) = (distance_huber(team, &s, &t, n, 1.0), angle_huber(team, &s, &t, n, 1.0));
        let values = [(distance.value, distance.gradient), (angle.value, angle.gradient)];
        let with_rows =
            values.map(|(value, gradient)| [vec![value], pull_back(team, &student, &gradient, n, d)].concat());
        out = with_rows.concat().into_iter().map(|value| value as f32).collect();
    }
    out
}

fn optimizer(team: &Team, times: usize) -> Vec<f32> {
    let gradient = wave(ROWS * CHANNELS);
    let (mut parameter, [mut mean, mut square]) = (wave(gradient.len()), [(); 2].map(|()| vec![0.0; gradient.len()]));
    for step in 1..=times as u64 {
        let options = AdamStep {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            decoupled: true,
            step,
        };
        adam(team, &options, &mut parameter, &gradient, &mut mean, &mut square);
    }
    [parameter, mean, square].concat()
}
