//! The losses that are computed where the features are: on the device.
//!
//! Losses on maps: a map of 64 images of 56x56 pixels and 256 channels is 205 MB, and another 411 MB as the host's losses want it. Where
//! features are not the host's anyway ([`Backend::maps`]), hint and attention transfer are computed by the device, and two
//! numbers of each come to the host: the value and the square of the gradient's norm. The maths is that of
//! [`losses::Hint`](crate::losses::Hint) and [`losses::AttentionTransfer`](crate::losses::AttentionTransfer). Both are
//! sums over images, so a batch in pieces is the sum over its pieces; and with several teachers the average over these, as
//! the [`objective`](super::objective) has it.

use std::borrow::Cow;

use super::loss_parameters::LossParameters;
use super::objective::{Beside, DeviceTerm, Evaluated, Objective};
use super::teacher::TeacherBatch;
use crate::error::{Code, Error, Result};
use crate::losses::{
    Feature, FeatureMap, MapLoss, Matrix, OnDevice, Reduction, RelationLoss, RkdAngle, RkdDistance, check_pixels,
    common_size,
};
use crate::nn::Backend;
use crate::nn::backend::{MapOperations, RelationOperations};

/// A loss of one batch.
pub struct DeviceValue<T> {
    /// The gradient with respect to the student's feature, of each piece.
    pub gradients: Vec<T>,
    /// The gradients with respect to the loss's own parameters: one beside each teacher, if it has any.
    pub parameters: Vec<T>,
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

/// A teacher that a term compares with.
pub struct Compared<'a, T> {
    /// Its feature, in pieces.
    pub pieces: &'a [T],
    /// The parameter that the loss has beside it.
    pub projection: Option<&'a T>,
    /// Its share of the average.
    pub share: f64,
}

/// Whether a backend computes a loss.
pub fn computes<B: Backend>(backend: &B, loss: &OnDevice) -> bool {
    match loss {
        OnDevice::Map(_) => backend.maps().is_some(),
        OnDevice::Relation(_) => backend.relations().is_some() && backend.maps().is_some(),
    }
}

/// The terms of `objective` that the device computes in step `step`.
pub(crate) fn evaluate_terms<B: Backend>(
    backend: &B,
    objective: &Objective,
    step: u64,
    parameters: &LossParameters<B>,
    student: &FeatureMap<Vec<B::Tensor>>,
    teachers: &[TeacherBatch<B::Tensor>],
) -> Result<Vec<DeviceLoss<B::Tensor>>> {
    let Some(maps) = backend.maps() else { return Ok(Vec::new()) };
    let missing = || Error::new(Code::Internal, "a term reads a feature that was not kept");
    let evaluate_one = |DeviceTerm { term, loss, student: feature, teacher, beside }: DeviceTerm<'_>| {
        let student = student.get(feature).ok_or_else(missing)?;
        let of_teacher = |place: Option<usize>| {
            let batch = place.and_then(|place| teachers.get(place)).ok_or_else(missing)?;
            match batch.device.get(teacher) {
                Some(pieces) => Ok(Cow::Borrowed(&pieces[..])),
                None => upload(backend, batch.host.get(teacher).ok_or_else(missing)?, student).map(Cow::Owned),
            }
        };
        let features = beside.iter().map(|beside| of_teacher(beside.teacher)).collect::<Result<Vec<_>>>()?;
        let projections = parameters.of_term(term);
        let compared = features.iter().zip(beside).enumerate().map(|(place, (pieces, Beside { share, .. }))| {
            Compared { pieces, projection: projections.get(place), share: *share }
        });
        let compared: Vec<_> = compared.collect();
        let value = match (loss, backend.relations()) {
            (OnDevice::Map(loss), _) => evaluate(backend, maps, *loss, student, &compared)?,
            (OnDevice::Relation(loss), Some(relations)) => {
                evaluate_relation(backend, (maps, relations), loss, student, &compared)?
            }
            (OnDevice::Relation(_), None) => {
                return Err(Error::new(Code::Internal, "the device computes no relations"));
            }
        };
        Ok(DeviceLoss { term, feature: feature.clone(), value })
    };
    objective.device_terms(step).map(evaluate_one).collect()
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

