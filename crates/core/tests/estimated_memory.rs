//! The estimate of a run's memory beside its measured peak, which is only its own where nothing else runs in the process:
//! one test, in a file of its own.

use rkd_core::data::Part;
use rkd_core::limits::Process;
use rkd_core::train::memory::UNCERTAINTY;
use rkd_core::train::{Control, Plan, Start, Who, open};
use serde_json::json;

#[test]
fn a_run_takes_what_was_estimated() {
    if Process::now().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plan: Plan = serde_json::from_value(json!({
        "data": {
            "source": "glyphs:classes=40,writers=8", "imageSize": 64, "channels": 3, "cache": folder.path(),
            "split": { "kind": "classes", "validation": 0.2, "test": 0.2 }, "augment": {},
        },
        "backbone": {
            "kind": "resnet18", "width": 32, "stem": "small", "embedding": 32, "normalize": false,
            "inChannels": 3, "imageSize": 64, "classes": null,
        },
        "weights": null, "teachers": [], "losses": [{ "kind": "triplet-squared" }],
        "optimizer": {
            "kind": "adam", "learningRate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.0
        },
        "schedule": { "kind": "cosine", "warmupSteps": 0, "minimum": 0.0 }, "clipGradientNorm": null,
        "batch": { "size": 32, "perClass": 4 }, "epochs": 1, "stepsPerEpoch": 3, "seed": 1, "splitSeed": 1, "threads": 2,
    }))
    .unwrap();
    let silent = Control::silent();
    let mut session = open(plan, &Start::default(), &silent).unwrap();
    session.train(3, &silent).unwrap();
    session.evaluate(Who::Student, Part::Validation, &[1], &silent).unwrap();
    session.keep().unwrap();
    session.save_checkpoint(&folder.path().join("checkpoint"), serde_json::Value::Null).unwrap();
    let estimate = session.summary().memory;
    let measured = Process::now().unwrap().peak - estimate.process;
    // The final evaluation, which this test leaves out, is part of the estimate's last moment.
    let [most, least] = [estimate.needed(), estimate.needed() - estimate.moment].map(|bytes| bytes as f64);
    assert!(
        (measured as f64) < most * UNCERTAINTY && measured as f64 > least / UNCERTAINTY,
        "measured {measured}, estimated {estimate:?}"
    );
}
