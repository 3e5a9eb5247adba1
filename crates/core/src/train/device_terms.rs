//! The losses on maps where the features are: on the device.
//!
//! A map of 64 images of 56x56 pixels and 256 channels is 205 MB, and another 411 MB as the host's losses want it. Where
//! features are not the host's anyway ([`Backend::maps`]), hint and attention transfer are computed by the device, and two
//! numbers of each come to the host: the value and the square of the gradient's norm. The maths is that of
//! [`losses::Hint`](crate::losses::Hint) and [`losses::AttentionTransfer`](crate::losses::AttentionTransfer). Both are
//! sums over images, so a batch in pieces is the sum over its pieces.

use super::loss_parameters::LossParameters;
use super::objective::Objective;
use super::teacher::TeacherBatch;
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, FeatureMap, MapLoss, Matrix, check_pixels, common_size};
use crate::nn::Backend;
use crate::nn::backend::MapOperations;

/// A loss of one batch.
pub struct DeviceValue<T> {
    /// The gradient with respect to the student's feature, of each piece.
    pub gradients: Vec<T>,
    /// The gradient with respect to the loss's own parameter, if it has one.
    pub parameter: Option<T>,
    /// Single numbers: of each piece the value and the square of its gradient's norm.
    pub numbers: Vec<T>,
}

/// A term that the device has computed.
pub struct DeviceLoss<T> {
    /// The place of the term.
    pub term: usize,
    /// The student's feature that it reads.
    pub feature: Feature,
    /// What it says about the batch.
    pub value: DeviceValue<T>,
}

/// The terms of `objective` that the device computes in step `step`.
pub(super) fn evaluate_terms<B: Backend>(
    backend: &B,
    objective: &Objective,
    step: u64,
    parameters: &LossParameters<B>,
    student: &FeatureMap<Vec<B::Tensor>>,
    teacher: &TeacherBatch<B::Tensor>,
) -> Result<Vec<DeviceLoss<B::Tensor>>> {
    let Some(maps) = backend.maps() else { return Ok(Vec::new()) };
    let missing = || Error::new(Code::Internal, "a term reads a feature that was not kept");
    objective
        .device_terms(step)
        .map(|term| {
            let student = student.get(term.student).ok_or_else(missing)?;
            let uploaded;
            let teacher = match teacher.device.get(term.teacher) {
                Some(pieces) => pieces,
                None => {
                    uploaded = upload(backend, teacher.host.get(term.teacher).ok_or_else(missing)?, student)?;
                    &uploaded
                }
            };
            let pieces: Vec<_> = student.iter().zip(teacher).collect();
            let value = evaluate(backend, maps, term.loss, &pieces, parameters.first(term.term))?;
            Ok(DeviceLoss { term: term.term, feature: term.student.clone(), value })
        })
        .collect()
}

/// A feature of the host on the device, in pieces of as many rows as those of another feature.
fn upload<B: Backend>(backend: &B, matrix: &Matrix, like: &[B::Tensor]) -> Result<Vec<B::Tensor>> {
    let mut row = 0;
    let piece = |like: &B::Tensor| {
        let mut shape = matrix.shape();
        shape[0] = B::shape(like)[0];
        let first = row;
        row += shape[0];
        backend.from_f64(&matrix.data[first * matrix.columns..row * matrix.columns], &shape)
    };
    like.iter().map(piece).collect()
}

/// The terms with their weights.
pub(super) fn weigh<B: Backend>(
    mut terms: Vec<DeviceLoss<B::Tensor>>,
    backend: &B,
    weight: impl Fn(usize) -> f64,
) -> Result<Vec<DeviceLoss<B::Tensor>>> {
    for DeviceLoss { term, value, .. } in &mut terms {
        let mut tensors = value.gradients.iter_mut().chain(&mut value.parameter);
        tensors.try_for_each(|tensor| backend.scale(tensor, weight(*term)))?;
    }
    Ok(terms)
}

/// Computes `loss` of the pieces of both features. `projection` is that of a hint.
///
/// # Errors
/// `ERR_INVALID_SHAPE` for maps without two pixels in common, where the loss compares pixels.
pub fn evaluate<B: Backend>(
    backend: &B,
    maps: &dyn MapOperations<B::Tensor>,
    loss: MapLoss,
    pieces: &[(&B::Tensor, &B::Tensor)],
    projection: Option<&B::Tensor>,
) -> Result<DeviceValue<B::Tensor>> {
    let rows = pieces.iter().map(|(student, _)| B::shape(student)[0]).sum::<usize>().max(1);
    let mut total = DeviceValue { gradients: Vec::new(), parameter: None, numbers: Vec::new() };
    for &(student, teacher) in pieces {
        let size = common_size(B::shape(student), B::shape(teacher));
        let [small_student, small_teacher] = [student, teacher].map(|x| match size_of_map(B::shape(x)) {
            from if from == size => Ok(x.clone()),
            _ => maps.average(x, size),
        });
        let (small, teacher) = (small_student?, small_teacher?);
        let pixels = (rows * size[0] * size[1]) as f64;
        let (value, mut gradient) = match loss {
            MapLoss::Hint => {
                let projection = projection.ok_or_else(|| Error::new(Code::Internal, "a hint has a projection"))?;
                let channels = B::shape(projection)[0] as f64;
                let projected = maps.project(&small, projection)?;
                let (value, dy) = maps.squared_error(&projected, &teacher, pixels * channels)?;
                let (dx, dp) = maps.project_backward(&small, projection, &dy)?;
                total.parameter = Some(match total.parameter.take() {
                    Some(sum) => backend.add(sum, &dp)?,
                    None => dp,
                });
                (value, dx)
            }
            MapLoss::AttentionTransfer => {
                check_pixels(size)?;
                let (attention, norm) = maps.attention(&small)?;
                let (target, _) = maps.attention(&teacher)?;
                let (value, slope) = maps.squared_error(&attention, &target, pixels)?;
                (value, maps.attention_backward(&small, &attention, &norm, &slope)?)
            }
        };
        let from = size_of_map(B::shape(student));
        if from != size {
            gradient = maps.average_backward(from, &gradient)?;
        }
        total.numbers.extend([value, maps.squares(&gradient)?]);
        total.gradients.push(gradient);
    }
    Ok(total)
}

/// Height and width.
fn size_of_map(shape: &[usize]) -> [usize; 2] {
    match *shape {
        [_, h, w, _] => [h, w],
        _ => [1, 1],
    }
}
