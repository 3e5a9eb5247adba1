//! Inference against the evaluation pass that it folds: every backbone, every feature, any number of threads.

use std::sync::Arc;

use crate::common::{Draw, distance};
use rkd_core::backbones::{BackboneSpec, Stem, build, define};
use rkd_core::nn::blocks::Blocks;
use rkd_core::nn::{Backend, Cpu, Feature, FeatureMap, Network, Portable};
use rkd_core::optim::{Optimizer, OptimizerSpec};
use rkd_kernels::Team;

const DRAW: Draw = Draw { seed: 41 };

/// Folding moves the rounding of a float32 network by this share of a feature's largest entry at most.
const FLOAT32: f64 = 5e-6;

fn spec(kind: &str, stem: Stem, image_size: usize) -> BackboneSpec {
    BackboneSpec {
        kind: kind.into(),
        width: 32,
        hidden: Vec::new(),
        stem,
        embedding: Some(8),
        normalize: true,
        in_channels: 3,
        image_size,
        classes: Some(5),
    }
}

fn specs() -> Vec<BackboneSpec> {
    vec![
        spec("conv4", Stem::Small, 32),
        spec("resnet18", Stem::Small, 16),
        spec("resnet50", Stem::Imagenet, 48),
        spec("vgg11", Stem::Small, 32),
        BackboneSpec { width: 64, ..spec("googlenet", Stem::Small, 32) },
        BackboneSpec { hidden: vec![40], ..spec("mlp", Stem::Small, 8) },
    ]
}

fn images<B: Backend>(backend: &B, spec: &BackboneSpec) -> B::Tensor {
    let shape = [3, spec.image_size, spec.image_size, spec.in_channels];
    backend.from_f32(&DRAW.hashed("images", shape.iter().product()), &shape).unwrap()
}

/// A network whose parameters and running statistics are none of a start's zeros and ones.
fn network<B: Backend>(backend: B, spec: &BackboneSpec) -> Network<B> {
    let start = build(backend.clone(), spec, 1).unwrap();
    let mut tensors = DRAW.fill(start.definition(), "");
    for (name, tensor) in &mut tensors {
        let values = DRAW.hashed(&format!("statistics/{name}"), tensor.data.len());
        if name.ends_with("running_mean") {
            tensor.data = values.iter().map(|v| 0.3 * v).collect();
        } else if name.ends_with("running_var") {
            tensor.data = values.iter().map(|v| 1.0 + 0.5 * v).collect();
        }
    }
    Network::from_tensors(backend, define(spec).unwrap(), &tensors).unwrap()
}

fn values<B: Backend>(backend: &B, features: &FeatureMap<B::Tensor>) -> Vec<(Feature, Vec<f64>)> {
    features.iter().map(|(name, tensor)| (name.clone(), backend.to_f64(tensor).unwrap())).collect()
}

/// The largest difference of a feature with and without folding, as a share of its largest entry.
fn difference<B: Backend>(backend: B, spec: &BackboneSpec) -> f64 {
    let (network, images) = (network(backend.clone(), spec), images(&backend, spec));
    let expected = values(&backend, &network.forward_eval(&images).unwrap());
    let folded = values(&backend, &network.into_inference().unwrap().forward(&images).unwrap());
    assert_eq!(folded.len(), expected.len());
    let pairs = folded.iter().zip(&expected).map(|((name, folded), (expected_name, expected))| {
        assert_eq!(name, expected_name);
        assert!(expected.iter().any(|&value| value != 0.0), "{}: {name:?} says nothing", spec.kind);
        distance(folded, expected, 0.0)
    });
    pairs.fold(0.0, f64::max)
}

