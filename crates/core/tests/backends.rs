//! The CPU kernels and the CUDA kernels (on the device of the tests) against the portable form on many shapes, and the former against
//! themselves on 1, 2 and 3 threads.

use std::sync::Arc;

use crate::common::{Draw, distance};
use half::bf16;
use rkd_core::backbones::{BackboneSpec, Stem, build};
use rkd_core::nn::backend::{
    Activation, AdamStep, Backend, BatchNorm, Norms, Passed, PooledNorm, SavedNorm, SgdStep, Statistics,
};
use rkd_core::nn::geometry::{Conv2d, Pool2d};
use rkd_core::nn::{Cpu, Feature, Portable, Precision};
use rkd_core::optim::{Optimizer, OptimizerSpec};
use rkd_core::random::Random;
use rkd_kernels::Team;

const DRAW: Draw = Draw { seed: 23 };
const ACTIVATIONS: [Activation; 7] = [
    Activation::Relu,
    Activation::Relu6,
    Activation::HardSwish,
    Activation::Silu,
    Activation::HardSigmoid,
    Activation::Sigmoid,
    Activation::Gelu,
];

fn cpu(threads: usize) -> Cpu {
    Cpu::new(Arc::new(Team::new(threads)))
}

/// The sums of squares of tensors, wherever their norms are.
fn squares<B: Backend>(backend: &B, tensors: &[&B::Tensor]) -> Vec<f64> {
    match backend.norms(tensors).unwrap() {
        Norms::Known(squares) => squares,
        Norms::Pending(norms) => backend.to_f64(&norms).unwrap().iter().map(|norm| norm * norm).collect(),
    }
}

/// The backend that is tested and the oracle, to be given the same values.
struct Both<B> {
    tested: B,
    portable: Portable,
    /// The largest difference, as a share of the largest value.
    tolerance: f64,
}

/// The same tensor on both.
type Pair<B> = (<B as Backend>::Tensor, <Portable as Backend>::Tensor);

impl<B: Backend> Both<B> {
    fn new(tested: B) -> Self {
        let tolerance = match tested.precision() {
            Precision::Float32 => 2e-5,
            Precision::Tf32 => 5e-3,
            // What is given has no more bits than that: what is written is rounded once, or a few times in a row.
            Precision::Bf16 => 1.2e-2,
        };
        Both { tested, portable: Portable::cpu_f64(), tolerance }
    }

    fn random(&self, name: &str, shape: &[usize]) -> Pair<B> {
        self.of(&DRAW.hashed(name, shape.iter().product()), shape)
    }

    /// In bfloat16 the values are rounded for both, and a map is one of bfloat16.
    fn of(&self, values: &[f32], shape: &[usize]) -> Pair<B> {
        if self.tested.precision() != Precision::Bf16 {
            return (self.tested.from_f32(values, shape).unwrap(), self.portable.from_f32(values, shape).unwrap());
        }
        let values: Vec<f32> = values.iter().map(|&value| bf16::from_f32(value).to_f32()).collect();
        let mut tested = self.tested.from_f32(&values, shape).unwrap();
        if shape.len() == 4 {
            let row = self.tested.reshape(&tested, &[1, values.len()]).unwrap();
            let map = self.tested.class_token_backward(&[1, 1, 1, values.len()], &row).unwrap();
            tested = self.tested.reshape(&map, shape).unwrap();
        }
        (tested, self.portable.from_f32(&values, shape).unwrap())
    }

    fn assert_equal(&self, what: &str, tested: &B::Tensor, portable: &<Portable as Backend>::Tensor) {
        self.assert_within(self.tolerance, what, tested, portable);
    }

    fn assert_within(&self, tolerance: f64, what: &str, tested: &B::Tensor, portable: &<Portable as Backend>::Tensor) {
        assert_eq!(B::shape(tested), Portable::shape(portable), "{what}");
        let (actual, expected) = (self.tested.to_f64(tested).unwrap(), self.portable.to_f64(portable).unwrap());
        let distance = distance(&actual, &expected, 1e-3);
        assert!(distance < tolerance, "{what}: the kernel is {distance:.1e} off");
    }
}

