//! Sessions as a caller sees them: devices, how often a step waits for one, teachers with a view of their own, resuming.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rkd_core::data::Part;
use rkd_core::nn::Portable;
use rkd_core::train::{Control, Event, Host, Plan, Session, Start, Training, Who, open};
use serde_json::{Value, json};
use tempfile::TempDir;

/// At a checkpoint, with the data that it names.
fn at(checkpoint: &Path) -> Start {
    let record = Some(checkpoint.with_file_name("data.json"));
    Start { checkpoint: Some(checkpoint.into()), record, accept_changed_data: false }
}

/// A folder with a data cache and a teacher of so many pixels and channels.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(image_size: usize, channels: usize) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let losses = json!([{ "kind": "triplet-squared" }]);
        let plan = place.plan(image_size, channels, json!({ "losses": losses, "seed": 3 }));
        let mut session = open(plan, &Start::default(), &Control::silent()).unwrap();
        session.train(6, &Control::silent()).unwrap();
        session.save_model(&place.path("teacher"), false).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run of 8 steps of 16 images on the glyphs, with `changes` to the plan.
    fn plan(&self, image_size: usize, channels: usize, changes: Value) -> Plan {
        let augment =
            json!({ "cropPadding": 2, "flip": true, "rotate": 10, "scale": 0.1, "shear": 5, "translate": 0.05 });
        let mut plan = json!({
            "data": {
                "source": "glyphs:classes=10,writers=8", "imageSize": image_size, "channels": channels,
                "split": { "kind": "classes", "validation": 0, "test": 0.2 }, "augment": augment, "cache": self.path("cache"),
            },
            "backbone": {
                "kind": "conv4", "width": 6, "stem": "small", "embedding": 8, "normalize": false,
                "inChannels": channels, "imageSize": image_size, "classes": null,
            },
            "weights": null, "teachers": [], "losses": [],
            "optimizer": {
                "kind": "adam", "learningRate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.0
            },
            "schedule": { "kind": "cosine", "warmupSteps": 0, "minimum": 0.0 }, "clipGradientNorm": null,
            "batch": { "size": 16, "perClass": 4 }, "epochs": 1, "stepsPerEpoch": 8, "seed": 1, "splitSeed": 1, "threads": 2,
        });
        for (key, value) in changes.as_object().unwrap() {
            plan[key] = value.clone();
        }
        serde_json::from_value(plan).unwrap()
    }

    /// A second teacher, of 24 pixels and 5 numbers, whatever the first is.
    fn second_teacher(&self) {
        let mut plan = self.plan(24, 1, json!({ "losses": [{ "kind": "triplet-squared" }], "seed": 9 }));
        plan.backbone.embedding = Some(5);
        let mut session = open(plan, &Start::default(), &Control::silent()).unwrap();
        session.train(3, &Control::silent()).unwrap();
        session.save_model(&self.path("second"), false).unwrap();
    }

    /// [`Place::plan`] of a distillation by every way a feature goes: relations on the host, maps on the device.
    fn distillation(&self, image_size: usize, channels: usize, features: &str, changes: Value) -> Plan {
        let map = json!("blocks.1");
        let mut all = json!({
            "teachers": [{ "name": "teacher", "weight": 1, "model": self.path("teacher"), "features": features }],
            "losses": [
                { "kind": "rkd-distance" },
                { "kind": "attention-transfer", "weight": 5, "studentFeature": map, "teacherFeature": map },
                { "kind": "rkd-angle", "weight": "auto" },
                { "kind": "hint", "weight": 0.5, "studentFeature": map, "teacherFeature": map },
            ],
        });
        for (key, value) in changes.as_object().unwrap() {
            all[key] = value.clone();
        }
        self.plan(image_size, channels, all)
    }
}

/// A control that collects events.
fn listening() -> (Control, Arc<Mutex<Vec<Event>>>) {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = Arc::clone(&events);
    (Control::new(move |event| sink.lock().unwrap().push(event)), events)
}

fn warnings(events: &Mutex<Vec<Event>>) -> Vec<String> {
    let warning = |event: &Event| match event {
        Event::Warning { message } => Some(message.clone()),
        _ => None,
    };
    events.lock().unwrap().iter().filter_map(warning).collect()
}

