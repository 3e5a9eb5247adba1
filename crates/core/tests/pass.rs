//! A batch in pieces against the batch in one piece: the same loss, the same gradients, in float64.

use rkd_core::backbones::{BackboneSpec, Stem, build};
use rkd_core::losses::{Feature, FeatureMap, LossInputs, Matrix, TermSpec, evaluate_loss};
use rkd_core::nn::backend::Backend;
use rkd_core::nn::dropout::Draw;
use rkd_core::nn::tuning::{TrainingStatistics, TuningPlan};
use rkd_core::nn::{Network, Portable};
use rkd_core::random::Random;
use rkd_core::ranks::Ranks;
use rkd_core::train::pass::{Pass, cut, matrices};
use rkd_kernels::Team;
use serde_json::json;

const SIDE: usize = 16;
const DRAW: Draw = Draw { seed: 1, step: 2, row: 0 };

fn network(kind: &str) -> Network<Portable> {
    let spec = BackboneSpec {
        kind: kind.into(),
        width: 4,
        hidden: if kind == "mlp" { vec![9, 7] } else { Vec::new() },
        stem: Stem::Small,
        embedding: Some(5),
        normalize: true,
        in_channels: 1,
        image_size: SIDE,
        classes: None,
    };
    build(Portable::cpu_f64(), &spec, 3).unwrap()
}

/// `n` images of which number `i` is drawn by `name(i)`.
fn images(rows: impl Iterator<Item = usize>) -> Vec<f64> {
    let image = |i: usize| {
        let mut random = Random::keyed(1, i as u64, 0, "image");
        (0..SIDE * SIDE).map(|_| random.normal()).collect::<Vec<_>>()
    };
    rows.flat_map(image).collect()
}

/// The loss of `images` in pieces of `largest`, and the gradient of each parameter.
fn train(network: &mut Network<Portable>, images: &[f64], teacher: &Matrix, largest: Option<usize>) -> Trained {
    let backend = network.backend().clone();
    let length = SIDE * SIDE;
    let pieces = cut(images.len() / length, largest).into_iter().map(|rows| {
        backend.from_f64(&images[rows.start * length..rows.end * length], &[rows.len(), SIDE, SIDE, 1]).unwrap()
    });
    let ranks = &Ranks::one();
    let pass = Pass::forward(network, pieces.collect(), &[Feature::Embedding, Feature::Pooled], DRAW, ranks).unwrap();
    pass.statistics.iter().chain([&pass.common_statistics]).for_each(|learnt| network.learn(learnt).unwrap());
    let mut values = pass.features.values().flatten().map(|piece| backend.to_f64(piece).unwrap());
    let features = matrices::<Portable>("the student's", &pass.features, &mut values).unwrap();
    let team = Team::new(1);
    let loss: TermSpec = serde_json::from_value(json!({"kind": "rkd-angle"})).unwrap();
    let mut value = 0.0;
    let mut upstream = FeatureMap::new();
    for (feature, matrix) in &features {
        let inputs = LossInputs::new(matrix, &team, Random::keyed(1, 0, 0, "loss")).with_teacher(teacher);
        let found = evaluate_loss(&loss, &inputs).unwrap();
        value += found.value;
        upstream.insert(feature.clone(), found.gradient);
    }
    let gradients = pass.backward(network, &upstream, &[]).unwrap();
    let gradients = gradients.iter().map(|g| g.as_ref().map(|g| backend.to_f64(g).unwrap())).collect();
    Trained { value, gradients }
}

struct Trained {
    value: f64,
    gradients: Vec<Option<Vec<f64>>>,
}

/// Compares with a tolerance for sums in another order.
fn check(a: &Trained, b: &Trained) {
    assert!((a.value - b.value).abs() <= 1e-13 * a.value, "{} {}", a.value, b.value);
    assert_eq!(a.gradients.len(), b.gradients.len());
    let mut largest = 0.0f64;
    for (a, b) in a.gradients.iter().zip(&b.gradients) {
        let (Some(a), Some(b)) = (a, b) else { panic!("a gradient is missing in one of them") };
        largest = a.iter().fold(largest, |largest, g| largest.max(g.abs()));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12 * largest.max(1e-3)));
    }
    assert!(largest > 1e-4);
}

fn teacher(rows: impl Iterator<Item = usize>) -> Matrix {
    let row = |i: usize| {
        let mut random = Random::keyed(2, i as u64, 0, "teacher");
        (0..3).map(|_| random.normal()).collect::<Vec<_>>()
    };
    let data: Vec<f64> = rows.flat_map(row).collect();
    Matrix::new("teacher", &data, data.len() / 3, 3).unwrap()
}

#[test]
fn without_batch_statistics_pieces_change_nothing() {
    let (images, teacher) = (images(0..11), teacher(0..11));
    let whole = train(&mut network("mlp"), &images, &teacher, None);
    for largest in [1, 4, 5, 10] {
        check(&whole, &train(&mut network("mlp"), &images, &teacher, Some(largest)));
    }
}

