//! Layers, whole networks and training runs against PyTorch's numbers in `networks.json`.
//!
//! In float64 the portable form must agree to about 1e-10: that is the proof that the networks are right. In float32
//! the tolerances are those of `test/golden/README.md`: layers 1e-5 of the largest entry, networks 2e-4, training runs
//! three times PyTorch's own float32 error or 1e-4. One thing no float32 can promise: an activation within rounding of
//! 0 may fall on the other side of a ReLU, which moves every gradient below it. PyTorch's own float32 is up to 8e-3 of
//! a gradient's norm off in ResNet-50, 4e-4 in ResNet-34; see [`FLIPPED`].

use crate::common::{
    Draw, distance, golden, is_of_another_seed, nhwc_shape, numbers, sizes, summary_distance, to_nhwc,
};
use rkd_core::backbones::{BackboneSpec, Stem, adapt, define};
use rkd_core::nn::backend::{Activation, Backend};
use rkd_core::nn::backward::Backward;
use rkd_core::nn::builder::Builder;
use rkd_core::nn::forward::Forward;
use rkd_core::nn::geometry::{Conv2d, Pool2d};
use rkd_core::nn::layer::{BatchNorm2d, Layer};
use rkd_core::nn::lowering::{Mode, lower};
use rkd_core::nn::parameters::Parameters;
use rkd_core::nn::{Cpu, Feature, FeatureMap, Network, Portable, Profile};
use rkd_core::tensor::HostTensor;
use rkd_kernels::Team;
use serde_json::Value;
use std::sync::Arc;

fn cpu() -> Cpu {
    Cpu::new(Arc::new(Team::new(0)))
}

fn draw(golden: &Value) -> Draw {
    Draw { seed: golden["seed"].as_u64().unwrap() }
}

#[test]
fn the_hash_equals_the_golden_check() {
    let golden = golden("networks.json");
    let expected = numbers(&golden["check"]["hashed('images/0')[:4]"]);
    let expected: Vec<f32> = expected.into_iter().map(|v| v as f32).collect();
    assert_eq!(draw(&golden).hashed("images/0", 4), expected);
}

#[test]
fn layers_portable_float64() {
    check_layers(&Portable::cpu_f64(), 1e-12);
}

#[test]
fn layers_portable_float32() {
    check_layers(&Portable::cpu_f32(), 1e-5);
}

#[test]
fn layers_cpu() {
    check_layers(&cpu(), 1e-5);
}

/// One layer of a golden case, with its parameters named `layer.weight` and so on.
fn build(builder: &mut Builder, config: &Value) -> Layer {
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    match config["kind"].as_str().unwrap() {
        "conv2d" => {
            let windows = Conv2d {
                dilation: [size("dilation"); 2],
                groups: size("groups"),
                ..Conv2d::square(size("kernel"), size("stride"), size("padding"))
            };
            builder.convolution_with_bias("layer", size("in"), size("out"), windows)
        }
        "batch-norm" => Layer::BatchNorm2d(builder.batch_norm("layer", size("channels"), false)),
        "max-pool" => {
            let ceil = config["ceil"].as_bool().unwrap_or(false);
            Layer::MaxPool(Pool2d { ceil, ..Pool2d::square(size("kernel"), size("stride"), size("padding")) })
        }
        "global-average-pool" => Layer::GlobalAverage,
        "linear" => builder.linear("layer", size("in"), size("out")),
        "layer-norm" => builder.layer_norm("layer", size("channels"), 1e-6),
        "attention" => Layer::Attention { heads: size("heads") },
        "activation" => Layer::Activation(activation(&config["activation"])),
        "squeeze-excitation" => {
            let (c, squeezed, point) = (size("channels"), size("squeezed"), Conv2d::square(1, 1, 0));
            Layer::SqueezeExcitation(vec![
                builder.convolution_with_bias("layer.fc1", c, squeezed, point),
                Layer::Activation(activation(&config["activation"])),
                builder.convolution_with_bias("layer.fc2", squeezed, c, point),
                Layer::Activation(activation(&config["gate"])),
            ])
        }
        other => panic!("unknown layer {other}"),
    }
}

fn activation(name: &Value) -> Activation {
    match name.as_str().unwrap() {
        "relu" => Activation::Relu,
        "relu6" => Activation::Relu6,
        "hard-swish" => Activation::HardSwish,
        "silu" => Activation::Silu,
        "hard-sigmoid" => Activation::HardSigmoid,
        "sigmoid" => Activation::Sigmoid,
        "gelu" => Activation::Gelu,
        other => panic!("unknown activation {other}"),
    }
}

