//! Networks and optimisers as a user meets them: partial losses, bad inputs, state that is saved and restored.

use std::sync::Arc;

use crate::common::Draw;
use rkd_core::Code;
use rkd_core::backbones::{BackboneSpec, Stem, build, define, kinds};
use rkd_core::nn::backend::Backend;
use rkd_core::nn::dropout::Draw as Dropped;
use rkd_core::nn::profile::Profile;
use rkd_core::nn::tuning::{TrainingStatistics, TuningPlan};
use rkd_core::nn::{Cpu, Feature, Gradients, Network, Portable};
use rkd_core::optim::{Optimizer, OptimizerSpec, check_all_reached};
use rkd_kernels::Team;

const DRAW: Draw = Draw { seed: 31 };
const SGD: OptimizerSpec = OptimizerSpec::Sgd { learning_rate: 0.1, momentum: 0.9, nesterov: true, weight_decay: 1e-3 };
const ADAM: OptimizerSpec =
    OptimizerSpec::Adam { learning_rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };

fn spec() -> BackboneSpec {
    BackboneSpec {
        kind: "conv4".into(),
        width: 3,
        hidden: Vec::new(),
        stem: Stem::Small,
        embedding: Some(4),
        normalize: true,
        in_channels: 1,
        image_size: 16,
        classes: Some(5),
    }
}

fn network() -> Network<Portable> {
    build(Portable::cpu_f32(), &spec(), 2).unwrap()
}

fn kernels() -> Network<Cpu> {
    build(Cpu::new(Arc::new(Team::new(1))), &spec(), 2).unwrap()
}

fn images<B: Backend>(backend: &B, n: usize) -> B::Tensor {
    backend.from_f32(&DRAW.hashed("images", n * 256), &[n, 16, 16, 1]).unwrap()
}

/// The gradients that come of gradients of ones on the chosen features.
fn gradients<B: Backend>(network: &mut Network<B>, embedding: bool, logits: bool) -> Gradients<B> {
    let backend = network.backend().clone();
    let (features, tape) = network.forward_train(&images(&backend, 4)).unwrap();
    let random = |of: &B::Tensor| {
        let shape = B::shape(of);
        backend.from_f32(&DRAW.hashed("upstream", shape.iter().product()), shape).unwrap()
    };
    let read = [(Feature::Embedding, embedding), (Feature::Logits, logits)].into_iter().filter(|(_, read)| *read);
    let given = read.map(|(feature, _)| (feature.clone(), random(&features[&feature]))).collect();
    network.backward(tape, given, false).unwrap()
}

