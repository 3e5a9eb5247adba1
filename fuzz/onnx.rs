//! ONNX models from anywhere: whatever the bytes are, they are judged or end in an error.
#![no_main]

use rkd_core::onnx::{EngineChoice, OnnxOptions};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let _ = OnnxOptions { engine: EngineChoice::Rten, ..OnnxOptions::default() }.resolve(file.path());
});
