//! Splits, batches, augmentation, normalisation and the loader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rkd_core::data::{AugmentSpec, BatchPlan, DataPlan, EpisodePlan, SplitPlan, View};
use rkd_core::data::{
    BatchSampler, Dataset, EvaluationBatches, Loader, LoaderOptions, Normalization, Position, Split, augment,
};
use rkd_core::random::Random;

use crate::data::common::{Place, open, plan, says};

fn glyphs(place: &Place, source: &str) -> Dataset {
    open(&plan(source, &place.cache())).unwrap()
}

#[test]
fn classes_are_disjoint_and_the_seed_decides() {
    let place = Place::new();
    let data = glyphs(&place, "glyphs:classes=50,writers=4");
    let kind = SplitPlan::Classes { validation: 0.1, test: 0.3 };
    let split = Split::new(&data, &kind, 5).unwrap();
    assert_eq!([split.train.len(), split.validation.len(), split.test.len()], [120, 20, 60]);
    assert_eq!([split.train_classes.len(), split.validation_classes.len(), split.test_classes.len()], [30, 5, 15]);
    let all: BTreeSet<u32> =
        [&split.train_classes, &split.validation_classes, &split.test_classes].into_iter().flatten().copied().collect();
    assert_eq!(all.len(), 50);
    assert!(split.test.iter().all(|&item| split.test_classes.contains(&data.label(item))));
    assert_eq!(split, Split::new(&data, &kind, 5).unwrap());
    assert_ne!(split.test, Split::new(&data, &kind, 6).unwrap().test);
    assert_eq!(split.train_index(split.train_classes[7]), Some(7));
    assert_eq!(split.train_index(split.test_classes[0]), None);
}

#[test]
fn impossible_splits_are_refused() {
    let place = Place::new();
    let data = glyphs(&place, "glyphs:classes=5,writers=1");
    let error = |kind| Split::new(&data, &kind, 1).unwrap_err();
    says(&error(SplitPlan::Classes { validation: 0.0, test: 1.0 }), &["split.test", "received 1"]);
    says(&error(SplitPlan::Classes { validation: f64::NAN, test: 0.0 }), &["split.validation", "NaN"]);
    says(&error(SplitPlan::Classes { validation: 0.5, test: 0.6 }), &["nothing would be left"]);
    says(&error(SplitPlan::Classes { validation: 0.4, test: 0.4 }), &["too few classes", "1 of the 5"]);
    says(&error(SplitPlan::Source { validation: 0.1 }), &["no split of its own", "Split by classes instead"]);
}

fn pairs(classes: u32, images: u32) -> Vec<(u32, u32)> {
    (0..classes * images).map(|item| (item, item / images)).collect()
}

fn any(size: usize, per_class: Option<usize>) -> BatchPlan {
    BatchPlan { size, per_class, episode: None }
}

fn sampler(pairs: Vec<(u32, u32)>, size: usize, per_class: Option<usize>, steps: Option<u64>) -> BatchSampler {
    BatchSampler::from_labels(pairs, &any(size, per_class), steps, 3).unwrap()
}

#[test]
fn balanced_batches_are_those_of_the_paper() {
    // 128 with 5 of a class: 25 full classes and 3 images of a 26th.
    let sampler = sampler(pairs(40, 9), 128, Some(5), Some(20));
    let epoch = sampler.epoch(4);
    assert_eq!(epoch.len(), 20);
    for batch in &epoch {
        assert_eq!(batch.iter().collect::<BTreeSet<_>>().len(), 128, "no image twice");
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        batch.iter().for_each(|item| *counts.entry(item / 9).or_default() += 1);
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable();
        assert_eq!(counts, [&[3][..], &[5; 25]].concat());
    }
    assert_eq!(epoch, sampler.epoch(4));
    assert_ne!(epoch, sampler.epoch(5));
}

