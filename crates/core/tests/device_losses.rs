//! The losses that a device computes, against the form of the host, whole and in pieces: those on maps composed of candle
//! operations in float64, and all on the device of the CUDA tests.

use rkd_core::losses::{LossInputs, MapLoss, Matrix, TermSpec, evaluate_loss};
use rkd_core::nn::Portable;
use rkd_core::nn::backend::Backend;
use rkd_core::random::Random;
use rkd_core::train::device_terms::{Compared, evaluate};
use rkd_kernels::Team;
use serde_json::json;

fn draw(shape: &[usize], purpose: &str) -> Vec<f64> {
    let mut random = Random::keyed(6, shape[0] as u64, shape[1] as u64, purpose);
    (0..shape.iter().product()).map(|_| random.normal()).collect()
}

/// Rows `from` to `to` of a feature, on the device.
fn rows<B: Backend>(backend: &B, data: &[f64], shape: &[usize], from: usize, to: usize) -> B::Tensor {
    let (length, mut shape) = (data.len() / shape[0], shape.to_vec());
    shape[0] = to - from;
    backend.from_f64(&data[from * length..to * length], &shape).unwrap()
}

/// A device that computes losses on maps, and how far from the host's it may be, as a share of the largest entry.
struct On<B> {
    backend: B,
    tolerance: f64,
}

fn float64() -> On<Portable> {
    On { backend: Portable::cpu_f64(), tolerance: 1e-9 }
}

#[cfg(target_os = "linux")]
fn cuda() -> On<rkd_core::nn::Cuda<rkd_cuda::tested::Tested>> {
    On { backend: crate::common::cuda(true), tolerance: 1e-5 }
}