/// The model after `until` steps, by way of a checkpoint after `stop` of them if that is not 0.
fn run(place: &Place, plan: &Plan, stop: u64, until: u64) -> Vec<u8> {
    run_by(&open, place, plan, stop, until)
}

/// What opens a session.
type Open = dyn Fn(Plan, &Start, &Control) -> rkd_core::Result<Box<dyn Training>>;

/// As [`run`], by sessions that `open` opens.
fn run_by(open: &Open, place: &Place, plan: &Plan, stop: u64, until: u64) -> Vec<u8> {
    let (silent, checkpoint) = (Control::silent(), place.path("checkpoint"));
    let mut session = open(plan.clone(), &Start::default(), &silent).unwrap();
    if stop > 0 {
        session.train(stop, &silent).unwrap();
        session.save_checkpoint(&checkpoint, Value::Null).unwrap();
        session = open(plan.clone(), &at(&checkpoint), &silent).unwrap();
    }
    session.train(until, &silent).unwrap();
    saved(&mut *session, &place.path("model"))
}

fn saved(session: &mut dyn Training, path: &Path) -> Vec<u8> {
    session.save_model(path, false).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_step_waits_for_its_device_once() {
    let place = Place::new(28, 1);
    for features in ["live", "cached"] {
        let changes = json!({ "clipGradientNorm": 0.1, "losses": [
            { "kind": "rkd-distance" },
            { "kind": "hint", "studentFeature": "blocks.1", "teacherFeature": "blocks.2" },
            { "kind": "attention-transfer", "studentFeature": "blocks.1" },
            { "kind": "linear-hint" },
        ] });
        let plan = place.distillation(28, 1, features, changes);
        let backend = Portable::cpu_f32();
        let mut session =
            Session::open(backend.clone(), Host::new(1), plan, &Start::default(), &Control::silent()).unwrap();
        let before = backend.downloads();
        let (control, events) = listening();
        session.train(6, &control).unwrap();
        // Of a step that is reported the norm is fetched at once, and that of the last step at the end.
        let reported = events.lock().unwrap().iter().filter(|event| matches!(event, Event::Step(_))).count() as u64;
        let waits = backend.downloads() - before;
        assert!((6 + reported..=7 + reported).contains(&waits), "{waits} for 6 steps, {reported} reported");
    }
}

#[test]
fn candle_trains_as_the_kernels_do() {
    trains_as_the_kernels_do("candle-cpu", &open);
}

/// Whether sessions on `device`, which `of_device` opens, have the losses of those on the CPU.
fn trains_as_the_kernels_do(device: &str, of_device: &Open) {
    let place = Place::new(28, 1);
    for changes in [json!({}), json!({ "microBatch": 6, "clipGradientNorm": 0.5 })] {
        for features in ["live", "cached"] {
            let report = |device: &str, open: &Open| {
                let mut changes = changes.clone();
                changes["device"] = json!(device);
                let plan = place.distillation(28, 1, features, changes);
                let mut session = open(plan, &Start::default(), &Control::silent()).unwrap();
                assert_eq!(serde_json::to_value(session.summary()).unwrap()["device"], device);
                let report = session.train(8, &Control::silent()).unwrap();
                let terms = report.terms.iter().map(|term| term.term.clone());
                (
                    report.loss,
                    terms.collect::<Vec<_>>(),
                    session.evaluate(Who::Student, Part::Test, &[1], &Control::silent()),
                )
            };
            let (kernels, other) = (report("cpu", &open), report(device, of_device));
            // The tolerance of golden trainings in float32.
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * a.abs();
            assert!(near(kernels.0, other.0), "{} {}", kernels.0, other.0);
            assert_eq!(kernels.1.len(), 4);
            for (a, b) in kernels.1.iter().zip(&other.1) {
                assert!(a.name == b.name && near(a.value, b.value), "{a:?} {b:?}");
                assert!((a.gradient_norm - b.gradient_norm).abs() <= 1e-3 * a.gradient_norm, "{a:?} {b:?}");
            }
            kernels.2.unwrap();
            other.2.unwrap();
        }
    }
}

/// Whole sessions on the device of the CUDA tests.
#[cfg(target_os = "linux")]
mod cuda {
    use super::*;
    use rkd_core::artefact::model::Model;
    use rkd_core::backbones::define;
    use rkd_core::nn::{Backend, Feature, Network, Precision};

    fn open(plan: Plan, start: &Start, control: &Control) -> rkd_core::Result<Box<dyn Training>> {
        let host = Host::new(plan.threads);
        let backend = crate::common::cuda(true).with_precision(plan.precision);
        Ok(Box::new(Session::open(backend, host, plan, start, control)?))
    }

    const ROUGHER: [&str; 2] = ["tf32", "bf16"];

    /// The mean loss of each epoch of a distillation.
    fn losses(place: &Place, precision: &str, features: &str, epochs: u64) -> Vec<f64> {
        let changes = json!({ "device": "cuda:0", "precision": precision, "epochs": epochs });
        let mut session =
            open(place.distillation(28, 1, features, changes), &Start::default(), &Control::silent()).unwrap();
        assert_eq!(serde_json::to_value(session.summary()).unwrap()["precision"], precision);
        (1..=epochs).map(|epoch| session.train(8 * epoch, &Control::silent()).unwrap().loss).collect()
    }

    #[test]
    fn learns_in_every_precision_as_in_float32() {
        let place = Place::new(28, 1);
        let exact = losses(&place, "float32", "live", 3);
        assert!(exact[2] < exact[0], "{exact:?}");
        // Seen: 1e-3 and 1e-2.
        for (precision, allowed) in ROUGHER.iter().zip([3e-3, 3e-2]) {
            let found = losses(&place, precision, "live", 3);
            let near = found.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= allowed * b);
            assert!(near && found[2] < found[0] && found != exact, "{precision}: {found:?} {exact:?}");
        }
    }

    #[test]
    fn resumes_to_the_same_bytes_in_every_precision() {
        let place = Place::new(28, 1);
        let models = ROUGHER.map(|precision| {
            let changes = json!({ "device": "cuda:0", "precision": precision, "clipGradientNorm": 0.5 });
            let plan = place.distillation(28, 1, "live", changes);
            let whole = run_by(&open, &place, &plan, 0, 6);
            assert!(run_by(&open, &place, &plan, 3, 6) == whole, "{precision}");
            whole
        });
        assert!(models[0] != models[1]);
    }

    #[test]
    fn what_was_trained_in_bf16_has_float32_weights_and_embeds_on_the_cpu() {
        let place = Place::new(28, 1);
        let plan = place.distillation(28, 1, "live", json!({ "device": "cuda:0", "precision": "bf16" }));
        run_by(&open, &place, &plan, 0, 6);
        let model = Model::load(&place.path("model")).unwrap();
        let halves = |values: &[f32]| values.iter().all(|value| value.to_bits() & 0xffff == 0);
        let trained = model.tensors.iter().filter(|(name, _)| name.ends_with("weight"));
        assert!(trained.clone().count() > 4 && trained.clone().all(|(_, tensor)| !halves(&tensor.data)));
        // Each on its own backend, in the same numbers but for their roundings.
        let images: Vec<f32> = (0..4 * 28 * 28).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
        let device = embedded(crate::common::cuda(true).with_precision(Precision::Bf16), &model, &images);
        let cpu = embedded(Portable::cpu_f32(), &model, &images);
        let off = crate::common::distance(&device, &cpu, 1e-3);
        assert!(off > 0.0 && off < 3e-2, "{off}");
        assert!(!halves(&device.iter().map(|&value| value as f32).collect::<Vec<_>>()));
    }

    /// The embeddings of four images.
    fn embedded<B: Backend>(backend: B, model: &Model, images: &[f32]) -> Vec<f64> {
        let definition = define(&model.card.backbone).unwrap();
        let network = Network::from_tensors(backend.clone(), definition, &model.tensors).unwrap();
        let images = backend.from_f32(images, &[4, 28, 28, 1]).unwrap();
        let features = network.into_inference().unwrap().forward(&images).unwrap();
        backend.to_f64(&features[&Feature::Embedding]).unwrap()
    }

    #[test]
    fn goes_on_in_another_precision_with_a_word() {
        let place = Place::new(28, 1);
        let plan = |device: &str, precision: &str| {
            place.distillation(28, 1, "live", json!({ "device": device, "precision": precision }))
        };
        let (control, events) = listening();
        let mut session = open(plan("cuda:0", "bf16"), &Start::default(), &control).unwrap();
        session.train(2, &control).unwrap();
        session.save_checkpoint(&place.path("checkpoint"), Value::Null).unwrap();
        let again = |open: &Open, device: &str, precision: &str| {
            open(plan(device, precision), &at(&place.path("checkpoint")), &control)
        };
        again(&open, "cuda:0", "bf16").unwrap();
        assert_eq!(warnings(&events), Vec::<String>::new());
        again(&super::open, "cpu", "float32").unwrap().train(4, &control).unwrap();
        let said =
            ["from the device cuda:0 and the run goes on on cpu", "computed in bf16 and the run goes on in float32"];
        let found = warnings(&events);
        assert!(found.len() == 2 && found.iter().zip(said).all(|(found, said)| found.contains(said)), "{found:?}");
        let error = again(&super::open, "cpu", "bf16").err().unwrap();
        assert_eq!((error.code, error.subject.as_deref()), (rkd_core::Code::InvalidOption, Some("precision")));
    }

    #[test]
    fn what_a_teacher_said_in_bfloat16_is_not_what_it_says_in_float32() {
        let place = Place::new(28, 1);
        let first = |precision: &str| losses(&place, precision, "cached", 1)[0];
        let before = first("float32");
        assert!(first("bf16") != before);
        assert_eq!(first("float32"), before);
    }

    #[test]
    fn trains_as_the_kernels_do() {
        super::trains_as_the_kernels_do("cuda:0", &open);
    }

    #[test]
    fn goes_on_where_the_cpu_stopped() {
        super::goes_on_where_the_cpu_stopped("cuda:0", &open);
    }

    /// Of the work of a step nearly all is in lists that came before: the same operations get the same places in memory. Weights that
    /// are found while training would change with each step.
    #[test]
    fn steps_are_done_from_recordings() {
        let place = Place::new(28, 1);
        let losses = json!([{ "kind": "rkd-distance" }, { "kind": "linear-hint" }, { "kind": "rkd-angle" }]);
        for micro_batch in [Value::Null, json!(4)] {
            let more = json!({ "losses": losses, "microBatch": micro_batch });
            let plan = place.distillation(28, 1, "live", more);
            let (backend, control) = (crate::common::cuda(true), Control::silent());
            let device = backend.device().clone();
            let host = Host::new(plan.threads);
            let mut session = Session::open(backend, host, plan, &Start::default(), &control).unwrap();
            session.train(8, &control).unwrap();
            let before = device.counts();
            session.train(12, &control).unwrap();
            let now = device.counts();
            let (single, recorded) = (now.single - before.single, now.recorded - before.recorded);
            assert!(recorded > 20 * single, "{single} pieces of work by themselves, {recorded} from recordings");
        }
    }

    #[test]
    fn resumes_to_the_same_bytes() {
        let place = Place::new(28, 1);
        let plan = place.distillation(28, 1, "live", json!({ "clipGradientNorm": 0.5 }));
        assert!(run_by(&open, &place, &plan, 3, 6) == run_by(&open, &place, &plan, 0, 6));
    }
}

