//! Weights of PyTorch, torchvision and timm: what is read, what is refused, and that no file does harm.
//!
//! The fixtures and the numbers beside them are made by `weights/make.py`.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::path::PathBuf;

use crate::common::{Draw, distance, nhwc_shape, numbers, sizes};
use rkd_core::Code;
use rkd_core::artefact::model::{Model, ModelCard, Origin};
use rkd_core::artefact::tensors::TensorFile;
use rkd_core::artefact::weights::Weights;
use rkd_core::backbones::{BackboneSpec, Stem, adapt, build};
use rkd_core::data::{InputKind, Normalization};
use rkd_core::nn::backend::Backend;
use rkd_core::nn::tuning::{TrainingStatistics, TuningPlan};
use rkd_core::nn::{Feature, Network, Portable};
use rkd_core::optim::{Optimizer, OptimizerSpec};
use rkd_core::random::Random;
use rkd_core::tensor::HostTensor;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

type Tensors = BTreeMap<String, HostTensor>;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/weights").join(name)
}

fn load(name: &str) -> Tensors {
    Weights::load(&fixture(name), None).unwrap().tensors
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture("expected.json")).unwrap()).unwrap()
}

fn assert_equal(tensors: &Tensors, expected: &Value) {
    let expected = expected.as_object().unwrap();
    assert_eq!(tensors.len(), expected.len());
    for (name, tensor) in tensors {
        assert_eq!(tensor.shape, sizes(&expected[name]["shape"]), "{name}");
        let values: Vec<f32> = numbers(&expected[name]["data"]).into_iter().map(|v| v as f32).collect();
        assert_eq!(tensor.data, values, "{name}");
    }
}

/// torchvision's resnet18 with one channel where it has 64.
fn spec() -> BackboneSpec {
    BackboneSpec { width: 1, embedding: Some(5), ..BackboneSpec::published("resnet18", 32) }
}

/// The embeddings of `images [n, c, h, w]`, as PyTorch's program draws them.
fn embeddings(network: &Network<Portable>, shape: &[usize]) -> Vec<f64> {
    let images = Draw { seed: 1 }.images("weights", shape);
    let images = network.backend().from_f32(&images, &nhwc_shape(shape)).unwrap();
    network.backend().to_f64(&network.forward_eval(&images).unwrap()[&Feature::Embedding]).unwrap()
}

fn network(spec: &BackboneSpec) -> Network<Portable> {
    build(Portable::cpu_f64(), spec, 1).unwrap()
}

#[test]
fn a_checkpoint_of_torchvision_gives_pytorchs_embeddings() {
    let weights = Weights::load(&fixture("resnet18.pth"), None).unwrap();
    assert_eq!((weights.tensors.len(), weights.normalization), (122, None));
    let mut network = network(&spec());
    let taken = network.take(&weights.tensors, &[]).unwrap();
    assert_eq!((taken.count, taken.warning()), (122, None));
    let off = distance(&embeddings(&network, &[2, 3, 32, 32]), &numbers(&expected()["embedding"]["data"]), 0.0);
    // PyTorch computed them in float32.
    assert!(off < 1e-5, "{off:.1e}");
    assert_eq!(network.tensors().unwrap()["bn1.num_batches_tracked"].data, [7.0]);
}

#[test]
fn a_perceptron_of_pytorch_gives_its_embeddings() {
    let spec = BackboneSpec { kind: "mlp".into(), hidden: vec![6, 5], embedding: Some(3), image_size: 4, ..spec() };
    let mut network = network(&spec);
    let taken = network.take(&load("mlp.pth"), &[]).unwrap();
    assert_eq!((taken.count, taken.warning()), (6, None));
    let off = distance(&embeddings(&network, &[2, 3, 4, 4]), &numbers(&expected()["mlp"]["data"]), 0.0);
    assert!(off < 1e-5, "{off:.1e}");
}

#[test]
fn every_element_type_view_and_shape_is_read() {
    assert_equal(&load("kinds.pth"), &expected()["kinds"]);
}

#[test]
fn a_training_checkpoint_is_unwrapped() {
    assert_equal(&load("training.pth"), &expected()["training"]);
}

#[test]
fn a_file_that_asks_for_code_is_refused_by_name() {
    let error = Weights::load(&fixture("hostile.pth"), None).unwrap_err();
    assert_eq!(error.code, Code::InvalidArtefact);
    let text = error.to_string();
    assert!(text.contains("hostile.pth") && text.contains("print, which is not run here"), "{text}");
}

#[test]
fn other_kinds_of_files_are_errors_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    TensorFile::default().save(&path).unwrap();
    assert!(Weights::load(&path, None).unwrap_err().to_string().contains("no weights in the file"));
    for bytes in [&b""[..], b"\x89HDF\r\n", b"PK\x03\x04", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        assert_eq!(Weights::decode(bytes, None).unwrap_err().code, Code::InvalidArtefact);
    }
    assert_eq!(Weights::load(&folder.path().join("none"), None).unwrap_err().code, Code::NotFound);
}

