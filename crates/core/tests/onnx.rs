//! ONNX models: what is found out about a graph, and what rten makes of an image against onnxruntime's values. The graphs are
//! those of `onnx/make.py`.

use std::path::{Path, PathBuf};

use rkd_core::onnx::{EngineChoice, OnnxModel, OnnxOptions, Pooling};
use rkd_core::{Code, Error};

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx").join(format!("{name}.onnx"))
}

fn rten() -> OnnxOptions {
    OnnxOptions { engine: EngineChoice::Rten, ..OnnxOptions::default() }
}

fn open(name: &str, options: &OnnxOptions) -> rkd_core::Result<OnnxModel> {
    let (options, _) = options.resolve(&place(name))?;
    OnnxModel::open(&place(name), &options, 1)
}

/// The embedding of the image of `make.py`, alone and as the second of three.
fn embed(model: &OnnxModel) -> Vec<f32> {
    let side = model.input().image_size;
    assert_eq!(side, 16);
    let bytes: Vec<u8> = (0..16 * 16 * 3).map(|i| (7 * i % 256) as u8).collect();
    let mut image = vec![0.0; bytes.len()];
    model.input().normalization.apply(&bytes, &mut image);
    let alone = model.embed(&image).unwrap();
    assert_eq!(alone.shape, [1, model.length()]);
    let dark = vec![0.0; image.len()];
    let three = model.embed(&[&dark[..], &image, &dark].concat()).unwrap();
    let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6;
    assert!(three.data[model.length()..].iter().zip(&alone.data).all(close));
    alone.data
}

fn refused(name: &str, options: &OnnxOptions) -> Error {
    open(name, options).err().unwrap_or_else(|| panic!("{name} was taken"))
}

#[test]
fn embeddings_are_those_of_onnxruntime() {
    let text = std::fs::read_to_string(place("plain").with_file_name("expected.json")).unwrap();
    let expected: std::collections::BTreeMap<String, Vec<f32>> = serde_json::from_str(&text).unwrap();
    let size = OnnxOptions { image_size: Some(16), ..rten() };
    let pooled = |pooling| OnnxOptions { pooling: Some(pooling), ..rten() };
    for (name, graph, options) in [
        ("plain", "plain", size),
        ("fixed", "fixed", rten()),
        ("bytes", "bytes", rten()),
        ("normalizes", "normalizes", rten()),
        ("class-token", "tokens", rten()),
        ("mean-token", "tokens", pooled(Pooling::MeanToken)),
    ] {
        let found = embed(&open(graph, &options).unwrap());
        let difference = found.iter().zip(&expected[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == expected[name].len() && difference < 2e-6, "{name}: {difference}");
    }
}

#[test]
fn what_a_graph_takes_and_gives_is_found_out() {
    let resolved = |name: &str| rten().resolve(&place(name)).unwrap();
    let (plain, warnings) = resolved("plain");
    assert_eq!((plain.output.as_deref(), plain.image_size), (Some("image_embeds"), Some(224)));
    assert!(warnings.len() == 1 && warnings[0].contains("ImageNet's mean"), "{warnings:?}");
    assert_eq!(plain.normalization, Some(rkd_core::data::Normalization::imagenet()));
    // Resolving what is resolved changes nothing and assumes nothing more.
    assert_eq!(plain.resolve(&place("plain")).unwrap(), (plain.clone(), Vec::new()));
    for name in ["bytes", "normalizes"] {
        let (options, warnings) = resolved(name);
        assert_eq!((options.image_size, options.normalization, warnings.len()), (Some(16), None, 0), "{name}");
    }
    let (tokens, _) = resolved("tokens");
    assert_eq!((tokens.output.as_deref(), tokens.pooling), (Some("last_hidden_state"), Some(Pooling::ClassToken)));
    let inner = OnnxOptions { output: Some("pooled".into()), image_size: Some(16), ..rten() };
    assert_eq!(open("plain", &inner).unwrap().length(), 5);
    assert!(open("two", &OnnxOptions { output: Some("second".into()), ..rten() }).is_ok());
}

#[test]
fn a_preprocessor_file_beside_the_model_says_size_and_normalisation() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("onnx")).unwrap();
    let model = folder.path().join("onnx/model.onnx");
    std::fs::copy(place("plain"), &model).unwrap();
    let text = r#"{ "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": { "shortest_edge": 36 },
        "crop_size": { "height": 32, "width": 32 } }"#;
    std::fs::write(folder.path().join("preprocessor_config.json"), text).unwrap();
    let (options, warnings) = rten().resolve(&model).unwrap();
    assert_eq!((options.image_size, warnings), (Some(32), Vec::new()));
    assert_eq!(options.normalization.unwrap().std, [0.25; 3]);
}

