//! Files of weights from anywhere: whatever the bytes are, they end in weights or in an error.
//!
//! `crates/core/tests/weights.rs` does the same with damaged copies of real files in every test run.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = rkd_core::artefact::weights::Weights::decode(bytes, None);
});
