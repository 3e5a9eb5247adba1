//! Every gradient against central differences in float64: each kind of layer alone, and a whole network through every
//! feature at once. Inputs stay off the kinks (random numbers do).

use crate::common::Draw;
use rkd_core::backbones::{BackboneSpec, Stem, build};
use rkd_core::nn::backend::{Activation, Backend};
use rkd_core::nn::backward::Backward;
use rkd_core::nn::builder::Builder;
use rkd_core::nn::forward::Forward;
use rkd_core::nn::geometry::{Conv2d, Pool2d};
use rkd_core::nn::layer::{BatchNorm2d, Definition, Layer, Residual};
use rkd_core::nn::lowering::{Mode, lower};
use rkd_core::nn::parameters::Parameters;
use rkd_core::nn::synchronised::{BackwardTogether, Common, ForwardTogether};
use rkd_core::nn::tuning::TuningPlan;
use rkd_core::nn::{Feature, FeatureMap, Network, Portable, Profile};
use rkd_core::ranks::Ranks;

const DRAW: Draw = Draw { seed: 11 };
const ACTIVATIONS: [Activation; 7] = [
    Activation::Relu,
    Activation::Relu6,
    Activation::HardSwish,
    Activation::Silu,
    Activation::HardSigmoid,
    Activation::Sigmoid,
    Activation::Gelu,
];