/// Every comparison on every backend.
macro_rules! compare {
    ($($test:ident)*) => {
        mod kernels {
            $(#[test]
            fn $test() {
                super::$test(&super::Both::new(super::cpu(2)));
            })*
        }
        #[cfg(target_os = "linux")]
        mod cuda {
            $(#[test]
            fn $test() {
                super::$test(&super::Both::new(crate::common::cuda(true)));
            })*
        }
        #[cfg(target_os = "linux")]
        mod cuda_in_bf16 {
            $(#[test]
            fn $test() {
                let backend = crate::common::cuda(true).with_precision(rkd_core::nn::Precision::Bf16);
                super::$test(&super::Both::new(backend));
            })*
        }
        #[cfg(target_os = "linux")]
        mod cuda_in_tf32 {
            $(#[test]
            fn $test() {
                let backend = crate::common::cuda(true).with_precision(rkd_core::nn::Precision::Tf32);
                super::$test(&super::Both::new(backend));
            })*
        }
    };
}

compare! {
    convolutions_of_random_shapes
    batch_norms_in_every_combination
    batch_norms_before_a_depthwise_convolution
    batch_norms_that_pool
    pools_of_random_shapes
    the_other_operations
    optimizer_steps
    layers_of_transformers
}

#[cfg(target_os = "linux")]
#[test]
fn cuda_convolutions_that_cudnn_does_not_take() {
    convolutions_of_random_shapes(&Both::new(crate::common::cuda(false)));
}

fn convolutions_of_random_shapes<B: Backend>(both: &Both<B>) {
    for case in 0..60 {
        let mut random = Random::keyed(1, 0, case, "convolution");
        let mut pick = |choices: &[usize]| choices[random.below(choices.len())];
        let groups = pick(&[1, 1, 1, 1, 2, 4]);
        let windows = Conv2d {
            kernel: [pick(&[1, 2, 3, 3, 5]), pick(&[1, 3, 3, 5])],
            stride: [pick(&[1, 1, 2, 3]), pick(&[1, 1, 2])],
            padding: [pick(&[0, 1, 1, 3]), pick(&[0, 1, 1, 2])],
            dilation: [pick(&[1, 1, 1, 2]), pick(&[1, 1, 1, 3])],
            groups,
            extra: [pick(&[0, 0, 1]), pick(&[0, 0, 1])],
        };
        let (c_in, c_out) = (groups * pick(&[1, 3, 8, 20, 33]), groups * pick(&[1, 4, 16, 35]));
        let input = [pick(&[1, 2, 3]), pick(&[5, 8, 9, 13]), pick(&[7, 8, 12]), c_in];
        let Ok([h, w]) = windows.output([input[1], input[2]]) else { continue };
        let what = format!("{windows:?} on {input:?}");
        let x = both.random("x", &input);
        let weight = both.random("weight", &[windows.kernel[0], windows.kernel[1], c_in / groups, c_out]);
        let bias = both.random("bias", &[c_out]);
        let dy = both.random("dy", &[input[0], h, w, c_out]);
        let y = both.tested.conv2d(&windows, &x.0, &weight.0, Some(&bias.0)).unwrap();
        both.assert_equal(&what, &y, &both.portable.conv2d(&windows, &x.1, &weight.1, Some(&bias.1)).unwrap());
        let dx = both.tested.conv2d_backward_input(&windows, &input, &weight.0, &dy.0).unwrap();
        let expected = both.portable.conv2d_backward_input(&windows, &input, &weight.1, &dy.1).unwrap();
        both.assert_equal(&format!("dx of {what}"), &dx, &expected);
        let (dweight, dbias) = both.tested.conv2d_backward_weight(&windows, &x.0, &dy.0, true).unwrap();
        let expected = both.portable.conv2d_backward_weight(&windows, &x.1, &dy.1, true).unwrap();
        both.assert_equal(&format!("dweight of {what}"), &dweight, &expected.0);
        both.assert_equal(&format!("dbias of {what}"), &dbias.unwrap(), &expected.1.unwrap());
    }
}

