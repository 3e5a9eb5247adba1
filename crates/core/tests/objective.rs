//! The total loss: weights, features, terms of one kind, and what a network lacks.

use rkd_core::losses::{Feature, FeatureMap, LossInputs, Matrix, OnDevice, TermSpec, evaluate_loss};
use rkd_core::nn::parameters::ParameterSpec;
use rkd_core::random::Random;
use rkd_core::ranks::Ranks;
use rkd_core::train::balance::{Balance, STEPS};
use rkd_core::train::objective::{BatchFeatures, Objective, ObjectiveValue};
use rkd_kernels::Team;
use serde_json::{Value, json};

fn terms(terms: &[Value]) -> Vec<TermSpec> {
    terms.iter().map(|term| serde_json::from_value(term.clone()).unwrap()).collect()
}

fn draw(purpose: &str, n: usize, d: usize) -> Matrix {
    let mut random = Random::keyed(8, n as u64, d as u64, purpose);
    let data: Vec<f64> = (0..n * d).map(|_| random.normal()).collect();
    Matrix::new(purpose, &data, n, d).unwrap()
}

struct Batch {
    student: FeatureMap<Matrix>,
    teachers: Vec<FeatureMap<Matrix>>,
    team: Team,
}

/// One teacher, as most runs have.
const ONE: [(&str, f64); 1] = [("teacher", 1.0)];

fn batch() -> Batch {
    let student = [(Feature::Embedding, draw("e", 6, 4)), (Feature::Pooled, draw("p", 6, 5))].into();
    Batch { student, teachers: vec![[(Feature::Embedding, draw("t", 6, 3))].into()], team: Team::new(1) }
}

impl Batch {
    fn features<'a>(&'a self, parameters: &'a [Vec<Matrix>]) -> BatchFeatures<'a> {
        let Batch { student, teachers, team } = self;
        BatchFeatures {
            student,
            teachers,
            labels: &[0; 6],
            parameters,
            team,
            ranks: Ranks::one(),
            random: Random::keyed(1, 0, 0, "loss"),
        }
    }

    fn total(&self, specs: &[Value], balance: &Balance, step: u64) -> ObjectiveValue {
        let objective = Objective::new(&terms(specs), &ONE).unwrap();
        let evaluated = objective.evaluate(&self.features(&[]), step).unwrap();
        objective.weigh(evaluated, balance, step)
    }

    /// One term alone, on its feature.
    fn alone(&self, spec: &Value, feature: Feature) -> (f64, Vec<f64>) {
        let term = &terms(std::slice::from_ref(spec))[0];
        let inputs = LossInputs::new(&self.student[&feature], &self.team, Random::keyed(1, 0, 0, "loss"));
        let found = evaluate_loss(term, &inputs.with_teacher(&self.teachers[0][&Feature::Embedding])).unwrap();
        (found.value, found.gradient)
    }
}

#[test]
fn terms_add_up_feature_by_feature() {
    let batch = batch();
    let pooled = json!({"kind": "rkd-angle", "weight": 3, "studentFeature": "pooled", "teacherFeature": "embedding"});
    let specs = [json!({"kind": "rkd-distance", "weight": 0.5}), pooled, json!({"kind": "rkd-angle", "weight": 2})];
    let total = batch.total(&specs, &Balance::default(), 0);
    let features = [Feature::Embedding, Feature::Pooled, Feature::Embedding];
    let parts: Vec<_> = specs.iter().zip(features).map(|(spec, feature)| batch.alone(spec, feature)).collect();
    let value = 0.5 * parts[0].0 + 3.0 * parts[1].0 + 2.0 * parts[2].0;
    assert!((total.total - value).abs() < 1e-15);
    let names: Vec<&str> = total.terms.iter().map(|term| term.name.as_str()).collect();
    assert_eq!(names, ["rkd-distance", "rkd-angle", "rkd-angle#2"]);
    let norm = parts[1].1.iter().map(|g| g * g).sum::<f64>().sqrt();
    assert!((total.terms[1].gradient_norm - norm).abs() < 1e-15);
    let features: Vec<&str> = total.gradients.keys().map(Feature::name).collect();
    assert_eq!(features, ["embedding", "pooled"]);
    for (place, g) in total.gradients[&Feature::Embedding].iter().enumerate() {
        assert!((g - 0.5 * parts[0].1[place] - 2.0 * parts[2].1[place]).abs() < 1e-15);
    }
    assert!(total.gradients[&Feature::Pooled].iter().zip(&parts[1].1).all(|(g, part)| *g == 3.0 * part));
}

