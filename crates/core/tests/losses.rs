//! Every loss against its own numeric gradient, its invariances, and the batches where formulas break.

use crate::common::{kinds, with_all_negatives};
use rkd_core::input;
use rkd_core::losses::{LossInputs, LossValue, Matrix, TermSpec, evaluate_loss};
use rkd_core::random::Random;
use rkd_core::tensor::Init;
use rkd_core::{Code, Error};
use rkd_kernels::Team;
use serde_json::{Value, json};

fn draw(n: usize, d: usize, purpose: &str) -> Vec<f64> {
    let mut random = Random::keyed(3, n as u64, d as u64, purpose);
    (0..n * d).map(|_| random.normal()).collect()
}

/// A loss with a batch that suits it: spec, n, d of the student.
fn cases() -> Vec<(Value, usize, usize)> {
    let cases = vec![
        (json!({"kind": "rkd-distance"}), 7, 3),
        (json!({"kind": "rkd-distance", "delta": 0.2, "reduction": "distinct"}), 6, 4),
        (json!({"kind": "rkd-angle"}), 7, 3),
        (json!({"kind": "rkd-angle", "delta": 0.3, "reduction": "distinct"}), 6, 4),
        (json!({"kind": "triplet-squared", "margin": 3.0}), 8, 3),
        (json!({"kind": "triplet-squared", "margin": 3.0, "negatives": "semi-hard"}), 8, 3),
        (json!({"kind": "triplet-squared", "margin": 3.0, "negatives": "hard"}), 8, 3),
        (json!({"kind": "triplet-squared", "margin": 3.0, "negatives": "random"}), 8, 3),
        (json!({"kind": "triplet-euclidean", "margin": 1.0}), 8, 3),
        (json!({"kind": "triplet-squared", "margin": 3.0, "negatives": "distance-weighted"}), 8, 3),
        (json!({"kind": "contrastive", "margin": 3.0}), 8, 3),
        (json!({"kind": "contrastive", "margin": 3.0, "negatives": "distance-weighted"}), 8, 3),
        (json!({"kind": "lifted-structure"}), 8, 3),
        (json!({"kind": "n-pairs", "l2": 0.1}), 9, 3),
        (json!({"kind": "angular"}), 9, 3),
        (json!({"kind": "margin"}), 8, 3),
        (json!({"kind": "margin", "beta": 1.5, "learnBeta": true, "negatives": "semi-hard"}), 8, 3),
        (json!({"kind": "hard-dark-rank"}), 7, 3),
        (json!({"kind": "hard-dark-rank", "alpha": 1.0, "beta": 0.5, "permuteLength": 9}), 6, 4),
        (json!({"kind": "similarity-preserving"}), 7, 3),
        (json!({"kind": "correlation-congruence"}), 7, 3),
        // More rows than a thread takes at once.
        (json!({"kind": "similarity-preserving"}), 70, 3),
        (json!({"kind": "correlation-congruence"}), 70, 3),
        (json!({"kind": "correlation-congruence", "gamma": 1.5, "order": 5}), 6, 4),
        (json!({"kind": "correlation-congruence", "kernel": "bilinear"}), 6, 4),
        (json!({"kind": "cross-entropy"}), 6, 4),
        (json!({"kind": "cross-entropy", "labelSmoothing": 0.1}), 6, 4),
        (json!({"kind": "prototypical", "supportCount": 2, "way": 3}), 12, 4),
        (json!({"kind": "rkd-distance", "normalize": true}), 7, 3),
        (json!({"kind": "rkd-angle", "normalize": true}), 7, 3),
        (json!({"kind": "triplet-squared", "normalize": true}), 8, 3),
        (json!({"kind": "margin", "normalize": true, "learnBeta": true}), 8, 3),
        (json!({"kind": "n-pairs", "normalize": true}), 9, 3),
        (json!({"kind": "hard-dark-rank", "normalize": true}), 7, 3),
        (json!({"kind": "similarity-preserving", "normalize": true}), 7, 3),
        (json!({"kind": "correlation-congruence", "kernel": "bilinear", "normalize": true}), 7, 3),
        (json!({"kind": "cross-entropy", "normalize": true}), 6, 4),
    ];
    cases.into_iter().map(|(spec, n, d)| (with_all_negatives(spec), n, d)).collect()
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
    let spec: TermSpec = input::read(spec["kind"].as_str().unwrap(), spec)?;
    let student = Matrix::new("student", student, n, d)?;
    let teacher = Matrix::new("teacher", teacher, n, teacher.len() / n.max(1))?;
    evaluate_with(&spec, &student, &teacher, labels, &start(&spec, &[n, d]), threads)
}