fn batch_norms_in_every_combination<B: Backend>(both: &Both<B>) {
    for (index, shape) in [[2, 3, 3, 5], [4, 7, 5, 33], [1, 1, 2, 1], [3, 16, 16, 64]].iter().enumerate() {
        for combination in 0..4 * (ACTIVATIONS.len() + 1) {
            let (residual, batch) = (combination & 1 > 0, combination & 2 > 0);
            let activation = (combination / 4).checked_sub(1).map(|place| ACTIVATIONS[place]);
            if residual && activation.is_some_and(|activation| !activation.is_relu()) {
                continue;
            }
            // An output just below 6 is 6 in bfloat16, and says that nothing passes.
            let by_output = activation == Some(Activation::Relu6) && (residual || !batch);
            if by_output && both.tested.precision() == Precision::Bf16 {
                continue;
            }
            let what = format!("shape {index}, residual {residual}, {activation:?}, statistics of the batch {batch}");
            let c = shape[3];
            let [x, added, dy] = ["x", "added", "dy"].map(|name| both.random(name, shape));
            let [bias, mean] = ["bias", "mean"].map(|name| both.random(name, &[c]));
            // Outputs on both sides of 6.
            let weight: Vec<f32> = DRAW.hashed("weight", c).iter().map(|v| 6.0 * v).collect();
            let weight = both.of(&weight, &[c]);
            let variance: Vec<f32> = DRAW.hashed("variance", c).iter().map(|v| 1.2 + v).collect();
            let variance = both.of(&variance, &[c]);
            macro_rules! run {
                ($backend:expr, $i:tt) => {{
                    let statistics = match batch {
                        true => Statistics::Batch,
                        false => Statistics::Fixed { mean: &mean.$i, variance: &variance.$i },
                    };
                    let out = $backend
                        .batch_norm(&BatchNorm {
                            x: &x.$i,
                            weight: &weight.$i,
                            bias: &bias.$i,
                            residual: residual.then_some(&added.$i),
                            activation,
                            epsilon: 1e-5,
                            statistics,
                        })
                        .unwrap();
                    let saved = SavedNorm {
                        x: &x.$i,
                        activation: match activation {
                            Some(kind) if batch && !residual || !kind.is_relu() => Passed::Shift(kind, &bias.$i),
                            Some(kind) => Passed::Output(kind, &out.y),
                            None => Passed::All,
                        },
                        weight: &weight.$i,
                        mean: &out.mean,
                        rstd: &out.rstd,
                        residual,
                        batch,
                    };
                    let gradients = $backend.batch_norm_backward(&saved, &dy.$i).unwrap();
                    (out, gradients)
                }};
            }
            let ((out, gradients), (expected, expected_gradients)) = (run!(both.tested, 0), run!(both.portable, 1));
            both.assert_equal(&format!("y: {what}"), &out.y, &expected.y);
            both.assert_equal(&format!("variance: {what}"), &out.variance, &expected.variance);
            if batch {
                let given = both.tested.to_f32(&out.variance).unwrap();
                let [_, variance] = both.tested.moments(&x.0).unwrap();
                assert_eq!(variance.iter().map(|&v| v as f32).collect::<Vec<_>>(), given, "{what}");
                let found = [both.tested.moments(&x.0).unwrap(), both.portable.moments(&x.1).unwrap()];
                for (tested, portable) in found[0].iter().flatten().zip(found[1].iter().flatten()) {
                    assert!(
                        (tested - portable).abs() <= 1e-5 * portable.abs().max(0.1),
                        "moments, {what}: {tested} {portable}"
                    );
                }
            }
            // Two values a channel leave a gradient of rounding only.
            if shape[..3].iter().product::<usize>() > 2 {
                both.assert_equal(&format!("dx: {what}"), &gradients.dx, &expected_gradients.dx);
            }
            both.assert_equal(&format!("dweight: {what}"), &gradients.dweight, &expected_gradients.dweight);
            both.assert_equal(&format!("dbias: {what}"), &gradients.dbias, &expected_gradients.dbias);
            assert_eq!(gradients.dresidual.is_some(), residual);
            if let (Some(actual), Some(expected)) = (&gradients.dresidual, &expected_gradients.dresidual) {
                both.assert_equal(&format!("dresidual: {what}"), actual, expected);
            }
        }
    }
}