#[test]
fn features_have_names_and_shapes() {
    let network = network();
    let features = network.forward_eval(&images(network.backend(), 2)).unwrap();
    let names: Vec<&str> = features.keys().map(Feature::name).collect();
    assert_eq!(names, ["embedding", "pooled", "logits", "blocks.0", "blocks.1", "blocks.2", "blocks.3"]);
    assert_eq!(features[&Feature::Tap("blocks.0".into())].dims(), [2, 8, 8, 3]);
    assert_eq!(features[&Feature::Tap("blocks.3".into())].dims(), [2, 1, 1, 3]);
    assert_eq!(features[&Feature::Pooled].dims(), [2, 3]);
    assert_eq!(features[&Feature::Logits].dims(), [2, 5]);
    let embedding = network.backend().to_f32(&features[&Feature::Embedding]).unwrap();
    assert!(embedding.chunks(4).all(|row| (row.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5));
}

#[test]
fn gradients_of_two_features_add_up() {
    let sums = |embedding, logits| -> Vec<f32> {
        let mut network = network();
        let gradients = gradients(&mut network, embedding, logits);
        let backend = network.backend();
        gradients.parameters[0].as_ref().map(|first| backend.to_f32(first).unwrap()).unwrap()
    };
    let (both, one, other) = (sums(true, true), sums(true, false), sums(false, true));
    for ((both, one), other) in both.iter().zip(one).zip(other) {
        assert!((both - (one + other)).abs() < 1e-5);
    }
}

#[test]
fn training_moves_the_running_statistics_and_evaluation_does_not() {
    let mut network = network();
    let before = network.tensors().unwrap();
    network.forward_eval(&images(&network.backend().clone(), 4)).unwrap();
    assert_eq!(network.tensors().unwrap(), before);
    network.forward_train(&images(&network.backend().clone(), 4)).unwrap();
    let after = network.tensors().unwrap();
    assert_ne!(after["blocks.0.1.running_mean"], before["blocks.0.1.running_mean"]);
    assert_eq!(after["blocks.3.1.num_batches_tracked"].data, [1.0]);
    assert_eq!(after["blocks.0.0.weight"], before["blocks.0.0.weight"]);
}

#[test]
fn images_of_another_shape_are_an_error() {
    let mut network = network();
    let wrong = network.backend().zeros(&[2, 17, 16, 1]).unwrap();
    let error = network.forward_eval(&wrong).unwrap_err();
    assert_eq!(error.code, Code::InvalidShape);
    assert!(error.to_string().contains("expected [n, 16, 16, 1]"), "{error}");
    let none = network.backend().zeros(&[0, 16, 16, 1]).unwrap();
    assert_eq!(network.forward_train(&none).unwrap_err().code, Code::InvalidShape);
}

#[test]
fn every_network_learns_from_its_smallest_image_and_refuses_a_smaller_one() {
    for kind in kinds() {
        // With the small stem, and with that for ImageNet.
        let sides = match kind {
            "mlp" => [1, 1],
            "conv4" => [16, 16],
            "googlenet" => [8, 31],
            _ if kind.starts_with("resnet") => [4, 16],
            _ if ["efficientnet", "mobilenet", "vit"].iter().any(|family| kind.starts_with(family)) => [16, 16],
            _ => [32, 32],
        };
        for (stem, side) in [Stem::Small, Stem::Imagenet].into_iter().zip(sides) {
            let hidden = if kind == "mlp" { vec![5] } else { Vec::new() };
            let of =
                |image_size| BackboneSpec { kind: kind.into(), stem, hidden: hidden.clone(), image_size, ..spec() };
            let smallest = (1..64).find(|&side| define(&of(side)).is_ok()).unwrap();
            assert_eq!(smallest, side, "{kind} {stem:?}");
            let mut network = build(Portable::cpu_f32(), &of(smallest), 2).unwrap();
            let backend = network.backend().clone();
            let images = DRAW.hashed("images", 3 * smallest * smallest);
            let images = backend.from_f32(&images, &[3, smallest, smallest, 1]).unwrap();
            let (features, tape) = network.forward_train(&images).unwrap_or_else(|e| panic!("{kind} {stem:?}: {e}"));
            assert_eq!(features[&Feature::Pooled].dims(), [3, network.definition().pooled_size], "{kind} {stem:?}");
            let upstream = |feature: Feature| {
                let of = &features[&feature];
                let gradient = backend.from_f32(&DRAW.hashed("dy", of.elem_count()), of.dims()).unwrap();
                (feature, gradient)
            };
            let given = [Feature::Embedding, Feature::Logits].map(upstream).into();
            let gradients = network.backward(tape, given, false).unwrap();
            let mut optimizer = Optimizer::new(&SGD).unwrap();
            optimizer.step(&backend, &mut [&mut network.parameters], gradients.parameters, 0.1, None).unwrap();
        }
    }
}

/// Millions of parameters, and of multiply-adds at 224 and at 96 pixels, as the table of `docs/networks.md` has them.
fn sizes(kind: &str) -> [String; 3] {
    let of = |image_size| {
        let spec = BackboneSpec {
            kind: kind.into(),
            width: 64,
            stem: Stem::Imagenet,
            embedding: None,
            classes: None,
            in_channels: 3,
            image_size,
            ..spec()
        };
        let cpu = Cpu::counting();
        let mut network = Network::zeros(cpu.clone(), define(&spec).unwrap()).unwrap();
        let profile = Arc::new(Profile::default());
        profile.set_recording(true);
        network.set_profile(&profile);
        network.forward_eval(&cpu.zeros(&[1, image_size, image_size, 3]).unwrap()).unwrap();
        let flops: f64 = profile.take().iter().map(|record| record.flops).sum();
        (network.parameter_count() as f64, flops / 2.0)
    };
    let [(parameters, large), (_, small)] = [224, 96].map(of);
    [format!("{:.2}", parameters / 1e6), format!("{:.0}", large / 1e6), format!("{:.0}", small / 1e6)]
}

#[test]
fn the_page_of_networks_has_their_sizes() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/networks.md");
    let page = std::fs::read_to_string(page).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().trim_matches('`').to_string()).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = page.lines().filter(|line| line.starts_with("| `")).map(cells).collect();
    let listed: Vec<&str> = rows.iter().map(|row| row[1].as_str()).collect();
    // An mlp is as large as it is asked to be, and a ViT of CLIP's form as the other one; its text says so.
    let has_row = |kind: &&str| *kind != "mlp" && !kind.ends_with("-clip");
    let kinds: Vec<&str> = kinds().into_iter().filter(has_row).collect();
    assert_eq!(listed, kinds);
    let wrong: Vec<String> = rows
        .iter()
        .map(|row| (row, sizes(&row[1])))
        .filter(|(row, sizes)| row[2..5] != sizes[..])
        .map(|(row, sizes)| format!("{}: {}", row[1], sizes.join(" | ")))
        .collect();
    assert!(wrong.is_empty(), "docs/networks.md has other sizes than:\n{}", wrong.join("\n"));
}

