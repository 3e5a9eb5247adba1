//! `evaluateLoss`: one loss on given features, on the calling thread.
//!
//! Maps come and go as `[n, c, h, w]`, PyTorch's order; the core's is `[n, h, w, c]`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use napi::bindgen_prelude::{Float32Array, Uint32Array};
use napi_derive::napi;
use rkd_core::input;
use rkd_core::losses::{self, LossInputs, LossParameter, Matrix, TermSpec};
use rkd_core::random::Random;
use rkd_core::{Code, Error, Result};
use rkd_kernels::Team;

use crate::error::BindingError;
use crate::panics::guard;
use crate::reply::value;

/// A row-major tensor.
#[napi(object)]
pub struct BindingTensor {
    /// As many values as the product of `shape`.
    pub data: Float32Array,
    /// Lengths of the axes.
    pub shape: Vec<u32>,
}

/// What a loss is evaluated on.
#[napi(object)]
pub struct BindingLossInputs {
    /// `student`, `teacher` and, as `parameters.NAME`, the loss's own parameters.
    pub tensors: HashMap<String, BindingTensor>,
    /// The class of each row.
    pub labels: Option<Uint32Array>,
    /// CPU threads; 0 is all cores.
    pub threads: u32,
    /// Seed of sampled negatives.
    pub seed: f64,
}

/// A loss and its gradients, or why there are none.
#[napi(object)]
pub struct BindingLossReply {
    /// The loss before weighting.
    pub value: Option<f64>,
    /// The gradient with respect to each tensor that has one.
    pub gradients: Option<HashMap<String, Float32Array>>,
    /// Why there are none.
    pub error: Option<BindingError>,
}

/// Evaluates the loss `spec` and its gradients.
#[napi(ts_args_type = "spec: Json<Loss>, inputs: BindingLossInputs")]
pub fn evaluate_loss(spec: String, inputs: BindingLossInputs) -> BindingLossReply {
    match guard(|| evaluate(&spec, &inputs)) {
        Ok((value, gradients)) => {
            let gradients = gradients.into_iter().map(|(name, data)| (name, Float32Array::new(data))).collect();
            BindingLossReply { value: Some(value), gradients: Some(gradients), error: None }
        }
        Err(error) => BindingLossReply { value: None, gradients: None, error: Some(error.into()) },
    }
}

type Gradients = Vec<(String, Vec<f32>)>;

fn evaluate(spec: &str, inputs: &BindingLossInputs) -> Result<(f64, Gradients)> {
    let spec: TermSpec = input::read("loss", &value(spec)?)?;
    crate::worker::instruction_set()?;
    let student = matrix("student", inputs)?;
    let teacher = if inputs.tensors.contains_key("teacher") { Some(matrix("teacher", inputs)?) } else { None };
    let loss = spec.build();
    // Without the teacher it needs, the loss itself asks for it.
    let specs = match loss.needs_teacher() && teacher.is_none() {
        true => Vec::new(),
        false => loss.parameters(&student.shape(), teacher.as_ref().map(Matrix::shape).as_deref())?,
    };
    if teacher.is_some() || !loss.needs_teacher() {
        check_names(&specs, inputs)?;
    }
    let parameters = specs.iter().map(|spec| parameter(spec, inputs)).collect::<Result<Vec<_>>>()?;
    let value = with_team(inputs.threads as usize, |team| {
        let mut loss_inputs = LossInputs::new(&student, team, Random::keyed(inputs.seed as u64, 0, 0, "loss"));
        if let Some(teacher) = &teacher {
            loss_inputs = loss_inputs.with_teacher(teacher);
        }
        if let Some(labels) = inputs.labels.as_deref() {
            loss_inputs = loss_inputs.with_labels(labels);
        }
        losses::evaluate_loss(&spec, &loss_inputs.with_parameters(&parameters))
    })?;
    let float = |gradient: &[f64]| gradient.iter().map(|&g| g as f32).collect::<Vec<_>>();
    let gradient = channels_first(&float(&value.gradient), student.map);
    let own = specs.iter().zip(&value.parameters).map(|(spec, gradient)| (spec.name.to_string(), float(gradient)));
    Ok((value.value, [("student".to_string(), gradient)].into_iter().chain(own).collect()))
}

/// Calls `work` with a team that is kept for the next call: starting threads takes longer than a small loss.
fn with_team<T>(threads: usize, work: impl FnOnce(&Team) -> T) -> T {
    static LAST: Mutex<Option<(usize, Team)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.as_ref().is_none_or(|(count, _)| *count != threads) {
        *last = None; // ends the old threads before new ones start
    }
    let (_, team) = last.get_or_insert_with(|| (threads, Team::new(threads)));
    work(team)
}

/// The feature `name`.
fn matrix(name: &str, inputs: &BindingLossInputs) -> Result<Matrix> {
    let missing = || Error::new(Code::InvalidShape, "the loss is given nothing").with_subject(name);
    let tensor = inputs.tensors.get(name).ok_or_else(missing)?;
    let shape: Vec<usize> = tensor.shape.iter().map(|&length| length as usize).collect();
    match *shape {
        // The product of no overflow; other shapes are errors that the core words.
        [n, c, h, w] if shape.iter().try_fold(1usize, |p, &l| p.checked_mul(l)) == Some(tensor.data.len()) => {
            Matrix::tensor(name, &transpose(&tensor.data, c, h * w), &[n, h, w, c])
        }
        _ => Matrix::tensor(name, &tensor.data, &shape),
    }
}

/// A parameter of the loss itself.
fn parameter(spec: &LossParameter, inputs: &BindingLossInputs) -> Result<Matrix> {
    let name = parameter_name(spec);
    if inputs.tensors.contains_key(&name) {
        return matrix(&name, inputs);
    }
    Err(Error::new(Code::InvalidShape, "this loss has a parameter of its own")
        .with_subject(name)
        .with_values(format!("a tensor [{}, {}]", spec.rows, spec.columns), "nothing")
        .with_advice("give its values; in a run they are learned"))
}

fn parameter_name(spec: &LossParameter) -> String {
    format!("parameters.{}", spec.name)
}

/// A parameter that the loss has not is a slip, and must not pass in silence.
fn check_names(specs: &[LossParameter], inputs: &BindingLossInputs) -> Result<()> {
    let own: Vec<String> = specs.iter().map(parameter_name).collect();
    let strange = |name: &&String| name.starts_with("parameters.") && !own.contains(*name);
    let Some(name) = inputs.tensors.keys().filter(strange).min() else { return Ok(()) };
    let expected = if own.is_empty() { "none: this loss learns nothing".into() } else { own.join(" or ") };
    Err(Error::new(Code::InvalidOption, "the loss has no such parameter")
        .with_subject(name)
        .with_values(expected, "a tensor")
        .with_advice("leave it out, or check its name"))
}

/// A gradient over maps as PyTorch orders it; over rows as it is.
fn channels_first(gradient: &[f32], map: Option<[usize; 3]>) -> Vec<f32> {
    match map {
        Some([h, w, c]) => transpose(gradient, h * w, c),
        None => gradient.to_vec(),
    }
}

/// `[n, a, b]` to `[n, b, a]`.
fn transpose(data: &[f32], a: usize, b: usize) -> Vec<f32> {
    let images = data.chunks_exact((a * b).max(1));
    images.flat_map(|image| (0..a * b).map(move |place| image[place % a * b + place / a])).collect()
}