/// The numbers of `[a, b]` in `fc.bias`, as a safetensors file of this type.
fn bias_of(dtype: Dtype, data: &[u8]) -> Vec<u8> {
    let view = TensorView::new(dtype, vec![2], data).unwrap();
    safetensors::serialize([("fc.bias", view)], None).unwrap()
}

#[test]
fn a_safetensors_file_of_half_precision() {
    let half = Weights::decode(&bias_of(Dtype::F16, &[0x00, 0x3C, 0x00, 0xC0]), None).unwrap();
    assert_eq!(half.tensors["fc.bias"].data, [1.0, -2.0]);
}

#[test]
fn values_that_no_network_can_have_are_named() {
    let weights = load("resnet18.pth");
    let refused = |name: &str, value: f32, expected: &str| {
        let mut wrong = weights.clone();
        wrong.get_mut(name).unwrap().data[0] = value;
        let mut student = network(&spec());
        let before = student.tensors().unwrap();
        for error in [student.take(&wrong, &[]).map(|_| ()).unwrap_err(), student.set_tensors(&wrong).unwrap_err()] {
            assert_eq!(error.code, Code::InvalidArtefact, "{name}");
            assert!(error.to_string().contains(&format!("the tensor {name} {expected}")), "{error}");
        }
        assert_eq!(student.tensors().unwrap(), before);
    };
    refused("conv1.weight", f32::NAN, "is not finite");
    refused("fc.bias", f32::NEG_INFINITY, "is not finite");
    refused("bn1.running_mean", f32::INFINITY, "is not finite");
    refused("layer1.0.bn2.running_var", -1e-9, "is no variance");
    // A double that no float32 holds.
    let bytes: Vec<u8> = [1.0, f64::MAX].iter().flat_map(|v: &f64| v.to_le_bytes()).collect();
    let read = Weights::decode(&bias_of(Dtype::F64, &bytes), None).unwrap();
    let mut student = network(&BackboneSpec { embedding: Some(2), ..spec() });
    let mut all = weights.clone();
    all.insert("fc.weight".into(), HostTensor { shape: vec![2, 8], data: vec![0.0; 16] });
    all.extend(read.tensors);
    let error = student.take(&all, &[]).unwrap_err().to_string();
    assert!(error.contains("fc.bias is not finite: expected finite numbers within float32, received inf"), "{error}");
    // What is left out may be anything.
    let taken = network(&BackboneSpec { embedding: None, ..spec() }).take(&all, &[]).unwrap();
    assert_eq!(taken.ignored, ["fc.bias", "fc.weight"]);
}

#[test]
fn what_training_scripts_save_beside_a_state_dict_is_left_out() {
    let weights = Weights::load(&fixture("beside.pth"), None).unwrap();
    assert_equal(&weights.tensors, &expected()["beside"]);
    assert_eq!((weights.path.as_str(), weights.others.len()), ("state_dict", 0));
}

#[test]
fn every_form_of_the_file_is_read() {
    for name in ["legacy.pth", "unchecked.pth"] {
        let tensors = load(name);
        let values = &expected()["kinds"]["float32"];
        assert_equal(&tensors, &serde_json::json!({ "fc.weight": values }));
    }
    for name in ["zip64.pth", "kinds-of-21-letters-x.pth"] {
        assert_equal(&load(name), &expected()["kinds"]);
    }
}

#[test]
fn tensors_that_are_not_read_are_named_with_their_kind() {
    let table = [
        ("quantised", "a quantised tensor"),
        ("sparse", "a sparse tensor"),
        ("complex", "ComplexFloatStorage"),
        ("float8", "torch.float8_e4m3fn"),
        ("meta", "meta device"),
        ("sign", "conjugation or sign"),
    ];
    for (key, what) in table {
        let error = Weights::load(&fixture("unread.pth"), Some(key)).unwrap_err().to_string();
        assert!(error.contains("the tensor fc.weight of the checkpoint") && error.contains(what), "{key}: {error}");
    }
    let error = Weights::load(&fixture("unread.pth"), None).unwrap_err().to_string();
    assert!(error.contains("under several names") && error.contains("quantised, sparse"), "{error}");
}

#[test]
fn models_that_are_programs_or_objects_are_called_so_with_the_way_out() {
    for name in ["whole.pth", "whole-legacy.pth"] {
        let error = Weights::load(&fixture(name), None).unwrap_err().to_string();
        assert!(error.contains("whole model") && error.contains("torch.nn.modules.linear.Linear"), "{name}: {error}");
        assert!(error.contains("torch.save(model.state_dict()"), "{name}: {error}");
    }
    let error = Weights::load(&fixture("script.pt"), None).unwrap_err().to_string();
    assert!(error.contains("TorchScript") && error.contains("torch.jit.load(path).state_dict()"), "{error}");
    let zip = |name: &str| {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        Weights::decode(&zip.finish().unwrap().into_inner(), None).unwrap_err().to_string()
    };
    let table = [
        ("conv1.weight.npy", "arrays of NumPy"),
        ("net/archive_format", "torch.export"),
        ("model.weights.h5", "Keras"),
        ("weights/best.pth", "unpack it"),
        ("readme.txt", "its first entry"),
    ];
    for (name, what) in table {
        assert!(zip(name).to_lowercase().contains(&what.to_lowercase()), "{name}: {}", zip(name));
    }
}