#[test]
fn candle_resumes_to_the_same_bytes() {
    let place = Place::new(28, 1);
    let plan = place.distillation(28, 1, "live", json!({ "device": "candle-cpu", "clipGradientNorm": 0.5 }));
    assert!(run(&place, &plan, 3, 6) == run(&place, &plan, 0, 6));
}

#[test]
fn another_device_may_go_on_and_says_that_bytes_will_differ() {
    goes_on_where_the_cpu_stopped("candle-cpu", &open);
}

/// Whether a session on `device`, which `of_device` opens, goes on from a checkpoint of the CPU with a word.
fn goes_on_where_the_cpu_stopped(device: &str, of_device: &Open) {
    let place = Place::new(28, 1);
    let plan = place.distillation(28, 1, "live", json!({}));
    let (control, events) = listening();
    let mut session = open(plan.clone(), &Start::default(), &control).unwrap();
    session.train(2, &control).unwrap();
    session.save_checkpoint(&place.path("checkpoint"), json!("policy")).unwrap();
    let other = Plan { device: serde_json::from_value(json!(device)).unwrap(), ..plan.clone() };
    let mut resumed = of_device(other, &at(&place.path("checkpoint")), &control).unwrap();
    assert_eq!((resumed.summary().step, resumed.policy()), (2, &json!("policy")));
    let report = resumed.train(4, &control).unwrap();
    assert_eq!(report.step, 4);
    let (warnings, said) = (warnings(&events), format!("from the device cpu and the run goes on on {device}"));
    assert!(warnings.iter().any(|warning| warning.contains(&said)), "{warnings:?}");
}