/// A device's loss of the student's feature beside teachers of `teacher_shapes`, weighed 1, 2, ..., against the average of the
/// host's.
fn check<B: Backend>(on: &On<B>, loss: MapLoss, student_shape: &[usize], teacher_shapes: &[&[usize]], student: &[f64]) {
    let On { backend, tolerance } = on;
    let maps = backend.maps().unwrap();
    let a = student_shape[student_shape.len() - 1];
    let kind = match loss {
        MapLoss::Hint => "hint",
        MapLoss::AttentionTransfer => "attention-transfer",
    };
    let spec: TermSpec = serde_json::from_value(json!({ "kind": kind })).unwrap();
    let team = Team::new(1);
    let s = Matrix::tensor("student", student, student_shape).unwrap();
    let sum: usize = (1..=teacher_shapes.len()).sum();
    let (mut value, mut host_gradient, mut teachers) = (0.0, vec![0.0; student.len()], Vec::new());
    for (place, shape) in teacher_shapes.iter().enumerate() {
        let (share, b) = ((place + 1) as f64 / sum as f64, shape[shape.len() - 1]);
        let (data, projection) = (draw(shape, &format!("teacher {place}")), draw(&[b, a], "projection"));
        let parameters = match loss {
            MapLoss::Hint => vec![Matrix::new("projection", &projection, b, a).unwrap()],
            MapLoss::AttentionTransfer => Vec::new(),
        };
        let t = Matrix::tensor("teacher", &data, shape).unwrap();
        let inputs = LossInputs::new(&s, &team, Random::keyed(1, 0, 0, "loss")).with_teacher(&t);
        let host = evaluate_loss(&spec, &inputs.with_parameters(&parameters)).unwrap();
        value += share * host.value;
        host_gradient.iter_mut().zip(&host.gradient).for_each(|(sum, g)| *sum += share * g);
        let parameter = host.parameters.first().map(|g| g.iter().map(|g| share * g).collect::<Vec<_>>());
        teachers.push((share, data, backend.from_f64(&projection, &[b, a]).unwrap(), parameter));
    }
    let near = |what: &str, host: &[f64], device: &[f64]| {
        assert_eq!(host.len(), device.len(), "{what} {student_shape:?} {teacher_shapes:?}");
        let largest = host.iter().fold(1e-300f64, |largest, value| largest.max(value.abs()));
        let worst = host.iter().zip(device).fold(0.0f64, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(worst <= tolerance * largest, "{what} {student_shape:?} {teacher_shapes:?}: {worst:e} of {largest:e}");
    };
    let n = student_shape[0];
    for cuts in [vec![0, n], vec![0, 1, n]] {
        let pieces = |data: &[f64], shape: &[usize]| -> Vec<_> {
            cuts.windows(2).map(|cut| rows(backend, data, shape, cut[0], cut[1])).collect()
        };
        let own = pieces(student, student_shape);
        let seen: Vec<_> =
            teachers.iter().zip(teacher_shapes).map(|((_, data, ..), shape)| pieces(data, shape)).collect();
        let compared = teachers.iter().zip(&seen).map(|((share, _, projection, _), pieces)| {
            let projection = (loss == MapLoss::Hint).then_some(projection);
            Compared { pieces, projection, share: *share }
        });
        let compared: Vec<_> = compared.collect();
        let found = evaluate(backend, maps, loss, &own, &compared).unwrap();
        for (gradient, student) in found.gradients.iter().zip(&own) {
            assert_eq!(B::shape(gradient), B::shape(student));
        }
        let numbers: Vec<f64> = found.numbers.iter().map(|number| backend.to_f64(number).unwrap()[0]).collect();
        near("value", &[value], &[numbers.iter().step_by(2).sum()]);
        let gradient: Vec<f64> = found.gradients.iter().flat_map(|piece| backend.to_f64(piece).unwrap()).collect();
        near("gradient", &host_gradient, &gradient);
        let squares = host_gradient.iter().map(|g| g * g).sum::<f64>();
        near("norm", &[squares], &[numbers.iter().skip(1).step_by(2).sum()]);
        let expected: Vec<_> = teachers.iter().filter_map(|(.., parameter)| parameter.as_ref()).collect();
        assert_eq!(found.parameters.len(), expected.len());
        assert_eq!(found.parameters.len(), if loss == MapLoss::Hint { teachers.len() } else { 0 });
        for (host, device) in expected.into_iter().zip(&found.parameters) {
            near("projection", host, &backend.to_f64(device).unwrap());
        }
    }
}

/// Every comparison on every device.
macro_rules! compare {
    ($($test:ident)*) => {
        mod portable {
            $(#[test]
            fn $test() {
                super::$test(&super::float64());
            })*
        }
        #[cfg(target_os = "linux")]
        mod cuda {
            $(#[test]
            fn $test() {
                super::$test(&super::cuda());
            })*
        }
    };
}

compare! {
    a_device_computes_what_the_host_does
    a_device_averages_over_teachers_of_any_shapes
    a_map_of_zeros_attends_to_nothing
    maps_with_one_pixel_in_common_are_refused
}

fn a_device_computes_what_the_host_does<B: Backend>(on: &On<B>) {
    let hint: [(&[usize], &[usize]); 7] = [
        (&[3, 4, 3, 5], &[3, 4, 3, 6]),
        (&[5, 4], &[5, 3]),
        // The student's map is larger, smaller, and one of each.
        (&[2, 7, 5, 3], &[2, 3, 2, 4]),
        (&[2, 3, 2, 3], &[2, 7, 5, 4]),
        (&[3, 6, 3, 5], &[3, 4, 7, 2]),
        // A vector is a map of one pixel.
        (&[3, 4], &[3, 2, 3, 5]),
        (&[3, 2, 3, 4], &[3, 5]),
    ];
    for (student, teacher) in hint {
        check(on, MapLoss::Hint, student, &[teacher], &draw(student, "student"));
        if student.len() == 4 && teacher.len() == 4 {
            check(on, MapLoss::AttentionTransfer, student, &[teacher], &draw(student, "student"));
        }
    }
}

fn a_device_averages_over_teachers_of_any_shapes<B: Backend>(on: &On<B>) {
    let student = [3, 6, 3, 5];
    let teachers: [&[usize]; 3] = [&[3, 4, 7, 2], &[3, 6, 3, 5], &[3, 3, 2, 4]];
    for loss in [MapLoss::Hint, MapLoss::AttentionTransfer] {
        check(on, loss, &student, &teachers, &draw(&student, "student"));
    }
}

fn a_map_of_zeros_attends_to_nothing<B: Backend>(on: &On<B>) {
    let shape = [2, 3, 4, 5];
    let mut student = draw(&shape, "student");
    student[..60].fill(0.0);
    check(on, MapLoss::AttentionTransfer, &shape, &[&[2, 3, 4, 2]], &student);
}

fn maps_with_one_pixel_in_common_are_refused<B: Backend>(on: &On<B>) {
    let backend = &on.backend;
    let [student, teacher] = [[2, 1, 3, 4], [2, 3, 1, 4]].map(|shape| backend.zeros(&shape).unwrap());
    let teacher = [Compared { pieces: &[teacher], projection: None, share: 1.0 }];
    let error = evaluate(backend, backend.maps().unwrap(), MapLoss::AttentionTransfer, &[student], &teacher);
    assert!(error.err().unwrap().to_string().contains("one pixel in common"));
}

/// The relational losses on the device of the CUDA tests.
#[cfg(target_os = "linux")]
mod relations {
    use rkd_core::losses::{Loss, OnDevice, Reduction, RelationLoss, RkdAngle, RkdDistance};
    use rkd_core::nn::Cuda;
    use rkd_core::train::device_terms::{DeviceValue, evaluate_relation};
    use rkd_cuda::tested::Tested;

    use super::*;

    type Tensor = <Cuda<Tested> as Backend>::Tensor;

    /// Numbers that float32 holds, so that host and device begin with the same.
    fn embedding(n: usize, d: usize, purpose: &str) -> Vec<f64> {
        draw(&[n, d], purpose).into_iter().map(|value| f64::from(value as f32)).collect()
    }

    fn losses() -> Vec<RelationLoss> {
        let mut all = Vec::new();
        for reduction in [Reduction::Reference, Reduction::Distinct] {
            for delta in [0.1, 1.0] {
                all.push(RelationLoss::Distance(RkdDistance { delta, reduction }));
                all.push(RelationLoss::Angle(RkdAngle { delta, reduction }));
            }
        }
        all
    }

    /// On the device, of the student in pieces that end at `cuts`, beside teachers with their shares.
    fn on_device(
        backend: &Cuda<Tested>,
        loss: &RelationLoss,
        cuts: &[usize],
        (student, n, d): (&[f64], usize, usize),
        teachers: &[(Vec<f64>, usize, f64)],
    ) -> DeviceValue<Tensor> {
        let pieces = |data: &[f64], d: usize| -> Vec<Tensor> {
            cuts.windows(2).map(|cut| rows(backend, data, &[n, d], cut[0], cut[1])).collect()
        };
        let seen: Vec<_> = teachers.iter().map(|(data, e, _)| pieces(data, *e)).collect();
        let compared: Vec<_> = seen
            .iter()
            .zip(teachers)
            .map(|(pieces, (.., share))| Compared { pieces, projection: None, share: *share })
            .collect();
        let operations = (backend.maps().unwrap(), backend.relations().unwrap());
        evaluate_relation(backend, operations, loss, &pieces(student, d), &compared).unwrap()
    }

    /// Compares value, gradient and its norm with the host's.
    fn check(n: usize, d: usize, student: &[f64], teachers: &[(Vec<f64>, usize, f64)]) {
        let (backend, team) = (crate::common::cuda(true), Team::new(1));
        let matrix = Matrix::new("student", student, n, d).unwrap();
        for loss in losses() {
            let of_host: &dyn Loss = match &loss {
                RelationLoss::Distance(loss) => loss,
                RelationLoss::Angle(loss) => loss,
            };
            assert_eq!(of_host.on_device(), Some(OnDevice::Relation(loss.clone())));
            let (mut value, mut gradient) = (0.0, vec![0.0; n * d]);
            for (data, e, share) in teachers {
                let teacher = Matrix::new("teacher", data, n, *e).unwrap();
                let inputs = LossInputs::new(&matrix, &team, Random::keyed(1, 0, 0, "loss")).with_teacher(&teacher);
                let found = of_host.evaluate(&inputs).unwrap();
                value += share * found.value;
                gradient.iter_mut().zip(&found.gradient).for_each(|(sum, g)| *sum += share * g);
            }
            let cuts = if n > 2 { vec![vec![0, n], vec![0, 1, n - 1, n]] } else { vec![vec![0, n]] };
            for cuts in cuts {
                let what = format!("{loss:?}, {n} items of {d} numbers, cut at {cuts:?}");
                let found = on_device(&backend, &loss, &cuts, (student, n, d), teachers);
                assert_eq!(found.gradients.len(), cuts.len() - 1);
                let numbers: Vec<f64> =
                    found.numbers.iter().flat_map(|number| backend.to_f64(number).unwrap()).collect();
                let sum = |first: usize| numbers.iter().skip(first).step_by(2).sum::<f64>();
                assert!((sum(0) - value).abs() <= 1e-6 * value.abs(), "{what}: {} instead of {value}", sum(0));
                let actual: Vec<f64> =
                    found.gradients.iter().flat_map(|piece| backend.to_f64(piece).unwrap()).collect();
                // On a line all angles are flat: what is left of a gradient there is rounding.
                let largest = gradient.iter().fold(1e-9f64, |largest, g| largest.max(g.abs()));
                for (place, (a, b)) in actual.iter().zip(&gradient).enumerate() {
                    assert!((a - b).abs() <= 1e-6 * largest, "{what}, gradient at {place}: {a} instead of {b}");
                }
                let squares = gradient.iter().map(|g| g * g).sum::<f64>();
                assert!(
                    (sum(1) - squares).abs() <= 1e-5 * squares.max(1e-18),
                    "{what}: {} instead of {squares}",
                    sum(1)
                );
            }
        }
    }

    #[test]
    fn of_any_number_of_items_are_those_of_the_host() {
        for (n, d, e) in [(2, 3, 4), (3, 1, 2), (7, 4, 9), (33, 17, 5), (70, 8, 40)] {
            check(n, d, &embedding(n, d, "student"), &[(embedding(n, e, "teacher"), e, 1.0)]);
        }
    }

    #[test]
    fn beside_several_teachers_are_averages() {
        let teachers = [(embedding(20, 6, "first"), 6, 0.25), (embedding(20, 3, "second"), 3, 0.75)];
        check(20, 5, &embedding(20, 5, "student"), &teachers);
    }

    #[test]
    fn of_items_that_coincide_are_finite_and_those_of_the_host() {
        let (n, d) = (12, 4);
        let (mut student, mut teacher) = (embedding(n, d, "student"), embedding(n, d, "teacher"));
        // Both networks have one pair in common, and each a pair that coincides for itself alone.
        for (data, pairs) in [(&mut student, [(0, 1), (2, 3)]), (&mut teacher, [(0, 1), (4, 5)])] {
            for (from, to) in pairs {
                data.copy_within(from * d..(from + 1) * d, to * d);
            }
        }
        check(n, d, &student, &[(teacher, d, 1.0)]);
    }

    #[test]
    fn of_a_single_item_are_nothing() {
        let backend = crate::common::cuda(true);
        for loss in losses() {
            let found = on_device(&backend, &loss, &[0, 1], (&[1.0, 2.0], 1, 2), &[(vec![3.0], 1, 1.0)]);
            let numbers = found.numbers.iter().chain(&found.gradients).flat_map(|one| backend.to_f64(one).unwrap());
            assert!(numbers.into_iter().all(|number| number == 0.0), "{loss:?}");
        }
    }
}