#[test]
fn folding_changes_nothing_but_rounding() {
    for spec in specs() {
        let exact = difference(Portable::cpu_f64(), &spec);
        let float32 = difference(Cpu::new(Arc::new(Team::new(2))), &spec);
        println!("{}: {exact:.1e} in float64, {float32:.1e} in float32", spec.kind);
        // The factors are float32 numbers on either backend; what is folded of them is kept in float64 here.
        assert!(exact < 1e-12, "{}: {exact:.1e} in float64", spec.kind);
        assert!(float32 < FLOAT32, "{}: {float32:.1e} in float32", spec.kind);
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    for spec in specs() {
        let run = |threads| {
            let backend = Cpu::new(Arc::new(Team::new(threads)));
            let network = network(backend.clone(), &spec).into_inference().unwrap();
            values(&backend, &network.forward(&images(&backend, &spec)).unwrap())
        };
        let one = run(1);
        assert!(run(2) == one && run(3) == one, "{}", spec.kind);
    }
}

#[test]
fn an_image_has_the_same_features_alone_and_in_a_batch_that_is_cut_into_blocks() {
    for spec in
        [spec("conv4", Stem::Small, 96), spec("resnet18", Stem::Small, 64), spec("mobilenet-v2", Stem::Small, 160)]
    {
        let backend = Cpu::new(Arc::new(Team::new(2)));
        let inference = network(backend.clone(), &spec).into_inference().unwrap();
        let (side, n) = (spec.image_size, 11);
        let shape = [side, side, spec.in_channels];
        let blocks = Blocks::new(&inference.program().body, &inference.definition().parameters, shape).unwrap();
        let stages = blocks.stages(n, backend.cached_values().unwrap());
        assert!(stages.iter().any(|stage| n % stage.images != 0), "{}: {stages:?}", spec.kind);
        let length = side * side * spec.in_channels;
        let pixels = DRAW.hashed("images", n * length);
        let look = |pixels: &[f32]| {
            let images = backend.from_f32(pixels, &[pixels.len() / length, side, side, spec.in_channels]).unwrap();
            values(&backend, &inference.forward(&images).unwrap())
        };
        let together = look(&pixels);
        for (image, pixels) in pixels.chunks_exact(length).enumerate() {
            for ((name, alone), (_, all)) in look(pixels).iter().zip(&together) {
                let of_image = &all[image * alone.len()..][..alone.len()];
                assert!(alone == of_image, "{}: {name:?} of image {image}", spec.kind);
            }
        }
    }
}

#[test]
fn only_wanted_taps_are_kept_and_bad_images_refused() {
    let spec = spec("resnet18", Stem::Small, 16);
    let backend = Portable::cpu_f32();
    let mut inference = network(backend.clone(), &spec).into_inference().unwrap();
    inference.keep_taps(&[Feature::Embedding, Feature::Tap("layer2".into())]);
    let features = inference.forward(&images(&backend, &spec)).unwrap();
    assert_eq!(features.keys().map(Feature::name).collect::<Vec<_>>(), ["embedding", "pooled", "logits", "layer2"]);
    let error = inference.forward(&backend.zeros(&[1, 8, 8, 3]).unwrap()).unwrap_err();
    assert_eq!(error.code, rkd_core::Code::InvalidShape);
}

#[test]
fn a_clone_is_folded_and_its_network_goes_on_learning() {
    let spec = spec("conv4", Stem::Small, 32);
    let backend = Cpu::new(Arc::new(Team::new(2)));
    let (mut network, images) = (network(backend.clone(), &spec), images(&backend, &spec));
    let look = |network: &Network<Cpu>| {
        let inference = network.clone().into_inference().unwrap();
        backend.to_f64(&inference.forward(&images).unwrap()[&Feature::Embedding]).unwrap()
    };
    let kept = network.clone().into_inference().unwrap();
    let before = look(&network);
    let tensors = network.tensors().unwrap();
    assert_eq!(look(&network), before);
    assert_eq!(network.tensors().unwrap(), tensors, "folding a clone changes the network");

    let (features, tape) = network.forward_train(&images).unwrap();
    let gradients = [(Feature::Embedding, features[&Feature::Embedding].clone())].into();
    let gradients = network.backward(tape, gradients, false).unwrap();
    let sgd = OptimizerSpec::Sgd { learning_rate: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let mut optimizer = Optimizer::new(&sgd).unwrap();
    optimizer.step(&backend, &mut [&mut network.parameters], gradients.parameters, 0.1, None).unwrap();
    assert_ne!(look(&network), before);
    assert_eq!(backend.to_f64(&kept.forward(&images).unwrap()[&Feature::Embedding]).unwrap(), before);
}