fn batch_norms_before_a_depthwise_convolution<B: Backend>(both: &Both<B>) {
    let (same, square) = (Conv2d::same, Conv2d::square);
    for (shape, windows) in [
        ([2, 9, 7, 24], square(3, 1, 1)),
        ([3, 8, 8, 33], same(5, 2, 8)),
        ([2, 13, 13, 8], square(3, 2, 1)),
        ([1, 5, 5, 3], square(3, 2, 0)),
        // More than one band of rows.
        ([2, 60, 50, 40], square(5, 1, 2)),
        ([1, 61, 50, 40], square(3, 2, 1)),
    ] {
        let c = shape[3];
        let windows = Conv2d { groups: c, ..windows };
        let [h, w] = windows.output([shape[1], shape[2]]).unwrap();
        let (x, dy) = (both.random("x", &shape), both.random("dy", &[shape[0], h, w, c]));
        let filter = both.random("filter", &[windows.kernel[0], windows.kernel[1], 1, c]);
        let [bias, mean] = ["bias", "mean"].map(|name| both.random(name, &[c]));
        let weight: Vec<f32> = DRAW.hashed("weight", c).iter().map(|v| 6.0 * v).collect();
        let weight = both.of(&weight, &[c]);
        let variance: Vec<f32> = DRAW.hashed("variance", c).iter().map(|v| 1.2 + v).collect();
        let variance = both.of(&variance, &[c]);
        // The largest of a few: bands know nothing of activations.
        let activations = if shape[1] < 60 { &ACTIVATIONS[..] } else { &ACTIVATIONS[..1] };
        for activation in [None].into_iter().chain(activations.iter().copied().map(Some)) {
            for batch in [true, false] {
                macro_rules! run {
                    ($backend:expr, $i:tt) => {{
                        let statistics = match batch {
                            true => Statistics::Batch,
                            false => Statistics::Fixed { mean: &mean.$i, variance: &variance.$i },
                        };
                        let operation = BatchNorm {
                            x: &x.$i,
                            weight: &weight.$i,
                            bias: &bias.$i,
                            residual: None,
                            activation,
                            epsilon: 1e-5,
                            statistics,
                        };
                        let out = $backend.batch_norm_depthwise(&operation, &windows, &filter.$i).unwrap();
                        let statistics = Statistics::Fixed { mean: &out.mean, variance: &out.variance };
                        let operation = BatchNorm { statistics, ..operation };
                        let back = $backend
                            .batch_norm_depthwise_backward(&operation, &out.rstd, batch, &windows, &filter.$i, &dy.$i)
                            .unwrap();
                        (out, back)
                    }};
                }
                let ((out, (back, dfilter)), (expected, (expected_back, expected_dfilter))) =
                    (run!(both.tested, 0), run!(both.portable, 1));
                let pairs = [
                    ("y", &out.y, &expected.y),
                    ("mean", &out.mean, &expected.mean),
                    ("rstd", &out.rstd, &expected.rstd),
                    ("variance", &out.variance, &expected.variance),
                    ("dx", &back.dx, &expected_back.dx),
                    ("dweight", &back.dweight, &expected_back.dweight),
                    ("dbias", &back.dbias, &expected_back.dbias),
                    ("gradient of the filter", &dfilter, &expected_dfilter),
                ];
                for (what, actual, expected) in pairs {
                    let what = format!("{what} of {windows:?} on {shape:?}, {activation:?}, batch {batch}");
                    // Between the two is a map, whose rounded values a small sum may be of.
                    let rounded = both.tested.precision() == Precision::Bf16;
                    both.assert_within(if rounded { 6e-2 } else { both.tolerance }, &what, actual, expected);
                }
            }
        }
    }
}