#[test]
fn a_student_of_another_size_learns_from_a_teacher_and_resumes_to_the_same_bytes() {
    let place = Place::new(32, 3);
    for (image_size, channels) in [(24, 3), (16, 1)] {
        for features in ["live", "cached"] {
            let plan = place.distillation(image_size, channels, features, json!({}));
            let whole = run(&place, &plan, 0, 6);
            assert!(run(&place, &plan, 3, 6) == whole, "{image_size} {features}");
        }
    }
}

#[test]
fn a_teacher_scores_the_same_beside_a_student_of_any_size() {
    let place = Place::new(32, 3);
    let score = |image_size: usize, channels: usize| {
        let plan = place.distillation(image_size, channels, "live", json!({}));
        let mut session = open(plan, &Start::default(), &Control::silent()).unwrap();
        session.evaluate(Who::Teacher(0), Part::Test, &[1, 2], &Control::silent()).unwrap().metrics
    };
    assert_eq!(score(32, 3), score(16, 1));
}

#[test]
fn a_student_with_weights_of_its_own_keeps_their_normalisation_and_the_teacher_its_own() {
    let place = Place::new(28, 1);
    let normalization = json!({ "mean": [0.25], "std": [0.5] });
    let weights = json!({ "file": place.path("teacher"), "except": [], "normalization": normalization });
    let plan = place.distillation(28, 1, "live", json!({ "weights": weights }));
    let mut session = open(plan.clone(), &Start::default(), &Control::silent()).unwrap();
    let model = saved(&mut *session, &place.path("model"));
    let text = String::from_utf8_lossy(&model);
    assert!(text.contains(r#"\"normalization\":{\"mean\":[0.25],\"std\":[0.5]}"#));
    // The same network with the same weights: only the pixels differ, and so the relations.
    let report = session.train(1, &Control::silent()).unwrap();
    assert!(report.loss > 1e-3, "{}", report.loss);
    let same = json!({ "file": place.path("teacher"), "except": [], "normalization": null });
    let plan = place.distillation(28, 1, "live", json!({ "weights": same, "tuning": { "batchNorm": "running" } }));
    let report = open(plan, &Start::default(), &Control::silent()).unwrap().train(1, &Control::silent()).unwrap();
    let relations = |term: &&rkd_core::train::report::TermMean| term.term.name.starts_with("rkd");
    assert!(report.terms.iter().filter(relations).all(|term| term.term.value < 1e-6), "{:?}", report.terms);
}

#[test]
fn a_checkpoint_of_another_teacher_is_refused() {
    let place = Place::new(28, 1);
    let plan = place.distillation(28, 1, "live", json!({}));
    let mut session = open(plan.clone(), &Start::default(), &Control::silent()).unwrap();
    session.train(1, &Control::silent()).unwrap();
    session.save_checkpoint(&place.path("checkpoint"), Value::Null).unwrap();
    session.save_model(&place.path("teacher"), false).unwrap();
    let message = open(plan, &at(&place.path("checkpoint")), &Control::silent()).err().unwrap().to_string();
    assert!(message.contains("belongs to another teacher"), "{message}");
}

#[test]
fn prefixes_train_to_the_same_bytes_on_any_threads_and_after_a_resume() {
    let place = Place::new(28, 1);
    let losses = json!([
        { "kind": "rkd-distance" }, { "kind": "linear-hint" }, { "kind": "rkd-angle", "weight": "auto" },
        { "kind": "triplet-squared" }, { "kind": "cross-entropy" },
    ]);
    let plan = |prefixes: Value, threads: usize| {
        let mut plan =
            place.distillation(28, 1, "live", json!({ "losses": losses, "prefixes": prefixes, "threads": threads }));
        plan.backbone.normalize = true;
        plan
    };
    let whole = run(&place, &plan(json!([2, 4]), 2), 0, 8);
    assert!(run(&place, &plan(json!([2, 4]), 1), 0, 8) == whole);
    assert!(run(&place, &plan(json!([2, 4]), 2), 3, 8) == whole);
    assert!(run(&place, &plan(json!([]), 2), 0, 8) != whole);
    let message = open(plan(json!([8]), 1), &Start::default(), &Control::silent()).err().unwrap().to_string();
    assert!(message.contains("lengths below 8"), "{message}");
}

#[test]
fn what_is_left_out_at_random_is_the_same_on_any_threads_and_after_a_resume() {
    let place = Place::new(28, 1);
    let plan = |dropout: f64, drop_path: f64, threads: usize| {
        let tuning = json!({ "dropout": dropout, "dropPath": drop_path });
        let changes = json!({ "losses": [{ "kind": "rkd-distance" }], "tuning": tuning, "threads": threads });
        let mut plan = place.distillation(28, 1, "live", changes);
        (plan.backbone.kind, plan.backbone.width) = ("mobilenet-v2".into(), 8);
        plan
    };
    let whole = run(&place, &plan(0.3, 0.4, 2), 0, 6);
    for threads in [1, 3] {
        assert!(run(&place, &plan(0.3, 0.4, threads), 0, 6) == whole, "{threads} threads");
    }
    assert!(run(&place, &plan(0.3, 0.4, 2), 3, 6) == whole, "after a resume");
    for (dropout, drop_path) in [(0.3, 0.0), (0.0, 0.4), (0.0, 0.0)] {
        assert!(run(&place, &plan(dropout, drop_path, 2), 0, 6) != whole, "{dropout}, {drop_path}");
    }
}

/// Two teachers, each read in a way of its own, weighed 1 to 3.
fn two(place: &Place, ways: [&str; 2]) -> Value {
    let teacher = |name: &str, weight: f64, features: &str| json!({ "name": name, "weight": weight, "model": place.path(name), "features": features });
    json!([teacher("teacher", 1.0, ways[0]), teacher("second", 3.0, ways[1])])
}

#[test]
fn several_teachers_of_other_sizes_and_lengths_teach_and_resume_to_the_same_bytes() {
    let place = Place::new(32, 3);
    place.second_teacher();
    let losses = json!([
        { "kind": "rkd-distance" },
        { "kind": "linear-hint" },
        { "kind": "rkd-angle", "weight": "auto", "teacher": "second" },
        { "kind": "hint", "weight": 0.5, "studentFeature": "blocks.1", "teacherFeature": "blocks.1" },
        { "kind": "attention-transfer", "studentFeature": "blocks.1", "teacherFeature": "blocks.1", "teacher": "teacher" },
    ]);
    for device in ["cpu", "candle-cpu"] {
        for ways in [["live", "live"], ["cached", "live"], ["cached", "cached"]] {
            let changes = json!({ "teachers": two(&place, ways), "losses": losses, "device": device });
            let plan = place.distillation(28, 1, "live", changes);
            let whole = run(&place, &plan, 0, 6);
            assert!(run(&place, &plan, 3, 6) == whole, "{device} {ways:?}");
            let other = Plan { threads: 1, ..plan.clone() };
            assert!(run(&place, &other, 0, 6) == whole, "{device} {ways:?}");
            if device == "cpu" {
                let weights = json!([{ "kind": "rkd-distance" }]);
                let changed = |teachers: Value| {
                    let changes = json!({ "teachers": teachers, "losses": weights });
                    run(&place, &place.distillation(28, 1, "live", changes), 0, 2)
                };
                let mut heavier = two(&place, ways);
                heavier[0]["weight"] = json!(2);
                assert!(changed(two(&place, ways)) != changed(heavier), "{ways:?}");
            }
        }
    }
}

#[test]
fn a_step_beside_several_teachers_is_the_average_of_steps_beside_each() {
    let place = Place::new(32, 3);
    place.second_teacher();
    let values = |teachers: Value, ways: [&str; 2], device: &str| {
        let losses = json!([
            { "kind": "rkd-distance" },
            { "kind": "attention-transfer", "studentFeature": "blocks.1", "teacherFeature": "blocks.1" },
        ]);
        let changes = json!({ "teachers": teachers, "losses": losses, "device": device });
        let plan = place.distillation(28, 1, ways[0], changes);
        let mut session = open(plan, &Start::default(), &Control::silent()).unwrap();
        let report = session.train(1, &Control::silent()).unwrap();
        report.terms.iter().map(|term| term.term.value).collect::<Vec<_>>()
    };
    for device in ["cpu", "candle-cpu"] {
        for ways in [["live", "live"], ["live", "cached"]] {
            let both = two(&place, ways);
            let alone = [0, 1].map(|teacher| values(json!([both[teacher]]), ways, device));
            for (term, value) in values(both, ways, device).into_iter().enumerate() {
                let expected = 0.25 * alone[0][term] + 0.75 * alone[1][term];
                assert!(alone[0][term] != alone[1][term]);
                assert!((value - expected).abs() <= 1e-6 * expected, "{device} {ways:?} {term}: {value} {expected}");
            }
        }
    }
}

#[test]
fn each_teacher_is_measured_and_named() {
    let place = Place::new(28, 1);
    place.second_teacher();
    let plan = place.distillation(28, 1, "live", json!({ "teachers": two(&place, ["live", "cached"]) }));
    let mut session = open(plan.clone(), &Start::default(), &Control::silent()).unwrap();
    let summary = session.summary();
    let found: Vec<_> =
        summary.teachers.iter().map(|teacher| (&teacher.name[..], teacher.weight, teacher.network.embedding)).collect();
    assert_eq!(found, [("teacher", 1.0, 8), ("second", 3.0, 5)]);
    let mut score = |who| session.evaluate(who, Part::Test, &[1], &Control::silent()).map(|found| found.metrics);
    assert!(score(Who::Teacher(0)).unwrap() != score(Who::Teacher(1)).unwrap());
    assert!(score(Who::Teacher(2)).is_err());

    // Without labels a student is as good as it keeps the relations of all, by their weights.
    let mut data = plan.data.clone();
    data.labels = serde_json::from_value(json!("none")).unwrap();
    data.split = serde_json::from_value(json!({ "kind": "images", "validation": 0.0, "test": 0.2 })).unwrap();
    let mut batch = plan.batch.clone();
    batch.per_class = None;
    let unlabelled = Plan { data, batch, ..plan };
    let mut session = open(unlabelled.clone(), &Start::default(), &Control::silent()).unwrap();
    for who in [Who::Student, Who::Teacher(1)] {
        let found = session.evaluate(who, Part::Test, &[1], &Control::silent()).unwrap();
        let [first, second] = &found.fidelity[..] else { panic!("one of each teacher") };
        assert_eq!((&first.teacher[..], &second.teacher[..]), ("teacher", "second"));
        for (name, value) in &found.metrics {
            let mean = 0.25 * first.fidelity.metrics()[name] + 0.75 * second.fidelity.metrics()[name];
            assert!((value - mean).abs() < 1e-12, "{name}");
        }
        assert_eq!(second.fidelity.neighbour_overlap == 1.0, who == Who::Teacher(1));
        assert!(first.fidelity.neighbour_overlap < 1.0);
    }

    // A run goes on with the teachers that it has, each in its place.
    session.save_checkpoint(&place.path("checkpoint"), Value::Null).unwrap();
    let again = |plan: &Plan| open(plan.clone(), &at(&place.path("checkpoint")), &Control::silent());
    assert!(again(&unlabelled).is_ok());
    let mut swapped = unlabelled.clone();
    let places = ["second", "teacher"].map(|name| place.path(name));
    swapped.teachers.iter_mut().zip(places).for_each(|(teacher, place)| teacher.model = place);
    let message = again(&swapped).err().unwrap().to_string();
    assert!(message.contains("teacher teacher: the checkpoint belongs to another teacher"), "{message}");
}
