//! The commands a session understands: JSON in, JSON out. The structures are the core's own.

use std::path::PathBuf;

use rkd_core::bench::{self, BenchPlan};
use rkd_core::data::DataPlan;
use rkd_core::data::{Part, survey};
use rkd_core::train::event::Control;
use rkd_core::train::plan::Plan;
use rkd_core::train::{EmbedPlan, EvaluatePlan, NeighboursPlan, Session, Who, embed, evaluate_model, neighbours};
use rkd_core::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One command. `open` comes before every other but those of models and benches.
#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Command {
    /// Opens data, networks and, with `resume`, a checkpoint.
    Open { plan: Box<Plan>, resume: Option<PathBuf> },
    /// Trains until `until_step` steps are done in all.
    Train { until_step: u64 },
    /// Measures a network on one part of the data.
    Evaluate { who: Who, part: Part, ks: Vec<usize> },
    /// Remembers the present weights as the best.
    Keep,
    /// Writes a checkpoint with the caller's own state in it.
    SaveCheckpoint { path: PathBuf, policy: Value },
    /// Writes the model: the best weights, or the present ones.
    SaveModel { path: PathBuf, best: bool },
    /// Measures a stored model.
    EvaluateModel { plan: EvaluatePlan },
    /// Looks at the nearest neighbours of a few images.
    Neighbours { plan: NeighboursPlan },
    /// What a data source is and what is missing in it, without decoding an image.
    Survey { plan: DataPlan },
    /// Writes the embeddings of a data set.
    Embed { plan: EmbedPlan },
    /// The names of the workloads of `rkd bench`.
    Workloads,
    /// Measures one of them.
    Bench { plan: BenchPlan },
    /// Measures where the time of its step goes.
    Profile { plan: BenchPlan },
    /// Panics, so that tests see what a panic does. Not in published binaries: they have no debug assertions.
    #[cfg(debug_assertions)]
    Panic { message: String },
}

/// Runs the command `text` on `session`.
pub fn execute(session: &mut Option<Session>, text: &str, control: &Control) -> Result<Value> {
    let command: Command = serde_json::from_str(text).map_err(|e| {
        Error::new(Code::InvalidOption, format!("the plan does not fit this version: {e}"))
            .with_subject("plan")
            .with_advice("if you wrote plan.json by hand, correct the named field; else let rkd write it anew")
            .with_source(e)
    })?;
    match command {
        Command::Open { plan, resume } => {
            *session = None; // frees the old one before the new one takes memory
            let opened = session.insert(Session::open(*plan, resume.as_deref(), control)?);
            Ok(json!({ "summary": value(&opened.summary())?, "policy": opened.policy() }))
        }
        Command::Train { until_step } => value(&opened(session)?.train(until_step, control)?),
        Command::Evaluate { who, part, ks } => value(&opened(session)?.evaluate(who, part, &ks, control)?),
        Command::Keep => {
            opened(session)?.keep()?;
            Ok(Value::Null)
        }
        Command::SaveCheckpoint { path, policy } => value(&opened(session)?.save_checkpoint(&path, policy)?),
        Command::SaveModel { path, best } => value(&opened(session)?.save_model(&path, best)?),
        Command::EvaluateModel { plan } => value(&evaluate_model(&plan, control)?),
        Command::Neighbours { plan } => value(&neighbours(&plan, control)?),
        Command::Survey { plan } => value(&survey(&plan, &|| control.is_cancelled())?),
        Command::Embed { plan } => value(&embed(&plan, control)?),
        Command::Workloads => value(&bench::workloads()),
        Command::Bench { plan } => value(&bench::run(&plan)?),
        Command::Profile { plan } => value(&bench::profile(&plan)?),
        #[cfg(debug_assertions)]
        Command::Panic { message } => panic!("{message}"),
    }
}

fn opened(session: &mut Option<Session>) -> Result<&mut Session> {
    session.as_mut().ok_or_else(|| Error::new(Code::Internal, "no session is open"))
}

fn value(result: &impl Serialize) -> Result<Value> {
    serde_json::to_value(result).map_err(|e| Error::new(Code::Internal, "a report has no JSON form").with_source(e))
}