fn batch_norms_that_pool<B: Backend>(both: &Both<B>) {
    for (shape, windows) in [([2, 6, 8, 33], Pool2d::square(2, 2, 0)), ([3, 7, 5, 16], Pool2d::square(3, 2, 1))] {
        let [h, w] = windows.output([shape[1], shape[2]]).unwrap();
        let (x, dy) = (both.random("x", &shape), both.random("dy", &[shape[0], h, w, shape[3]]));
        let [weight, bias] = ["weight", "bias"].map(|name| both.random(name, &shape[3..]));
        macro_rules! run {
            ($backend:expr, $i:tt) => {{
                let (x, weight, bias) = (&x.$i, &weight.$i, &bias.$i);
                let statistics = Statistics::Batch;
                let operation = BatchNorm {
                    x,
                    weight,
                    bias,
                    residual: None,
                    activation: Some(Activation::Relu),
                    epsilon: 1e-5,
                    statistics,
                };
                let PooledNorm { normalized: out, won } = $backend.batch_norm_max_pool(&operation, &windows).unwrap();
                let (mean, rstd, activation) = (&out.mean, &out.rstd, Passed::Shift(Activation::Relu, bias));
                let saved = SavedNorm { x, activation, weight, mean, rstd, residual: false, batch: true };
                let back = $backend.batch_norm_max_pool_backward(&saved, &windows, &won, &dy.$i).unwrap();
                (out, back)
            }};
        }
        let ((out, back), (expected, expected_back)) = (run!(both.tested, 0), run!(both.portable, 1));
        let pairs = [
            ("y", &out.y, &expected.y),
            ("mean", &out.mean, &expected.mean),
            ("rstd", &out.rstd, &expected.rstd),
            ("variance", &out.variance, &expected.variance),
            ("dx", &back.dx, &expected_back.dx),
            ("dweight", &back.dweight, &expected_back.dweight),
            ("dbias", &back.dbias, &expected_back.dbias),
        ];
        for (what, actual, expected) in pairs {
            both.assert_equal(&format!("{what} of {windows:?} on {shape:?}"), actual, expected);
        }
    }
}

fn pools_of_random_shapes<B: Backend>(both: &Both<B>) {
    for case in 0..40 {
        let mut random = Random::keyed(1, 0, case, "team");
        let mut pick = |choices: &[usize]| choices[random.below(choices.len())];
        let kernel = [pick(&[1, 2, 3]), pick(&[2, 3, 5])];
        let padding = [pick(&[0, kernel[0] / 2]), pick(&[0, kernel[1] / 2])];
        let windows = Pool2d { kernel, padding, stride: [pick(&[1, 2]), pick(&[1, 2, 3])], ceil: pick(&[0, 1]) == 1 };
        let input = [pick(&[1, 2]), pick(&[5, 6, 9]), pick(&[5, 7, 8]), pick(&[1, 3, 16, 17])];
        let what = format!("{windows:?} on {input:?}");
        // Few distinct values: ties must go to the first maximum.
        let values: Vec<f32> = DRAW.hashed("x", input.iter().product()).iter().map(|v| (v * 4.0).round()).collect();
        let x = both.of(&values, &input);
        let (y, at) = both.tested.max_pool(&windows, &x.0).unwrap();
        let (expected, expected_at) = both.portable.max_pool(&windows, &x.1).unwrap();
        both.assert_equal(&what, &y, &expected);
        let dy = both.random("dy", B::shape(&y));
        let dx = both.tested.max_pool_backward(&windows, &input, &at, &dy.0).unwrap();
        let expected = both.portable.max_pool_backward(&windows, &input, &expected_at, &dy.1).unwrap();
        both.assert_equal(&format!("dx of {what}"), &dx, &expected);
    }
}