#[test]
fn every_key_of_a_preprocessor_file_is_obeyed_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    std::fs::copy(place("plain"), &model).unwrap();
    let resolved = |text: &str| {
        std::fs::write(folder.path().join("preprocessor_config.json"), text).unwrap();
        rten().resolve(&model)
    };
    for (text, mean, std) in [
        (r#"{ "do_normalize": false }"#, 0.0, 1.0),
        (r#"{ "do_normalize": false, "do_rescale": false }"#, 0.0, 1.0 / 255.0),
        (r#"{ "do_rescale": false, "image_mean": [127.5, 127.5, 127.5], "image_std": 51 }"#, 0.5, 0.2),
        (r#"{ "rescale_factor": 0.00784313725490196, "image_mean": 0.5, "image_std": 0.5 }"#, 0.25, 0.25),
        (r#"{ "rescale_factor": 0.00784313725490196, "rescale_offset": true, "do_normalize": false }"#, 0.5, 0.5),
        (r#"{ "image_mean": 0.5, "image_std": [0.25, 0.25, 0.25], "do_resize": null }"#, 0.5, 0.25),
    ] {
        let (options, warnings) = resolved(text).unwrap();
        let found = options.normalization.unwrap();
        let near = |numbers: &[f32], expected: f32| numbers.iter().all(|number| (number - expected).abs() < 1e-6);
        assert!(near(&found.mean, mean) && near(&found.std, std), "{text}: {found:?}");
        assert_eq!(warnings, Vec::<String>::new(), "{text}");
    }
    for (text, side) in [
        (r#"{ "size": 48 }"#, 48),
        (r#"{ "size": { "height": 48, "width": 48 } }"#, 48),
        (r#"{ "size": { "shortest_edge": 64 }, "crop_size": 48, "do_center_crop": false }"#, 64),
        (r#"{ "size": { "height": 48, "width": 64 }, "do_resize": false }"#, 224),
    ] {
        assert_eq!(resolved(text).unwrap().0.image_size, Some(side), "{text}");
    }
    for (text, words) in [
        (r#"{ "do_flip_channel_order": true }"#, "do_flip_channel_order cannot be used: expected false"),
        (r#"{ "size": { "height": 32, "width": 64 } }"#, "size cannot be used: expected one side of 1 to 1024 pixels"),
        (r#"{ "size": { "longest_edge": 64 } }"#, "received {\"longest_edge\":64}"),
        (r#"{ "crop_size": 4000 }"#, "crop_size cannot be used"),
        (r#"{ "image_mean": "half", "image_std": 1 }"#, "image_mean cannot be used"),
        (r#"{ "image_mean": 123.7, "image_std": 58 }"#, "image_mean cannot be used: expected a mean of bytes times"),
        (r#"{ "image_mean": 0.5, "image_std": [0.5, 0.5] }"#, "image_std cannot be used"),
        (r#"{ "image_mean": 0.5, "image_std": 0 }"#, "image_std cannot be used"),
        (r#"{ "do_normalize": "no" }"#, "do_normalize cannot be used: expected true or false, received \"no\""),
        (r#"{ "rescale_factor": 0, "do_normalize": false }"#, "rescale_factor cannot be used"),
        (r#"{ "size": 32,"#, "cannot be read"),
        ("[]", "cannot be read"),
    ] {
        let error = resolved(text).unwrap_err();
        assert_eq!(error.code, Code::InvalidArtefact, "{text}: {error}");
        assert!(error.to_string().contains(words), "{text}: {error}");
    }
    // What the user says goes before a size or a normalisation that cannot be used.
    std::fs::write(folder.path().join("preprocessor_config.json"), r#"{ "size": "large", "image_mean": "half" }"#)
        .unwrap();
    let normalization = Some(rkd_core::data::Normalization::imagenet());
    assert!(OnnxOptions { image_size: Some(32), normalization, ..rten() }.resolve(&model).is_ok());
}

#[test]
fn what_cannot_teach_is_refused_with_the_way_out() {
    let asked = |output: &str| OnnxOptions { output: Some(output.into()), ..rten() };
    for (name, options, code, words) in [
        ("two", rten(), Code::InvalidOption, "first (float32 [batch, 5]), second (float32 [batch, 5])"),
        ("two", asked("secnd"), Code::InvalidOption, "the nearest are second"),
        ("cubic", rten(), Code::InvalidArtefact, "Resize with mode=cubic"),
        ("constant", rten(), Code::InvalidArtefact, "does not depend on the image"),
        ("not-finite", rten(), Code::NonFinite, "Check the normalisation"),
        ("text", rten(), Code::InvalidArtefact, "input_ids (int64 [n, 7])"),
        ("bytes", OnnxOptions { image_size: Some(32), ..rten() }, Code::InvalidOption, "expected 16"),
        (
            "plain",
            OnnxOptions {
                normalization: Some(rkd_core::data::Normalization { mean: vec![120.0; 3], std: vec![58.0; 3] }),
                ..rten()
            },
            Code::InvalidOption,
            "a mean from 0 to 1",
        ),
        ("huge", rten(), Code::InvalidArtefact, "a size of images, in pixels, that cannot be used: expected 1 to 1024"),
        (
            "dilations",
            OnnxOptions { image_size: Some(16), ..rten() },
            Code::InvalidArtefact,
            "Install onnxruntime-node",
        ),
        ("batch", OnnxOptions { image_size: Some(16), ..rten() }, Code::InvalidArtefact, "not always the same"),
        (
            "nearly",
            OnnxOptions { image_size: Some(16), ..rten() },
            Code::InvalidArtefact,
            "does not depend on the image",
        ),
        (
            "bytes",
            OnnxOptions { normalization: Some(rkd_core::data::Normalization::imagenet()), ..rten() },
            Code::InvalidOption,
            "normalises its images itself",
        ),
        (
            "plain",
            OnnxOptions {
                engine: EngineChoice::Onnxruntime,
                output: Some("pooled".into()),
                onnxruntime: Some("x.so".into()),
                ..rten()
            },
            Code::InvalidOption,
            "rten gives tensors inside too",
        ),
        (
            "plain",
            OnnxOptions { engine: EngineChoice::Onnxruntime, onnxruntime: Some("/nowhere/x.so".into()), ..rten() },
            Code::NotFound,
            "/nowhere/x.so",
        ),
    ] {
        let error = refused(name, &options);
        assert_eq!(error.code, code, "{name}: {error}");
        assert!(error.to_string().contains(words), "{name}: {error}\nlacks {words}");
    }
}

#[test]
fn damaged_files_are_errors_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.onnx");
    let whole = std::fs::read(place("plain")).unwrap();
    let attempt = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let options = OnnxOptions { image_size: Some(16), ..rten() };
        options.resolve(&file).and_then(|(options, _)| OnnxModel::open(&file, &options, 1)).map(drop)
    };
    attempt(&whole).unwrap();
    for cut in (0..whole.len()).step_by(7) {
        assert!(attempt(&whole[..cut]).is_err() || cut > whole.len() - 60, "cut at {cut}");
    }
    // An unknown field of a length that leads back to its own beginning, and one of more than there is memory.
    for length in
        [&[0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]]
    {
        let endless = [&whole[..], &[0xfa, 1], length].concat();
        assert!(attempt(&endless).unwrap_err().to_string().contains("not a readable ONNX model"));
    }
    // A number without a last byte, and one of more than 64 bits.
    for number in [&[0xff; 24][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
        let endless = [&whole[..], number].concat();
        assert!(attempt(&endless).unwrap_err().to_string().contains("invalid varint"));
    }
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        let _ = attempt(&bytes); // an error or another graph, but no panic
    }
}