/// The spec of a network with residual blocks.
fn residual_spec() -> BackboneSpec {
    BackboneSpec { kind: "resnet18".into(), normalize: false, ..spec() }
}

#[test]
fn what_training_leaves_out_is_drawn_by_step_and_evaluation_leaves_nothing_out() {
    let whole = build(Portable::cpu_f32(), &residual_spec(), 2).unwrap();
    let backend = whole.backend().clone();
    let images = images(&backend, 6);
    let values = |of: &candle_core::Tensor| backend.to_f32(of).unwrap();
    for (tuning, changed) in [
        (TuningPlan { dropout: 0.5, ..Default::default() }, vec![Feature::Embedding, Feature::Logits]),
        (
            TuningPlan { drop_path: 0.9, ..Default::default() },
            vec![Feature::Tap("layer4".into()), Feature::Pooled, Feature::Embedding, Feature::Logits],
        ),
    ] {
        let mut network = whole.clone();
        network.tune(&tuning).unwrap();
        let evaluated = [&whole, &network].map(|network| network.forward_eval(&images).unwrap());
        let step = |step| network.clone().forward_train_at(&images, Dropped { seed: 1, step, row: 0 }).unwrap().0;
        let (third, again, fourth) = (step(3), step(3), step(4));
        let trained = whole.clone().forward_train(&images).unwrap().0;
        for (feature, all) in &trained {
            assert_eq!(values(&evaluated[0][feature]), values(&evaluated[1][feature]), "{feature:?}");
            assert_eq!(values(&third[feature]), values(&again[feature]), "{feature:?}");
            if changed.contains(feature) {
                assert_ne!(values(&third[feature]), values(&fourth[feature]), "{feature:?}");
                assert_ne!(values(&third[feature]), values(all), "{feature:?}");
            }
        }
        // The first block always runs, and dropout is behind all taps.
        let first = Feature::Tap("layer1".into());
        assert_eq!(values(&third[&first]) == values(&trained[&first]), tuning.drop_path == 0.0);
    }
}

#[test]
fn kernels_leave_out_what_the_portable_form_does() {
    // The batch's statistics, of four pixels in the last stages, would magnify the rounding of float32.
    let batch_norm = TrainingStatistics::Running;
    let tuning = TuningPlan { dropout: 0.3, drop_path: 0.5, batch_norm, ..Default::default() };
    for kind in ["resnet18", "mobilenet-v2", "efficientnet-b0", "vit-tiny"] {
        let spec = BackboneSpec { kind: kind.into(), ..residual_spec() };
        let mut portable = build(Portable::cpu_f64(), &spec, 2).unwrap();
        let mut kernels = build(Cpu::new(Arc::new(Team::new(2))), &spec, 2).unwrap();
        portable.tune(&tuning).unwrap();
        kernels.tune(&tuning).unwrap();
        let (expected, found) = (dropped(&mut portable), dropped(&mut kernels));
        assert_eq!(expected.len(), found.len());
        for (what, expected, found) in expected.iter().zip(&found).map(|((what, a), (_, b))| (what, a, b)) {
            let norm = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
            let off = expected.iter().zip(found).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            assert!(off <= 1e-3 * norm.max(1e-4), "{kind}, {what}: {off:.1e} of {norm:.1e}");
        }
    }
}