#[test]
fn pieces_leave_out_at_random_what_the_whole_does() {
    let (images, teacher) = (images(0..11), teacher(0..11));
    let mut dropping = network("mlp");
    dropping.tune(&TuningPlan { dropout: 0.4, ..TuningPlan::default() }).unwrap();
    let whole = train(&mut dropping.clone(), &images, &teacher, None);
    for largest in [1, 4, 5] {
        check(&whole, &train(&mut dropping.clone(), &images, &teacher, Some(largest)));
    }
    let nothing_left_out = train(&mut network("mlp"), &images, &teacher, None);
    assert!((whole.value - nothing_left_out.value).abs() > 1e-3 * whole.value);
}

#[test]
fn eight_pieces_of_64_give_the_gradient_of_the_batch_of_512() {
    let (images, teacher) = (images(0..512), teacher(0..512));
    assert_eq!(cut(512, Some(64)), (0..8).map(|i| 64 * i..64 * (i + 1)).collect::<Vec<_>>());
    let whole = train(&mut network("mlp"), &images, &teacher, None);
    check(&whole, &train(&mut network("mlp"), &images, &teacher, Some(64)));
    // And a loss of each piece would not: its triples are others.
    let piece = train(&mut network("mlp"), &images[..64 * SIDE * SIDE], &first(&teacher, 64), None);
    assert!((piece.value - whole.value).abs() > 1e-3 * whole.value, "{} {}", piece.value, whole.value);
}

fn first(teacher: &Matrix, rows: usize) -> Matrix {
    Matrix::new("teacher", &teacher.data[..rows * teacher.columns], rows, teacher.columns).unwrap()
}

#[test]
fn with_batch_normalisation_each_piece_has_its_own_statistics() {
    // A batch whose halves are alike has halves with the statistics of the whole.
    let rows = || (0..6).chain(0..6);
    let (images, teacher) = (images(rows()), teacher(rows()));
    let mut whole = network("conv4");
    let mut halves = whole.clone();
    let expected = train(&mut whole, &images, &teacher, None);
    let found = train(&mut halves, &images, &teacher, Some(6));
    assert!((expected.value - found.value).abs() <= 1e-12 * expected.value);
    for (a, b) in expected.gradients.iter().zip(&found.gradients) {
        assert_eq!(a.is_some(), b.is_some());
        let (a, b) = (a.clone().unwrap_or_default(), b.clone().unwrap_or_default());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-9), "{a:?} {b:?}");
    }
    // The running statistics have learnt from each half once, and not again on the way back.
    let batches = |network: &Network<Portable>| network.tensors().unwrap()["blocks.0.1.num_batches_tracked"].data[0];
    assert_eq!((batches(&whole), batches(&halves)), (1.0, 2.0));
}

#[test]
fn synchronised_batch_normalisation_makes_pieces_the_batch_in_one_piece() {
    // Max pools behind normalisations, residual blocks, branches, depthwise convolutions.
    for kind in ["conv4", "resnet18", "googlenet", "mobilenet-v2"] {
        let (images, teacher) = (images(0..7), teacher(0..7));
        let mut whole = network(kind);
        let synchronised = || {
            let mut network = network(kind);
            network.tune(&TuningPlan { batch_norm: TrainingStatistics::Sync, ..TuningPlan::default() }).unwrap();
            network
        };
        let expected = train(&mut whole, &images, &teacher, None);
        let learnt = |network: &Network<Portable>| network.tensors().unwrap();
        for largest in [None, Some(4), Some(3), Some(1)] {
            let mut network = synchronised();
            let found = train(&mut network, &images, &teacher, largest);
            let off = (found.value - expected.value).abs() / expected.value;
            assert!(off < 1e-11, "{kind} {largest:?}: {} {}", found.value, expected.value);
            let mut largest_gradient = 0.0f64;
            for (found, expected) in found.gradients.iter().zip(&expected.gradients) {
                let (Some(found), Some(expected)) = (found, expected) else {
                    assert!(found.is_none() && expected.is_none());
                    continue;
                };
                largest_gradient = expected.iter().fold(largest_gradient, |largest, g| largest.max(g.abs()));
                let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(off <= 1e-9 * largest_gradient.max(1e-3), "{kind} {largest:?}: {off}");
            }
            assert!(largest_gradient > 1e-4, "{kind}");
            // The running statistics learn once, of the whole batch.
            for (name, expected) in learnt(&whole) {
                let found = &learnt(&network)[&name].data;
                let off = found.iter().zip(&expected.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= 1e-6, "{kind} {largest:?} {name}: {off}");
            }
        }
        // And pieces with statistics of their own are something else.
        let apart = train(&mut network(kind), &images, &teacher, Some(4));
        assert!((apart.value - expected.value).abs() > 1e-3 * expected.value, "{kind}");
    }
}