#[test]
fn balanced_batches_take_all_of_a_small_class_and_every_image_in_time() {
    let mut labels = pairs(10, 2);
    labels.push((20, 10));
    let sampler = sampler(labels, 6, Some(5), Some(400));
    let mut counts = [0usize; 21];
    sampler.epoch(0).iter().flatten().for_each(|&item| counts[item as usize] += 1);
    // 2,400 places; each class is equally likely, the 11th brings one image only.
    assert!(counts.iter().all(|&count| (60..240).contains(&count)), "{counts:?}");
}

#[test]
fn an_episode_is_supports_class_by_class_then_queries() {
    let shape = EpisodePlan { way: 4, shots: 2, queries: 3 };
    let plan = BatchPlan { size: 20, per_class: None, episode: Some(shape.clone()) };
    // Classes 0..6 have 9 images; class 6 has 4, one too few, and is never drawn.
    let labels: Vec<(u32, u32)> = pairs(6, 9).into_iter().chain((54..58).map(|item| (item, 6))).collect();
    let sampler = BatchSampler::from_labels(labels.clone(), &plan, Some(40), 3).unwrap();
    let epoch = sampler.epoch(1);
    let mut drawn: BTreeSet<u32> = BTreeSet::new();
    for batch in &epoch {
        assert_eq!(batch.iter().collect::<BTreeSet<_>>().len(), 20, "no image twice");
        let class = |place: usize| batch[place] / 9;
        let ways: Vec<u32> = (0..4).map(|k| class(k * 2)).collect();
        assert_eq!(ways.iter().collect::<BTreeSet<_>>().len(), 4, "no class twice");
        (0..8).for_each(|place| assert_eq!(class(place), ways[place / 2]));
        (8..20).for_each(|place| assert_eq!(class(place), ways[(place - 8) / 3]));
        drawn.extend(ways);
    }
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(epoch, sampler.epoch(1));
    assert_ne!(epoch, sampler.epoch(2));

    let error = |plan: BatchPlan| BatchSampler::from_labels(labels.clone(), &plan, None, 1).unwrap_err();
    says(&error(BatchPlan { size: 21, ..plan.clone() }), &["batch.size", "20 images, those of the episode"]);
    let wide = EpisodePlan { way: 7, ..shape };
    let wide = BatchPlan { size: 35, episode: Some(wide), ..plan };
    says(&error(wide), &["batch.episode", "7 classes of 5 images or more", "6 of the 7 classes"]);
}

#[test]
fn plain_batches_show_every_image_before_any_again() {
    let sampler = sampler(pairs(7, 3), 6, None, None);
    assert_eq!(sampler.batches(), 4);
    let epoch = sampler.epoch(2);
    assert!(epoch.iter().all(|batch| batch.len() == 6 && batch.iter().collect::<BTreeSet<_>>().len() == 6));
    let first: BTreeSet<u32> = epoch.iter().flatten().take(21).copied().collect();
    assert_eq!(first.len(), 21, "one round through the part");
    assert_ne!(epoch, sampler.epoch(3));
}

#[test]
fn impossible_batches_are_refused() {
    let error =
        |size, per_class, steps| BatchSampler::from_labels(pairs(4, 3), &any(size, per_class), steps, 1).unwrap_err();
    says(&error(0, None, None), &["batch.size", "received 0"]);
    says(&error(13, None, None), &["batch.size", "at most the 12 images"]);
    says(&error(9, Some(2), None), &["batch.size", "at most 8 (4 training classes, up to 2 images of each)"]);
    says(&error(4, Some(0), None), &["batch.perClass"]);
    says(&error(4, None, Some(0)), &["stepsPerEpoch"]);
}

/// mean 0 and std 1 / 255, so that an augmented value is the pixel's value.
fn identity(channels: usize) -> Normalization {
    Normalization { mean: vec![0.0; channels], std: vec![1.0 / 255.0; channels] }
}

fn changed(image: &[u8], [h, w, c]: [usize; 3], spec: &AugmentSpec, item: u64) -> Vec<f32> {
    let mut out = vec![0.0; h * w * c];
    augment(image, h, w, c, spec, &identity(c), &mut Random::keyed(1, 0, item, "augment"), &mut out);
    out
}