#[test]
fn a_checkpoint_of_pytorch_is_no_model_and_a_checkpoint_of_rkd_no_weights() {
    let error = Model::load(&fixture("resnet18.pth")).unwrap_err();
    assert_eq!(error.code, Code::InvalidArtefact);
    let text = error.to_string();
    assert!(text.contains("checkpoint of PyTorch") && text.contains("train() with these weights"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    std::fs::write(&path, b"\x93NUMPY\x01\0v\0{'descr': '<f4'").unwrap();
    let text = Model::load(&path).unwrap_err().to_string();
    assert!(text.contains("expected a model.safetensors or the folder of a run, received an array of NumPy"), "{text}");
    let tensors = Tensors::from([("model.fc.bias".to_string(), HostTensor { shape: vec![1], data: vec![0.0] })]);
    for (field, what) in [("checkpoint", "unfinished run"), ("ids", "embeddings")] {
        TensorFile { document: serde_json::json!({ field: 2 }), tensors: tensors.clone() }.save(&path).unwrap();
        let error = Weights::load(&path, None).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_normalisation_that_divides_by_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for std in [0.0, -1.0] {
        model(&spec(), Normalization { mean: vec![0.5; 3], std: vec![0.5, std, 0.5] }).save(&path).unwrap();
        for error in [Model::load(&path).unwrap_err(), Weights::load(&path, None).unwrap_err()] {
            assert_eq!(error.code, Code::InvalidArtefact);
            assert!(error.to_string().contains("a mean and a positive std"), "{error}");
        }
    }
}

/// A model of random weights.
fn model(spec: &BackboneSpec, normalization: Normalization) -> Model {
    let card = ModelCard {
        backbone: spec.clone(),
        input: InputKind::Images,
        normalization,
        classes: None,
        prefixes: vec![],
        origin: Origin::default(),
    };
    Model { card, tensors: network(spec).tensors().unwrap() }
}

/// Pickled text.
fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A pickled dictionary.
fn dictionary(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs: Vec<u8> = entries.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"}(", &pairs[..], b"u"].concat()
}

/// A pickled tensor of the number `value`, at most 3.
fn tensor(value: u8) -> Vec<u8> {
    let call = b"ctorch._utils\n_rebuild_tensor_v2\n(";
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ";
    [call, &storage[..], b"K", &[value], b"K\x01\x85K\x01\x85\x89NtR"].concat()
}

/// The weights of a checkpoint whose root is `root`.
fn checkpoint(root: &[u8], key: Option<&str>) -> rkd_core::Result<Weights> {
    let numbers: Vec<u8> = (0..4).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let pickle = [b"\x80\x02", root, b"."].concat();
    Weights::decode(&archive(&pickle, &numbers, CompressionMethod::Stored), key)
}

#[test]
fn the_state_dict_is_found_where_training_scripts_put_it() {
    let state = |value| dictionary(&[("fc.weight", tensor(value))]);
    let counts = dictionary(&[("count", b"K\x05".to_vec())]);
    let nested = dictionary(&[("state_dict", state(1)), ("meta", counts.clone())]);
    let averaged = dictionary(&[("state_dict", state(1)), ("ema_state_dict", state(2)), ("teacher", state(3))]);
    // (checkpoint, key, path, number, others)
    let table = [
        (state(1), None, "", 1.0, ""),
        (dictionary(&[("acc", tensor(2)), ("state_dict", state(1))]), None, "state_dict", 1.0, ""),
        (dictionary(&[("model_state", state(1)), ("epoch", b"K\x05".to_vec())]), None, "model_state", 1.0, ""),
        (dictionary(&[("weights", state(1))]), None, "weights", 1.0, ""),
        (dictionary(&[("anything", state(1))]), None, "anything", 1.0, ""),
        (dictionary(&[("acc", tensor(2)), ("anything", state(1))]), None, "anything", 1.0, ""),
        (dictionary(&[("model", nested.clone()), ("optimizer", state(2))]), None, "model.state_dict", 1.0, ""),
        (dictionary(&[("fc.weight", tensor(1)), ("extra", state(2))]), None, "", 1.0, "extra"),
        (averaged.clone(), None, "state_dict", 1.0, "ema_state_dict teacher"),
        (averaged.clone(), Some("ema_state_dict"), "ema_state_dict", 2.0, ""),
        (averaged, Some("teacher"), "teacher", 3.0, ""),
        (dictionary(&[("model", nested)]), Some("model.state_dict"), "model.state_dict", 1.0, ""),
        (dictionary(&[("a.b", state(1)), ("a", state(2))]), Some("a.b"), "a.b", 1.0, ""),
        // Of two with one key the later counts, as in Python.
        (dictionary(&[("model", state(1)), ("model", state(2))]), None, "model", 2.0, ""),
    ];
    for (root, key, path, number, others) in table {
        let weights = checkpoint(&root, key).unwrap();
        assert_eq!(weights.tensors["fc.weight"].data, [number], "{path} {key:?}");
        assert_eq!((weights.path.as_str(), weights.others.join(" ")), (path, others.to_string()), "{key:?}");
    }
}

#[test]
fn a_choice_that_nobody_made_is_an_error_that_names_it() {
    let state = |value| dictionary(&[("fc.weight", tensor(value))]);
    let pair = dictionary(&[("student", state(1)), ("teacher", state(2))]);
    let models = [b"](", &state(1)[..], &state(2), b"e"].concat();
    let object = b"cmodels.yolo\nModel\n)\x81}b".to_vec();
    let table = [
        (pair.clone(), None, "under several names: expected one of them, received student, teacher"),
        (dictionary(&[("model", pair.clone())]), None, "received model.student, model.teacher"),
        (pair, Some("ema"), "under several names"),
        (state(1), Some("ema"), "expected tensors under ema, received names that begin with fc"),
        (dictionary(&[("models", models)]), None, "a dictionary of models"),
        (dictionary(&[("epoch", b"K\x01".to_vec())]), None, "a dictionary of epoch"),
        (
            dictionary(&[("model", object.clone()), ("epoch", b"N".to_vec())]),
            None,
            "model (a whole model or another object, of the class models.yolo.Model), epoch",
        ),
        (object, None, "of the class models.yolo.Model"),
        (tensor(1), None, "a single tensor"),
        ([b"]", &tensor(1)[..], b"a"].concat(), None, "tensors without names"),
        (b"]".to_vec(), None, "a list"),
        (b"K\x01".to_vec(), None, "a value that is no tensor"),
    ];
    for (root, key, part) in table {
        let error = checkpoint(&root, key).unwrap_err();
        assert_eq!(error.code, Code::InvalidArtefact);
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}

#[test]
fn prefixes_of_wrappers_come_off_and_a_key_chooses_among_them() {
    let one = |name: &str| dictionary(&[(name, tensor(1))]);
    for prefix in
        ["module", "model", "backbone", "encoder", "student", "teacher", "module.model.backbone", "_orig_mod.module"]
    {
        let weights = checkpoint(&one(&format!("{prefix}.fc.weight")), None).unwrap();
        assert_eq!(weights.tensors.keys().collect::<Vec<_>>(), ["fc.weight"], "{prefix}");
    }
    let names = |root: &[u8], key| {
        let weights = checkpoint(root, key).unwrap();
        (
            weights
                .tensors
                .keys()
                .map(|name| format!("{name}={}", weights.tensors[name].data[0]))
                .collect::<Vec<_>>()
                .join(" "),
            weights.parts().join(" "),
        )
    };
    let both = dictionary(&[
        ("module.student.conv1.weight", tensor(1)),
        ("module.teacher.conv1.weight", tensor(2)),
        ("module.queue", tensor(3)),
    ]);
    assert_eq!(names(&both, None).1, "student teacher");
    assert_eq!(names(&both, Some("student")), ("conv1.weight=1".into(), "".into()));
    assert_eq!(names(&both, Some("module.teacher")), ("conv1.weight=2".into(), "".into()));
    let inside = dictionary(&[("state_dict", both)]);
    assert_eq!(names(&inside, Some("teacher")).0, "conv1.weight=2");
    assert_eq!(names(&inside, Some("state_dict.module.teacher")).0, "conv1.weight=2");
    // A head beside the wrapped network keeps its name; where it would take another's, nothing comes off.
    let beside = dictionary(&[("backbone.conv1.weight", tensor(1)), ("head.fc.weight", tensor(2))]);
    assert_eq!(names(&beside, None).0, "conv1.weight=1 head.fc.weight=2");
    let twice = dictionary(&[("backbone.fc.weight", tensor(1)), ("fc.weight", tensor(2))]);
    assert_eq!(names(&twice, None), ("backbone.fc.weight=1 fc.weight=2".into(), "backbone".into()));
    let plain = dictionary(&[("features.0.weight", tensor(1))]);
    assert_eq!(names(&plain, None).0, "features.0.weight=1");
}

/// torchvision puts an average to 7x7 places before VGG's head.
#[test]
fn a_vgg_of_torchvision_gives_its_features_at_every_size() {
    let file = load("vgg11.pth");
    for side in [64, 256] {
        let spec = BackboneSpec { kind: "vgg11".into(), image_size: side, embedding: None, ..spec() };
        let mut network = network(&spec);
        let taken = network.take(&adapt(&spec, &file), &[]).unwrap();
        assert_eq!((taken.kept.len(), taken.ignored.join(" ")), (0, "classifier.6.bias classifier.6.weight".into()));
        let expected = numbers(&expected()[format!("vgg{side}")]["data"]);
        assert!(expected.iter().filter(|value| **value > 0.01).count() > 20);
        let off = distance(&embeddings(&network, &[2, 3, side, side]), &expected, 0.0);
        assert!(off < 1e-5, "{side} pixels: {off:.1e}");
    }
    // At 224 pixels there is nothing to fold: the weights are torchvision's own.
    let spec = BackboneSpec { kind: "vgg11".into(), image_size: 224, embedding: None, ..spec() };
    let mut network = network(&spec);
    network.take(&adapt(&spec, &file), &[]).unwrap();
    assert_eq!(network.tensors().unwrap()["classifier.0.weight"], file["classifier.0.weight"]);
    // A head for maps of another size is still none for this one.
    let mut other = file.clone();
    other.insert("classifier.0.weight".into(), HostTensor { shape: vec![64, 72], data: vec![0.0; 64 * 72] });
    let error = network.take(&adapt(&spec, &other), &[]).unwrap_err().to_string();
    assert!(error.contains("classifier.0.weight [64, 72] instead of [64, 392]"), "{error}");
}

#[test]
fn many_views_of_one_storage_are_read_in_one_pass() {
    // 60,000 tensors of two numbers each, the first and the last of 4 MiB: a reader that converts the storage for each
    // view does not end.
    let function = b"ctorch._utils\n_rebuild_tensor_v2\nq\x01";
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ\0\0\x10\0tQq\x02";
    let places = b"K\0K\x02\x85J\xff\xff\x0f\0\x85\x89NtR";
    let call = [function, &b"("[..], storage, places].concat();
    let again = [b"h\x01(h\x02", &places[..]].concat();
    let mut pickle = b"\x80\x02}(".to_vec();
    for index in 0..60_000 {
        pickle.extend(text(&format!("{index}")));
        pickle.extend_from_slice(if index == 0 { &call } else { &again });
    }
    pickle.extend_from_slice(b"u.");
    let mut storage = vec![0; 4 << 20];
    storage[(4 << 20) - 4..].copy_from_slice(&1.5f32.to_le_bytes());
    let weights = Weights::decode(&archive(&pickle, &storage, CompressionMethod::Stored), None).unwrap();
    assert_eq!(weights.tensors.len(), 60_000);
    assert!(weights.tensors.values().all(|tensor| tensor.data == [0.0, 1.5]));
}

#[test]
fn dictionaries_that_name_each_other_are_looked_at_once() {
    // Thirty dictionaries, each of which names the next twice: a billion ways to the tensor.
    let mut value = dictionary(&[("fc.weight", tensor(1))]);
    for depth in 0..30u8 {
        value = [b"}(", &text("a")[..], &value, b"q", &[depth], &text("b"), b"h", &[depth], b"u"].concat();
    }
    let error = checkpoint(&value, None).unwrap_err().to_string();
    assert!(error.contains("no state dict"), "{error}");
    // One that holds itself.
    let error = checkpoint(&[b"}q\x01", &text("model")[..], b"h\x01s"].concat(), None).unwrap_err().to_string();
    assert!(error.contains("no state dict: expected tensors by name"), "{error}");
}

#[test]
fn the_head_alone_may_differ_and_the_warning_says_so() {
    let weights = load("resnet18.pth");
    let mut student = network(&BackboneSpec { embedding: Some(7), ..spec() });
    let before = student.tensors().unwrap();
    let taken = student.take(&weights, &[]).unwrap();
    assert_eq!((taken.count, taken.kept.join(" "), taken.ignored.len()), (120, "fc.weight fc.bias".into(), 0));
    let after = student.tensors().unwrap();
    assert_eq!(after["fc.weight"], before["fc.weight"]);
    assert_eq!(after["layer4.1.bn2.weight"], weights["layer4.1.bn2.weight"]);
    let warning = taken.warning().unwrap();
    assert!(warning.contains("keep their random start: fc.weight, fc.bias"), "{warning}");

    let taken = network(&BackboneSpec { embedding: None, classes: Some(3), ..spec() }).take(&weights, &[]).unwrap();
    assert_eq!(taken.ignored, ["fc.bias", "fc.weight"]);
    assert_eq!(taken.kept, ["classifier.weight", "classifier.bias"]);
}

#[test]
fn a_partial_load_is_refused_unless_every_name_is_excepted() {
    let mut weights = load("resnet18.pth");
    let removed = weights.remove("layer2.0.conv1.weight").unwrap();
    weights.insert("layer9.weight".into(), removed);
    let mut student = network(&spec());
    let before = student.tensors().unwrap();
    let error = student.take(&weights, &[]).unwrap_err();
    assert_eq!(error.code, Code::InvalidArtefact);
    let text = error.to_string();
    assert!(text.contains("missing: layer2.0.conv1.weight; unexpected: layer9.weight"), "{text}");
    assert_eq!(student.tensors().unwrap(), before);
    assert!(student.take(&weights, &["layer9".into()]).is_err());
    let taken = student.take(&weights, &["layer9".into(), "layer2.0.conv1".into()]).unwrap();
    assert_eq!(
        (taken.kept.join(" "), taken.ignored.join(" ")),
        ("layer2.0.conv1.weight".into(), "layer9.weight".into())
    );
    let error = student.take(&weights, &["leyer9".into()]).unwrap_err();
    assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some("weights.except")));
    assert!(error.to_string().contains("layer9"), "{error}");
}

/// A VGG as timm writes it: its first two linear layers are convolutions over the whole map.
#[test]
fn the_linear_layers_of_timms_vgg_are_those_of_torchvision() {
    let spec = BackboneSpec { kind: "vgg11".into(), width: 1, image_size: 64, embedding: Some(3), ..spec() };
    let theirs = build(Portable::cpu_f64(), &spec, 2).unwrap();
    let as_timm = |(name, mut tensor): (String, HostTensor)| {
        let name = name.replace("classifier.0.", "pre_logits.fc1.").replace("classifier.3.", "pre_logits.fc2.");
        tensor.shape = match name.as_str() {
            "pre_logits.fc1.weight" => vec![64, 8, 2, 2],
            "pre_logits.fc2.weight" => vec![64, 64, 1, 1],
            _ => tensor.shape,
        };
        (if name.starts_with("fc.") { format!("head.{name}") } else { name }, tensor)
    };
    let file =
        TensorFile { tensors: theirs.tensors().unwrap().into_iter().map(as_timm).collect(), ..Default::default() };
    assert!(file.tensors.contains_key("pre_logits.fc1.bias") && file.tensors.contains_key("head.fc.weight"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("timm.safetensors");
    file.save(&path).unwrap();
    let timm = Weights::load(&path, None).unwrap().tensors;
    let mut student = network(&spec);
    let taken = student.take(&timm, &[]).unwrap();
    assert_eq!(taken.kept, ["fc.weight", "fc.bias"]);
    assert_eq!(taken.ignored, ["head.fc.bias", "head.fc.weight"]);
    let (mut found, expected) = (student.tensors().unwrap(), theirs.tensors().unwrap());
    found.extend(["fc.weight", "fc.bias"].map(|name| (name.to_string(), expected[name].clone())));
    assert_eq!(found, expected);
    let small = BackboneSpec { stem: Stem::Small, ..spec };
    assert_eq!(network(&small).take(&timm, &[]).unwrap().kept, ["fc.weight", "fc.bias"]);
}

#[test]
fn weights_for_other_channels_or_of_nothing_here_are_errors_with_advice() {
    let weights = load("resnet18.pth");
    let grey = network(&BackboneSpec { in_channels: 1, ..spec() }).take(&weights, &[]).unwrap_err().to_string();
    assert!(grey.contains("images of 3 channels") && grey.contains("Read the images with 3 channels"), "{grey}");
    let foreign = Tensors::from([("other".to_string(), HostTensor { shape: vec![1], data: vec![0.0] })]);
    let error = network(&spec()).take(&foreign, &["*".into()]).unwrap_err().to_string();
    assert!(error.contains("nothing of the weights fits"), "{error}");
}

#[test]
fn counters_of_batches_may_be_missing() {
    let mut weights = load("resnet18.pth");
    weights.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let taken = network(&spec()).take(&weights, &[]).unwrap();
    assert_eq!((taken.count, taken.warning()), (102, None));
}

/// Peak memory of this process in MiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

/// Decodes `count` damaged copies that `damaged` makes, and says how many were read and how many refused.
fn survive(count: u64, name: &str, damaged: impl Fn(&mut Random) -> Vec<u8>) -> [usize; 2] {
    let mut outcomes = [0; 2];
    for case in 0..count {
        match Weights::decode(&damaged(&mut Random::keyed(1, 0, case, name)), None) {
            Ok(_) => outcomes[0] += 1,
            Err(error) => {
                assert_eq!(error.code, Code::InvalidArtefact, "{error}");
                outcomes[1] += 1;
            }
        }
    }
    outcomes
}

#[test]
fn damaged_files_end_in_an_error_or_in_weights_and_take_little_memory() {
    let before = peak_memory();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let normalization = Normalization { mean: vec![0.5; 3], std: vec![0.2; 3] };
    model(&BackboneSpec { kind: "conv4".into(), ..spec() }, normalization.clone()).save(&path).unwrap();
    assert_eq!(Weights::load(&path, None).unwrap().normalization, Some(normalization));
    let fixtures = ["kinds.pth", "training.pth", "hostile.pth", "legacy.pth", "beside.pth"].map(fixture);
    let mut outcomes = [0, 0];
    let mut add = |[read, refused]: [usize; 2]| outcomes = [outcomes[0] + read, outcomes[1] + refused];
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/weights");
    let corpus: Vec<PathBuf> = std::fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!corpus.is_empty());
    for path in fixtures.iter().chain([&path]).chain(&corpus) {
        let bytes = std::fs::read(path).unwrap();
        add(survive(4000, "file", |random| damage(&bytes, random)));
    }
    // Checksums would stop most of that at the archive's door: damage the pickle inside a good archive too.
    for path in &fixtures[..3] {
        let mut zip = ZipArchive::new(Cursor::new(std::fs::read(path).unwrap())).unwrap();
        let folder = path.file_stem().unwrap().to_string_lossy();
        let mut entry = |name: &str| {
            let mut bytes = Vec::new();
            zip.by_name(&format!("{folder}/{name}")).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let (pickle, storage) = (entry("data.pkl"), entry("data/0"));
        add(survive(10_000, "pickle", |random| archive(&damage(&pickle, random), &storage, CompressionMethod::Stored)));
    }
    let small = tensor_pickle(b"K\x04", b"K\0", b"K\x02K\x02\x86", b"K\x02K\x01\x86");
    let [read, refused] =
        survive(10_000, "tensor", |random| archive(&damage(&small, random), &[0; 16], CompressionMethod::Stored));
    assert!(read > 30 && refused > 1000, "{read} read, {refused} refused");
    add([read, refused]);
    assert!(outcomes[0] > 30 && outcomes[1] > 10_000, "{outcomes:?}");
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < 256, "{before} MiB before, {after} MiB after");
    }
}

/// One to four changes: a bit, a byte, a number of special size, an end cut off, a part taken out, a part repeated.
fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len());
        let end = (at + random.below(64)).min(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.below(256) as u8,
            2 => {
                let special: [u64; 5] = [0, u64::MAX, 1 << 31, 1 << 40, 1 << 63];
                let value = special[random.below(special.len())].to_le_bytes();
                let end = (at + [2, 4, 8][random.below(3)]).min(bytes.len());
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            _ => {
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, part);
            }
        }
    }
    bytes
}