/// The terms as the objective has them, from their [`numbers`](DeviceValue::numbers) in step `step`.
///
/// # Errors
/// Those of [`Objective::evaluated`].
pub(crate) fn evaluated<T>(
    objective: &Objective,
    terms: &[DeviceLoss<T>],
    numbers: &[f64],
    step: u64,
) -> Result<Vec<Evaluated>> {
    let mut numbers = numbers.chunks_exact(2);
    let one = |loss: &DeviceLoss<T>| {
        let (mut value, mut squares) = (0.0, 0.0);
        for piece in numbers.by_ref().take(loss.value.gradients.len()) {
            (value, squares) = (value + piece[0], squares + piece[1]);
        }
        objective.evaluated(loss.term, value, squares.sqrt(), step)
    };
    terms.iter().map(one).collect()
}

/// The terms with their weights.
pub(crate) fn weigh<B: Backend>(
    mut terms: Vec<DeviceLoss<B::Tensor>>,
    backend: &B,
    weight: impl Fn(usize) -> f64,
) -> Result<Vec<DeviceLoss<B::Tensor>>> {
    for DeviceLoss { term, value, .. } in &mut terms {
        let mut tensors = value.gradients.iter_mut().chain(&mut value.parameters);
        tensors.try_for_each(|tensor| backend.scale(tensor, weight(*term)))?;
    }
    Ok(terms)
}