fn near(a: &[f32], b: &[f32], tolerance: f32) -> bool {
    a.iter().zip(b).all(|(x, y)| (x - y).abs() <= tolerance)
}

#[test]
fn augmentation_switched_off_changes_nothing() {
    let image: Vec<u8> = (0..5 * 4 * 3).map(|i| (i * 4) as u8).collect();
    let expected: Vec<f32> = image.iter().map(|&value| f32::from(value)).collect();
    assert!(near(&changed(&image, [5, 4, 3], &AugmentSpec::default(), 1), &expected, 1e-3));
    // The affine path with (next to) nothing to do agrees with the exact one.
    let still = AugmentSpec { rotate: 1e-6, ..Default::default() };
    assert!(near(&changed(&image, [5, 4, 3], &still, 1), &expected, 1e-2));
}

#[test]
fn a_mirror_is_exact_and_comes_half_of_the_time() {
    let image: Vec<u8> = (0..12).collect();
    let mirrored: Vec<f32> = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8].map(|v| v as f32).to_vec();
    let spec = AugmentSpec { flip: true, ..Default::default() };
    let count = (0..1000).filter(|&item| near(&changed(&image, [3, 4, 1], &spec, item), &mirrored, 1e-3)).count();
    assert!((440..560).contains(&count), "{count}");
}

#[test]
fn crops_shift_and_repeat_the_edge() {
    let image: Vec<u8> = (0..5u8).flat_map(|y| (0..5u8).map(move |x| 10 * y + x)).collect();
    let spec = AugmentSpec { crop_padding: 2, ..Default::default() };
    let mut seen = BTreeSet::new();
    for item in 0..500 {
        let out = changed(&image, [5, 5, 1], &spec, item);
        let naive = |dx: i64, dy: i64| -> Vec<f32> {
            let at = |v: i64| v.clamp(0, 4) as usize;
            (0..25i64).map(|i| f32::from(image[at(i / 5 + dy) * 5 + at(i % 5 + dx)])).collect()
        };
        let shifts = (0..25).map(|i| (i % 5 - 2, i / 5 - 2));
        let found = shifts.clone().find(|&(dx, dy)| near(&out, &naive(dx, dy), 1e-3));
        seen.insert(found.expect("a whole shift by up to 2 pixels"));
    }
    assert_eq!(seen.len(), 25, "every shift occurs");
}

#[test]
fn affine_changes_are_those_of_their_formula() {
    // On a linear ramp bilinear sampling is exact, so the output tells where each pixel looked.
    let (h, w) = (21, 21);
    let ramp_x: Vec<u8> = (0..h * w).map(|i| 50 + 5 * (i % w) as u8).collect();
    let ramp_y: Vec<u8> = (0..h * w).map(|i| 50 + 5 * (i / w) as u8).collect();
    let spec = AugmentSpec { rotate: 20.0, scale: 0.2, shear: 10.0, ..Default::default() };
    for item in 0..50 {
        let looked =
            |ramp: &[u8]| changed(ramp, [h, w, 1], &spec, item).iter().map(|v| (v - 50.0) / 5.0).collect::<Vec<_>>();
        let (x, y) = (looked(&ramp_x), looked(&ramp_y));
        let at = |px: usize, py: usize| (f64::from(x[py * w + px]), f64::from(y[py * w + px]));
        assert!((at(10, 10).0 - 10.0).abs() < 1e-3 && (at(10, 10).1 - 10.0).abs() < 1e-3, "the centre stays");
        // The columns of A⁻¹ by differences.
        let (a, c) = ((at(13, 10).0 - 10.0) / 3.0, (at(13, 10).1 - 10.0) / 3.0);
        let (b, d) = ((at(10, 13).0 - 10.0) / 3.0, (at(10, 13).1 - 10.0) / 3.0);
        let scale = 1.0 / (a * d - b * c).sqrt();
        assert!((0.799..=1.201).contains(&scale), "scale {scale}");
        // A = s R(θ) [1 tan φ; 0 1], so A⁻¹ = [1 -tan φ; 0 1] R(-θ) / s; its second row is (-sin θ, cos θ) / s.
        let angle = (-c * scale).atan2(d * scale).to_degrees();
        assert!(angle.abs() <= 20.01, "rotation {angle}");
        let (sin, cos) = angle.to_radians().sin_cos();
        let tan = (a * scale - cos) / sin;
        assert!(sin.abs() < 0.05 || tan.abs() <= 10f64.to_radians().tan() + 0.01, "shear {tan}");
    }
}

