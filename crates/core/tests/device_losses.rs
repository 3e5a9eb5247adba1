//! The losses on maps as a device computes them, against the form of the host: in float64, whole and in pieces.

use rkd_core::losses::{LossInputs, MapLoss, Matrix, TermSpec, evaluate_loss};
use rkd_core::nn::Portable;
use rkd_core::nn::backend::{Backend, MapOperations};
use rkd_core::random::Random;
use rkd_core::train::device_terms::{Compared, evaluate};
use rkd_kernels::Team;
use serde_json::json;

fn draw(shape: &[usize], purpose: &str) -> Vec<f64> {
    let mut random = Random::keyed(6, shape[0] as u64, shape[1] as u64, purpose);
    (0..shape.iter().product()).map(|_| random.normal()).collect()
}

/// Rows `from` to `to` of a feature, on the device.
fn rows(backend: &Portable, data: &[f64], shape: &[usize], from: usize, to: usize) -> <Portable as Backend>::Tensor {
    let (length, mut shape) = (data.len() / shape[0], shape.to_vec());
    shape[0] = to - from;
    backend.from_f64(&data[from * length..to * length], &shape).unwrap()
}

/// A device's loss of the student's feature beside teachers of `teacher_shapes`, weighed 1, 2, ..., against the average of the
/// host's.
fn check(loss: MapLoss, student_shape: &[usize], teacher_shapes: &[&[usize]], student: &[f64]) {
    let backend = Portable::cpu_f64();
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
        assert!(worst <= 1e-9 * largest, "{what} {student_shape:?} {teacher_shapes:?}: {worst:e} of {largest:e}");
    };
    let n = student_shape[0];
    for cuts in [vec![0, n], vec![0, 1, n]] {
        let pieces = |data: &[f64], shape: &[usize]| -> Vec<_> {
            cuts.windows(2).map(|cut| rows(&backend, data, shape, cut[0], cut[1])).collect()
        };
        let own = pieces(student, student_shape);
        let seen: Vec<_> =
            teachers.iter().zip(teacher_shapes).map(|((_, data, ..), shape)| pieces(data, shape)).collect();
        let compared = teachers.iter().zip(&seen).map(|((share, _, projection, _), pieces)| {
            let projection = (loss == MapLoss::Hint).then_some(projection);
            Compared { pieces, projection, share: *share }
        });
        let compared: Vec<_> = compared.collect();
        let found = evaluate(&backend, &backend as &dyn MapOperations<_>, loss, &own, &compared).unwrap();
        for (gradient, student) in found.gradients.iter().zip(&own) {
            assert_eq!(gradient.dims(), student.dims());
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

#[test]
fn a_device_computes_what_the_host_does() {
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
        check(MapLoss::Hint, student, &[teacher], &draw(student, "student"));
        if student.len() == 4 && teacher.len() == 4 {
            check(MapLoss::AttentionTransfer, student, &[teacher], &draw(student, "student"));
        }
    }
}

#[test]
fn a_device_averages_over_teachers_of_any_shapes() {
    let student = [3, 6, 3, 5];
    let teachers: [&[usize]; 3] = [&[3, 4, 7, 2], &[3, 6, 3, 5], &[3, 3, 2, 4]];
    for loss in [MapLoss::Hint, MapLoss::AttentionTransfer] {
        check(loss, &student, &teachers, &draw(&student, "student"));
    }
}

#[test]
fn a_map_of_zeros_attends_to_nothing() {
    let shape = [2, 3, 4, 5];
    let mut student = draw(&shape, "student");
    student[..60].fill(0.0);
    check(MapLoss::AttentionTransfer, &shape, &[&[2, 3, 4, 2]], &student);
}

#[test]
fn maps_with_one_pixel_in_common_are_refused() {
    let backend = Portable::cpu_f64();
    let [student, teacher] = [[2, 1, 3, 4], [2, 3, 1, 4]].map(|shape| backend.zeros(&shape).unwrap());
    let teacher = [Compared { pieces: &[teacher], projection: None, share: 1.0 }];
    let error = evaluate(&backend, &backend as &dyn MapOperations<_>, MapLoss::AttentionTransfer, &[student], &teacher);
    assert!(error.err().unwrap().to_string().contains("one pixel in common"));
}