#[test]
fn a_term_rests_while_its_weight_is_zero() {
    let batch = batch();
    let later = json!({"kind": "rkd-angle", "weight": {"from": 0, "to": 4, "start": 2, "steps": 2}});
    let specs = [json!({"kind": "rkd-distance"}), later];
    let weights = |step| {
        let total = batch.total(&specs, &Balance::default(), step);
        total.terms.iter().map(|term| term.weight).collect::<Vec<_>>()
    };
    assert_eq!(
        [weights(0), weights(2), weights(3), weights(9)],
        [vec![1.0], vec![1.0], vec![1.0, 2.0], vec![1.0, 4.0]]
    );
    let objective = Objective::new(&terms(&specs), &ONE).unwrap();
    assert_eq!([objective.rests(0), objective.rests(3)], [true, false]);
}

#[test]
fn auto_weights_make_gradients_as_large_as_the_first_number() {
    let batch = batch();
    let specs = [
        json!({"kind": "rkd-angle", "weight": "auto"}),
        json!({"kind": "rkd-distance", "weight": 3}),
        json!({"kind": "rkd-angle", "weight": "auto"}),
    ];
    let mut balance = Balance::default();
    (0..STEPS).for_each(|_| balance.add(&[0.5, 2.0, 8.0]));
    let weights: Vec<f64> = batch.total(&specs, &balance, 50).terms.iter().map(|term| term.weight).collect();
    assert_eq!(weights, [12.0, 3.0, 0.75]);
    let chosen = Objective::new(&terms(&specs), &ONE).unwrap().chosen(&balance);
    assert_eq!(
        chosen.iter().map(|c| (c.name.as_str(), c.weight)).collect::<Vec<_>>(),
        [("rkd-angle", 12.0), ("rkd-angle#2", 0.75)]
    );
    let message = Objective::new(&terms(&specs[..1]), &ONE).err().unwrap().to_string();
    assert!(
        message.contains("rkd-angle.weight") && message.contains("Give one of the losses the weight 1"),
        "{message}"
    );
}

#[test]
fn each_term_has_its_own_parameters() {
    let shapes = [(Feature::Embedding, vec![1, 4]), (Feature::Pooled, vec![1, 5])].into();
    let teacher = [(Feature::Embedding, vec![1, 3])].into();
    let specs = terms(&[
        json!({"kind": "rkd-distance"}),
        json!({"kind": "linear-hint"}),
        json!({"kind": "hint", "frozen": true, "weight": 2, "studentFeature": "pooled", "teacherFeature": "embedding"}),
        json!({"kind": "linear-hint", "weight": 2}),
    ]);
    let objective = Objective::new(&specs, &ONE).unwrap();
    let specs = objective.parameters(&shapes, &[&teacher]).unwrap();
    let summary = |spec: &ParameterSpec| (spec.name.clone(), spec.is_trained(), spec.shape.clone());
    let summary: Vec<Vec<_>> = specs.iter().map(|specs| specs.iter().map(summary).collect()).collect();
    let expected = [
        vec![],
        vec![("loss.linear-hint.projection".into(), true, vec![3, 4])],
        vec![("loss.hint.projection".into(), false, vec![3, 5])],
        vec![("loss.linear-hint#2.projection".into(), true, vec![3, 4])],
    ];
    assert_eq!(summary, expected);
    let (batch, same) = (batch(), draw("projection", 3, 4));
    let values = [vec![], vec![same.clone()], vec![draw("other", 3, 5)], vec![same]];
    let evaluated = objective.evaluate(&batch.features(&values), 0).unwrap();
    let total = objective.weigh(evaluated, &Balance::default(), 0);
    let [none, first, frozen, last] = total.parameters.as_slice() else { panic!("one list for each term") };
    assert!(none.is_empty() && frozen.is_empty());
    assert!(first[0].iter().zip(&last[0]).all(|(first, last)| 2.0 * first == *last));
    assert!(first[0].iter().any(|g| *g != 0.0));
}

#[test]
fn what_a_network_lacks_is_listed() {
    let student = [
        (Feature::Embedding, vec![1, 4]),
        (Feature::Tap("blocks.1".into()), vec![1, 7, 7, 4]),
        (Feature::Tap("blocks.3".into()), vec![1, 1, 1, 4]),
    ]
    .into();
    let teacher = [(Feature::Embedding, vec![1, 3])].into();
    let check = |spec: Value| {
        Objective::new(&terms(&[spec]), &ONE).unwrap().check(&student, &[&teacher]).unwrap_err().to_string()
    };
    let message = check(json!({"kind": "hint", "studentFeature": "blocks.7"}));
    assert!(message.starts_with("hint.studentFeature: the student has no such feature"), "{message}");
    assert!(message.contains("one of embedding, blocks.1, blocks.3, received blocks.7"), "{message}");
    let message = check(json!({"kind": "attention-transfer"}));
    assert!(message.contains("one of blocks.1, received embedding"), "{message}");
    let message = check(json!({"kind": "attention-transfer", "studentFeature": "blocks.3"}));
    assert!(message.contains("more than one pixel") && message.contains("one of blocks.1, received"), "{message}");
    let message = check(json!({"kind": "soft-target-kl", "studentFeature": "embedding", "teacherFeature": "logits"}));
    assert!(message.contains("trained with cross entropy"), "{message}");
}

