//! The losses that compare features item by item: their definitions once more, numeric gradients (of their own
//! parameters too), and maps of different sizes. The batches where formulas break are in the table of `losses.rs`.

use rkd_core::input;
use rkd_core::losses::{LossInputs, LossValue, Matrix, TermSpec, evaluate_loss};
use rkd_core::random::Random;
use rkd_core::tensor::Init;
use rkd_kernels::Team;
use serde_json::{Value, json};

/// A loss with features and a projection that suit it. The projection is empty where the loss has none.
#[derive(Clone)]
struct Case {
    spec: Value,
    student: Matrix,
    teacher: Matrix,
    projection: Option<Matrix>,
}

fn draw(shape: &[usize], purpose: &str) -> Matrix {
    let mut random = Random::keyed(5, shape[0] as u64, shape[1] as u64, purpose);
    let data: Vec<f64> = (0..shape.iter().product()).map(|_| random.normal()).collect();
    Matrix::tensor(purpose, &data, shape).unwrap()
}

fn case(spec: Value, student: &[usize], teacher: &[usize], projection: Option<[usize; 2]>) -> Case {
    let projection = projection.map(|shape| draw(&shape, "projection"));
    Case { spec, student: draw(student, "student"), teacher: draw(teacher, "teacher"), projection }
}

fn cases() -> Vec<Case> {
    let kind = |kind: &str| json!({ "kind": kind });
    let normalized = |kind: &str| json!({ "kind": kind, "normalize": true });
    vec![
        case(kind("linear-hint"), &[6, 5], &[6, 7], Some([7, 5])),
        case(kind("hint"), &[3, 4, 3, 5], &[3, 4, 3, 6], Some([6, 5])),
        case(kind("hint"), &[5, 4], &[5, 3], Some([3, 4])),
        // The student's map is larger, smaller, and one of each.
        case(kind("hint"), &[2, 7, 5, 3], &[2, 3, 2, 4], Some([4, 3])),
        case(kind("hint"), &[2, 3, 2, 3], &[2, 7, 5, 4], Some([4, 3])),
        case(kind("attention-transfer"), &[3, 4, 3, 5], &[3, 4, 3, 6], None),
        case(kind("attention-transfer"), &[2, 6, 3, 5], &[2, 4, 7, 2], None),
        case(json!({"kind": "soft-target-kl"}), &[6, 4], &[6, 4], None),
        case(json!({"kind": "soft-target-kl", "temperature": 1.5}), &[6, 4], &[6, 4], None),
        case(kind("feature-regression"), &[6, 5], &[6, 5], None),
        case(kind("feature-regression"), &[2, 3, 2, 4], &[2, 3, 2, 4], None),
        case(normalized("linear-hint"), &[6, 5], &[6, 7], Some([7, 5])),
        case(normalized("hint"), &[2, 7, 5, 3], &[2, 3, 2, 4], Some([4, 3])),
        case(normalized("attention-transfer"), &[3, 4, 3, 5], &[3, 4, 3, 6], None),
        case(normalized("soft-target-kl"), &[6, 4], &[6, 4], None),
        case(normalized("feature-regression"), &[2, 3, 2, 4], &[2, 3, 2, 4], None),
    ]
}

impl Case {
    fn evaluate(&self, threads: usize) -> rkd_core::Result<LossValue> {
        let spec: TermSpec = input::read(self.spec["kind"].as_str().unwrap(), &self.spec)?;
        let team = Team::new(threads);
        let parameters: Vec<Matrix> = self.projection.clone().into_iter().collect();
        let inputs = LossInputs::new(&self.student, &team, Random::keyed(1, 0, 0, "loss")).with_teacher(&self.teacher);
        evaluate_loss(&spec, &inputs.with_parameters(&parameters))
    }

    fn value(&self) -> f64 {
        self.evaluate(1).unwrap().value
    }

    /// The same with the division by the norms done here, where the term has it.
    fn normalized_before(mut self) -> Case {
        if self.spec["normalize"] == true {
            self.spec["normalize"] = json!(false);
            for feature in [&mut self.student, &mut self.teacher] {
                for row in feature.data.chunks_exact_mut(feature.columns) {
                    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                    row.iter_mut().for_each(|v| *v /= norm);
                }
            }
        }
        self
    }

    fn error(&self) -> String {
        self.evaluate(1).unwrap_err().to_string()
    }

    fn name(&self) -> String {
        format!("{} {:?} {:?}", self.spec, self.student.map, self.teacher.map)
    }
}

