//! `evaluateLoss`: one loss on given features, on the calling thread.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use napi::bindgen_prelude::{Float32Array, Uint32Array};
use napi_derive::napi;
use rkd_core::losses::{LossInputs, Matrix, TermSpec};
use rkd_core::random::Random;
use rkd_core::{Code, Error, Result};
use rkd_kernels::Pool;

use crate::error::BindingError;
use crate::panics::guard;

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
    /// `student`, `teacher`, ... by name.
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

/// Evaluates the loss `spec` (JSON) and its gradients.
#[napi]
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
    let spec: TermSpec = serde_json::from_str(spec)
        .map_err(|e| Error::new(Code::InvalidOption, format!("not a loss: {e}")).with_subject("loss").with_source(e))?;
    spec.validate()?;
    let student = matrix("student", inputs)?;
    let teacher = if inputs.tensors.contains_key("teacher") { Some(matrix("teacher", inputs)?) } else { None };
    let found = with_pool(inputs.threads as usize, |pool| {
        let mut prepared = LossInputs::new(&student, pool, Random::keyed(inputs.seed as u64, 0, 0, "loss"));
        if let Some(teacher) = &teacher {
            prepared = prepared.with_teacher(teacher);
        }
        if let Some(labels) = inputs.labels.as_deref() {
            prepared = prepared.with_labels(labels);
        }
        spec.loss.build().evaluate(&prepared)
    })?;
    Ok((found.value, vec![("student".to_string(), found.gradient.iter().map(|&g| g as f32).collect())]))
}

/// Calls `work` with a pool that is kept for the next call: starting threads takes longer than a small loss.
fn with_pool<T>(threads: usize, work: impl FnOnce(&Pool) -> T) -> T {
    static LAST: Mutex<Option<(usize, Pool)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.as_ref().is_none_or(|(count, _)| *count != threads) {
        *last = None; // ends the old threads before new ones start
    }
    let (_, pool) = last.get_or_insert_with(|| (threads, Pool::new(threads)));
    work(pool)
}

/// The tensor `name`.
fn matrix(name: &str, inputs: &BindingLossInputs) -> Result<Matrix> {
    let missing = || Error::new(Code::InvalidShape, "the loss is given nothing").with_subject(name);
    let tensor = inputs.tensors.get(name).ok_or_else(missing)?;
    let shape: Vec<usize> = tensor.shape.iter().map(|&length| length as usize).collect();
    Matrix::tensor(name, &tensor.data, &shape)
}