/// A `.pth` whose archive is well formed and whose pickle is `pickle`.
fn archive(pickle: &[u8], storage: &[u8], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in [("x/data.pkl", pickle), ("x/data/0", storage)] {
        zip.start_file(name, SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The pickle of `{"w": tensor}` with this storage length, offset, shape and strides, each a pickled value.
fn tensor_pickle(length: &[u8], offset: &[u8], shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let call = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(";
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu";
    [call, &storage[..], length, b"tQ", offset, shape, strides, b"\x89NtRs."].concat()
}

#[test]
fn well_formed_files_with_impossible_sizes_are_errors() {
    let decode = |pickle: &[u8]| Weights::decode(&archive(pickle, &[0; 16], CompressionMethod::Stored), None);
    let good = decode(&tensor_pickle(b"K\x04", b"K\0", b"K\x02K\x02\x86", b"K\x02K\x01\x86")).unwrap();
    assert_eq!(good.tensors["w"], HostTensor { shape: vec![2, 2], data: vec![0.0; 4] });
    // 2^62, minus one and the largest of 31 bits.
    let (huge, minus, large) = (b"\x8a\x08\0\0\0\0\0\0\0\x40", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f");
    let two = |axis: &[u8]| [axis, axis, b"\x86"].concat();
    let table: [(&str, Vec<u8>); 9] = [
        ("an offset beyond the storage", tensor_pickle(b"K\x04", b"K\x01", &two(b"K\x02"), b"K\x02K\x01\x86")),
        ("a stride beyond the storage", tensor_pickle(b"K\x04", b"K\0", &two(b"K\x02"), b"K\x05K\x01\x86")),
        ("a negative size", tensor_pickle(b"K\x04", b"K\0", &two(minus), &two(b"K\x01"))),
        ("a negative offset", tensor_pickle(b"K\x04", minus, b"K\x02\x85", b"K\x01\x85")),
        ("a negative stride", tensor_pickle(b"K\x04", b"K\x03", b"K\x02\x85", &[&minus[..], b"\x85"].concat())),
        ("a storage with fewer bytes", tensor_pickle(b"M\x00\x10", b"K\0", b"K\x40\x85", b"K\x01\x85")),
        ("a product beyond 64 bits", tensor_pickle(huge, b"K\0", &two(huge), &two(huge))),
        ("one value repeated without end", tensor_pickle(b"K\x04", b"K\0", &two(large), &two(b"K\0"))),
        ("more axes than strides", tensor_pickle(b"K\x04", b"K\0", &two(b"K\x02"), b"K\x01\x85")),
    ];
    for (what, pickle) in table {
        let error = decode(&pickle).map(|weights| weights.tensors.len()).expect_err(what);
        assert_eq!(error.code, Code::InvalidArtefact, "{what}");
        assert!(!error.to_string().contains("opcode"), "{what}: {error}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let pickle = tensor_pickle(b"J\0\0\x40\0", b"K\0", b"J\0\0\x40\0\x85", b"K\x01\x85");
    let bomb = archive(&pickle, &vec![0; 16 << 20], CompressionMethod::Deflated);
    assert!(bomb.len() < 1 << 20);
    let error = Weights::decode(&bomb, None).unwrap_err().to_string();
    assert!(error.contains("is compressed"), "{error}");
}

/// One step of training under `tuning`: the tensors before and after.
fn train(tuning: &TuningPlan) -> (Tensors, Tensors) {
    let mut network = build(Portable::cpu_f32(), &BackboneSpec { width: 2, ..spec() }, 1).unwrap();
    network.tune(tuning).unwrap();
    let backend = network.backend().clone();
    let before = network.tensors().unwrap();
    let draw = Draw { seed: 1 };
    let images = backend.from_f32(&draw.hashed("images", 4 * 32 * 32 * 3), &[4, 32, 32, 3]).unwrap();
    let (_, tape) = network.forward_train(&images).unwrap();
    let embedding = backend.from_f32(&draw.hashed("upstream", 20), &[4, 5]).unwrap();
    let given = [(Feature::Embedding, embedding)].into();
    let gradients = network.backward(tape, given, false).unwrap().parameters;
    let plain = OptimizerSpec::Sgd { learning_rate: 0.1, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let mut optimizer = Optimizer::new(&plain).unwrap();
    optimizer.step(&backend, &mut [&mut network.parameters], gradients, 0.1, None).unwrap();
    (before, network.tensors().unwrap())
}

fn is_statistic(name: &str) -> bool {
    name.contains("running") || name.contains("batches")
}

#[test]
fn frozen_parameters_stay_and_the_others_move_as_before() {
    let freeze = ["conv1", "bn1", "layer1", "layer2.*.bn1", "fc.bias"].map(String::from).to_vec();
    let (before, after) = train(&TuningPlan { freeze, ..Default::default() });
    let (_, free) = train(&TuningPlan::default());
    let frozen = |name: &str| {
        ["conv1.", "bn1.", "layer1."].iter().any(|module| name.starts_with(module))
            || name.starts_with("layer2.") && name.contains(".bn1.")
            || name == "fc.bias"
    };
    for name in before.keys().filter(|name| !is_statistic(name)) {
        // The gradients of the others are the same numbers with and without the frozen ones.
        let expected = if frozen(name) { &before[name] } else { &free[name] };
        assert_eq!(&after[name], expected, "{name}");
        assert_ne!(free[name], before[name], "{name}");
    }
}

#[test]
fn running_statistics_stay_where_they_are_asked_to() {
    let moved = |tuning: &TuningPlan| {
        let (before, after) = train(tuning);
        let names = after.into_iter().filter(|(name, tensor)| before[name] != *tensor).map(|(name, _)| name);
        names.partition::<Vec<String>, _>(|name| is_statistic(name))
    };
    let (statistics, parameters) = moved(&TuningPlan { batch_norm: TrainingStatistics::Running, ..Default::default() });
    assert_eq!(statistics, Vec::<String>::new());
    assert_eq!(parameters, moved(&TuningPlan::default()).1);
    assert!(moved(&TuningPlan::default()).0.contains(&"bn1.running_mean".to_string()));
}

#[test]
fn a_factor_scales_the_steps_of_its_parameters() {
    let learning_rates = BTreeMap::from([("fc".to_string(), 10.0), ("*.bn2.*".to_string(), 0.5)]);
    let (before, slow) = train(&TuningPlan::default());
    let (_, fast) = train(&TuningPlan { learning_rates, ..Default::default() });
    let step = |name: &str, after: &Tensors| f64::from(after[name].data[0]) - f64::from(before[name].data[0]);
    for (name, factor) in [("fc.weight", 10.0), ("layer3.1.bn2.bias", 0.5), ("layer3.1.bn1.bias", 1.0)] {
        let (slow, fast) = (step(name, &slow), step(name, &fast));
        assert!(slow != 0.0 && (fast - factor * slow).abs() <= 1e-4 * fast.abs().max(1e-3), "{name}: {slow} {fast}");
    }
}

#[test]
fn tunings_that_make_no_sense_are_named() {
    let rates = |pairs: &[(&str, f64)]| TuningPlan {
        learning_rates: pairs.iter().map(|(pattern, factor)| (pattern.to_string(), *factor)).collect(),
        ..Default::default()
    };
    let freeze = |pattern: &str| TuningPlan { freeze: vec![pattern.into()], ..Default::default() };
    let table = [
        (freeze("layer7"), "freeze", "layer1"),
        (freeze("bn1.running_mean"), "freeze", "chooses no parameter"),
        (freeze("*"), "freeze", "every parameter is frozen"),
        (rates(&[("layr1", 2.0)]), "learningRates", "layer1"),
        (rates(&[("layer1", 2.0), ("*.bias", 1.0)]), "learningRates", "two factors belong to layer1"),
        (rates(&[("fc", 0.0)]), "learningRates[\"fc\"]", "greater than 0"),
        (rates(&[("fc", f64::NAN)]), "learningRates[\"fc\"]", "greater than 0"),
    ];
    for (tuning, subject, part) in table {
        let error = network(&spec()).tune(&tuning).unwrap_err();
        assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some(subject)));
        assert!(error.to_string().contains(part), "{error}");
    }
}