/// The loss's own parameters at their start.
fn start(loss: &TermSpec, shape: &[usize]) -> Vec<Matrix> {
    let parameters = loss.build().parameters(shape, Some(shape)).unwrap();
    let start = parameters.iter().map(|parameter| {
        let value = |draw: &f64| match parameter.init {
            Init::Constant(value) => value,
            Init::Uniform { bound } => bound * draw.clamp(-1.0, 1.0),
            Init::Normal { deviation } => deviation * draw,
        };
        let values: Vec<f64> = draw(parameter.rows, parameter.columns, parameter.name).iter().map(value).collect();
        Matrix::new(parameter.name, &values, parameter.rows, parameter.columns).unwrap()
    });
    start.collect()
}

fn evaluate_with(
    loss: &TermSpec,
    student: &Matrix,
    teacher: &Matrix,
    labels: &[u32],
    parameters: &[Matrix],
    threads: usize,
) -> rkd_core::Result<LossValue> {
    let team = Team::new(threads);
    let inputs = LossInputs::new(student, &team, Random::keyed(1, 0, 0, "loss"));
    evaluate_loss(loss, &inputs.with_teacher(teacher).with_labels(labels).with_parameters(parameters))
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
fn gradients_of_a_loss_own_parameters_are_numeric_gradients() {
    let mut checked = 0;
    for (spec, n, d) in cases() {
        let loss: TermSpec = serde_json::from_value(spec.clone()).unwrap();
        let student = Matrix::new("student", &draw(n, d, "student"), n, d).unwrap();
        let teacher = Matrix::new("teacher", &draw(n, d, "teacher"), n, d).unwrap();
        let parameters = start(&loss, &[n, d]);
        let evaluate =
            |parameters: &[Matrix]| evaluate_with(&loss, &student, &teacher, &labels(n), parameters, 1).unwrap();
        let found = evaluate(&parameters);
        assert_eq!(found.parameters.len(), parameters.len(), "{spec}");
        for (index, gradient) in found.parameters.iter().enumerate() {
            for (place, &found) in gradient.iter().enumerate() {
                let at = |step: f64| {
                    let mut moved = parameters.clone();
                    moved[index].data[place] += step;
                    evaluate(&moved).value
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!(found != 0.0 && (numeric - found).abs() <= 1e-6 * found.abs(), "{spec}: {numeric} {found}");
                checked += 1;
            }
        }
    }
    assert!(checked > 0);
}

#[test]
fn threads_do_not_change_a_bit() {
    for (spec, n, d) in cases() {
        // Several blocks of every kernel: they take 8 or 16 rows at a time, 64 of a product, and 128 vertices of angles.
        let n = 20 * n;
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

/// A table of `docs/losses.md`: what every loss gives for the batches on which formulas break. The page says what the
/// outcomes mean.
struct SafetyTable {
    normalize: bool,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

/// The page's tables, without and with `normalize: true`.
fn safety_tables() -> [SafetyTable; 2] {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/losses.md");
    let page = std::fs::read_to_string(path).unwrap();
    let tables = page.split("\n\n").filter(|part| part.starts_with("| loss | coincident |"));
    let mut tables = tables.enumerate().map(|(index, table)| {
        let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
        let mut lines = table.lines().map(cells).map(|cells: Vec<String>| (cells[0].clone(), cells[1..].to_vec()));
        let (_, columns) = lines.next().unwrap();
        let rows = lines.skip(1).map(|(kind, cells)| (kind.trim_matches('`').to_string(), cells)).collect();
        SafetyTable { normalize: index == 1, columns, rows }
    });
    let found = [tables.next().unwrap(), tables.next().unwrap()];
    assert!(tables.next().is_none());
    found
}

/// The batch of a column: student, teacher and labels of n rows.
fn batch(column: &str, shape: &[usize]) -> rkd_core::Result<(Matrix, Matrix, Vec<u32>)> {
    let n = match column {
        "empty" => 0,
        "one" => 1,
        "same-two" | "other-two" => 2,
        _ => 8,
    };
    let d: usize = shape.iter().product();
    let scaled = |purpose: &str, factor: f64| draw(n, d, purpose).iter().map(|v| v * factor).collect::<Vec<_>>();
    let student = match column {
        "coincident" => {
            let mut student = scaled("student", 1.0);
            student.copy_within(0..d, 3 * d);
            student
        }
        "collinear" => (0..n * d).map(|i| (i / d) as f64).collect(),
        "collapsed" => vec![0.7; n * d],
        "zeros" => vec![0.0; n * d],
        "tiny" => scaled("student", 1e-30),
        "huge" => scaled("student", 1e30),
        "not-a-number" => scaled("student", f64::NAN),
        "largest" => {
            let largest = scaled("student", 1.0).iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
            scaled("student", f64::from(f32::MAX) / largest)
        }
        _ => scaled("student", 1.0),
    };
    let teacher = match column {
        "far-teacher" => scaled("teacher", 1e30),
        "flat-teacher" => vec![0.7; n * d],
        _ => scaled("teacher", 1.0),
    };
    let labels = match column {
        "same-two" | "one-class" => vec![0; n],
        "other-two" | "all-different" => (0..n as u32).collect(),
        _ => labels(n).iter().map(|label| label % 3).collect(),
    };
    let whole: Vec<usize> = [&[n], shape].concat();
    let matrix = |name: &str, data: &[f64]| Matrix::tensor(name, data, &whole);
    Ok((matrix("student", &student)?, matrix("teacher", &teacher)?, labels))
}

/// A loss of this kind, and the shape of a row that suits it.
fn usual(kind: &str, normalize: bool) -> (TermSpec, &'static [usize]) {
    let mut spec = match kind {
        "prototypical" => json!({"kind": kind, "supportCount": 1, "way": 2}),
        "margin" => json!({"kind": kind, "learnBeta": true}),
        _ => json!({"kind": kind}),
    };
    spec["normalize"] = json!(normalize);
    let shape: &[usize] = if kind == "attention-transfer" { &[2, 2, 3] } else { &[3] };
    (serde_json::from_value(with_all_negatives(spec)).unwrap(), shape)
}

fn outcome(kind: &str, column: &str, normalize: bool) -> &'static str {
    let (loss, shape) = usual(kind, normalize);
    let rounding = if ["tiny", "huge", "largest"].contains(&column) { 0.0 } else { 1e-15 };
    let evaluated = batch(column, shape).and_then(|(student, teacher, labels)| {
        let whole: Vec<usize> = [&[student.rows], shape].concat();
        evaluate_with(&loss, &student, &teacher, &labels, &start(&loss, &whole), 1)
    });
    match evaluated {
        Ok(LossValue { value, gradient, .. }) => match gradient.iter().all(|g| g.abs() <= rounding) {
            true if value == 0.0 => "zero",
            true => "still",
            false => "finite",
        },
        Err(Error { code: Code::NonFinite, message, .. }) if message.starts_with("row 0, column 0 is not") => "refused",
        Err(Error { code: Code::NonFinite, advice: Some(_), .. }) => "too large",
        Err(Error { code: Code::InvalidShape, expected: Some(_), .. }) => "shape",
        Err(error) => panic!("{kind}, {column}: {error}"),
    }
}

#[test]
fn every_kind_has_its_row_in_the_safety_tables() {
    let mut kinds = kinds();
    kinds.sort_unstable();
    for table in safety_tables() {
        let mut rows: Vec<String> = table.rows.into_iter().map(|(kind, _)| kind).collect();
        rows.sort_unstable();
        assert_eq!(rows, kinds);
    }
}

#[test]
fn batches_on_which_formulas_break_give_what_the_tables_say() {
    let mut wrong = String::new();
    for SafetyTable { normalize, columns, rows } in safety_tables() {
        assert_eq!(columns.len(), 16);
        for (kind, expected) in rows {
            let found: Vec<&str> = columns.iter().map(|column| outcome(&kind, column, normalize)).collect();
            if found != expected {
                wrong += &format!("\n| `{kind}` | {} |", found.join(" | "));
            }
        }
    }
    assert!(wrong.is_empty(), "found other outcomes than docs/losses.md has:{wrong}");
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
    let infinite = text(try_evaluate(&json!({"kind": "rkd-angle"}), &good, &[f64::INFINITY; 12], n, d, &[0; 4], 1));
    assert!(infinite.contains("teacher: row 0, column 0 is not a finite number"), "{infinite}");
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
        json!({"kind": "contrastive", "margin": 0.0}),
        json!({"kind": "triplet-euclidean", "negatives": "hard", "uniformWhenUnderflow": true}),
        json!({"kind": "lifted-structure", "margin": -1.0}),
        json!({"kind": "n-pairs", "l2": -0.1}),
        json!({"kind": "angular", "degrees": 90.0}),
        json!({"kind": "margin", "beta": 0.0}),
        json!({"kind": "margin", "alpha": -0.2}),
        json!({"kind": "hard-dark-rank", "alpha": 0.0}),
        json!({"kind": "hard-dark-rank", "beta": -1.0}),
        json!({"kind": "hard-dark-rank", "permuteLength": 1}),
        json!({"kind": "correlation-congruence", "gamma": 0.0}),
        json!({"kind": "correlation-congruence", "gamma": 101.0}),
        json!({"kind": "correlation-congruence", "order": 0}),
        json!({"kind": "correlation-congruence", "order": 101}),
        json!({"kind": "correlation-congruence", "kernel": "bilinear", "gamma": 0.5}),
        json!({"kind": "correlation-congruence", "kernel": "bilinear", "order": 3}),
    ] {
        let message = run(spec.clone(), &good, &[0, 0, 1, 1]);
        assert!(message.contains("expected") && message.contains(spec["kind"].as_str().unwrap()), "{message}");
    }
}
