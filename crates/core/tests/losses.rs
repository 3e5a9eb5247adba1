//! Every loss against its own numeric gradient, its invariances, and the batches where formulas break.

use rkd_core::losses::{LossInputs, LossValue, Matrix, TermSpec, evaluate_loss};
use rkd_core::random::Random;
use rkd_kernels::Pool;
use serde_json::{Value, json};

fn draw(n: usize, d: usize, purpose: &str) -> Vec<f64> {
    let mut random = Random::keyed(3, n as u64, d as u64, purpose);
    (0..n * d).map(|_| random.normal()).collect()
}

/// A loss with a batch that suits it: spec, n, d of the student.
fn cases() -> Vec<(Value, usize, usize)> {
    vec![
        (json!({"kind": "rkd-distance"}), 7, 3),
        (json!({"kind": "rkd-distance", "delta": 0.2, "reduction": "distinct"}), 6, 4),
        (json!({"kind": "rkd-angle"}), 7, 3),
        (json!({"kind": "rkd-angle", "delta": 0.3, "reduction": "distinct"}), 6, 4),
        (json!({"kind": "triplet-squared", "margin": 3.0}), 8, 3),
        (json!({"kind": "triplet-squared", "margin": 3.0, "negatives": "semi-hard"}), 8, 3),
        (json!({"kind": "triplet-squared", "margin": 3.0, "negatives": "hard"}), 8, 3),
        (json!({"kind": "triplet-squared", "margin": 3.0, "negatives": "random"}), 8, 3),
        (json!({"kind": "triplet-euclidean", "margin": 1.0}), 8, 3),
        (json!({"kind": "cross-entropy"}), 6, 4),
        (json!({"kind": "cross-entropy", "labelSmoothing": 0.1}), 6, 4),
        (json!({"kind": "prototypical", "supportCount": 2, "way": 3}), 12, 4),
    ]
}

fn evaluate(spec: &Value, student: &[f64], n: usize, d: usize, labels: &[u32], threads: usize) -> LossValue {
    try_evaluate(spec, student, &draw(n, 5, "teacher"), n, d, labels, threads).unwrap()
}

fn try_evaluate(
    spec: &Value,
    student: &[f64],
    teacher: &[f64],
    n: usize,
    d: usize,
    labels: &[u32],
    threads: usize,
) -> rkd_core::Result<LossValue> {
    let spec: TermSpec = serde_json::from_value(spec.clone()).unwrap();
    spec.validate()?;
    let pool = Pool::new(threads);
    let student = Matrix::new("student", student, n, d)?;
    let teacher = Matrix::new("teacher", teacher, n, teacher.len() / n.max(1))?;
    let inputs =
        LossInputs::new(&student, &pool, Random::keyed(1, 0, 0, "loss")).with_teacher(&teacher).with_labels(labels);
    evaluate_loss(&spec.loss, &inputs)
}

fn labels(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| i / 2 % 4).collect()
}