/// Computes `loss` of the pieces of the student's feature and of those of each teacher, the average over the teachers.
///
/// # Errors
/// `ERR_INVALID_SHAPE` for maps without two pixels in common, where the loss compares pixels.
pub fn evaluate<B: Backend>(
    backend: &B,
    maps: &dyn MapOperations<B::Tensor>,
    loss: MapLoss,
    student: &[B::Tensor],
    teachers: &[Compared<'_, B::Tensor>],
) -> Result<DeviceValue<B::Tensor>> {
    let rows = student.iter().map(|student| B::shape(student)[0]).sum::<usize>().max(1);
    let mut total = DeviceValue { gradients: Vec::new(), parameters: Vec::<B::Tensor>::new(), numbers: Vec::new() };
    for (piece, student) in student.iter().enumerate() {
        let mut sum: Option<[B::Tensor; 2]> = None;
        for (place, Compared { pieces, projection, share }) in teachers.iter().enumerate() {
            let teacher =
                pieces.get(piece).ok_or_else(|| Error::new(Code::Internal, "a teacher has too few pieces"))?;
            let found = evaluate_one::<B>(maps, loss, [student, teacher], *projection, rows as f64 / share)?;
            if let Some(parameter) = found.parameter {
                match total.parameters.get_mut(place) {
                    Some(sum) => *sum = backend.add(sum.clone(), &parameter)?,
                    None => total.parameters.push(parameter),
                }
            }
            sum = Some(match sum {
                None => [found.value, found.gradient],
                Some([value, gradient]) => [backend.add(value, &found.value)?, backend.add(gradient, &found.gradient)?],
            });
        }
        let [value, gradient] = sum.ok_or_else(no_teacher)?;
        total.numbers.extend([value, maps.squares(&gradient)?]);
        total.gradients.push(gradient);
    }
    Ok(total)
}

/// Computes a relational `loss` of the whole batch, the average over the teachers.
///
/// # Errors
/// Those of the device.
pub fn evaluate_relation<B: Backend>(
    backend: &B,
    (maps, relations): (&dyn MapOperations<B::Tensor>, &dyn RelationOperations<B::Tensor>),
    loss: &RelationLoss,
    student: &[B::Tensor],
    teachers: &[Compared<'_, B::Tensor>],
) -> Result<DeviceValue<B::Tensor>> {
    let whole = |pieces: &[B::Tensor]| match pieces {
        [one] => Ok(one.clone()),
        several => backend.stack(several),
    };
    let embedding = whole(student)?;
    let n = B::shape(&embedding)[0];
    let mut sum: Option<[B::Tensor; 2]> = None;
    for Compared { pieces, share, .. } in teachers {
        let teacher = whole(pieces)?;
        let (value, gradient) = match *loss {
            RelationLoss::Distance(RkdDistance { delta, reduction }) => {
                relations.rkd_distance(&embedding, &teacher, delta, reduction.divisor(n, 2) / share)?
            }
            RelationLoss::Angle(RkdAngle { delta, reduction }) => {
                let same_leg = reduction == Reduction::Reference;
                relations.rkd_angle(&embedding, &teacher, delta, reduction.divisor(n, 3) / share, same_leg)?
            }
        };
        sum = Some(match sum {
            None => [value, gradient],
            Some([sum, gradients]) => [backend.add(sum, &value)?, backend.add(gradients, &gradient)?],
        });
    }
    let [value, gradient] = sum.ok_or_else(no_teacher)?;
    let mut total = DeviceValue { gradients: Vec::new(), parameters: Vec::new(), numbers: Vec::new() };
    let (mut row, mut value) = (0, Some(value));
    for piece in student {
        let end = row + B::shape(piece)[0];
        let own = if student.len() == 1 { gradient.clone() } else { backend.images(&gradient, [row, end])? };
        // The value is that of all: the first piece has it.
        let of_piece = value.take().map_or_else(|| backend.zeros(&[]), Ok)?;
        total.numbers.extend([of_piece, maps.squares(&own)?]);
        total.gradients.push(own);
        row = end;
    }
    Ok(total)
}

fn no_teacher() -> Error {
    Error::new(Code::Internal, "a term compares with no teacher")
}

/// A loss of one piece beside one teacher.
struct Piece<T> {
    value: T,
    /// With respect to the student's feature.
    gradient: T,
    /// The gradient with respect to a hint's projection.
    parameter: Option<T>,
}

/// `loss` of one piece of a batch of so many `rows`; of more of them it is a share.
fn evaluate_one<B: Backend>(
    maps: &dyn MapOperations<B::Tensor>,
    loss: MapLoss,
    [student, teacher]: [&B::Tensor; 2],
    projection: Option<&B::Tensor>,
    rows: f64,
) -> Result<Piece<B::Tensor>> {
    let size = common_size(B::shape(student), B::shape(teacher));
    let [small_student, small_teacher] = [student, teacher].map(|x| match size_of_map(B::shape(x)) {
        from if from == size => Ok(x.clone()),
        _ => maps.average(x, size),
    });
    let (small, teacher) = (small_student?, small_teacher?);
    let pixels = rows * (size[0] * size[1]) as f64;
    let (value, mut gradient, parameter) = match loss {
        MapLoss::Hint => {
            let projection = projection.ok_or_else(|| Error::new(Code::Internal, "a hint has a projection"))?;
            let channels = B::shape(projection)[0] as f64;
            let projected = maps.project(&small, projection)?;
            let (value, dy) = maps.squared_error(&projected, &teacher, pixels * channels)?;
            let (dx, dp) = maps.project_backward(&small, projection, &dy)?;
            (value, dx, Some(dp))
        }
        MapLoss::AttentionTransfer => {
            check_pixels(size)?;
            let (attention, norm) = maps.attention(&small)?;
            let (target, _) = maps.attention(&teacher)?;
            let (value, slope) = maps.squared_error(&attention, &target, pixels)?;
            (value, maps.attention_backward(&small, &attention, &norm, &slope)?, None)
        }
    };
    let from = size_of_map(B::shape(student));
    if from != size {
        gradient = maps.average_backward(from, &gradient)?;
    }
    Ok(Piece { value, gradient, parameter })
}

/// Height and width.
fn size_of_map(shape: &[usize]) -> [usize; 2] {
    match *shape {
        [_, h, w, _] => [h, w],
        _ => [1, 1],
    }
}