fn the_other_operations<B: Backend>(both: &Both<B>) {
    let (c, p) = (&both.tested, &both.portable);
    let x = both.random("x", &[3, 5, 4, 7]);
    let flat = both.random("flat", &[3, 140]);
    let pooled = both.random("pooled", &[3, 7]);
    let weight = both.random("weight", &[5, 7]);
    let bias = both.random("bias", &[5]);
    let out = both.random("out", &[3, 5]);
    let input = [3, 5, 4, 7];
    for kind in ACTIVATIONS {
        // Beyond every bend.
        let x = both.of(&DRAW.hashed("x", 420).iter().map(|v| 12.0 * v).collect::<Vec<_>>(), &input);
        let y = (c.activate(kind, &x.0).unwrap(), p.activate(kind, &x.1).unwrap());
        both.assert_equal(&format!("{kind:?}"), &y.0, &y.1);
        let dy = both.random("dy", &input);
        let saved = if kind.is_relu() { &y } else { &x };
        let gradient = c.activate_backward(kind, &saved.0, &dy.0).unwrap();
        let expected = p.activate_backward(kind, &saved.1, &dy.1).unwrap();
        both.assert_equal(&format!("{kind:?} gradient"), &gradient, &expected);
    }
    for shape in [[3, 5, 4, 7], [2, 13, 11, 40]] {
        let (x, dy) = (both.random("x", &shape), both.random("dy", &shape));
        let [gate, dmean] = ["gate", "dmean"].map(|name| both.random(name, &[shape[0], 1, 1, shape[3]]));
        let scaled = c.scale_channels(&x.0, &gate.0).unwrap();
        both.assert_equal("scaled channels", &scaled, &p.scale_channels(&x.1, &gate.1).unwrap());
        let dgate = c.scale_channels_backward_gate(&x.0, &dy.0).unwrap();
        both.assert_equal("gradient of the gate", &dgate, &p.scale_channels_backward_gate(&x.1, &dy.1).unwrap());
        let dx = c.scale_channels_backward_input(&dy.0, &gate.0, &dmean.0).unwrap();
        let expected = p.scale_channels_backward_input(&dy.1, &gate.1, &dmean.1).unwrap();
        both.assert_equal("gradient of scaled channels", &dx, &expected);
    }
    let [one, other] = [c.reshape(&pooled.0, &[3, 1, 1, 7]).unwrap(), c.reshape(&pooled.0, &[21]).unwrap()];
    both.assert_equal("reshaped", &one, &p.reshape(&pooled.1, &[3, 1, 1, 7]).unwrap());
    both.assert_equal("reshaped", &other, &p.reshape(&pooled.1, &[21]).unwrap());
    let dy = both.random("dy", &input);
    both.assert_equal("add", &c.add(x.0.clone(), &dy.0).unwrap(), &p.add(x.1.clone(), &dy.1).unwrap());
    both.assert_equal("average", &c.global_average(&x.0).unwrap(), &p.global_average(&x.1).unwrap());
    let average = c.global_average_backward(&input, &pooled.0).unwrap();
    both.assert_equal("average gradient", &average, &p.global_average_backward(&input, &pooled.1).unwrap());
    let wide = both.random("wide", &[3, 5, 4, 12]);
    let parts = (c.join_backward(&[7, 1, 4], &wide.0).unwrap(), p.join_backward(&[7, 1, 4], &wide.1).unwrap());
    for (part, expected) in parts.0.iter().zip(&parts.1) {
        both.assert_equal("join gradient", part, expected);
    }
    both.assert_equal("join", &c.join(&parts.0).unwrap(), &p.join(&parts.1).unwrap());
    both.assert_equal("join of the parts", &c.join(&parts.0).unwrap(), &wide.1);
    both.assert_equal("flatten", &c.flatten(&x.0).unwrap(), &p.flatten(&x.1).unwrap());
    let unflattened = c.flatten_backward(&input, &flat.0).unwrap();
    both.assert_equal("flatten gradient", &unflattened, &p.flatten_backward(&input, &flat.1).unwrap());
    let linear = c.linear(&pooled.0, &weight.0, &bias.0).unwrap();
    both.assert_equal("linear", &linear, &p.linear(&pooled.1, &weight.1, &bias.1).unwrap());
    let dx = c.linear_backward_input(&weight.0, &out.0).unwrap();
    both.assert_equal("linear dx", &dx, &p.linear_backward_input(&weight.1, &out.1).unwrap());
    let (dweight, dbias) = c.linear_backward_weight(&pooled.0, &out.0).unwrap();
    let expected = p.linear_backward_weight(&pooled.1, &out.1).unwrap();
    both.assert_equal("linear dweight", &dweight, &expected.0);
    both.assert_equal("linear dbias", &dbias, &expected.1);
    let (y, norm) = c.l2_normalize(&pooled.0).unwrap();
    let (expected, expected_norm) = p.l2_normalize(&pooled.1).unwrap();
    both.assert_equal("l2", &y, &expected);
    let dy = both.random("other", &[3, 7]);
    let dx = c.l2_normalize_backward(&y, &norm, &dy.0).unwrap();
    both.assert_equal("l2 gradient", &dx, &p.l2_normalize_backward(&expected, &expected_norm, &dy.1).unwrap());
    let (mut a, mut b) = (both.random("target", &[7]).0, both.random("target", &[7]).1);
    let source = both.random("source", &[7]);
    c.blend(&mut a, &source.0, 0.1, 1.5).unwrap();
    p.blend(&mut b, &source.1, 0.1, 1.5).unwrap();
    both.assert_equal("blend", &a, &b);
    let (squares, norms) = (squares(c, &[&x.0, &source.0]), squares(p, &[&x.1, &source.1]));
    // Norms that wait on the device are float32.
    let allowed = if matches!(c.norms(&[&x.0]).unwrap(), Norms::Known(_)) { 1e-9 } else { 1e-6 };
    assert!(squares.iter().zip(&norms).all(|(a, b)| (a - b).abs() < allowed * b), "{squares:?} {norms:?}");
    c.increment(&mut a).unwrap();
    p.increment(&mut b).unwrap();
    both.assert_equal("increment", &a, &b);
}

