//! What memory of a GPU a run takes at its peak, told before its first step and compared with what is free.
//!
//! As on the host it is no formula: the very passes of the run, two steps between evaluations, are asked of a device that counts
//! what would be in use at once ([`Counter`]). What it cannot know are the driver's context, the kernels, and the workspace of cuBLAS
//! and cuDNN: [`LIBRARIES`], a guess.

use rkd_cuda::counting::Counter;

use super::device_terms::evaluate_terms;
use super::loss_parameters::LossParameters;
use super::memory::{Counted, Demand, OfTeacher, UNCERTAINTY, in_words};
use super::teacher::TeacherBatch;
use crate::error::{Code, Error, Result};
use crate::losses::{Feature, FeatureMap};
use crate::nn::{Backend, Cuda};

/// What driver and libraries take beside the buffers: a guess.
const LIBRARIES: u64 = 1 << 30;

/// The bytes that a run takes of a GPU.
///
/// # Errors
/// Those of building the networks, and of losses that do not fit them.
fn estimate(demand: &Demand<'_>) -> Result<u64> {
    let counter = Counter::default();
    let backend = Cuda::new(counter.clone()).with_precision(demand.plan.precision);
    let mut counted = Counted::new(demand, backend.clone())?;
    counted.evaluate(demand)?;
    for _ in 0..2 {
        let features = counted.forward(demand)?;
        losses(demand, &counted, &backend)?;
        let gradients = counted.backward(demand, features)?;
        counted.update(demand, gradients)?;
    }
    Ok(counter.peak() as u64 + LIBRARIES)
}

/// The losses that the device computes, of a batch whose activations are there.
fn losses(demand: &Demand<'_>, counted: &Counted<Cuda<Counter>>, backend: &Cuda<Counter>) -> Result<()> {
    let pieces = |shape: &[usize]| {
        let piece = |rows| backend.zeros(&[&[rows], &shape[1..]].concat());
        counted.pieces(demand).into_iter().map(piece).collect::<Result<Vec<_>>>()
    };
    let all = |shapes: &FeatureMap<Vec<usize>>, wanted: Vec<Feature>| {
        let read = shapes.iter().filter(|(feature, _)| wanted.contains(feature));
        read.map(|(feature, shape)| Ok((feature.clone(), pieces(shape)?))).collect::<Result<FeatureMap<_>>>()
    };
    let objective = demand.objective;
    let teacher = |(place, teacher): (usize, &OfTeacher<'_>)| {
        Ok(TeacherBatch { device: all(teacher.shapes, objective.teacher_features(place))?, ..TeacherBatch::default() })
    };
    let teachers = demand.teachers.iter().enumerate().map(teacher).collect::<Result<Vec<_>>>()?;
    let teacher_shapes: Vec<_> = demand.teachers.iter().map(|teacher| teacher.shapes).collect();
    let parameters = objective.parameters(&counted.shapes, &teacher_shapes)?;
    let parameters = LossParameters::draw(backend, parameters, 0)?;
    let student = all(&counted.shapes, objective.student_features())?;
    evaluate_terms(backend, objective, 0, &parameters, &student, &teachers).map(drop)
}

/// Checks that the run fits into the `free` bytes of a GPU. Gives a sentence where it may not.
///
/// # Errors
/// `ERR_INVALID_OPTION` with what would fit, where it is certain that the run does not; those of building the networks.
pub(super) fn check(demand: &Demand<'_>, free: u64) -> Result<Option<String>> {
    let needed = estimate(demand)?;
    if needed <= free {
        return Ok(None);
    }
    let advice = demand.advice_by(|changed| estimate(changed).is_ok_and(|needed| needed <= free));
    let (about, room) = (in_words(needed), in_words(free));
    if needed as f64 / UNCERTAINTY > free as f64 {
        return Err(Error::new(Code::InvalidOption, "the run does not fit into the memory of the device")
            .with_subject("batch.size")
            .with_values(format!("at most {room}, which are free"), format!("about {about}"))
            .with_advice(advice));
    }
    Ok(Some(format!("This run takes about {about} of the device's memory at its peak, and {room} are free. {advice}.")))
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::{plan, with};
    use super::super::objective::Objective;
    use super::super::plan::Plan;
    use super::*;
    use crate::nn::Precision;

    const MIB: u64 = 1 << 20;

    fn of(size: usize, micro_batch: Option<usize>) -> u64 {
        let mut plan = plan(size);
        plan.micro_batch = micro_batch;
        with(&plan, &[], |demand| estimate(demand).unwrap())
    }

    #[test]
    fn what_is_counted_grows_with_a_batch_and_shrinks_with_its_pieces() {
        // The first convolution, its normalisation and its input alone, 16 channels of 64 x 64 pixels.
        let least = 256 * 64 * 64 * 4 * (2 * 16 + 3);
        let whole = of(256, None);
        assert!(whole > least + LIBRARIES, "{whole}");
        assert!(of(512, None) - LIBRARIES > 19 * (whole - LIBRARIES) / 10);
        assert!(of(256, Some(32)) - LIBRARIES < (whole - LIBRARIES) / 3);
    }

    #[test]
    fn bfloat16_halves_what_maps_take() {
        let plan = Plan { precision: Precision::Bf16, ..plan(256) };
        let narrow = with(&plan, &[], |demand| estimate(demand).unwrap()) - LIBRARIES;
        let wide = of(256, None) - LIBRARIES;
        // Images and parameters are float32.
        assert!(narrow > wide * 45 / 100 && narrow < wide * 65 / 100, "{narrow} {wide}");
    }

    #[test]
    fn the_losses_of_the_device_count() {
        let mut plan = plan(4096);
        (plan.backbone.width, plan.backbone.image_size, plan.data.image_size) = (2, 16, 16);
        plan.losses = serde_json::from_value(serde_json::json!([{ "kind": "rkd-angle" }])).unwrap();
        let spec = plan.backbone.clone();
        let bytes = |on_device: bool| {
            with(&plan, &[(&spec, true)], |demand| {
                let mut objective = Objective::new(&plan.losses, &[("a", 1.0)]).unwrap();
                objective.leave_to_device(|_| on_device);
                estimate(&Demand { objective: &objective, ..demand.clone() }).unwrap()
            })
        };
        // Squared distances, lengths and inverses of student and teacher, and a gradient: float64 of all pairs.
        let pairs = 7 * 8 * 4096 * 4096;
        let [on_device, on_host] = [true, false].map(bytes);
        assert!(on_device >= LIBRARIES + pairs && on_host < LIBRARIES + pairs / 2, "{on_device} {on_host}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_fits_and_what_may_not_is_warned_of() {
        let plan = plan(512);
        let needed = of(512, None);
        let ask = |free: u64| with(&plan, &[], |demand| check(demand, free));
        assert_eq!(ask(needed).unwrap(), None);
        assert!(ask(needed - MIB).unwrap().unwrap().contains("--micro-batch"));
        let room = LIBRARIES + (needed - LIBRARIES) / 8;
        let error = ask(room).unwrap_err();
        assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some("batch.size")));
        let text = error.to_string();
        let number = text.split_once("--micro-batch ").unwrap_or_else(|| panic!("{text}")).1;
        let fitting: usize = number.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
        assert!(of(512, Some(fitting)) <= room && of(512, Some(fitting + 1)) > room, "{text}");
    }
}
