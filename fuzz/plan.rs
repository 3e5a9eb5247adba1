//! A `plan.json` that somebody wrote or edited: whatever it says, it ends in a whole plan or in an error.
#![no_main]

use rkd_core::options::Job;
use rkd_core::options::run::resolve_stored;
use serde_json::{Value, json};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(mut file) = serde_json::from_slice::<Value>(bytes) else { return };
    // Other data would be listed, wherever they are.
    if let Some(source) = file.pointer_mut("/plan/data/source") {
        *source = "glyphs".into();
    }
    for job in [Job::Train, Job::Distill] {
        let _ = resolve_stored(job, &file["plan"], &file["policy"], "runs/fuzz", &json!({}), &|| false);
    }
});