#[test]
fn augmentations_out_of_range_are_refused() {
    let place = Place::new();
    let data = Arc::new(glyphs(&place, "glyphs:classes=4,writers=4"));
    let items: Vec<u32> = (0..16).collect();
    let refuse = |spec: AugmentSpec| {
        let sampler = BatchSampler::new(&data, &items, &any(4, None), None, 1).unwrap();
        Loader::new(view(&data, identity(1)), Vec::new(), sampler, spec, LoaderOptions::default()).err().unwrap()
    };
    says(
        &refuse(AugmentSpec { rotate: -1.0, ..Default::default() }),
        &["augment.rotate", "0 to 180 degrees", "received -1"],
    );
    says(&refuse(AugmentSpec { scale: f64::NAN, ..Default::default() }), &["augment.scale", "NaN"]);
    says(&refuse(AugmentSpec { crop_padding: 9, ..Default::default() }), &["augment.cropPadding", "0 to 8 pixels"]);
}

#[test]
fn statistics_are_those_of_the_pixels() {
    let place = Place::new();
    let mut plan = plan("glyphs:classes=20,writers=20", &place.cache());
    plan.channels = 3;
    let data = open(&plan).unwrap();
    let items: Vec<u32> = (0..data.len() as u32).step_by(1).collect();
    let values: Vec<f64> = items.iter().flat_map(|&item| data.pixels(item)).map(|v| f64::from(v) / 255.0).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64;
    let measured = Normalization::measure(&data, &items);
    for i in 0..3 {
        assert!((f64::from(measured.mean[i]) - mean).abs() < 1e-6);
        assert!((f64::from(measured.std[i]) - variance.sqrt()).abs() < 1e-6);
    }
    let batches: Vec<f32> =
        EvaluationBatches::new(&data, &items, 64, &measured).flat_map(|batch| batch.images).collect();
    let mean = batches.iter().map(|&v| f64::from(v)).sum::<f64>() / batches.len() as f64;
    let square = batches.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / batches.len() as f64;
    assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-4, "{mean} {square}");
}

#[test]
fn a_constant_channel_does_not_divide_by_zero() {
    let place = Place::new();
    place.images(&[("a/1.png", 0), ("b/1.png", 0)]);
    let data = place.open().unwrap();
    let normalization = Normalization::measure(&data, &[0, 1]);
    let batch = EvaluationBatches::new(&data, &[0, 1], 2, &normalization).next().unwrap();
    assert!(batch.images.iter().all(|value| value.is_finite()));
}

#[test]
fn evaluation_goes_through_in_order_with_a_smaller_last_batch() {
    let place = Place::new();
    let data = glyphs(&place, "glyphs:classes=5,writers=2");
    let items = [9, 3, 4, 1, 0];
    let normalization = identity(1);
    let batches: Vec<_> = EvaluationBatches::new(&data, &items, 2, &normalization).collect();
    assert_eq!(batches.iter().map(|batch| batch.items.clone()).collect::<Vec<_>>(), [vec![9, 3], vec![4, 1], vec![0]]);
    assert_eq!(batches[1].labels, [2, 0]);
    let expected: Vec<f32> = data.pixels(0).iter().map(|&v| f32::from(v)).collect();
    assert!(near(&batches[2].images, &expected, 1e-3));
}