/// Features of a training pass and gradients of all parameters.
fn dropped<B: Backend>(network: &mut Network<B>) -> Vec<(String, Vec<f64>)> {
    let gradients = gradients(network, true, true).parameters;
    let backend = network.backend().clone();
    let specs = network.parameters.specs.clone();
    let gradients = specs.iter().zip(gradients).filter_map(|(spec, gradient)| Some((spec.name.clone(), gradient?)));
    let (features, _) = network.forward_train(&images(&backend, 4)).unwrap();
    let features = features.into_iter().map(|(feature, value)| (feature.name().to_string(), value));
    features.chain(gradients).map(|(name, value)| (name, backend.to_f64(&value).unwrap())).collect()
}

#[test]
fn what_cannot_be_left_out_is_named() {
    let tune = |spec: &BackboneSpec, dropout, drop_path| {
        let mut network = build(Portable::cpu_f32(), spec, 1).unwrap();
        network.tune(&TuningPlan { dropout, drop_path, ..Default::default() }).unwrap_err()
    };
    let bare = BackboneSpec { embedding: None, classes: None, ..spec() };
    let table = [
        (tune(&spec(), 0.0, 0.1), "dropPath", "a ResNet, MobileNet, EfficientNet or ViT"),
        (tune(&bare, 0.1, 0.0), "dropout", "an embedding layer"),
        (tune(&spec(), 1.0, 0.0), "dropout", "less than 1"),
        (tune(&residual_spec(), 0.0, -0.1), "dropPath", "at least 0"),
    ];
    for (error, subject, part) in table {
        assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some(subject)));
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_class_token_is_taken_early_where_no_tap_is_kept() {
    let spec = BackboneSpec { kind: "vit-tiny".into(), width: 4, image_size: 32, ..spec() };
    let mut network = build(Portable::cpu_f64(), &spec, 4).unwrap();
    let backend = network.backend().clone();
    let images = backend.from_f32(&DRAW.hashed("images", 2 * 32 * 32), &[2, 32, 32, 1]).unwrap();
    let mut step = |kept: &[Feature]| {
        network.keep_taps(kept);
        let (features, tape) = network.forward_train(&images).unwrap();
        let embedding = features[&Feature::Embedding].clone();
        let gradients = network.backward(tape, [(Feature::Embedding, embedding.clone())].into(), true).unwrap();
        let all = gradients.parameters.into_iter().flatten().chain(gradients.images).chain([embedding]);
        let values: Vec<Vec<f64>> = all.map(|tensor| backend.to_f64(&tensor).unwrap()).collect();
        (features.contains_key(&Feature::Tap("blocks.11".into())), values)
    };
    let ((tapped, late), (untapped, early)) = (step(&[Feature::Tap("blocks.11".into())]), step(&[]));
    assert!(tapped && !untapped);
    assert_eq!(late.len(), early.len());
    for (late, early) in late.iter().zip(&early) {
        let off = late.iter().zip(early).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
        assert!(off < 1e-12, "{off}");
    }
}