fn optimizer_steps<B: Backend>(both: &Both<B>) {
    for (kind, decoupled) in [("adam", false), ("adam-w", true)] {
        let (mut p, zero) = (both.random("p", &[70]), both.of(&[0.0; 70], &[70]));
        let (mut mean, mut square) = (zero.clone(), zero);
        for step in 1..=4 {
            let step = AdamStep {
                learning_rate: 0.1,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
                weight_decay: 0.1,
                decoupled,
                step,
            };
            let gradient = both.random(&format!("gradient {}", step.step), &[70]);
            both.tested.adam(&step, &mut p.0, &gradient.0, &mut mean.0, &mut square.0).unwrap();
            both.portable.adam(&step, &mut p.1, &gradient.1, &mut mean.1, &mut square.1).unwrap();
            both.assert_equal(kind, &p.0, &p.1);
        }
    }
    for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
        let (mut p, mut velocity) = (both.random("p", &[70]), both.of(&[0.0; 70], &[70]));
        for index in 0..4 {
            let step = SgdStep { learning_rate: 0.1, momentum, nesterov, weight_decay: 0.1 };
            let gradient = both.random(&format!("gradient {index}"), &[70]);
            let moving = momentum > 0.0;
            both.tested.sgd(&step, &mut p.0, &gradient.0, moving.then_some(&mut velocity.0)).unwrap();
            both.portable.sgd(&step, &mut p.1, &gradient.1, moving.then_some(&mut velocity.1)).unwrap();
            both.assert_equal("sgd", &p.0, &p.1);
        }
    }
}

#[test]
fn not_a_number_is_passed_on_and_never_hidden() {
    fn check<B: Backend>(backend: &B) {
        let x = backend.from_f32(&[1.0, f32::NAN, -1.0, 2.0], &[1, 2, 2, 1]).unwrap();
        let nan = |tensor: &B::Tensor| backend.to_f32(tensor).unwrap().iter().any(|v| v.is_nan());
        for activation in ACTIVATIONS {
            assert!(nan(&backend.activate(activation, &x).unwrap()), "{activation:?}");
        }
        assert!(nan(&backend.max_pool(&Pool2d::square(2, 2, 0), &x).unwrap().0));
        assert!(nan(&backend.global_average(&x).unwrap()));
        let one = backend.from_f32(&[1.0], &[1]).unwrap();
        let operation = BatchNorm {
            x: &x,
            weight: &one,
            bias: &one,
            residual: None,
            activation: Some(Activation::Relu6),
            epsilon: 1e-5,
            statistics: Statistics::Batch,
        };
        assert!(nan(&backend.batch_norm(&operation).unwrap().y));
        assert!(!squares(backend, &[&x])[0].is_finite());
    }
    check(&Portable::cpu_f32());
    check(&cpu(2));
    #[cfg(target_os = "linux")]
    check(&crate::common::cuda(true));
}

/// The side of its images, which every network takes.
const SIDE: usize = 32;

/// Three steps of a small network with layers of several blocks; the bits of everything it learnt.
fn train(threads: usize, kind: &str) -> Vec<u32> {
    let spec = BackboneSpec {
        kind: kind.into(),
        width: 20,
        hidden: Vec::new(),
        stem: Stem::Small,
        embedding: Some(40),
        normalize: true,
        in_channels: 3,
        image_size: SIDE,
        classes: None,
    };
    let backend = cpu(threads);
    let mut network = build(backend.clone(), &spec, 1).unwrap();
    let adam = OptimizerSpec::Adam { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-3 };
    let mut optimizer = Optimizer::new(&adam).unwrap();
    for step in 0..3 {
        let images = DRAW.hashed(&format!("images {step}"), 6 * SIDE * SIDE * 3);
        let (features, tape) = network.forward_train(&backend.from_f32(&images, &[6, SIDE, SIDE, 3]).unwrap()).unwrap();
        let shape = Cpu::shape(&features[&Feature::Embedding]);
        let embedding = backend.from_f32(&DRAW.hashed("dy", 6 * 40), shape).unwrap();
        let gradients = network.backward(tape, [(Feature::Embedding, embedding)].into(), false).unwrap();
        optimizer.step(&backend, &mut [&mut network.parameters], gradients.parameters, 1e-2, Some(0.5)).unwrap();
    }
    network.tensors().unwrap().values().flat_map(|tensor| tensor.data.iter().map(|v| v.to_bits())).collect()
}