fn random(name: &str, count: usize) -> Vec<f64> {
    DRAW.hashed(name, count).into_iter().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Compares `analytic` with the differences of `value` around `x`, entry by entry.
fn compare(what: &str, x: &[f64], analytic: &[f64], mut value: impl FnMut(&[f64]) -> f64) {
    let largest = analytic.iter().fold(1e-6f64, |m, v| m.max(v.abs()));
    let mut x = x.to_vec();
    for i in 0..x.len() {
        let (center, step) = (x[i], 1e-5);
        x[i] = center + step;
        let above = value(&x);
        x[i] = center - step;
        let numeric = (above - value(&x)) / (2.0 * step);
        x[i] = center;
        let off = (numeric - analytic[i]).abs() / largest;
        assert!(off < 1e-6, "{what}[{i}]: {} by the layer, {numeric} by differences", analytic[i]);
    }
}

/// Parameters off their special starts: scales near 1 (or where a ceiling is to be met, 8), shifts near 0, variances positive.
fn parameters_of(backend: &Portable, builder: Builder) -> Parameters<Portable> {
    let mut parameters = Parameters::draw(backend, builder.finish(), 5).unwrap();
    for (spec, value) in parameters.specs.iter().zip(&mut parameters.values) {
        let noise = random(&spec.name, spec.count());
        let center = if spec.name == "steep.weight" {
            8.0
        } else if spec.name.ends_with("weight") && spec.shape.len() == 1 || spec.name.ends_with("var") {
            1.0
        } else {
            0.0
        };
        let values: Vec<f64> = noise.iter().map(|v| center + 0.3 * v).collect();
        *value = backend.from_f64(&values, &spec.inner_shape()).unwrap();
    }
    parameters
}

/// Checks the gradients of `layers` with respect to an input of `shape` and all their parameters.
fn check(what: &str, layers: &[Layer], builder: Builder, shape: &[usize], mode: Mode) {
    let backend = Portable::cpu_f64();
    let parameters = parameters_of(&backend, builder);
    let x = random(what, shape.iter().product());
    let (operations, profile) = (lower(layers, mode), Profile::default());
    let run = |parameters: &Parameters<Portable>, x: &[f64]| {
        let mut forward = Forward::new(&backend, parameters, &profile, true);
        let y = forward.run(&operations, backend.from_f64(x, shape).unwrap()).unwrap();
        (y, forward.tape.take().unwrap())
    };
    let (y, tape) = run(&parameters, &x);
    let upstream = random("upstream", Portable::shape(&y).iter().product());
    let dy = backend.from_f64(&upstream, Portable::shape(&y)).unwrap();
    let mut backward = Backward::new(&backend, &parameters, &profile, tape, FeatureMap::new());
    let dx = backward.run(&operations, Some(dy), true).unwrap().unwrap();
    let gradients = std::mem::take(&mut backward.gradients);
    let value =
        |parameters: &Parameters<Portable>, x: &[f64]| dot(&backend.to_f64(&run(parameters, x).0).unwrap(), &upstream);
    compare(&format!("{what}: input"), &x, &backend.to_f64(&dx).unwrap(), |x| value(&parameters, x));
    for (index, gradient) in gradients.iter().enumerate() {
        let Some(gradient) = gradient else { continue };
        let (name, center) = (&parameters.specs[index].name, backend.to_f64(&parameters.values[index]).unwrap());
        let mut changed = parameters.clone();
        compare(&format!("{what}: {name}"), &center, &backend.to_f64(gradient).unwrap(), |values| {
            changed.values[index] = backend.from_f64(values, Portable::shape(gradient)).unwrap();
            value(&changed, &x)
        });
    }
}

/// The same for pieces of so many `rows`, each of `shape`, whose normalisations are synchronised.
fn check_together(what: &str, layers: &[Layer], builder: Builder, rows: &[usize], shape: [usize; 3]) {
    let (backend, ranks, profile) = (Portable::cpu_f64(), Ranks::one(), Profile::default());
    let parameters = parameters_of(&backend, builder);
    let operations = lower(layers, Mode::Synchronised);
    let length = shape.iter().product::<usize>();
    let x = random(what, rows.iter().sum::<usize>() * length);
    let run = |parameters: &Parameters<Portable>, x: &[f64]| {
        let passes = rows.iter().map(|_| Forward::new(&backend, parameters, &profile, true)).collect();
        let mut rest = x;
        let pieces = rows.iter().map(|&rows| {
            let (own, behind) = rest.split_at(rows * length);
            rest = behind;
            backend.from_f64(own, &[rows, shape[0], shape[1], shape[2]]).unwrap()
        });
        let pieces = pieces.collect();
        let mut forward =
            ForwardTogether::new(Common { backend: &backend, parameters, profile: &profile, ranks: &ranks }, passes);
        let y = forward.run(&operations, pieces).unwrap();
        let tapes: Vec<_> = forward.passes.iter_mut().map(|pass| pass.tape.take().unwrap()).collect();
        (y, tapes)
    };
    let upstream = |place: usize, y: &_| random(&format!("upstream {place}"), Portable::shape(y).iter().product());
    let (y, tapes) = run(&parameters, &x);
    let dy =
        y.iter().enumerate().map(|(place, y)| Some(backend.from_f64(&upstream(place, y), Portable::shape(y)).unwrap()));
    let passes = tapes.into_iter().map(|tape| Backward::new(&backend, &parameters, &profile, tape, FeatureMap::new()));
    let mut backward = BackwardTogether::new(
        Common { backend: &backend, parameters: &parameters, profile: &profile, ranks: &ranks },
        passes.collect(),
    );
    let dx = backward.run(&operations, dy.collect(), true).unwrap();
    let value = |parameters: &Parameters<Portable>, x: &[f64]| -> f64 {
        let of_piece = |(place, y)| dot(&backend.to_f64(y).unwrap(), &upstream(place, y));
        run(parameters, x).0.iter().enumerate().map(of_piece).sum()
    };
    let dx = dx.into_iter().flat_map(|dx| backend.to_f64(&dx.unwrap()).unwrap()).collect::<Vec<_>>();
    compare(&format!("{what}: input"), &x, &dx, |x| value(&parameters, x));
    let mut compared = 0;
    for (index, spec) in parameters.specs.iter().enumerate() {
        let parts = backward.passes.iter().filter_map(|pass| pass.gradients[index].as_ref());
        let parts: Vec<Vec<f64>> = parts.map(|part| backend.to_f64(part).unwrap()).collect();
        if parts.is_empty() {
            continue;
        }
        let sum: Vec<f64> = (0..spec.count()).map(|i| parts.iter().map(|part| part[i]).sum()).collect();
        let (center, mut changed) = (backend.to_f64(&parameters.values[index]).unwrap(), parameters.clone());
        compare(&format!("{what}: {}", spec.name), &center, &sum, |values| {
            changed.values[index] = backend.from_f64(values, &spec.inner_shape()).unwrap();
            value(&changed, &x)
        });
        compared += 1;
    }
    let learning = parameters.specs.iter().filter(|spec| spec.is_trained()).count();
    assert_eq!(compared, learning, "{what}: every parameter has a gradient");
}

#[test]
fn synchronised_normalisations() {
    for (what, relu) in [("alone", false), ("with a ReLU", true)] {
        let mut builder = Builder::new();
        let layer = Layer::BatchNorm2d(builder.batch_norm("bn", 3, relu));
        // A piece of one value has no variance of its own.
        check_together(what, std::slice::from_ref(&layer), builder, &[1, 1, 3], [1, 1, 3]);
    }
    let mut builder = Builder::new();
    let steep = BatchNorm2d { activation: Some(Activation::Silu), ..builder.batch_norm("steep", 2, true) };
    let layers = [Layer::BatchNorm2d(steep), builder.depthwise("depthwise", 2, Conv2d::same(3, 2, 4))];
    check_together("before a depthwise convolution", &layers, builder, &[2, 1], [4, 4, 2]);
    let mut builder = Builder::new();
    let pool = Layer::MaxPool(Pool2d::square(3, 2, 1));
    let block = Residual {
        body: vec![
            builder.convolution("1", 3, 2, Conv2d::square(3, 2, 1)),
            Layer::BatchNorm2d(builder.batch_norm("bn1", 2, true)),
            builder.convolution("2", 2, 2, Conv2d::square(3, 1, 1)),
        ],
        last: builder.batch_norm("bn2", 2, true),
        shortcut: vec![
            builder.convolution("around", 3, 2, Conv2d::square(1, 2, 0)),
            Layer::BatchNorm2d(builder.batch_norm("bn3", 2, false)),
        ],
    };
    let one = vec![
        builder.convolution("one", 2, 1, Conv2d::square(1, 1, 0)),
        Layer::BatchNorm2d(builder.batch_norm("bn4", 1, true)),
    ];
    let two = vec![builder.convolution("two", 2, 2, Conv2d::square(3, 1, 1))];
    let last = Layer::BatchNorm2d(builder.batch_norm("bn5", 3, true));
    let layers = [Layer::BatchNorm2d(builder.batch_norm("bn0", 3, true)), pool, Layer::Residual(block)];
    let layers: Vec<Layer> = layers.into_iter().chain([Layer::Branches(vec![one, two]), last]).collect();
    check_together("within blocks and branches", &layers, builder, &[2, 1, 2], [6, 5, 3]);
}

#[test]
fn convolutions() {
    let table = [
        ("plain", Conv2d::square(3, 1, 1), [2, 4, 5, 3], 2),
        ("strided", Conv2d::square(3, 2, 1), [2, 5, 4, 2], 3),
        ("pointwise, strided", Conv2d::square(1, 2, 0), [2, 5, 4, 2], 3),
        ("dilated", Conv2d { dilation: [2, 1], ..Conv2d::square(3, 1, 2) }, [1, 5, 4, 2], 2),
        ("same padding", Conv2d::same(3, 2, 4), [1, 4, 4, 2], 2),
        ("depthwise", Conv2d { groups: 4, ..Conv2d::square(3, 1, 1) }, [2, 4, 3, 4], 4),
        ("depthwise, strided", Conv2d { groups: 3, ..Conv2d::same(5, 2, 6) }, [2, 6, 6, 3], 3),
        ("grouped", Conv2d { groups: 2, ..Conv2d::square(3, 1, 1) }, [2, 3, 4, 4], 6),
        (
            "oblong",
            Conv2d { kernel: [1, 3], stride: [1, 2], padding: [0, 1], ..Conv2d::square(1, 1, 0) },
            [2, 3, 6, 2],
            2,
        ),
    ];
    for (what, windows, shape, c_out) in table {
        let mut builder = Builder::new();
        let layer = builder.convolution_with_bias("conv", shape[3], c_out, windows);
        check(what, &[layer], builder, &shape, Mode::Batch);
    }
}

#[test]
fn batch_norms() {
    for (what, relu, mode) in [
        ("batch statistics", false, Mode::Batch),
        ("batch statistics and ReLU", true, Mode::Batch),
        ("running statistics", false, Mode::Running),
        ("running statistics and ReLU", true, Mode::Running),
    ] {
        let mut builder = Builder::new();
        let layer = Layer::BatchNorm2d(builder.batch_norm("bn", 3, relu));
        check(what, &[layer], builder, &[2, 2, 3, 3], mode);
    }
    // Steep enough that every bend is passed.
    for activation in &ACTIVATIONS[1..] {
        for mode in [Mode::Batch, Mode::Running] {
            let mut builder = Builder::new();
            let layer = BatchNorm2d { activation: Some(*activation), ..builder.batch_norm("steep", 3, true) };
            check(&format!("{mode:?} and {activation:?}"), &[Layer::BatchNorm2d(layer)], builder, &[2, 2, 3, 3], mode);
        }
    }
    let mut builder = Builder::new();
    let layers = [Layer::BatchNorm2d(builder.batch_norm("bn", 3, true)), Layer::MaxPool(Pool2d::square(3, 2, 1))];
    check("batch statistics, ReLU and max pool", &layers, builder, &[2, 5, 4, 3], Mode::Batch);
    check("L2", &[Layer::L2Normalize], Builder::new(), &[3, 4], Mode::Batch);
}

#[test]
fn layers_without_parameters() {
    let overlapping = Pool2d { ceil: true, ..Pool2d::square(3, 2, 1) };
    for activation in ACTIVATIONS {
        check(&format!("{activation:?}"), &[Layer::Activation(activation)], Builder::new(), &[2, 5, 4, 3], Mode::Batch);
    }
    for (what, layer) in [
        ("max pool", Layer::MaxPool(Pool2d::square(2, 2, 0))),
        ("overlapping max pool", Layer::MaxPool(overlapping)),
        ("global average", Layer::GlobalAverage),
        ("flatten", Layer::Flatten),
    ] {
        check(what, &[layer], Builder::new(), &[2, 5, 4, 3], Mode::Batch);
    }
    let mut builder = Builder::new();
    let layer = builder.linear("fc", 4, 3);
    check("linear", &[layer], builder, &[3, 4], Mode::Batch);
}

#[test]
fn batch_norms_before_a_depthwise_convolution() {
    for mode in [Mode::Batch, Mode::Running] {
        for activation in ACTIVATIONS {
            let mut builder = Builder::new();
            let layer = BatchNorm2d { activation: Some(activation), ..builder.batch_norm("steep", 2, true) };
            let layers = [Layer::BatchNorm2d(layer), builder.depthwise("depthwise", 2, Conv2d::same(3, 2, 4))];
            check(&format!("{mode:?}, {activation:?}, depthwise"), &layers, builder, &[2, 4, 4, 2], mode);
        }
    }
}

#[test]
fn squeeze_and_excitation() {
    for (activation, gate) in [(Activation::Relu, Activation::HardSigmoid), (Activation::Silu, Activation::Sigmoid)] {
        let (mut builder, point) = (Builder::new(), Conv2d::square(1, 1, 0));
        let layers = [
            builder.convolution("before", 2, 3, Conv2d::square(3, 1, 1)),
            Layer::SqueezeExcitation(vec![
                builder.convolution_with_bias("reduce", 3, 2, point),
                Layer::Activation(activation),
                builder.convolution_with_bias("expand", 2, 3, point),
                Layer::Activation(gate),
            ]),
        ];
        check(&format!("{activation:?}, {gate:?}"), &layers, builder, &[2, 4, 3, 2], Mode::Batch);
    }
}

#[test]
fn transformers() {
    let mut builder = Builder::new();
    let layer = builder.layer_norm("norm", 5, 1e-6);
    check("layer norm", &[layer], builder, &[2, 3, 1, 5], Mode::Batch);
    check("attention", &[Layer::Attention { heads: 2 }], Builder::new(), &[2, 4, 1, 18], Mode::Batch);
    let mut builder = Builder::new();
    let layer = builder.tokens(7, 3);
    check("tokens", &[layer, Layer::ClassToken], builder, &[2, 2, 3, 3], Mode::Batch);
    // A whole block, from a map to a class token.
    let mut builder = Builder::new();
    let layers = [
        builder.tokens(5, 4),
        Layer::Sum(vec![
            builder.layer_norm("norm1", 4, 1e-6),
            builder.linear("qkv", 4, 12),
            Layer::Attention { heads: 2 },
            builder.linear("proj", 4, 4),
        ]),
        Layer::Sum(vec![
            builder.layer_norm("norm2", 4, 1e-6),
            builder.linear("fc1", 4, 6),
            Layer::Activation(Activation::Gelu),
            builder.linear("fc2", 6, 4),
        ]),
        Layer::ClassToken,
    ];
    check("a block", &layers, builder, &[2, 2, 2, 4], Mode::Batch);
}

#[test]
fn residual_blocks() {
    for (what, shortcut) in [("identity", false), ("projection", true)] {
        let mut builder = Builder::new();
        let (c_out, stride) = if shortcut { (3, 2) } else { (2, 1) };
        let body = vec![builder.convolution("conv", 2, c_out, Conv2d::square(3, stride, 1))];
        let last = builder.batch_norm("bn", c_out, true);
        let shortcut = match shortcut {
            true => vec![
                builder.convolution("downsample.0", 2, c_out, Conv2d::square(1, stride, 0)),
                Layer::BatchNorm2d(builder.batch_norm("downsample.1", c_out, false)),
            ],
            false => Vec::new(),
        };
        check(what, &[Layer::Residual(Residual { body, last, shortcut })], builder, &[2, 4, 4, 2], Mode::Batch);
    }
}

#[test]
fn branches_side_by_side() {
    let mut builder = Builder::new();
    let one = vec![builder.convolution("one", 2, 3, Conv2d::square(1, 1, 0))];
    let two = vec![
        builder.convolution("two.0", 2, 1, Conv2d::square(1, 1, 0)),
        Layer::BatchNorm2d(builder.batch_norm("two.1", 1, true)),
        builder.convolution("two.2", 1, 2, Conv2d::square(3, 1, 1)),
    ];
    let pooled = vec![Layer::MaxPool(Pool2d { ceil: true, ..Pool2d::square(3, 1, 1) })];
    let after = builder.convolution("after", 7, 2, Conv2d::square(1, 1, 0));
    let layers = [Layer::Branches(vec![one, two, pooled]), after];
    check("branches", &layers, builder, &[2, 4, 3, 2], Mode::Batch);
}

#[test]
fn a_network_through_every_feature_at_once() {
    let spec = BackboneSpec {
        kind: "conv4".into(),
        width: 2,
        hidden: Vec::new(),
        stem: Stem::Small,
        embedding: Some(3),
        normalize: true,
        in_channels: 1,
        image_size: 17,
        classes: Some(2),
    };
    let network = build(Portable::cpu_f64(), &spec, 3).unwrap();
    let read = [Feature::Tap("blocks.1".into()), Feature::Pooled, Feature::Embedding, Feature::Logits];
    check_network(&network, [3, 17, 17, 1], &read);
}

#[test]
fn what_is_left_out_at_random_has_the_gradient_of_what_stays() {
    let mut builder = Builder::new();
    let mut block = |name: &str, relu| {
        let body = vec![builder.convolution(&format!("{name}.conv"), 2, 2, Conv2d::square(3, 1, 1))];
        Layer::Residual(Residual { body, last: builder.batch_norm(&format!("{name}.bn"), 2, relu), shortcut: vec![] })
    };
    let body = vec![block("one", true), block("two", true), block("three", false), Layer::GlobalAverage];
    let definition = Definition {
        body,
        embedding: vec![builder.linear("fc", 2, 6)],
        classifier: Vec::new(),
        output: Vec::new(),
        parameters: builder.finish(),
        image_size: 4,
        in_channels: 2,
        pooled_size: 2,
        embedding_size: 6,
    };
    let mut network = Network::new(Portable::cpu_f64(), definition, 3).unwrap();
    network.tune(&TuningPlan { dropout: 0.5, drop_path: 0.6, ..TuningPlan::default() }).unwrap();
    check_network(&network, [5, 4, 4, 2], &[Feature::Pooled, Feature::Embedding]);
}

#[test]
fn sums_left_out_at_random_have_the_gradient_of_what_stays() {
    let mut builder = Builder::new();
    let mut body = vec![builder.tokens(17, 4)];
    for name in ["one", "two", "three"] {
        let mut sum = |part: &str, between: Layer, [wide, narrow]: [usize; 2]| {
            let name = |layer| format!("{name}.{part}.{layer}");
            let norm = builder.layer_norm(&name("norm"), 4, 1e-6);
            let (first, last) = (builder.linear(&name("first"), 4, wide), builder.linear(&name("last"), narrow, 4));
            Layer::Sum(vec![norm, first, between, last])
        };
        body.push(sum("attention", Layer::Attention { heads: 1 }, [12, 4]));
        body.push(sum("mlp", Layer::Activation(Activation::Gelu), [6, 6]));
    }
    body.push(Layer::ClassToken);
    let definition = Definition {
        body,
        embedding: Vec::new(),
        classifier: Vec::new(),
        output: Vec::new(),
        parameters: builder.finish(),
        image_size: 4,
        in_channels: 4,
        pooled_size: 4,
        embedding_size: 4,
    };
    let mut network = Network::new(Portable::cpu_f64(), definition, 3).unwrap();
    network.tune(&TuningPlan { drop_path: 0.6, ..TuningPlan::default() }).unwrap();
    check_network(&network, [5, 4, 4, 4], &[Feature::Embedding]);
}

/// Checks the gradient of the images through the features `read` at once.
fn check_network(network: &Network<Portable>, shape: [usize; 4], read: &[Feature]) {
    let backend = network.backend().clone();
    let x = random("images", shape.iter().product());
    // A forward pass in training changes the running statistics only; a clone keeps them out of the way.
    let forward = |x: &[f64]| network.clone().forward_train(&backend.from_f64(x, &shape).unwrap()).unwrap();
    let (features, tape) = forward(&x);
    let upstream = |name: &str, of: &candle_core::Tensor| {
        let values = random(name, of.elem_count());
        (backend.from_f64(&values, of.dims()).unwrap(), values)
    };
    let upstream: FeatureMap<_> =
        read.iter().map(|feature| (feature.clone(), upstream(feature.name(), &features[feature]))).collect();
    let given = upstream.iter().map(|(feature, (gradient, _))| (feature.clone(), gradient.clone())).collect();
    let gradients = network.backward(tape, given, true).unwrap();
    let dx = backend.to_f64(&gradients.images.unwrap()).unwrap();
    compare("images", &x, &dx, |x| {
        let (features, _) = forward(x);
        let parts = upstream.iter().map(|(feature, (_, weights))| {
            let values = backend.to_f64(&features[feature]).unwrap();
            dot(&values, weights)
        });
        parts.sum()
    });
}
