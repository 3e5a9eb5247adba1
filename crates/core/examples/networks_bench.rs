//! What an image costs each network, and what it weighs as a file: `cargo run -p rkd-core --example networks_bench -- BATCH
//! THREADS SECONDS [KIND]...`.
//!
//! Of each kind (usually all but the `mlp`) one JSON line: milliseconds an image of an embedding pass of BATCH images of 224
//! and of 96 pixels, the median of the passes that fit into SECONDS, two at least, after one to warm up; and the bytes of the
//! ONNX files of float32 and of int8 at 224 pixels. Width 64, ImageNet's stem, no embedding layer, random weights, which cost and
//! weigh what trained ones do.

use std::sync::Arc;
use std::time::Instant;

use rkd_core::Result;
use rkd_core::artefact::model::{Model, ModelCard, Origin};
use rkd_core::backbones::{BackboneSpec, build, kinds};
use rkd_core::bench::{PROFILE, median};
use rkd_core::data::{InputKind, Normalization};
use rkd_core::export::ExportInput;
use rkd_core::export::int8::{quantize, ranged_tensors};
use rkd_core::export::network::graph_of;
use rkd_core::nn::{Backend, Cpu, Portable};
use rkd_kernels::Team;

fn main() -> Result<()> {
    let usage = "BATCH THREADS SECONDS [KIND]...";
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().and_then(|text| text.parse::<f64>().ok()).expect(usage);
    let (batch, threads, seconds) = (number() as usize, number() as usize, number());
    let mut chosen: Vec<String> = arguments.collect();
    if chosen.is_empty() {
        chosen = kinds().into_iter().filter(|kind| *kind != "mlp").map(String::from).collect();
    }
    let backend = Cpu::new(Arc::new(Team::new(threads)));
    for kind in chosen {
        let [large, small] =
            [224, 96].map(|side| milliseconds(&backend, &BackboneSpec::published(&kind, side), batch, seconds));
        let [float32, int8] = bytes(&BackboneSpec::published(&kind, 224))?;
        println!(
            "{}",
            serde_json::json!({
                "kind": kind, "ms224": large?, "ms96": small?, "float32": float32, "int8": int8, "profile": PROFILE,
                "threads": backend.team().threads(),
            })
        );
    }
    Ok(())
}

/// Of an image, the median over passes.
fn milliseconds(backend: &Cpu, spec: &BackboneSpec, batch: usize, seconds: f64) -> Result<f64> {
    let network = build(backend.clone(), spec, 1)?.into_inference()?;
    let side = spec.image_size;
    let values: Vec<f32> = (0..batch * side * side * 3).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    let images = backend.from_f32(&values, &[batch, side, side, 3])?;
    network.forward(&images)?;
    let (start, mut passes) = (Instant::now(), Vec::new());
    while passes.len() < 2 || start.elapsed().as_secs_f64() < seconds {
        let pass = Instant::now();
        network.forward(&images)?;
        passes.push(pass.elapsed().as_secs_f64() * 1e3 / batch as f64);
    }
    Ok(median(&passes))
}

/// Of the ONNX files in float32 and int8. How large a range is makes no file larger, so none is measured.
fn bytes(spec: &BackboneSpec) -> Result<[usize; 2]> {
    let card = ModelCard {
        backbone: spec.clone(),
        input: InputKind::Images,
        normalization: Normalization::imagenet(),
        classes: None,
        prefixes: Vec::new(),
        origin: Origin::default(),
    };
    let model = Model { card, tensors: build(Portable::cpu_f32(), spec, 1)?.tensors()? };
    let graph = graph_of(&model, ExportInput::Floats)?;
    let float32 = graph.clone().encode(&[])?.len();
    let ranges = ranged_tensors(&graph).into_iter().map(|name| (name, [-1.0, 1.0])).collect();
    Ok([float32, quantize(graph, &ranges)?.encode(&[])?.len()])
}