#[test]
fn a_training_image_that_is_only_mirrored_is_the_mirrored_evaluation_image() {
    let place = Place::new();
    let data = Arc::new(glyphs(&place, "glyphs:classes=5,writers=4"));
    let items: Vec<u32> = (0..data.len() as u32).collect();
    let normalization = identity(1);
    let sampler = BatchSampler::new(&data, &items, &any(10, None), Some(2), 7).unwrap();
    let spec = AugmentSpec { flip: true, ..Default::default() };
    let mut loader =
        Loader::new(view(&data, normalization.clone()), Vec::new(), sampler, spec, LoaderOptions::default()).unwrap();
    let batch = loader.next().unwrap();
    assert!(batch.mirrored.contains(&true) && batch.mirrored.contains(&false));
    let pixels = batch.images.len() / batch.len();
    for ((&item, &mirrored), image) in batch.items.iter().zip(&batch.mirrored).zip(batch.images.chunks_exact(pixels)) {
        let evaluation = EvaluationBatches::new(&data, &[item], 1, &normalization).mirrored(mirrored).next().unwrap();
        assert_eq!((&evaluation.images[..], &evaluation.mirrored[..]), (image, &[mirrored][..]));
    }
}

fn view(dataset: &Arc<Dataset>, normalization: Normalization) -> View {
    View { dataset: Arc::clone(dataset), normalization }
}

/// Means of squares of 2 x 2 pixels.
fn halved(image: &[f32], side: usize) -> Vec<f32> {
    let half = side / 2;
    let at = |y: usize, x: usize| image[y * side + x];
    let mean = |y: usize, x: usize| (at(y, x) + at(y, x + 1) + at(y + 1, x) + at(y + 1, x + 1)) / 4.0;
    (0..half * half).map(|place| mean(place / half * 2, place % half * 2)).collect()
}

#[test]
fn the_view_of_each_teacher_is_changed_as_the_students() {
    let place = Place::new();
    let sized = |image_size| {
        let plan = DataPlan { image_size, ..plan("glyphs:classes=10,writers=4", &place.cache()) };
        Arc::new(open(&plan).unwrap())
    };
    let (small, large) = (sized(24), sized(48));
    assert!(small.has_items_of(&large));
    let items: Vec<u32> = (0..small.len() as u32).collect();
    let crop = AugmentSpec { crop_padding: 3, flip: true, ..Default::default() };
    let all = AugmentSpec { rotate: 15.0, scale: 0.2, shear: 10.0, translate: 0.1, ..crop.clone() };
    for spec in [crop, all] {
        let batch = |teachers: Vec<View>| {
            let sampler = BatchSampler::new(&small, &items, &any(16, None), Some(2), 7).unwrap();
            Loader::new(view(&small, identity(1)), teachers, sampler, spec.clone(), LoaderOptions::default())
                .unwrap()
                .next()
                .unwrap()
        };
        let other = Normalization { mean: vec![0.5], std: vec![0.25] };
        let (alone, both) = (batch(Vec::new()), batch(vec![view(&large, identity(1)), view(&small, other)]));
        assert_eq!((&alone.images, alone.teacher_images.len(), both.teacher_images.len()), (&both.images, 0, 2));
        let (pairs, apart): (Vec<f32>, Vec<f32>) = both
            .images
            .chunks_exact(24 * 24)
            .zip(both.teacher_images[0].chunks_exact(48 * 48))
            .zip(&both.items)
            .map(|((student, teacher), &item)| {
                let difference = |other: &[f32]| {
                    let teacher = halved(teacher, 48);
                    teacher.iter().zip(other).map(|(a, b)| (a - b).abs()).sum::<f32>() / teacher.len() as f32
                };
                let mut still = vec![0.0; 24 * 24];
                identity(1).apply(&small.pixels(item), &mut still);
                (difference(student), difference(&still))
            })
            .unzip();
        let [near, far] = [pairs, apart].map(|values| values.iter().sum::<f32>() / values.len() as f32);
        assert!(near < 0.3 * far, "{near} {far}");
        // Another normalisation alone is a linear map of each pixel.
        let pairs = both.images.iter().zip(&both.teacher_images[1]);
        assert!(pairs.clone().all(|(a, b)| ((a / 255.0 - 0.5) / 0.25 - b).abs() < 1e-4));
        assert_eq!(pairs.len(), both.teacher_images[1].len());
    }
}