fn layers_of_transformers<B: Backend>(both: &Both<B>) {
    for [n, h, w, heads, d] in [[1, 1, 1, 1, 1], [2, 3, 2, 3, 5], [3, 6, 6, 2, 16], [1, 14, 14, 3, 64]] {
        let (t, c) = (1 + h * w, heads * d);
        let what = format!("{n} images of {h} x {w} patches, {heads} heads of {d}");
        let (map, class) = (both.random("map", &[n, h, w, c]), both.random("class", &[1, 1, c]));
        let position = both.random("position", &[1, t, c]);
        let y = both.tested.add_tokens(&map.0, &class.0, &position.0).unwrap();
        both.assert_equal(&what, &y, &both.portable.add_tokens(&map.1, &class.1, &position.1).unwrap());
        let dy = both.random("dy", &[n, t, 1, c]);
        let gradients = both.tested.add_tokens_backward(&[n, h, w, c], &dy.0).unwrap();
        let expected = both.portable.add_tokens_backward(&[n, h, w, c], &dy.1).unwrap();
        gradients.iter().zip(&expected).for_each(|(actual, expected)| both.assert_equal(&what, actual, expected));
        both.assert_equal(&what, &both.tested.class_token(&dy.0).unwrap(), &both.portable.class_token(&dy.1).unwrap());
        let of_class = both.random("of class", &[n, c]);
        let dx = both.tested.class_token_backward(&[n, t, 1, c], &of_class.0).unwrap();
        both.assert_equal(&what, &dx, &both.portable.class_token_backward(&[n, t, 1, c], &of_class.1).unwrap());

        let x = both.random("x", &[n, t, 1, 3 * c]);
        let y = both.tested.attention(&x.0, heads).unwrap();
        both.assert_equal(&what, &y, &both.portable.attention(&x.1, heads).unwrap());
        let dx = both.tested.attention_backward(&x.0, heads, &dy.0).unwrap();
        both.assert_equal(&what, &dx, &both.portable.attention_backward(&x.1, heads, &dy.1).unwrap());

        let (weight, bias) = (both.random("weight", &[3 * c]), both.random("bias", &[3 * c]));
        let normal = both.tested.layer_norm(&x.0, &weight.0, &bias.0, 1e-6).unwrap();
        let expected = both.portable.layer_norm(&x.1, &weight.1, &bias.1, 1e-6).unwrap();
        both.assert_equal(&what, &normal.y, &expected.y);
        let dy = both.random("dy of a norm", &[n, t, 1, 3 * c]);
        let statistics = [&normal.mean, &normal.rstd];
        let actual = both.tested.layer_norm_backward(&x.0, &weight.0, statistics, &dy.0, Some(&x.0)).unwrap();
        let statistics = [&expected.mean, &expected.rstd];
        let expected = both.portable.layer_norm_backward(&x.1, &weight.1, statistics, &dy.1, Some(&x.1)).unwrap();
        both.assert_equal(&what, &actual.dx, &expected.dx);
        both.assert_equal(&what, &actual.dweight, &expected.dweight);
        both.assert_equal(&what, &actual.dbias, &expected.dbias);
    }
}

#[test]
fn training_gives_the_same_bits_on_any_number_of_threads() {
    let others = ["efficientnet-lite0", "efficientnet-b0", "mobilenet-v2", "mobilenet-v3-small", "vit-tiny"];
    for kind in ["conv4", "resnet18", "resnet50", "googlenet"].into_iter().chain(others) {
        let one = train(1, kind);
        assert_eq!(one, train(2, kind), "{kind}");
        assert_eq!(one, train(3, kind), "{kind}");
    }
}
