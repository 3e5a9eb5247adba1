//! STAND-IN: pretends to train, so that the surface can be built before the loop. Dropped when the loop is merged.
#![allow(missing_docs, clippy::all)]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::event::{Control, Event, StepEvent, Term};
use crate::error::{Code, Error, Result};
use crate::plan::{DataPlan, Plan};
use crate::random::splitmix64;

pub struct Session { plan: Plan, step: u64, state: u64, best: Option<u64>, policy: Value }
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Who { Student, Teacher }
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part { Train, Validation, Test }
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvaluatePlan { pub model: PathBuf, pub data: DataPlan, pub seed: u64, pub part: Part, pub ks: Vec<usize>, pub threads: usize }
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbedPlan { pub model: PathBuf, pub data: DataPlan, pub out: PathBuf, pub format: String, pub threads: usize }
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation { pub metrics: BTreeMap<String, f64>, pub images: usize, pub classes: usize, pub milliseconds_per_image: f64 }
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentReport { pub step: u64, pub cancelled: bool, pub seconds: f64, pub data_wait_seconds: f64, pub images: u64, pub loss: f64, pub terms: Vec<Term> }
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EmbedReport { pub out: String, pub images: usize, pub embedding: usize, pub milliseconds_per_image: f64 }

impl Session {
    pub fn open(plan: Plan, resume: Option<&Path>, control: &Control) -> Result<Session> {
        control.emit(Event::Decode { done: 10, total: 10, images_per_second: 100.0 });
        let mut session = Session { state: plan.seed, plan, step: 0, best: None, policy: Value::Null };
        if let Some(path) = resume {
            let text = std::fs::read(path).map_err(|e| Error::io("reading the checkpoint", path, e))?;
            let v: Value = serde_json::from_slice(&text).unwrap();
            session.step = v["step"].as_u64().unwrap();
            session.state = v["state"].as_u64().unwrap();
            session.best = v["best"].as_u64();
            session.policy = v["policy"].clone();
        }
        Ok(session)
    }
    pub fn policy(&self) -> &Value { &self.policy }
    pub fn summary(&self) -> Value {
        let network = json!({"backbone": self.plan.backbone.kind, "parameters": 1000, "embedding": 16});
        json!({"data": {"kind": "glyphs", "sentence": "glyphs: 10 procedurally drawn characters", "images": 100, "classes": 10, "broken": [], "warnings": [], "cache": "", "reused": false},
            "train": {"images": 70, "classes": 7}, "validation": {"images": 10, "classes": 1}, "test": {"images": 20, "classes": 2},
            "student": network, "teacher": self.plan.teacher.as_ref().map(|_| network.clone()),
            "stepsPerEpoch": self.plan.steps_per_epoch.unwrap_or(10), "totalSteps": self.plan.epochs * self.plan.steps_per_epoch.unwrap_or(10), "step": self.step, "threads": 2, "instructionSet": "none"})
    }
    pub fn train(&mut self, until: u64, control: &Control) -> Result<SegmentReport> {
        while self.step < until && !control.is_cancelled() {
            std::thread::sleep(Duration::from_millis(5));
            self.step += 1;
            self.state = splitmix64(self.state ^ self.step) >> 2;
            if control.step_event_due().is_some() {
                control.emit(Event::Step(StepEvent { step: self.step, total_steps: self.summary()["totalSteps"].as_u64().unwrap(), epoch: 1, loss: 0.5, terms: vec![Term { name: "triplet-squared".into(), weight: 1.0, value: 0.5 }], learning_rate: 0.1, gradient_norm: 1.0, images_per_second: 100.0, data_wait_share: 0.0 }));
            }
        }
        Ok(SegmentReport { step: self.step, cancelled: control.is_cancelled(), seconds: 1.0, data_wait_seconds: 0.0, images: 10, loss: 0.5, terms: vec![] })
    }
    pub fn evaluate(&mut self, who: Who, _part: Part, ks: &[usize], _control: &Control) -> Result<Evaluation> {
        let base = match who { Who::Teacher => 0.9, Who::Student => 0.3 + (self.state % 1000) as f64 / 2000.0 };
        let mut metrics: BTreeMap<String, f64> = ks.iter().map(|k| (format!("recall@{k}"), base)).collect();
        metrics.insert("mapAtR".into(), base / 2.0);
        metrics.insert("rPrecision".into(), base / 2.0);
        Ok(Evaluation { metrics, images: 20, classes: 2, milliseconds_per_image: 0.1 })
    }
    pub fn keep(&mut self) { self.best = Some(self.state) }
    pub fn save_checkpoint(&mut self, path: &Path, policy: Value) -> Result<()> {
        let aside = path.with_extension("aside");
        let text = json!({"step": self.step, "state": self.state, "best": self.best, "policy": policy}).to_string();
        std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, path)).map_err(|e| Error::io("writing the checkpoint", path, e))
    }
    pub fn save_model(&mut self, path: &Path, best: bool) -> Result<()> {
        std::fs::write(path, format!("{:?}", if best { self.best } else { Some(self.state) })).map_err(|e| Error::io("writing the model", path, e))
    }
}
pub fn evaluate_model(plan: EvaluatePlan, _control: &Control) -> Result<Evaluation> {
    if !plan.model.exists() {
        return Err(Error::new(Code::NotFound, "no model here").with_subject(plan.model.display().to_string()));
    }
    let mut metrics: BTreeMap<String, f64> = plan.ks.iter().map(|k| (format!("recall@{k}"), 0.5)).collect();
    metrics.insert("mapAtR".into(), 0.4);
    metrics.insert("rPrecision".into(), 0.4);
    Ok(Evaluation { metrics, images: 20, classes: 2, milliseconds_per_image: 0.1 })
}
pub fn embed(plan: EmbedPlan, _control: &Control) -> Result<EmbedReport> {
    std::fs::write(&plan.out, "x").map_err(|e| Error::io("writing", &plan.out, e))?;
    Ok(EmbedReport { out: plan.out.display().to_string(), images: 20, embedding: 16, milliseconds_per_image: 0.1 })
}
