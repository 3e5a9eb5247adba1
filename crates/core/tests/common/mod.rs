//! Golden files and the hash that draws their tensors; see `test/golden/README.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rkd_core::losses::LossSpec;
#[cfg(target_os = "linux")]
use rkd_core::nn::Cuda;
use rkd_core::nn::layer::Definition;
use rkd_core::nn::parameters::ParameterSpec;
use rkd_core::random::{fnv1a64, splitmix64};
use rkd_core::tensor::HostTensor;
#[cfg(target_os = "linux")]
use rkd_cuda::tested::Tested;
use serde_json::Value;

/// The golden file `name`, from `RKD_GOLDEN` or from the repository.
pub fn golden(name: &str) -> Value {
    let folder = std::env::var_os("RKD_GOLDEN").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../test/golden"));
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Whether `networks.json` is drawn by another seed than that of the repository, with which other activations flip.
pub fn is_of_another_seed(networks: &Value) -> bool {
    networks["seed"] != 20_261_123
}

/// The CUDA backend on the device of the tests, with or without a library of convolutions: see [`Tested`].
#[cfg(target_os = "linux")]
pub fn cuda(convolutions: bool) -> Cuda<Tested> {
    Cuda::new(Tested::new(convolutions))
}

/// Every kind of loss there is.
pub fn kinds() -> Vec<String> {
    LossSpec::KINDS.iter().map(|kind| kind.to_string()).collect()
}

/// The specification with all negatives where it chooses some and does not say which: golden values and gradient checks are
/// of that form.
pub fn with_all_negatives(mut spec: Value) -> Value {
    let sampled = ["triplet-squared", "triplet-euclidean", "contrastive", "margin"];
    if spec["kind"].as_str().is_some_and(|kind| sampled.contains(&kind)) && spec["negatives"].is_null() {
        spec["negatives"] = "all".into();
    }
    spec
}

/// Draws tensors as `make_networks.py` does.
#[derive(Clone, Copy)]
pub struct Draw {
    pub seed: u64,
}

impl Draw {
    fn bits(self, name: &str, index: u64) -> u64 {
        let start = fnv1a64(name).wrapping_add(self.seed);
        splitmix64(start.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    /// Numbers in [-1, 1), exact in float32.
    pub fn hashed(self, name: &str, count: usize) -> Vec<f32> {
        let number = |i| (2.0 * ((self.bits(name, i) >> 40) as f64 / (1u64 << 24) as f64) - 1.0) as f32;
        (0..count as u64).map(number).collect()
    }

    /// Images number `step` as `[n, h, w, c]`, from PyTorch's shape `[n, c, h, w]`.
    pub fn images(self, step: &str, shape: &[usize]) -> Vec<f32> {
        let nchw: Vec<f32> =
            self.hashed(&format!("images/{step}"), shape.iter().product()).iter().map(|v| 1.5 * v).collect();
        to_nhwc(&nchw, shape)
    }

    pub fn labels(self, step: usize, count: usize, classes: u64) -> Vec<usize> {
        let name = format!("labels/{step}");
        (0..count as u64).map(|i| ((self.bits(&name, i) >> 33) % classes) as usize).collect()
    }

    /// The parameters of a network, whose names are drawn with `prefix` before them.
    pub fn fill(self, definition: &Definition, prefix: &str) -> BTreeMap<String, HostTensor> {
        let entries = definition.parameters.iter();
        entries.map(|spec| (spec.name.clone(), self.parameter(spec, &format!("{prefix}{}", spec.name)))).collect()
    }

    /// One parameter, drawn by `name`.
    pub fn parameter(self, spec: &ParameterSpec, name: &str) -> HostTensor {
        self.tensor(&spec.shape, name)
    }

    /// A tensor of this shape, drawn as the parameter `name` is.
    pub fn tensor(self, shape: &[usize], name: &str) -> HostTensor {
        let count = shape.iter().product();
        let values = || self.hashed(name, count);
        let data = match shape.len() {
            _ if name.ends_with("running_mean") || name.ends_with("num_batches_tracked") => vec![0.0; count],
            _ if name.ends_with("running_var") => vec![1.0; count],
            dimensions if dimensions >= 2 => {
                let fan_in: usize = shape[1..].iter().product();
                let gain = if dimensions > 2 { 6.0 } else { 1.0 };
                let bound = (gain / fan_in as f64).sqrt() as f32;
                values().iter().map(|v| bound * v).collect()
            }
            _ if name.ends_with("weight") => values().iter().map(|v| 1.0 + 0.1 * v).collect(),
            _ => values().iter().map(|v| 0.1 * v).collect(),
        };
        HostTensor { shape: shape.to_vec(), data }
    }
}

/// `[n, c, h, w]` to `[n, h, w, c]`; other shapes as they are.
pub fn to_nhwc<T: Copy>(values: &[T], shape: &[usize]) -> Vec<T> {
    let &[n, c, h, w] = shape else { return values.to_vec() };
    let places = (0..n).flat_map(|i| (0..h * w).flat_map(move |p| (0..c).map(move |k| (i * c + k) * h * w + p)));
    places.map(|place| values[place]).collect()
}

/// `[n, c, h, w]` as `[n, h, w, c]`, other shapes as they are.
pub fn nhwc_shape(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [n, c, h, w] => vec![n, h, w, c],
        _ => shape.to_vec(),
    }
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
}

pub fn sizes(value: &Value) -> Vec<usize> {
    numbers(value).into_iter().map(|v| v as usize).collect()
}

/// The largest difference as a share of the largest expected entry, or of `floor` if that is larger.
pub fn distance(actual: &[f64], expected: &[f64], floor: f64) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let largest = expected.iter().fold(floor, |m, v| m.max(v.abs()));
    let difference = actual.iter().zip(expected).fold(0.0f64, |m, (a, e)| m.max((a - e).abs()));
    // Also catches NaN, which `max` passes over.
    assert!(actual.iter().all(|v| v.is_finite()), "a value is not finite");
    if largest > 0.0 { difference / largest } else { difference }
}

/// How far a big tensor is from its summary: the largest difference of norm, sum and the eight entries, as a share of
/// the expected norm or of `floor` if that is larger (gradients that are zero but for rounding).
pub fn summary_distance(actual: &[f64], summary: &Value, floor: f64) -> f64 {
    let norm = actual.iter().map(|v| v * v).sum::<f64>().sqrt();
    let sum: f64 = actual.iter().sum();
    let expected_norm = summary["norm"].as_f64().unwrap();
    let mut worst = (norm - expected_norm).abs();
    // The sum gathers the errors of all entries: sqrt(count) is what independent ones give at worst on average.
    worst = worst.max((sum - summary["sum"].as_f64().unwrap()).abs() / (actual.len() as f64).sqrt());
    for (place, value) in sizes(&summary["at"]).into_iter().zip(numbers(&summary["values"])) {
        worst = worst.max((actual[place] - value).abs());
    }
    assert!(norm.is_finite(), "a value is not finite");
    worst / expected_norm.max(floor)
}
