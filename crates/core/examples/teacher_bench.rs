//! Times what a teacher in an ONNX file takes: `cargo run -p rkd-core --example teacher_bench -- FILE ENGINE BATCH THREADS
//! SECONDS [LIBRARY]`, with ENGINE `rten` or `onnxruntime`, whose LIBRARY is a path.
//!
//! What is timed is a teacher's whole pass over a batch in memory, as training calls it: pixels laid out for the graph, the
//! graph, and the embeddings back. Prints one JSON line with the median of the passes that fit into SECONDS, after one to warm
//! up, and the first 64 numbers of the first embedding, by which another program's are compared.

use std::path::PathBuf;
use std::time::Instant;

use rkd_core::onnx::{EngineChoice, OnnxModel, OnnxOptions};

fn main() -> rkd_core::Result<()> {
    let usage = "FILE ENGINE BATCH THREADS SECONDS [LIBRARY]";
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect(usage);
    let (file, engine) = (PathBuf::from(next()), next());
    let mut number = || next().parse::<usize>().expect(usage);
    let (batch, threads, seconds) = (number(), number(), number());
    let engine = match &engine[..] {
        "rten" => EngineChoice::Rten,
        "onnxruntime" => EngineChoice::Onnxruntime,
        _ => panic!("{usage}"),
    };
    let options = OnnxOptions { engine, onnxruntime: arguments.next().map(PathBuf::from), ..OnnxOptions::default() };
    let model = OnnxModel::open(&file, &options, threads)?;
    let side = model.input().image_size;
    // As `onnxruntime_teacher.py` makes them: [n, h, w, c], from -1 to 1.
    let images: Vec<f32> = (0..batch * side * side * 3).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
    let embedding = model.embed(&images)?.data[..64].to_vec();
    let (start, mut passes) = (Instant::now(), Vec::new());
    while passes.len() < 3 || start.elapsed().as_secs_f64() < seconds as f64 {
        let pass = Instant::now();
        model.embed(&images)?;
        passes.push(pass.elapsed().as_secs_f64() * 1e3 / batch as f64);
    }
    passes.sort_by(f64::total_cmp);
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    println!(
        "{}",
        serde_json::json!({
            "ms": passes[passes.len() / 2], "passes": passes.len(), "side": side, "embedding": embedding, "profile": profile,
            "parameters": model.parameters()
        })
    );
    Ok(())
}
