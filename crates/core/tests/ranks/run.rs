//! A run that uses whatever goes between ranks, and what it leaves.

use std::path::{Path, PathBuf};

use rkd_core::data::Part;
use rkd_core::ranks::Ranks;
use rkd_core::train::report::Evaluation;
use rkd_core::train::together::end;
use rkd_core::train::{Control, Plan, Start, Who, follow, lead, open};
use rkd_core::{Error, Result};
use serde_json::{Value, json};

/// A plan on the glyphs: 16 images in micro batches of 2, with `changes`.
pub fn plan(folder: &Path, changes: Value) -> Plan {
    let augment = json!({ "cropPadding": 2, "flip": true, "rotate": 10, "scale": 0.1, "shear": 5, "translate": 0.05 });
    let mut plan = json!({
        "data": {
            "source": "glyphs:classes=12,writers=8", "imageSize": 28, "channels": 1,
            "split": { "kind": "classes", "validation": 0, "test": 0.4 }, "augment": augment, "cache": folder.join("cache"),
        },
        "backbone": {
            "kind": "conv4", "width": 6, "stem": "small", "embedding": 8, "normalize": true,
            "inChannels": 1, "imageSize": 28, "classes": null,
        },
        "weights": null, "teachers": [], "losses": [{ "kind": "triplet-squared" }],
        "optimizer": {
            "kind": "adam", "learningRate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weightDecay": 0.0
        },
        "schedule": { "kind": "cosine", "warmupSteps": 0, "minimum": 0.0 }, "clipGradientNorm": null,
        "batch": { "size": 16, "perClass": 4 }, "microBatch": 2, "epochs": 1, "stepsPerEpoch": 6, "seed": 1,
        "splitSeed": 1, "threads": 1,
    });
    for (key, value) in changes.as_object().unwrap() {
        plan[key] = value.clone();
    }
    serde_json::from_value(plan).unwrap()
}

/// A distillation of every way that a feature goes: teachers that see batches in a size of their own, and one that is asked
/// once; relations, maps, a map that a loss learns, weights that are found.
pub fn distillation(folder: &Path) -> Plan {
    for (name, side) in [("live", 24), ("cached", 28)] {
        let mut teacher = plan(folder, json!({ "seed": 3, "microBatch": null, "stepsPerEpoch": 2 }));
        (teacher.data.image_size, teacher.backbone.image_size) = (side, side);
        let silent = Control::silent();
        let mut session = open(teacher, &Start::default(), &silent).unwrap();
        session.train(2, &silent).unwrap();
        session.save_model(&folder.join(name), false).unwrap();
    }
    let teacher = |name| json!({ "name": name, "weight": 1, "model": folder.join(name), "features": name });
    let changes = json!({
        "teachers": [teacher("live"), teacher("cached")],
        "losses": [
            { "kind": "triplet-squared" },
            { "kind": "rkd-distance", "weight": "auto" },
            { "kind": "rkd-angle", "weight": 2 },
            { "kind": "linear-hint", "weight": 0.5 },
            { "kind": "attention-transfer", "studentFeature": "blocks.1", "teacher": "live" },
        ],
        "clipGradientNorm": 0.5,
    });
    plan(folder, changes)
}

/// What the first rank finds.
#[derive(Debug, PartialEq)]
pub struct Found {
    /// The bytes of `model.safetensors`.
    pub model: Vec<u8>,
    /// The loss of the last steps.
    pub loss: f64,
    /// Of the student and the first teacher on the test part, but for what they took.
    pub evaluations: Vec<Evaluation>,
}

/// The run of `plan` on `ranks`, from the checkpoint in `folder` to step `until` if it `resumes`, else from its start, with a
/// checkpoint at the end. The other ranks make their own plan of `own`.
pub fn run(ranks: &Ranks, plan: &Plan, folder: &Path, resumes: bool, until: u64) -> Result<Option<Found>> {
    if !ranks.is_first() {
        follow(ranks, || Ok(Some(plan.clone())), &Control::silent())?;
        return Ok(None);
    }
    let found = train(ranks, plan, folder, resumes, until);
    end(ranks, json!({}))?;
    found.map(Some)
}

fn train(ranks: &Ranks, plan: &Plan, folder: &Path, resumes: bool, until: u64) -> Result<Found> {
    let (silent, checkpoint) = (Control::silent(), folder.join("checkpoint"));
    let start = match resumes {
        true => {
            Start { checkpoint: Some(checkpoint.clone()), record: Some(folder.join("data.json")), ..Start::default() }
        }
        false => Start::default(),
    };
    let mut session = lead(ranks, plan.clone(), &start, &silent)?;
    session.save_record(&folder.join("data.json"))?;
    let report = session.train(until, &silent)?;
    let who = [Some(Who::Student), (!plan.teachers.is_empty()).then_some(Who::Teacher(0))];
    let mut evaluations = Vec::new();
    for who in who.into_iter().flatten() {
        let found = session.evaluate(who, Part::Test, &[1, 2], &silent)?;
        evaluations.push(Evaluation { milliseconds_per_image: 0.0, ..found });
    }
    session.save_checkpoint(&checkpoint, Value::Null)?;
    let path: PathBuf = folder.join("model");
    session.save_model(&path, false)?;
    let model = std::fs::read(&path).map_err(|e| Error::io("reading", &path, e))?;
    Ok(Found { model, loss: report.loss, evaluations })
}