fn loader(data: &Arc<Dataset>, workers: usize, start: Position, batch: &BatchPlan) -> Loader {
    loader_of(data, LoaderOptions { workers, ahead: 3, start, ..LoaderOptions::default() }, batch)
}

fn loader_of(data: &Arc<Dataset>, options: LoaderOptions, batch: &BatchPlan) -> Loader {
    let items: Vec<u32> = (0..data.len() as u32).collect();
    let sampler = BatchSampler::new(data, &items, batch, Some(5), 7).unwrap();
    let spec = AugmentSpec { crop_padding: 1, flip: true, rotate: 15.0, scale: 0.1, shear: 5.0, translate: 0.1 };
    let normalization = Normalization::measure(data, &items);
    let options = LoaderOptions { seed: 7, ..options };
    Loader::new(view(data, normalization), Vec::new(), sampler, spec, options).unwrap()
}

#[test]
fn a_share_of_a_batch_has_the_images_that_the_whole_batch_has_there() {
    let place = Place::new();
    let data = Arc::new(glyphs(&place, "glyphs:classes=10,writers=4"));
    let plan = BatchPlan { size: 12, per_class: Some(3), episode: None };
    let of = |rows| loader_of(&data, LoaderOptions { rows, ..LoaderOptions::default() }, &plan);
    let (mut whole, mut share) = (of(None), of(Some(4..9)));
    let pixels = data.image_size() * data.image_size() * data.channels();
    for _ in 0..7 {
        let (whole, share) = (whole.next().unwrap(), share.next().unwrap());
        assert_eq!((&share.items, &share.labels), (&whole.items, &whole.labels));
        assert_eq!(share.own_items(), &whole.items[4..9]);
        assert_eq!(share.images, whole.images[4 * pixels..9 * pixels]);
        assert_eq!(share.mirrored, whole.mirrored[4..9]);
    }
}

#[test]
fn batches_are_the_same_with_any_number_of_workers_and_from_any_start() {
    let place = Place::new();
    let data = Arc::new(glyphs(&place, "glyphs:classes=10,writers=4"));
    let episode = BatchPlan { episode: Some(EpisodePlan { way: 4, shots: 1, queries: 2 }), ..any(12, None) };
    for batch in [any(12, Some(2)), any(12, None), episode] {
        let take = |workers, start, count: usize| -> Vec<_> {
            let mut loader = loader(&data, workers, start, &batch);
            (0..count)
                .map(|_| {
                    let mut batch = loader.next().unwrap();
                    batch.waited = Duration::ZERO;
                    let copy = batch.clone();
                    loader.recycle(batch);
                    copy
                })
                .collect()
        };
        let all = take(1, Position::default(), 13);
        assert_eq!(all.iter().map(|b| (b.epoch, b.index)).collect::<Vec<_>>()[4..7], [(0, 4), (1, 0), (1, 1)]);
        assert_eq!(take(3, Position::default(), 13), all);
        assert_eq!(take(2, Position { epoch: 1, batch: 2 }, 6), all[7..]);
        assert_ne!(all[0].images, all[5].images);
    }
}

#[test]
fn a_loader_knows_its_place_and_stops_when_dropped() {
    let place = Place::new();
    let data = Arc::new(glyphs(&place, "glyphs:classes=10,writers=4"));
    let mut loader = loader(&data, 2, Position { epoch: 3, batch: 4 }, &any(12, None));
    assert_eq!(loader.position(), Position { epoch: 3, batch: 4 });
    loader.next().unwrap();
    assert_eq!(loader.position(), Position { epoch: 4, batch: 0 });
    drop(loader);
    assert_eq!(Arc::strong_count(&data), 1, "its threads have ended");
}