fn check_layers<B: Backend>(backend: &B, tolerance: f64) {
    let golden = golden("networks.json");
    let cases = golden["layers"].as_array().unwrap();
    assert_eq!(cases.len(), 34);
    for case in cases {
        check_layer(backend, draw(&golden), case, tolerance);
    }
}

fn check_layer<B: Backend>(backend: &B, draw: Draw, case: &Value, tolerance: f64) {
    let name = case["name"].as_str().unwrap();
    let mut builder = Builder::new();
    let layers = [build(&mut builder, &case["config"])];
    let specs = builder.finish();
    let tensors = specs
        .iter()
        .map(|spec| {
            let own = spec.name.strip_prefix("layer.").unwrap();
            (spec.name.clone(), draw.parameter(spec, &format!("layer/{name}/{own}")))
        })
        .collect();
    let parameters = Parameters::from_tensors(backend, specs, &tensors).unwrap();

    let shape = sizes(&case["input_shape"]);
    let images = match shape.len() {
        4 => draw.images(&format!("layer/{name}"), &shape),
        _ => draw.hashed(&format!("images/layer/{name}"), shape.iter().product()).iter().map(|v| 1.5 * v).collect(),
    };
    let scale = case["input_scale"].as_f64().unwrap() as f32;
    let images: Vec<f32> = images.iter().map(|value| scale * value).collect();
    let x = backend.from_f32(&images, &nhwc_shape(&shape)).unwrap();
    let mode = if case["train"].as_bool().unwrap() { Mode::Batch } else { Mode::Running };
    let (operations, profile) = (lower(&layers, mode), Profile::default());
    let mut forward = Forward::new(backend, &parameters, &profile, true);
    let y = forward.run(&operations, x).unwrap();
    let output_shape = sizes(&case["output"]["shape"]);
    let check = |what: &str, actual: &B::Tensor, expected: &Value| {
        let expected = to_nhwc(&numbers(&expected["data"]), &sizes(&expected["shape"]));
        let distance = distance(&backend.to_f64(actual).unwrap(), &expected, floor(case, what));
        assert!(distance <= tolerance, "{name}: {what} is {distance:.1e} off");
    };
    check("output", &y, &case["output"]);

    let upstream = draw.hashed(&format!("upstream/{name}"), output_shape.iter().product());
    let upstream = to_nhwc(&upstream, &output_shape);
    let dy = backend.from_f32(&upstream, B::shape(&y)).unwrap();
    let statistics = std::mem::take(&mut forward.statistics);
    let mut backward = Backward::new(backend, &parameters, &profile, forward.tape.take().unwrap(), FeatureMap::new());
    let dx = backward.run(&operations, Some(dy), true).unwrap().unwrap();
    check("gradient of the input", &dx, &case["grad_input"]);
    for (own, expected) in case["grad_parameters"].as_object().unwrap() {
        let index = parameters.specs.iter().position(|spec| spec.name == format!("layer.{own}")).unwrap();
        let gradient = backend.to_f64(backward.gradients[index].as_ref().unwrap()).unwrap();
        let distance = distance(&parameters.specs[index].outside(&gradient), &numbers(&expected["data"]), 0.0);
        assert!(distance <= tolerance, "{name}: gradient of {own} is {distance:.1e} off");
    }
    if let (Some(batch), true) = (statistics.first(), case["running_mean"].is_object()) {
        let BatchNorm2d { weight, .. } = batch.layer;
        let (mut mean, mut variance) = (parameters.values[weight + 2].clone(), parameters.values[weight + 3].clone());
        let unbiased = batch.count as f64 / (batch.count - 1) as f64;
        backend.blend(&mut mean, &batch.mean, batch.layer.momentum, 1.0).unwrap();
        backend.blend(&mut variance, &batch.variance, batch.layer.momentum, unbiased).unwrap();
        check("running mean", &mean, &case["running_mean"]);
        check("running variance", &variance, &case["running_var"]);
    }
}

/// The gradient through two values per channel is nothing but cancellation of gradients up to 1 (PyTorch's own float32
/// is 4e-4 of the result off): its error is measured against what cancels.
fn floor(case: &Value, what: &str) -> f64 {
    if case["config"]["kind"] == "batch-norm" && what == "gradient of the input" { 1.0 } else { 0.0 }
}