/// Central differences over the numbers that `place` gives access to.
fn check_numeric(case: &Case, gradient: &[f64], place: impl Fn(&mut Case, usize) -> &mut f64) {
    let largest = gradient.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
    assert!(largest > 0.0, "{}", case.name());
    for (i, expected) in gradient.iter().enumerate() {
        let at = |step: f64| {
            let mut moved = case.clone();
            *place(&mut moved, i) += step;
            moved.value()
        };
        let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((numeric - expected).abs() <= 1e-6 * largest, "{} at {i}: {numeric} {expected}", case.name());
    }
}

#[test]
fn gradients_are_numeric_gradients() {
    for case in cases() {
        let found = case.evaluate(1).unwrap();
        assert_eq!(found.gradient.len(), case.student.data.len(), "{}", case.name());
        check_numeric(&case, &found.gradient, |case, i| &mut case.student.data[i]);
        assert_eq!(found.parameters.len(), usize::from(case.projection.is_some()), "{}", case.name());
        for gradient in &found.parameters {
            check_numeric(&case, gradient, |case, i| &mut case.projection.as_mut().unwrap().data[i]);
        }
    }
}

#[test]
fn a_normalized_term_is_the_loss_of_features_normalized_before() {
    for case in cases().into_iter().filter(|case| case.spec["normalize"] == true) {
        let plain = Case { spec: json!({"kind": case.spec["kind"]}), ..case.clone() }.value();
        let (found, expected) = (case.value(), case.clone().normalized_before().value());
        assert!((found - expected).abs() <= 1e-15 * expected && found != plain, "{}: {found} {expected}", case.name());
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    // Products take 64 rows at a time: each of these has several blocks.
    let linear = |normalize| json!({"kind": "linear-hint", "normalize": normalize});
    let large = [
        case(json!({"kind": "attention-transfer"}), &[40, 6, 7, 20], &[40, 6, 7, 37], None),
        case(json!({"kind": "soft-target-kl"}), &[150, 70], &[150, 70], None),
        case(json!({"kind": "feature-regression"}), &[150, 70], &[150, 70], None),
        case(json!({"kind": "hint"}), &[4, 6, 7, 20], &[4, 6, 7, 37], Some([37, 20])),
        case(linear(false), &[150, 70], &[150, 90], Some([90, 70])),
        case(linear(true), &[150, 70], &[150, 90], Some([90, 70])),
    ];
    for case in large {
        assert_eq!(case.evaluate(1).unwrap(), case.evaluate(3).unwrap(), "{}", case.name());
    }
}

/// The mean over the window of pixel (i, j) of a map of `to` pixels, straight from the definition.
fn averaged(maps: &Matrix, n: usize, [i, j]: [usize; 2], to: [usize; 2], k: usize) -> f64 {
    let [h, w, c] = maps.map.unwrap();
    let (mut sum, mut count) = (0.0, 0.0);
    for y in 0..h {
        for x in 0..w {
            let inside = |p: usize, i: usize, from: usize, to: usize| {
                p as f64 >= (i as f64 * from as f64 / to as f64).floor()
                    && (p as f64) < ((i + 1) as f64 * from as f64 / to as f64).ceil()
            };
            if inside(y, i, h, to[0]) && inside(x, j, w, to[1]) {
                sum += maps.row(n)[(y * w + x) * c + k];
                count += 1.0;
            }
        }
    }
    sum / count
}

#[test]
fn maps_of_different_sizes_are_averaged_to_the_smaller() {
    for case in cases().into_iter().map(Case::normalized_before) {
        let (Some([h, w, a]), Some([th, tw, b])) = (case.student.map, case.teacher.map) else { continue };
        let to = [h.min(th), w.min(tw)];
        let pixels: Vec<[usize; 2]> = (0..to[0]).flat_map(|i| (0..to[1]).map(move |j| [i, j])).collect();
        let (n, mut expected) = (case.student.rows, 0.0);
        for i in 0..n {
            let at = |maps: &Matrix, p: [usize; 2], k: usize| averaged(maps, i, p, to, k);
            match case.spec["kind"].as_str().unwrap() {
                "hint" => {
                    let projection = case.projection.as_ref().unwrap();
                    for &p in &pixels {
                        for k in 0..b {
                            let y: f64 = (0..a).map(|j| projection.row(k)[j] * at(&case.student, p, j)).sum();
                            expected += (y - at(&case.teacher, p, k)).powi(2) / (n * pixels.len() * b) as f64;
                        }
                    }
                }
                "attention-transfer" => {
                    let attention = |maps: &Matrix, c: usize| {
                        let mean = |&p: &[usize; 2]| (0..c).map(|k| at(maps, p, k).powi(2)).sum::<f64>() / c as f64;
                        let q: Vec<f64> = pixels.iter().map(mean).collect();
                        let norm = q.iter().map(|q| q * q).sum::<f64>().sqrt();
                        q.into_iter().map(|q| q / norm).collect::<Vec<_>>()
                    };
                    let (s, t) = (attention(&case.student, a), attention(&case.teacher, b));
                    expected += s.iter().zip(&t).map(|(s, t)| (s - t).powi(2)).sum::<f64>() / (n * pixels.len()) as f64;
                }
                _ => expected = case.value(),
            }
        }
        let found = case.value();
        assert!((found - expected).abs() <= 1e-12 * expected, "{}: {found} {expected}", case.name());
    }
}

#[test]
fn regression_is_a_linear_hint_through_the_identity() {
    let regression = case(json!({"kind": "feature-regression"}), &[6, 5], &[6, 5], None);
    let identity: Vec<f64> = (0..25).map(|i| f64::from(u8::from(i % 6 == 0))).collect();
    let projection = Some(Matrix::new("projection", &identity, 5, 5).unwrap());
    let hint = Case { spec: json!({"kind": "linear-hint"}), projection, ..regression.clone() };
    let (a, b) = (regression.evaluate(1).unwrap(), hint.evaluate(1).unwrap());
    assert!((a.value - b.value).abs() < 1e-12);
    assert_eq!(a.gradient, b.gradient);
}

#[test]
fn a_frozen_hint_is_the_same_function_and_starts_where_the_released_code_starts() {
    let spec = |frozen: bool| serde_json::from_value::<TermSpec>(json!({"kind": "hint", "frozen": frozen})).unwrap();
    let parameter = |frozen: bool| {
        let parameters = spec(frozen).build().parameters(&[8, 5, 5, 16], Some(&[8, 5, 5, 9])).unwrap();
        (parameters[0].rows, parameters[0].columns, parameters[0].init)
    };
    assert_eq!(parameter(true), (9, 16, Init::Uniform { bound: 0.005 }));
    assert_eq!(parameter(false), (9, 16, Init::Uniform { bound: 0.25 }));
    assert!(spec(true).build().is_frozen() && !spec(false).build().is_frozen());
}

#[test]
fn what_cannot_be_computed_says_why() {
    let of = |kind: &str, student: &[usize], teacher: &[usize], projection| {
        case(json!({ "kind": kind }), student, teacher, projection).error()
    };
    let message = of("linear-hint", &[4, 3], &[4, 5], Some([3, 5]));
    assert!(message.contains("projection: ") && message.contains("expected [5, 3]"), "{message}");
    assert!(message.contains("received [3, 5]"), "{message}");
    let message = of("hint", &[4, 3], &[4, 5], None);
    assert!(message.contains("parameters"), "{message}");
    let message = of("attention-transfer", &[4, 3], &[4, 3], None);
    assert!(message.contains("student: ") && message.contains("Point the loss at a tap"), "{message}");
    let message = of("attention-transfer", &[4, 3, 3, 2], &[4, 3], None);
    assert!(message.contains("teacher: "), "{message}");
    // The second pair has more than one pixel, and what it is averaged to has one.
    for (student, teacher) in [([4, 1, 1, 2], [4, 3, 3, 2]), ([4, 1, 3, 2], [4, 3, 1, 2])] {
        let message = of("attention-transfer", &student, &teacher, None);
        assert!(message.contains("expected maps of more than one pixel"), "{message}");
    }
    let message = of("soft-target-kl", &[4, 3], &[4, 5], None);
    assert!(message.contains("expected 3 logits") && message.contains("received 5"), "{message}");
    let message = of("feature-regression", &[2, 2, 3, 1], &[2, 6], None);
    assert!(message.contains("maps of 1 channels, 2 x 3") && message.contains("received 6 numbers"), "{message}");
    let message = of("linear-hint", &[4, 3], &[5, 5], Some([5, 3]));
    assert!(message.contains("expected 4 rows"), "{message}");
    let cold = json!({"kind": "soft-target-kl", "temperature": 0.0});
    let message = case(cold, &[2, 2], &[2, 2], None).error();
    assert!(message.contains("soft-target-kl.temperature: ") && message.contains("greater than 0"), "{message}");
}