#[test]
fn a_term_with_prefixes_is_the_mean_over_them_and_the_whole() {
    let batch = batch();
    let specs = [
        json!({"kind": "rkd-distance", "weight": 3}),
        json!({"kind": "rkd-angle", "studentFeature": "pooled",
        "teacherFeature": "embedding"}),
    ];
    let objective = Objective::new(&terms(&specs), &ONE).unwrap().with_prefixes(&[2, 3], false).unwrap();
    let total = objective.weigh(objective.evaluate(&batch.features(&[]), 0).unwrap(), &Balance::default(), 0);
    let whole = &batch.student[&Feature::Embedding];
    let values = [2, 3, 4].map(|length| {
        let data: Vec<f64> = (0..6).flat_map(|i| &whole.row(i)[..length]).copied().collect();
        let student = Matrix::new("student", &data, 6, length).unwrap();
        let inputs = LossInputs::new(&student, &batch.team, Random::keyed(1, 0, 0, "loss"));
        evaluate_loss(&terms(&specs)[0], &inputs.with_teacher(&batch.teachers[0][&Feature::Embedding])).unwrap()
    });
    let mean = values.iter().map(|found| found.value).sum::<f64>() / 3.0;
    assert!((total.terms[0].value - mean).abs() < 1e-15, "{total:?} {mean}");
    for (place, g) in total.gradients[&Feature::Embedding].iter().enumerate() {
        let (row, column) = (place / 4, place % 4);
        let parts = values.iter().map(|found| found.gradient.chunks_exact(found.gradient.len() / 6).nth(row).unwrap());
        let sum: f64 = parts.filter_map(|row| row.get(column)).sum();
        assert!((g - sum).abs() < 1e-15, "{place}: {g} {sum}"); // weight 3 over three
    }
    // A term of another feature is as it was.
    let (value, gradient) = batch.alone(&specs[1], Feature::Pooled);
    assert!(total.terms[1].value == value && total.gradients[&Feature::Pooled] == gradient);
}

#[test]
fn prefixes_have_parameters_and_classifiers_of_their_own() {
    let shapes = [(Feature::Embedding, vec![1, 4]), (Feature::Logits, vec![1, 7])].into();
    let teacher = [(Feature::Embedding, vec![1, 3])].into();
    let specs = terms(&[json!({"kind": "hint"}), json!({"kind": "cross-entropy"})]);
    let mut objective = Objective::new(&specs, &ONE).unwrap().with_prefixes(&[2, 3], true).unwrap();
    let all = objective.parameters(&shapes, &[&teacher]).unwrap();
    let names: Vec<(&str, &[usize])> = all.iter().flatten().map(|spec| (&spec.name[..], &spec.shape[..])).collect();
    let expected: [(&str, &[usize]); 7] = [
        ("loss.hint.projection", &[3, 4]),
        ("loss.hint.2.projection", &[3, 2]),
        ("loss.hint.3.projection", &[3, 3]),
        ("loss.cross-entropy.2.weight", &[7, 2]),
        ("loss.cross-entropy.2.bias", &[1, 7]),
        ("loss.cross-entropy.3.weight", &[7, 3]),
        ("loss.cross-entropy.3.bias", &[1, 7]),
    ];
    assert_eq!(names, expected);
    objective.leave_to_device(|loss| matches!(loss, OnDevice::Map(_)));
    assert_eq!(objective.device_terms(0).count(), 0);
    assert_eq!(objective.host_student_features(), [Feature::Embedding, Feature::Logits]);
    let same = objective.check_prefixes(3).unwrap_err().to_string();
    assert!(same.contains("lengths below 3") && same.contains("received 3"), "{same}");
}

/// Two teachers of different lengths, weighed 3 to 1.
const TWO: [(&str, f64); 2] = [("large", 3.0), ("small", 1.0)];