fn spec(kind: &str, stem: Stem, embedding: Option<usize>, shape: &[usize]) -> BackboneSpec {
    BackboneSpec { stem, embedding, in_channels: shape[1], ..BackboneSpec::published(kind, shape[2]) }
}

/// The golden network `name`, as this project describes it.
fn network_spec(name: &str, shape: &[usize], outputs: usize) -> BackboneSpec {
    match name {
        "conv4" => spec("conv4", Stem::Small, None, shape),
        // PyTorch's network ends in the linear layer that is called `classifier` here too.
        "vgg11_bn cifar" => BackboneSpec { classes: Some(outputs), ..spec("vgg11", Stem::Small, None, shape) },
        "resnet18 cifar stem" => spec("resnet18", Stem::Small, Some(outputs), shape),
        // A quarter of the published width, for a small file.
        "efficientnet_lite0" => {
            BackboneSpec { width: 16, ..spec("efficientnet-lite0", Stem::Imagenet, Some(outputs), shape) }
        }
        "vit_tiny" | "vit_tiny_clip" => {
            BackboneSpec { width: 16, ..spec(&name.replace('_', "-"), Stem::Imagenet, Some(outputs), shape) }
        }
        // Their last layer is called `classifier` here too.
        "efficientnet_b0" | "mobilenet_v2" | "mobilenet_v3_small" | "mobilenet_v3_large" => {
            let quarter = spec(&name.replace('_', "-"), Stem::Imagenet, None, shape);
            BackboneSpec { width: 16, classes: Some(outputs), ..quarter }
        }
        resnet => spec(resnet, Stem::Imagenet, Some(outputs), shape),
    }
}

