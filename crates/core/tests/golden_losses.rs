//! Losses, retrieval and the distance-weighted sampler against `golden/losses.json` (PyTorch, float64).

use crate::common::{golden, kinds, nhwc_shape, numbers, sizes, to_nhwc, with_all_negatives};
use rkd_core::losses::{LossInputs, Matrix, TermSpec, evaluate_loss};
use rkd_core::metrics::retrieval;
use rkd_core::random::Random;
use rkd_core::sampling::{DistanceWeighting, distance_weights};
use rkd_kernels::Team;
use serde_json::Value as Json;

/// A kind of the golden file with its parameters, as this project writes it.
fn spec(case: &Json) -> TermSpec {
    let mut spec = serde_json::Map::from_iter([("kind".to_string(), case["loss"].clone())]);
    for (name, value) in case["params"].as_object().unwrap() {
        spec.insert(camel_case(name), value.clone());
    }
    serde_json::from_value(with_all_negatives(Json::Object(spec))).unwrap()
}

/// `support_count` to `supportCount`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_string();
    words.fold(first, |text, word| text + &word[..1].to_uppercase() + &word[1..])
}

fn matrix(name: &str, tensor: &Json) -> Matrix {
    Matrix::tensor(name, &in_order(tensor), &nhwc_shape(&sizes(&tensor["shape"]))).unwrap()
}

/// The numbers; those of maps in the order `[n, h, w, c]`.
fn in_order(tensor: &Json) -> Vec<f64> {
    to_nhwc(&numbers(&tensor["data"]), &sizes(&tensor["shape"]))
}

/// The student's rows. Anchors and positives are stacked, and labelled so that the pair selector finds them again.
fn student(case: &Json) -> (Matrix, Option<Vec<u32>>) {
    let inputs = &case["inputs"];
    if let Some(student) = inputs.get("student") {
        return (matrix("student", student), None);
    }
    let (anchors, positives) = (matrix("anchors", &inputs["anchors"]), matrix("positives", &inputs["positives"]));
    let (n, d) = (anchors.rows, anchors.columns);
    let stacked = Matrix::new("student", &[anchors.data, positives.data].concat(), 2 * n, d).unwrap();
    (stacked, Some((0..2 * n as u32).map(|i| i % n as u32).collect()))
}

#[test]
fn values_and_gradients_are_those_of_pytorch() {
    let file = golden("losses.json");
    let team = Team::new(2);
    let mut seen = std::collections::BTreeSet::new();
    for case in file["losses"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let spec = spec(case);
        seen.insert(spec.loss.name());
        let labels: Option<Vec<u32>> = serde_json::from_value(case["labels"].clone()).unwrap();
        let (student, pairs) = student(case);
        let labels = labels.or(pairs);
        let teacher = case["inputs"].get("teacher").map(|teacher| matrix("teacher", teacher));
        let mut inputs = LossInputs::new(&student, &team, Random::keyed(0, 0, 0, "golden"));
        if let Some(teacher) = &teacher {
            inputs = inputs.with_teacher(teacher);
        }
        if let Some(labels) = &labels {
            inputs = inputs.with_labels(labels);
        }
        let parameters: Vec<Matrix> =
            case["inputs"].get("projection").map(|tensor| matrix("projection", tensor)).into_iter().collect();
        let found = evaluate_loss(&spec, &inputs.with_parameters(&parameters)).unwrap();
        let expected = case["expected"]["value"].as_f64().unwrap();
        // The inputs are float32 numbers and all arithmetic is float64, so there is no need for float32's tolerances.
        assert!((found.value - expected).abs() <= 1e-9 * expected.abs() + 1e-13, "{name}: {} {expected}", found.value);
        if let Some(gradient) = case["expected"].get("gradient_student") {
            check_gradient(name, &found.gradient, gradient);
        } else {
            let (anchors, positives) = found.gradient.split_at(found.gradient.len() / 2);
            check_gradient(name, anchors, &case["expected"]["gradient_anchors"]);
            check_gradient(name, positives, &case["expected"]["gradient_positives"]);
        }
        let projection = case["expected"].get("gradient_projection").into_iter();
        assert_eq!(found.parameters.len(), projection.clone().count(), "{name}");
        found.parameters.iter().zip(projection).for_each(|(found, expected)| check_gradient(name, found, expected));
    }
    let without = kinds().into_iter().filter(|kind| !seen.contains(kind.as_str())).collect::<Vec<_>>();
    assert_eq!(without, ["feature-regression"], "every other kind has its golden cases");
}

fn check_gradient(name: &str, found: &[f64], tensor: &Json) {
    let gradient = in_order(tensor);
    let largest = gradient.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
    assert_eq!(found.len(), gradient.len(), "{name}");
    for (found, expected) in found.iter().zip(&gradient) {
        assert!((found - expected).abs() <= 1e-8 * largest + 1e-12, "{name}: {found} {expected} of {largest}");
    }
}

#[test]
fn retrieval_is_that_of_the_definition() {
    let file = golden("losses.json");
    let cases = file["retrieval"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let z = matrix("embeddings", &case["embeddings"]);
        let data: Vec<f32> = z.data.iter().map(|&v| v as f32).collect();
        let labels: Vec<u32> = serde_json::from_value(case["labels"].clone()).unwrap();
        let ks: Vec<usize> = serde_json::from_value(case["ks"].clone()).unwrap();
        let found = retrieval(&Team::new(2), &data, z.rows, z.columns, &labels, &ks).unwrap();
        let expected = &case["expected"];
        assert_eq!(found.recall.len(), expected["recall"].as_object().unwrap().len());
        for (k, recall) in &found.recall {
            assert_eq!(Some(*recall), expected["recall"][k.to_string()].as_f64(), "{}: recall@{k}", case["name"]);
        }
        assert!((found.map_at_r - expected["mapAtR"].as_f64().unwrap()).abs() < 1e-12, "{}", case["name"]);
        assert!((found.r_precision - expected["rPrecision"].as_f64().unwrap()).abs() < 1e-12, "{}", case["name"]);
        assert_eq!(Some(found.queries_with_relevant as u64), expected["queriesWithRelevant"].as_u64());
    }
}

#[test]
fn distance_weighted_probabilities_do_not_underflow() {
    let file = golden("losses.json");
    let cases = file["samplers"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let z = matrix("embeddings", &case["embeddings"]);
        let labels: Vec<u32> = serde_json::from_value(case["labels"].clone()).unwrap();
        let option = |name: &str| case["params"][name].as_f64().unwrap();
        let weighting =
            DistanceWeighting { cutoff: option("cutoff"), nonzero: option("nonzero"), uniform_when_underflow: false };
        let found = distance_weights(&Team::new(2), &z, &labels, weighting);
        let expected = numbers(&case["expected"]["probabilities"]["data"]);
        assert_eq!(found.len(), expected.len(), "{}", case["name"]);
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-9, "{}: {found} {expected}", case["name"]);
        }
    }
}

#[test]
fn a_missing_teacher_is_asked_for() {
    let team = Team::new(1);
    let z = Matrix::new("student", &[1.0f32, 2.0], 2, 1).unwrap();
    let inputs = LossInputs::new(&z, &team, Random::keyed(0, 0, 0, ""));
    let spec = serde_json::from_value(serde_json::json!({"kind": "rkd-angle"})).unwrap();
    let error = evaluate_loss(&spec, &inputs).unwrap_err();
    assert_eq!(
        error.to_string(),
        "teacher: this loss compares with a teacher. Give the teacher's feature for every row"
    );
}