#[test]
fn an_optimizer_counts_the_arrays_that_it_reads_and_writes() {
    let plain = OptimizerSpec::Sgd { learning_rate: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    // The gradient is read, the parameter and its state are read and written.
    for (spec, operation, arrays) in [(plain, "sgd", 3), (SGD, "sgd", 5), (ADAM, "adam", 7)] {
        let mut network = kernels();
        let gradients = gradients(&mut network, true, false);
        let (mut optimizer, profile) = (Optimizer::new(&spec).unwrap(), Arc::new(Profile::default()));
        profile.set_recording(true);
        optimizer.set_profile(&profile);
        let backend = network.backend().clone();
        optimizer.step(&backend, &mut [&mut network.parameters], gradients.parameters, 0.1, None).unwrap();
        let records: Vec<_> = profile.take().into_iter().filter(|record| record.operation == operation).collect();
        assert!(!records.is_empty());
        for record in records {
            let values = record.calls * record.shape.iter().product::<usize>();
            assert_eq!(record.bytes, (4 * arrays * values) as f64, "{spec:?}, {}", record.layer);
        }
    }
}

#[test]
fn one_value_per_channel_in_training_is_an_error_that_names_the_layer() {
    // At 16 pixels the last normalisation sees a 2x2 map; one pixel only comes with a bottleneck's last stage.
    let spec = BackboneSpec { kind: "resnet18".into(), stem: Stem::Imagenet, image_size: 16, ..spec() };
    let mut network = build(Portable::cpu_f32(), &spec, 2).unwrap();
    let backend = network.backend().clone();
    let error = network.forward_train(&images(&backend, 1)).unwrap_err();
    assert_eq!(error.code, Code::InvalidShape);
    assert!(error.to_string().contains("more than one image"), "{error}");
    assert!(error.to_string().contains("layer"), "{error}");
    network.forward_eval(&images(&backend, 1)).unwrap();
}

#[test]
fn only_the_taps_that_are_read_are_kept() {
    let mut network = network();
    let images = images(&network.backend().clone(), 2);
    let taps = |network: &Network<Portable>| {
        let features = network.forward_eval(&images).unwrap().into_keys();
        features.filter(|feature| matches!(feature, Feature::Tap(_))).collect::<Vec<_>>()
    };
    let all = taps(&network);
    assert!(all.len() > 1, "{all:?}");
    network.keep_taps(&[Feature::Embedding, all[1].clone()]);
    assert_eq!(taps(&network), all[1..2]);
    network.keep_taps(&[]);
    assert!(taps(&network).is_empty());
}

#[test]
fn parameters_that_no_loss_reaches_are_named() {
    let mut network = network();
    let all = gradients(&mut network, true, true).parameters;
    check_all_reached(&network.parameters.specs, &all).unwrap();
    let some = gradients(&mut network, true, false).parameters;
    let error = check_all_reached(&network.parameters.specs, &some).unwrap_err();
    assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some("losses")));
    assert!(error.to_string().contains("classifier.weight, classifier.bias"), "{error}");
}

#[test]
fn a_gradient_that_is_not_finite_is_named_and_nothing_changes() {
    let mut network = kernels();
    let mut gradients = gradients(&mut network, true, true).parameters;
    let backend = network.backend().clone();
    let place = network.parameters.specs.iter().position(|spec| spec.name == "fc.weight").unwrap();
    gradients[place] = Some(backend.from_f32(&[f32::NAN; 12], &[4, 3]).unwrap());
    let before = network.tensors().unwrap();
    let mut optimizer = Optimizer::new(&ADAM).unwrap();
    let error = optimizer.step(&backend, &mut [&mut network.parameters], gradients, 0.1, None).unwrap_err();
    assert_eq!((error.code, error.subject.as_deref()), (Code::NonFinite, Some("fc.weight")));
    assert_eq!(network.tensors().unwrap(), before);
}

#[test]
fn on_a_device_a_gradient_that_is_not_finite_is_named_when_its_norm_is_read() {
    let mut network = network();
    let mut gradients = gradients(&mut network, true, true).parameters;
    let backend = network.backend().clone();
    let place = network.parameters.specs.iter().position(|spec| spec.name == "fc.weight").unwrap();
    gradients[place] = Some(backend.from_f32(&[f32::NAN; 12], &[4, 3]).unwrap());
    let before = backend.downloads();
    let mut optimizer = Optimizer::new(&ADAM).unwrap();
    let norm = optimizer.step(&backend, &mut [&mut network.parameters], gradients, 0.1, Some(1.0)).unwrap();
    assert_eq!(backend.downloads(), before);
    let error = norm.read(|norms| backend.to_f64(norms)).unwrap_err();
    assert_eq!((error.code, error.subject.as_deref()), (Code::NonFinite, Some("fc.weight")));
    assert_eq!(backend.downloads(), before + 1);
}

#[test]
fn clipping_scales_the_whole_gradient_to_the_norm() {
    check_clipping(network);
    check_clipping(kernels);
}