fn check_network<B: Backend>(backend: B, name: &str, tolerance: f64, gradient_tolerance: f64) {
    let golden = golden("networks.json");
    let draw = draw(&golden);
    let case = golden["networks"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
    let shape = sizes(&case["input_shape"]);
    let output_shape = sizes(&case["output_train"]["shape"]);
    let spec = network_spec(name, &shape, output_shape[1]);
    let tensors = draw.fill(&define(&spec).unwrap(), "");
    let mut network = Network::from_tensors(backend.clone(), define(&spec).unwrap(), &tensors).unwrap();
    assert_eq!(network.parameter_count() as u64, case["parameter_count"].as_u64().unwrap());
    let check_output = |what: &str, output: &B::Tensor| {
        let off = summary_distance(&backend.to_f64(output).unwrap(), &case[what], 0.0);
        println!("{name}: {what} {off:.1e}");
        assert!(off <= tolerance, "{name}: {what} is {off:.1e} off");
    };

    let images = backend.from_f32(&draw.images("0", &shape), &nhwc_shape(&shape)).unwrap();
    let (features, tape) = network.forward_train(&images).unwrap();
    // A network with a classifier is compared by its logits.
    let output = if features.contains_key(&Feature::Logits) { Feature::Logits } else { Feature::Embedding };
    check_output("output_train", &features[&output]);

    let upstream = draw.hashed(&format!("upstream/{name}"), output_shape.iter().product());
    let upstream = backend.from_f32(&upstream, &output_shape).unwrap();
    let gradients = network.backward(tape, [(output.clone(), upstream)].into(), false).unwrap();
    assert!(gradients.images.is_none());
    check_gradients(&network, &gradients.parameters, &case["gradients"], name, gradient_tolerance);

    let unfolded = network.forward_eval(&images).unwrap();
    let folded = network.into_inference().unwrap().forward(&images).unwrap();
    for features in [unfolded, folded] {
        check_output("output_eval_after_one_update_of_statistics", &features[&output]);
    }
}

fn check_gradients<B: Backend>(
    network: &Network<B>,
    gradients: &[Option<B::Tensor>],
    expected: &Value,
    name: &str,
    tolerance: f64,
) {
    let specs = &network.parameters.specs;
    assert_eq!(expected.as_object().unwrap().len(), specs.iter().filter(|spec| spec.is_trained()).count());
    let mut worst = (0.0, "");
    for (spec, gradient) in specs.iter().zip(gradients) {
        assert_eq!(gradient.is_some(), spec.is_trained(), "{}", spec.name);
        let Some(gradient) = gradient else { continue };
        let actual = spec.outside(&network.backend().to_f64(gradient).unwrap());
        let off = summary_distance(&actual, &expected[&spec.name], smallest_norm(&spec.name, expected));
        if off > worst.0 {
            worst = (off, &spec.name);
        }
    }
    println!("{name}: worst gradient {:.1e} ({})", worst.0, worst.1);
    assert!(worst.0 <= tolerance, "{name}: the gradient of {} is {:.1e} off", worst.1, worst.0);
}

/// A bias before a batch normalisation has no gradient but rounding: its error is measured against the weight's. So has
/// the shift of a narrowing layer of MobileNets and EfficientNets, as only sums and 1x1 convolutions lie between it and the
/// next normalisation.
fn smallest_norm(name: &str, gradients: &Value) -> f64 {
    let Some(layer) = name.strip_suffix(".bias") else { return 0.0 };
    let weight = &gradients[format!("{layer}.weight")];
    let gate = layer.contains(".se.") || layer.ends_with(".fc1") || layer.ends_with(".fc2");
    let of_a_convolution = weight["shape"].as_array().unwrap().len() == 4 && !gate;
    if of_a_convolution || is_narrowing(layer, gradients) { weight["norm"].as_f64().unwrap() } else { 0.0 }
}

/// Whether a normalisation ends a block of a MobileNet or an EfficientNet.
fn is_narrowing(layer: &str, gradients: &Value) -> bool {
    let has = |name: String| gradients.get(name + ".weight").is_some();
    match layer.split('.').collect::<Vec<_>>()[..] {
        ["blocks", stage, index, "bn2"] => !has(format!("blocks.{stage}.{index}.bn3")),
        ["blocks", _, _, "bn3"] => true,
        // Of V2 the last module is a normalisation, of V3 it is a convolution with one.
        ["features", _, "conv", _] => true,
        ["features", index, "block", module, "1"] => {
            let next = module.parse::<usize>().unwrap() + 1;
            ["0", "fc1"].iter().all(|layer| !has(format!("features.{index}.block.{next}.{layer}")))
        }
        _ => false,
    }
}

/// The README's tolerance for networks in float32.
const NETWORK: f64 = 2e-4;

/// The same for gradients of ResNets, where a few activations of a million lie within rounding of 0 and pass the ReLU
/// in one arithmetic and not in the other; that moves the gradients below by 1e-3. Seen with the seed of `test/golden`:
/// ResNet-18 7e-6, with the small stem 1.2e-3, ResNet-34 1.9e-3, ResNet-50 2.9e-3. PyTorch's own float32 is 4e-4 off
/// for ResNet-34 and 8e-3 for ResNet-50. MobileNetV2, with ReLU6 and eight channels in places, is at 4.3e-2, PyTorch's own
/// float32 at 5.3e-2: ten times as much is allowed. The proof of the formulas is the float64 run of the same layers, to 1e-9.
const FLIPPED: f64 = 8e-3;

/// The tolerance of a ResNet's gradients: how many activations flip depends on the seed, so golden files of another one
/// (`RKD_GOLDEN`) get more.
fn gradients() -> f64 {
    if is_of_another_seed(&golden("networks.json")) { 3e-2 } else { FLIPPED }
}

/// Layers and networks on the device of the CUDA tests, at the tolerances of the CPU's float32.
#[cfg(target_os = "linux")]
mod cuda {
    use super::{NETWORK, check_layers, check_network, gradients};
    use crate::common::cuda;
    use rkd_core::nn::Precision;

    #[test]
    fn layers() {
        check_layers(&cuda(true), 1e-5);
    }

    #[test]
    fn layers_without_a_library_of_convolutions() {
        check_layers(&cuda(false), 1e-5);
    }

    #[test]
    fn layers_in_tf32_and_in_bf16() {
        check_layers(&cuda(true).with_precision(Precision::Tf32), 2e-3);
        check_layers(&cuda(true).with_precision(Precision::Bf16), 2e-2);
    }

    // Output and worst gradient, twice what is seen on the twin. Each rounding is a share of 2^-11 in TF32 and 2^-8 in bfloat16 of a
    // number; but it moves activations over the edge of a ReLU, and what normalisations of few small images make of that is most of the
    // gradients' error. A transformer has no such edge. Seen in bfloat16, and what PyTorch 2.15's autocast on the CPU has: Conv-4
    // 1e-3 and 7e-2 (7e-4 and 4e-2), MobileNetV3-small 1e-2 and 0.20 (4e-3 and 0.25), ResNet-18 4e-3 and 0.16 (3e-3 and 0.14),
    // ResNet-50 2e-2 and 0.46 (2e-2 and 0.39), VGG-11 1e-2 and 0.10 (4e-3 and 0.10).
    macro_rules! roughly {
        ($($test:ident: $name:literal, $tf32:expr, $bf16:expr;)*) => {
            mod in_tf32 {
                $(#[test]
                fn $test() {
                    let [output, gradients] = $tf32;
                    let backend = super::cuda(true).with_precision(super::Precision::Tf32);
                    super::check_network(backend, $name, output, gradients);
                })*
            }
            mod in_bf16 {
                $(#[test]
                fn $test() {
                    let [output, gradients] = $bf16;
                    let backend = super::cuda(true).with_precision(super::Precision::Bf16);
                    super::check_network(backend, $name, output, gradients);
                })*
            }
        };
    }

    roughly! {
        conv4: "conv4", [2e-3, 4e-2], [3e-3, 0.15];
        mobilenet_v3_small: "mobilenet_v3_small", [2e-3, 0.2], [3e-2, 0.4];
        resnet18: "resnet18", [2e-3, 0.1], [1e-2, 0.4];
        resnet50: "resnet50", [1e-2, 0.6], [4e-2, 0.9];
        vgg11: "vgg11_bn cifar", [2e-3, 4e-2], [2e-2, 0.2];
        vit_tiny: "vit_tiny", [2e-3, 2e-3], [5e-3, 2e-2];
    }

    macro_rules! networks {
        ($($test:ident: $name:literal, $gradients:expr;)*) => {
            $(#[test]
            fn $test() {
                check_network(cuda(true), $name, NETWORK, $gradients);
            })*

            #[test]
            fn every_network_of_the_file_has_its_test() {
                assert_eq!(super::names_in_the_file(), [$($name),*]);
            }
        };
    }

    networks! {
        conv4: "conv4", NETWORK;
        efficientnet_b0: "efficientnet_b0", gradients();
        efficientnet_lite0: "efficientnet_lite0", gradients();
        googlenet: "googlenet", gradients();
        mobilenet_v2: "mobilenet_v2", 10.0 * gradients();
        mobilenet_v3_large: "mobilenet_v3_large", gradients();
        mobilenet_v3_small: "mobilenet_v3_small", gradients();
        resnet18: "resnet18", gradients();
        resnet18_with_the_small_stem: "resnet18 cifar stem", gradients();
        resnet34: "resnet34", gradients();
        resnet50: "resnet50", gradients();
        vgg11_with_the_small_head: "vgg11_bn cifar", gradients();
        vit_tiny: "vit_tiny", NETWORK;
        vit_tiny_of_clips_form: "vit_tiny_clip", NETWORK;
    }
}

/// Sorted.
fn names_in_the_file() -> Vec<String> {
    let file = golden("networks.json");
    let networks = file["networks"].as_array().unwrap().iter();
    let mut names: Vec<String> = networks.map(|case| case["name"].as_str().unwrap().into()).collect();
    names.sort_unstable();
    names
}

#[test]
fn every_network_of_the_file_has_its_test() {
    let tested = [
        "conv4",
        "efficientnet_b0",
        "efficientnet_lite0",
        "googlenet",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "mobilenet_v3_small",
        "resnet18",
        "resnet18 cifar stem",
        "resnet34",
        "resnet50",
        "vgg11_bn cifar",
        "vit_tiny",
        "vit_tiny_clip",
    ];
    assert_eq!(names_in_the_file(), tested);
}

#[test]
fn conv4_in_all_forms() {
    check_network(Portable::cpu_f64(), "conv4", 1e-11, 1e-11);
    check_network(Portable::cpu_f32(), "conv4", NETWORK, NETWORK);
    check_network(cpu(), "conv4", NETWORK, NETWORK);
}

#[test]
fn resnet18() {
    check_network(Portable::cpu_f64(), "resnet18", 1e-9, 1e-9);
    check_network(cpu(), "resnet18", NETWORK, gradients());
}

#[test]
fn resnet34() {
    check_network(Portable::cpu_f64(), "resnet34", 1e-9, 1e-9);
    check_network(cpu(), "resnet34", NETWORK, gradients());
}

#[test]
fn resnet50() {
    check_network(Portable::cpu_f64(), "resnet50", 1e-9, 1e-9);
    check_network(cpu(), "resnet50", NETWORK, gradients());
}

#[test]
fn resnet18_with_the_small_stem() {
    check_network(Portable::cpu_f64(), "resnet18 cifar stem", 1e-9, 1e-9);
    check_network(cpu(), "resnet18 cifar stem", NETWORK, gradients());
}

#[test]
fn efficientnet_lite0() {
    check_network(Portable::cpu_f64(), "efficientnet_lite0", 1e-9, 1e-9);
    check_network(cpu(), "efficientnet_lite0", NETWORK, gradients());
}

#[test]
fn efficientnet_b0() {
    check_network(Portable::cpu_f64(), "efficientnet_b0", 1e-9, 1e-9);
    check_network(cpu(), "efficientnet_b0", NETWORK, gradients());
}

#[test]
fn mobilenet_v2() {
    check_network(Portable::cpu_f64(), "mobilenet_v2", 1e-9, 1e-9);
    check_network(cpu(), "mobilenet_v2", NETWORK, 10.0 * gradients());
}

#[test]
fn mobilenet_v3_small() {
    check_network(Portable::cpu_f64(), "mobilenet_v3_small", 1e-9, 1e-9);
    check_network(cpu(), "mobilenet_v3_small", NETWORK, gradients());
}

#[test]
fn mobilenet_v3_large() {
    check_network(Portable::cpu_f64(), "mobilenet_v3_large", 1e-9, 1e-9);
    check_network(cpu(), "mobilenet_v3_large", NETWORK, gradients());
}

#[test]
fn vit_tiny() {
    check_network(Portable::cpu_f64(), "vit_tiny", 1e-9, 1e-9);
    check_network(cpu(), "vit_tiny", NETWORK, NETWORK);
}

#[test]
fn vit_tiny_of_clips_form() {
    check_network(Portable::cpu_f64(), "vit_tiny_clip", 1e-9, 1e-9);
    check_network(cpu(), "vit_tiny_clip", NETWORK, NETWORK);
}

#[test]
fn googlenet() {
    check_network(Portable::cpu_f64(), "googlenet", 1e-9, 1e-9);
    check_network(cpu(), "googlenet", NETWORK, gradients());
}

#[test]
fn vgg11_with_the_small_head() {
    check_network(Portable::cpu_f64(), "vgg11_bn cifar", 1e-9, 1e-9);
    check_network(cpu(), "vgg11_bn cifar", NETWORK, gradients());
}

#[test]
fn mobilenets_of_timm_give_its_features() {
    let (golden, backend) = (golden("timm.json"), Portable::cpu_f64());
    let draw = draw(&golden);
    for case in golden["networks"].as_array().unwrap() {
        let (name, shape) = (case["name"].as_str().unwrap(), sizes(&case["input_shape"]));
        let tensor = |(key, shape): (&String, &Value)| {
            let HostTensor { shape, mut data } = draw.tensor(&sizes(shape), key);
            let drawn = draw.hashed(key, data.len());
            match key.rsplit('.').next() {
                Some("running_mean") => data = drawn.iter().map(|v| 0.1 * v).collect(),
                Some("running_var") => data = drawn.iter().map(|v| 1.0 + 0.5 * v).collect(),
                _ => {}
            }
            (key.clone(), HostTensor { shape, data })
        };
        let tensors = case["tensors"].as_object().unwrap().iter().map(tensor).collect();
        let spec = spec(case["kind"].as_str().unwrap(), Stem::Imagenet, None, &shape);
        let mut network = Network::new(backend.clone(), define(&spec).unwrap(), 1).unwrap();
        let taken = network.take(&adapt(&spec, &tensors), &[]).unwrap();
        assert_eq!(taken.ignored, ["classifier.bias", "classifier.weight"], "{name}");
        let images = backend.from_f32(&draw.images("0", &shape), &nhwc_shape(&shape)).unwrap();
        let pooled = network.forward_eval(&images).unwrap().remove(&Feature::Pooled).unwrap();
        let off = summary_distance(&backend.to_f64(&pooled).unwrap(), &case["pooled"], 0.0);
        // The scales that take in V3's epsilon are float32.
        assert!(off <= 1e-6, "{name} is {off:.1e} off");
    }
}
