//! The processes that train together: joining them, following the first one, leaving.

use std::sync::atomic::{AtomicU8, Ordering};

use rkd_core::options::run::resolve;
use rkd_core::options::{Distributed, Job};
use rkd_core::ranks::{self, Ranks};
use rkd_core::train::event::Control;
use rkd_core::train::together;
use rkd_core::{Code, Error, Result, input};
use serde::Serialize;
use serde_json::Value;

use crate::reply::value;

/// Where this process is with the others.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// No run is on them.
    Idle,
    /// A run is on them: none may go away.
    Running,
    /// The last run has failed, and all know it.
    Failed,
}

static STAGE: AtomicU8 = AtomicU8::new(Stage::Idle as u8);

fn set(stage: Stage) {
    STAGE.store(stage as u8, Ordering::SeqCst);
}

fn is(stage: Stage) -> bool {
    STAGE.load(Ordering::SeqCst) == stage as u8
}

/// What a process knows of the others when it has joined them.
#[derive(Serialize)]
pub struct Joined {
    /// This process, from 0, the one that leads.
    rank: usize,
    /// How many they are.
    size: usize,
    /// Vendor and version of their MPI.
    library: String,
}

/// Whether the option `distributed`, as JSON, asks for others.
pub fn are_asked_for(distributed: &str) -> Result<bool> {
    Ok(input::read::<Distributed>("distributed", &value(distributed)?)?.is_asked_for())
}

/// Joins the others, where there are any.
pub fn join() -> Result<Option<Joined>> {
    let (ranks, world) = ranks::join()?;
    if ranks.size() == 1 {
        return Ok(None);
    }
    set(Stage::Running);
    Ok(Some(Joined { rank: ranks.rank(), size: ranks.size(), library: world.version().into() }))
}

/// The ranks of the run that goes on.
pub fn of_run() -> Ranks {
    ranks::joined().filter(|_| is(Stage::Running)).map_or_else(Ranks::one, |(ranks, _)| ranks.clone())
}

/// Does what the first rank asks until it ends, and gives its outcome. `options` are those that this process was started
/// with, where it would make the same plan of them.
pub fn follow(job: Job, options: Option<&Value>, control: &Control) -> Result<Value> {
    let own = || {
        let resolved = options.map(|options| resolve(job, options, &|| control.is_cancelled()));
        Ok(resolved.transpose()?.map(|run| run.plan))
    };
    let outcome = together::follow(&of_run(), own, &control.quiet())?;
    ended(&outcome);
    Ok(outcome)
}

/// Tells the others that the first rank has ended, and how: `{ result }` or `{ error }`.
pub fn end(outcome: Value) -> Result<()> {
    let ranks = of_run();
    if !ranks.is_first() {
        return Err(Error::new(Code::Internal, "the first rank alone ends a run"));
    }
    ended(&outcome);
    together::end(&ranks, outcome)
}

fn ended(outcome: &Value) {
    set(if outcome.get("error").is_some() { Stage::Failed } else { Stage::Idle });
}

/// Leaves the others, which is the last thing that a process does. One that goes while others wait for it, or fails alone,
/// ends them all.
pub fn leave(code: i32) {
    let Some((_, world)) = ranks::joined() else { return };
    match is(Stage::Failed) || (is(Stage::Idle) && code == 0) {
        true => world.leave(),
        false => world.abort(if code == 0 { 1 } else { code }),
    }
}