#[test]
fn gradients_are_numeric_gradients() {
    for (spec, n, d) in cases() {
        let student = draw(n, d, "student");
        let found = evaluate(&spec, &student, n, d, &labels(n), 1);
        let largest = found.gradient.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
        assert!(largest > 0.0, "{spec}");
        for place in 0..n * d {
            let at = |step: f64| {
                let mut moved = student.clone();
                moved[place] += step;
                evaluate(&spec, &moved, n, d, &labels(n), 1).value
            };
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            let error = (numeric - found.gradient[place]).abs();
            assert!(error <= 1e-6 * largest, "{spec} at {place}: {numeric} {}", found.gradient[place]);
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for (spec, n, d) in cases() {
        let student = draw(n, d, "student");
        let expected = evaluate(&spec, &student, n, d, &labels(n), 1);
        assert_eq!(evaluate(&spec, &student, n, d, &labels(n), 3), expected, "{spec}");
    }
}

#[test]
fn relational_losses_do_not_see_scale_place_or_order_and_push_nothing_as_a_whole() {
    let (n, d) = (9, 4);
    let student = draw(n, d, "student");
    for kind in ["rkd-distance", "rkd-angle"] {
        let spec = json!({"kind": kind});
        let original = evaluate(&spec, &student, n, d, &labels(n), 1);
        let moved: Vec<f64> = student.iter().enumerate().map(|(i, v)| 40.0 * v + (i % d) as f64).collect();
        let moved = evaluate(&spec, &moved, n, d, &labels(n), 1);
        assert!((moved.value - original.value).abs() < 1e-12, "{kind}");
        let teacher = draw(n, 5, "teacher");
        let reversed = |z: &[f64], d: usize| z.chunks_exact(d).rev().flatten().copied().collect::<Vec<f64>>();
        let other = try_evaluate(&spec, &reversed(&student, d), &reversed(&teacher, 5), n, d, &labels(n), 1).unwrap();
        assert!((other.value - original.value).abs() < 1e-12, "{kind}");
        let along: f64 = original.gradient.iter().zip(&student).map(|(g, z)| g * z).sum();
        assert!(along.abs() < 1e-12, "{kind}: no force along the scale");
        for k in 0..d {
            let sum: f64 = original.gradient.iter().skip(k).step_by(d).sum();
            assert!(sum.abs() < 1e-12, "{kind}: no force on the centre");
        }
    }
}

#[test]
fn relational_losses_are_zero_at_a_scaled_and_shifted_copy() {
    let (n, d) = (8, 5);
    let teacher = draw(n, d, "teacher");
    let copy: Vec<f64> = teacher.iter().map(|v| 3.0 * v - 2.0).collect();
    for kind in ["rkd-distance", "rkd-angle"] {
        let found = try_evaluate(&json!({"kind": kind}), &copy, &teacher, n, d, &labels(n), 1).unwrap();
        assert!(found.value < 1e-24 && found.gradient.iter().all(|g| g.abs() < 1e-12), "{kind}: {found:?}");
    }
}

/// Batches on which formulas break. All must give finite numbers.
#[test]
fn degenerate_batches_give_finite_numbers() {
    let (n, d) = (8, 3);
    let mut coincident = draw(n, d, "student");
    coincident.copy_within(0..d, 3 * d);
    let collinear: Vec<f64> = (0..n * d).map(|i| (i / d) as f64).collect();
    let scaled = |factor: f64| draw(n, d, "student").iter().map(|v| v * factor).collect::<Vec<_>>();
    let batches = [
        ("coincident", coincident),
        ("collapsed", vec![0.7; n * d]),
        ("zero", vec![0.0; n * d]),
        ("collinear", collinear),
        ("huge", scaled(1e30)),
        ("tiny", scaled(1e-30)),
    ];
    let one_class = vec![0; n];
    let all_different: Vec<u32> = (0..n as u32).collect();
    for (name, batch) in &batches {
        for (spec, ..) in cases().iter().filter(|(spec, ..)| spec["kind"] != "prototypical") {
            for labels in [&labels(n).iter().map(|l| l % 3).collect::<Vec<_>>(), &one_class] {
                let found = evaluate(spec, batch, n, d, labels, 1);
                assert!(found.value.is_finite() && found.gradient.iter().all(|g| g.is_finite()), "{spec} {name}");
            }
            if spec["kind"] != "cross-entropy" {
                let found = evaluate(spec, batch, n, d, &all_different, 1);
                assert!(found.value.is_finite() && found.gradient.iter().all(|g| g.is_finite()), "{spec} {name}");
            }
        }
    }
}

#[test]
fn small_batches_without_tuples_are_zero() {
    for kind in ["rkd-distance", "rkd-angle", "triplet-squared", "triplet-euclidean"] {
        let found = evaluate(&json!({"kind": kind}), &[1.0, 2.0], 1, 2, &[0], 1);
        assert_eq!(found, LossValue::new(0.0, vec![0.0; 2]), "{kind}");
    }
    let found = evaluate(&json!({"kind": "rkd-angle"}), &[1.0, 2.0, 5.0, 6.0], 2, 2, &[0, 1], 1);
    assert!(found.value < 1e-24, "two items have no angle");
}

#[test]
fn what_cannot_be_computed_says_why() {
    let (n, d) = (4, 2);
    let good = draw(n, d, "student");
    let mut bad = good.clone();
    bad[5] = f64::NAN;
    let text = |result: rkd_core::Result<LossValue>| result.unwrap_err().to_string();
    let teacher = draw(n, 5, "teacher");
    let run =
        |spec: Value, student: &[f64], labels: &[u32]| text(try_evaluate(&spec, student, &teacher, n, d, labels, 1));
    let message = run(json!({"kind": "rkd-distance"}), &bad, &[0; 4]);
    assert!(message.contains("student: row 2, column 1 is not a finite number"), "{message}");
    let message = run(json!({"kind": "triplet-squared"}), &good, &[0, 1]);
    assert!(message.contains("expected 4 labels, received 2"), "{message}");
    let message = run(json!({"kind": "cross-entropy"}), &good, &[0, 1, 2, 1]);
    assert!(message.contains("a class below 2, received 2"), "{message}");
    let message = run(json!({"kind": "prototypical", "supportCount": 1, "way": 3}), &good, &[0; 4]);
    assert!(message.contains("not an episode"), "{message}");
    for spec in [
        json!({"kind": "rkd-angle", "delta": 0.0}),
        json!({"kind": "rkd-distance", "weight": -1.0}),
        json!({"kind": "triplet-squared", "margin": -0.1}),
        json!({"kind": "cross-entropy", "labelSmoothing": 1.0}),
        json!({"kind": "prototypical", "supportCount": 0, "way": 3}),
    ] {
        let message = run(spec.clone(), &good, &[0, 0, 1, 1]);
        assert!(message.contains("expected") && message.contains(spec["kind"].as_str().unwrap()), "{message}");
    }
}