#[test]
fn a_term_is_the_average_over_the_teachers_by_their_weights_or_beside_the_one_it_names() {
    let mut both = batch();
    both.teachers.push([(Feature::Embedding, draw("other", 6, 7))].into());
    let [large, small] = [0, 1].map(|place| Batch { teachers: vec![both.teachers[place].clone()], ..batch() });
    let named = json!({"kind": "rkd-angle", "weight": 2, "teacher": "small"});
    let specs = [json!({"kind": "rkd-distance"}), named, json!({"kind": "rkd-angle"})];
    let objective = Objective::new(&terms(&specs), &TWO).unwrap();
    assert_eq!([0, 1].map(|place| objective.teacher_features(place).len()), [1, 1]);
    let total = objective.weigh(objective.evaluate(&both.features(&[]), 0).unwrap(), &Balance::default(), 0);
    let parts = [0, 1, 2].map(|term| [&large, &small].map(|batch| batch.alone(&specs[term], Feature::Embedding)));
    let shares = [[0.75, 0.25], [0.0, 1.0], [0.75, 0.25]];
    let mut gradient = vec![0.0; 24];
    for (term, weight) in [1.0, 2.0, 1.0].into_iter().enumerate() {
        let value: f64 = (0..2).map(|teacher| shares[term][teacher] * parts[term][teacher].0).sum();
        assert!((total.terms[term].value - value).abs() < 1e-15, "{term}: {total:?}");
        let mean = |at: usize| (0..2).map(|teacher| shares[term][teacher] * parts[term][teacher].1[at]).sum::<f64>();
        let norm = (0..24).map(|at| mean(at) * mean(at)).sum::<f64>().sqrt();
        assert!((total.terms[term].gradient_norm - norm).abs() < 1e-15);
        gradient.iter_mut().enumerate().for_each(|(at, g)| *g += weight * mean(at));
    }
    let found = &total.gradients[&Feature::Embedding];
    assert!(found.iter().zip(&gradient).all(|(found, g)| (found - g).abs() < 1e-15));

    let alone = Objective::new(&terms(&specs[1..2]), &TWO).unwrap();
    assert_eq!([0, 1].map(|place| alone.teacher_features(place).len()), [0, 1]);
    let unknown = terms(&[json!({"kind": "rkd-angle"}), json!({"kind": "rkd-angle", "teacher": "smal"})]);
    let message = Objective::new(&unknown, &TWO).err().unwrap().to_string();
    assert!(message.starts_with("losses[1].teacher: invalid value: expected \"large\" or \"small\""), "{message}");
    assert!(message.contains("Did you mean \"small\"?"), "{message}");
}

#[test]
fn gradients_beside_several_teachers_are_numeric_gradients() {
    let shapes = FeatureMap::from([(Feature::Embedding, vec![1, 4])]);
    let [first, second] = [3, 7].map(|d| FeatureMap::from([(Feature::Embedding, vec![1, d])]));
    let mut batch = batch();
    batch.teachers.push([(Feature::Embedding, draw("other", 6, 7))].into());
    let specs = terms(&[json!({"kind": "linear-hint"}), json!({"kind": "rkd-distance"}), json!({"kind": "rkd-angle"})]);
    for prefixes in [vec![], vec![2, 3]] {
        let objective = Objective::new(&specs, &TWO).unwrap().with_prefixes(&prefixes, false).unwrap();
        let all = objective.parameters(&shapes, &[&first, &second]).unwrap();
        let names: Vec<(&str, usize)> = all[0].iter().map(|spec| (&spec.name[..], spec.shape[0])).collect();
        let each = prefixes.len() + 1;
        assert_eq!(names[0], ("loss.linear-hint.projection", 3));
        assert_eq!((names[each], names.len()), (("loss.linear-hint.projection#2", 7), 2 * each));
        let value = |spec: &ParameterSpec| draw(&spec.name, spec.shape[0], spec.shape[1]);
        let mut parameters: Vec<Vec<Matrix>> = all.iter().map(|specs| specs.iter().map(value).collect()).collect();
        let total = |batch: &Batch, parameters: &[Vec<Matrix>]| {
            objective.weigh(objective.evaluate(&batch.features(parameters), 0).unwrap(), &Balance::default(), 0)
        };
        let found = total(&batch, &parameters);
        let near = |what: &str, g: f64, ends: [f64; 2]| {
            let numeric = (ends[0] - ends[1]) / 2e-5;
            assert!((numeric - g).abs() < 1e-6 * g.abs().max(1.0), "{what}: {numeric} {g}");
        };
        for (place, g) in found.gradients[&Feature::Embedding].iter().enumerate() {
            let ends = [1e-5, -1e-5].map(|step| {
                let mut data = batch.student[&Feature::Embedding].data.clone();
                data[place] += step;
                let student = [(Feature::Embedding, Matrix::new("student", &data, 6, 4).unwrap())].into();
                total(&Batch { student, teachers: batch.teachers.clone(), team: Team::new(1) }, &parameters).total
            });
            near(&format!("embedding[{place}]"), *g, ends);
        }
        assert_eq!(found.parameters[0].len(), 2 * each);
        for (which, gradient) in found.parameters[0].iter().enumerate() {
            for (place, g) in gradient.iter().enumerate() {
                let ends = [1e-5, -1e-5].map(|step| {
                    parameters[0][which].data[place] += step;
                    let value = total(&batch, &parameters).total;
                    parameters[0][which].data[place] -= step;
                    value
                });
                near(&format!("{}[{place}]", all[0][which].name), *g, ends);
            }
        }
    }
}