fn check_clipping<B: Backend>(network: fn() -> Network<B>) {
    let norm_after = |largest: Option<f64>| {
        let mut network = network();
        let gradients = gradients(&mut network, true, true).parameters;
        let backend = network.backend().clone();
        let plain = OptimizerSpec::Sgd { learning_rate: 1.0, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let before = network.tensors().unwrap();
        let mut optimizer = Optimizer::new(&plain).unwrap();
        let norm = optimizer.step(&backend, &mut [&mut network.parameters], gradients, 1.0, largest).unwrap();
        let after = network.tensors().unwrap();
        let change = after.iter().filter(|(name, _)| !name.contains("running")).flat_map(|(name, tensor)| {
            tensor.data.iter().zip(&before[name].data).map(|(a, b)| f64::from(a - b).powi(2))
        });
        (norm.read(|norms| backend.to_f64(norms)).unwrap(), change.sum::<f64>().sqrt())
    };
    let (norm, change) = norm_after(None);
    assert!((norm - change).abs() < 1e-4 * norm);
    let (reported, change) = norm_after(Some(norm / 4.0));
    assert_eq!(reported, norm);
    assert!((change - norm / 4.0).abs() < 1e-4 * norm, "{change} {norm}");
    assert!((norm_after(Some(norm * 4.0)).1 - norm).abs() < 1e-4 * norm);
}

#[test]
fn a_parameter_whose_losses_rested_takes_its_first_step_later() {
    let mut network = network();
    let backend = network.backend().clone();
    let mut optimizer = Optimizer::new(&ADAM).unwrap();
    let mut step = |network: &mut Network<Portable>, logits: bool| {
        let gradients = gradients(network, true, logits).parameters;
        optimizer.step(&backend, &mut [&mut network.parameters], gradients, 0.1, None).unwrap();
        network.tensors().unwrap()["classifier.weight"].data.clone()
    };
    let before = step(&mut network, false);
    for _ in 0..4 {
        assert_eq!(step(&mut network, false), before, "no gradient, no change");
    }
    // Adam's first step is as long as the learning rate, in every coordinate.
    let after = step(&mut network, true);
    let moved = before.iter().zip(&after).map(|(before, after)| (before - after).abs()).filter(|moved| *moved > 0.0);
    let moved: Vec<f32> = moved.collect();
    assert!(!moved.is_empty() && moved.iter().all(|moved| (moved - 0.1).abs() < 1e-4), "{moved:?}");
}

#[test]
fn an_optimiser_restored_from_its_tensors_goes_on_with_the_same_bits() {
    // Frozen parameters have no state.
    let tuning = TuningPlan { freeze: vec!["blocks.1".into()], ..Default::default() };
    for spec in [SGD, ADAM] {
        let step = |network: &mut Network<Portable>, optimizer: &mut Optimizer<Portable>| {
            let gradients = gradients(network, true, true).parameters;
            let backend = network.backend().clone();
            optimizer.step(&backend, &mut [&mut network.parameters], gradients, 0.1, None).unwrap();
        };
        let mut network = network();
        network.tune(&tuning).unwrap();
        let mut optimizer = Optimizer::new(&spec).unwrap();
        step(&mut network, &mut optimizer);
        step(&mut network, &mut optimizer);
        let backend = network.backend().clone();
        let state = optimizer.tensors(&backend, &[&network.parameters]).unwrap();
        let mut resumed =
            Network::from_tensors(backend.clone(), network.definition().clone(), &network.tensors().unwrap()).unwrap();
        resumed.tune(&tuning).unwrap();
        assert!(state.keys().all(|name| !name.starts_with("blocks.1.")));
        let mut restored = Optimizer::new(&spec).unwrap();
        restored.restore(&backend, &[&resumed.parameters], optimizer.steps(), &state).unwrap();
        step(&mut network, &mut optimizer);
        step(&mut resumed, &mut restored);
        assert_eq!(network.tensors().unwrap(), resumed.tensors().unwrap());
        let mut short = state.clone();
        short.pop_first();
        let error = restored.restore(&backend, &[&resumed.parameters], 2, &short).unwrap_err();
        assert_eq!(error.code, Code::InvalidArtefact);
    }
}
