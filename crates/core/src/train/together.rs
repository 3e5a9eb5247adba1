//! A run on several ranks: the first one leads, the others follow.
//!
//! Who calls a session decides what comes next, and does so on rank 0 alone. [`Lead`] is a session there that tells the other
//! ranks what is asked of it, and [`follow`] does the same there with a session of their own, until the first says that it is
//! the [`end`]. What no other rank is needed for (looking at images, writing files) rank 0 does alone.
//!
//! A follower needs the data and the teachers, and nothing of the run's folder: what stands there comes from rank 0, the finished
//! model that all measure too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rkd_kernels::Isa;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::event::{Control, Event};
use super::host::Host;
use super::look::Look;
use super::open::open_on;
use super::plan::Plan;
use super::report::{Evaluation, SegmentReport, SessionSummary};
use super::start::Start;
use super::state::{comparable, differences, in_words};
use super::stored::{EvaluatePlan, evaluate_on, take_part};
use super::teacher::TeacherPlan;
use super::training::{Training, Who};
use crate::data::{DataPlan, Part};
use crate::error::{Code, Error, Result};
use crate::ranks::Ranks;

/// What rank 0 asks of the others. A session has a number, since a run may have one inside another.
#[derive(Serialize, Deserialize)]
enum Command {
    Open {
        session: u64,
        plan: Box<Plan>,
        accept_changed_data: bool,
        files: [bool; 2],
    },
    Train {
        session: u64,
        until: u64,
    },
    Evaluate {
        session: u64,
        who: Who,
        part: Part,
        ks: Vec<usize>,
    },
    /// Of a stored model, which follows.
    Measure {
        plan: Box<EvaluatePlan>,
    },
    Close {
        session: u64,
    },
    End {
        outcome: Value,
    },
}

fn tell(ranks: &Ranks, command: &Command) -> Result<()> {
    let text = serde_json::to_vec(command)
        .map_err(|e| Error::new(Code::Internal, format!("a command has no JSON form: {e}")))?;
    ranks.broadcast(text).map(drop)
}

/// The session of rank 0.
pub struct Lead {
    ranks: Ranks,
    number: u64,
    session: Box<dyn Training>,
}

/// Opens a session: on all ranks where there are several, of which this one has to be the first.
///
/// # Errors
/// Those of [`Session::open`](super::Session::open), of any rank; `ERR_RANKS_DIFFER`.
pub fn lead(ranks: &Ranks, plan: Plan, start: &Start, control: &Control) -> Result<Box<dyn Training>> {
    if ranks.size() == 1 {
        return open_on(ranks, plan, start, control);
    }
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let session = NUMBER.fetch_add(1, Ordering::Relaxed);
    let opened = ranks.together(|| {
        let contents = files_of(start, control)?;
        let files = contents.each_ref().map(Option::is_some);
        let accept_changed_data = start.accept_changed_data;
        tell(ranks, &Command::Open { session, plan: Box::new(plan.clone()), accept_changed_data, files })?;
        for file in contents.into_iter().flatten() {
            ranks.broadcast(file)?;
        }
        check_ranks(ranks, &plan, None)?;
        open_on(ranks, plan, start, control)
    })?;
    Ok(Box::new(Lead { ranks: ranks.clone(), number: session, session: opened }))
}

/// Measures a stored model as [`evaluate_model`](super::evaluate_model) does: on all ranks where there are several, of which
/// this one has to be the first.
///
/// # Errors
/// Those of [`evaluate_model`](super::evaluate_model), of any rank; `ERR_RANKS_DIFFER`.
pub fn lead_evaluation(ranks: &Ranks, plan: &EvaluatePlan, control: &Control) -> Result<Evaluation> {
    let host = Host::on(ranks.clone(), plan.threads);
    if ranks.size() == 1 {
        return evaluate_on(&host, plan, control);
    }
    ranks.together(|| {
        let model = fs::read(&plan.model).map_err(|e| Error::io("reading", &plan.model, e))?;
        tell(ranks, &Command::Measure { plan: Box::new(plan.clone()) })?;
        ranks.broadcast(model)?;
        evaluate_on(&host, plan, control)
    })
}

/// The content of the checkpoint and of the record that a session starts from.
fn files_of(start: &Start, control: &Control) -> Result<[Option<Vec<u8>>; 2]> {
    let read = |path: &PathBuf| fs::read(path).map_err(|e| Error::io("reading", path, e));
    let checkpoint = start.checkpoint.as_ref().map(|path| {
        // Where it is damaged, the one before takes its place.
        if let (_, Some(message)) = Checkpoint::load_last(path)? {
            control.emit(Event::Warning { message });
        }
        read(path)
    });
    // A record may be missing.
    let record = start.record.as_ref().and_then(|path| fs::read(path).ok());
    Ok([checkpoint.transpose()?, record])
}

/// Checks that all ranks are of one version and compute alike, and that each would have made the same plan, where it has
/// made one.
fn check_ranks(ranks: &Ranks, plan: &Plan, own: Option<&Plan>) -> Result<()> {
    let isa = Isa::chosen().map_err(|message| Error::new(Code::InvalidOption, message))?;
    let plan = comparable(plan)?;
    let own = own.map(comparable).transpose()?;
    let mut changes = Vec::new();
    if let Some(own) = &own {
        differences("", &plan, own, &mut changes);
    }
    // Rank 0 has none of them; who differs says what rank 0 has.
    let values = match changes[..] {
        [] => "the same options on all ranks".into(),
        _ => {
            let (now, first) = (in_words(&changes, |change| &change.now), in_words(&changes, |change| &change.before));
            format!("{now}; rank 0 has {first}")
        }
    };
    ranks.check_same(&[
        ("version", env!("CARGO_PKG_VERSION").into(), "install the same version of rkd on all machines"),
        (
            "instruction set",
            isa.name().into(),
            "set RKD_ISA to one that all processors have, for example avx2, on all ranks: other instructions round otherwise",
        ),
        ("plan", values, "start all ranks with the same options"),
    ])
}

impl Training for Lead {
    fn summary(&self) -> SessionSummary {
        self.session.summary()
    }

    fn policy(&self) -> &Value {
        self.session.policy()
    }

    fn train(&mut self, until_step: u64, control: &Control) -> Result<SegmentReport> {
        let Lead { ranks, number, session } = self;
        ranks.together(|| {
            tell(ranks, &Command::Train { session: *number, until: until_step })?;
            session.train(until_step, control)
        })
    }

    fn evaluate(&mut self, who: Who, part: Part, ks: &[usize], control: &Control) -> Result<Evaluation> {
        let Lead { ranks, number, session } = self;
        ranks.together(|| {
            tell(ranks, &Command::Evaluate { session: *number, who, part, ks: ks.to_vec() })?;
            session.evaluate(who, part, ks, control)
        })
    }

    fn look(&mut self, part: Part, most: usize, control: &Control) -> Result<Look> {
        self.session.look(part, most, control)
    }

    fn keep(&mut self) -> Result<()> {
        self.session.keep()
    }

    fn save_checkpoint(&mut self, path: &Path, policy: Value) -> Result<()> {
        self.session.save_checkpoint(path, policy)
    }

    fn save_record(&self, path: &Path) -> Result<()> {
        self.session.save_record(path)
    }

    fn save_model(&mut self, path: &Path, best: bool) -> Result<()> {
        self.session.save_model(path, best)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Where the others have failed, they have closed it.
        let _ = self.ranks.together(|| tell(&self.ranks, &Command::Close { session: self.number }));
    }
}

/// Says to the ranks that follow that rank 0 is done, with what [`follow`] is to give.
///
/// # Errors
/// Those of [`Ranks::broadcast`].
pub fn end(ranks: &Ranks, outcome: Value) -> Result<()> {
    let command = Command::End { outcome };
    // An error that a follower had after the last command comes now, in the place of this.
    ranks.together(|| tell(ranks, &command)).or_else(|_| ranks.together(|| tell(ranks, &command)))
}

/// Does what rank 0 asks, until the end, and gives the outcome that it says. `own` makes the plan that this rank would
/// have made, which must be rank 0's but for where things lie.
///
/// # Errors
/// Where the ranks cannot be reached any more. Errors of commands are rank 0's to tell.
pub fn follow(ranks: &Ranks, own: impl FnOnce() -> Result<Option<Plan>>, control: &Control) -> Result<Value> {
    let mut sessions: BTreeMap<u64, Box<dyn Training>> = BTreeMap::new();
    let (mut own, mut here) = (Some(own), None);
    let mut failures = 0;
    loop {
        let mut outcome = None;
        let done = ranks.together(|| {
            let command: Command = serde_json::from_slice(&ranks.broadcast(Vec::new())?)
                .map_err(|e| Error::new(Code::Internal, format!("a command of rank 0 cannot be read: {e}")))?;
            let missing = |session| Error::new(Code::Internal, format!("there is no session {session} here"));
            match command {
                Command::Open { session, plan, accept_changed_data, files } => {
                    let files = receive(ranks, files)?;
                    let own = own.take().map_or(Ok(None), |own| own())?;
                    check_ranks(ranks, &plan, own.as_ref())?;
                    here = own.or(here.take());
                    let plan = match &here {
                        Some(here) => at_own_places(*plan, here),
                        None => *plan,
                    };
                    let start = Start { accept_changed_data, ..files.start() };
                    sessions.insert(session, open_on(ranks, plan, &start, control)?);
                }
                Command::Train { session, until } => {
                    sessions.get_mut(&session).ok_or_else(|| missing(session))?.train(until, control)?;
                }
                Command::Evaluate { session, who, part, ks } => {
                    let session = sessions.get_mut(&session).ok_or_else(|| missing(session))?;
                    session.evaluate(who, part, &ks, control)?;
                }
                Command::Measure { plan } => {
                    let folder = temporary_folder()?;
                    let model = folder.path().join("model.safetensors");
                    fs::write(&model, ranks.broadcast(Vec::new())?).map_err(|e| Error::io("writing", &model, e))?;
                    let plan = EvaluatePlan { model, ..measured_at_own_places(*plan, here.as_ref()) };
                    take_part(&Host::on(ranks.clone(), plan.threads), &plan, control)?;
                }
                Command::Close { session } => drop(sessions.remove(&session)),
                Command::End { outcome: end } => outcome = Some(end),
            }
            Ok(())
        });
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
        match done {
            Ok(()) => failures = 0,
            // Rank 0 has it too, and says how it ends; it may have to close a session before.
            Err(_) if failures < MOST_FAILURES => failures += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Failures in a row after which rank 0 is taken for gone.
const MOST_FAILURES: usize = 8;

/// What a session starts from, in a folder that goes away.
struct Received {
    folder: Option<tempfile::TempDir>,
    files: [bool; 2],
}

const NAMES: [&str; 2] = ["checkpoint.safetensors", "data.json"];

fn receive(ranks: &Ranks, files: [bool; 2]) -> Result<Received> {
    if files == [false; 2] {
        return Ok(Received { folder: None, files });
    }
    let folder = temporary_folder()?;
    for (name, _) in NAMES.iter().zip(files).filter(|(_, is_there)| *is_there) {
        let path = folder.path().join(name);
        fs::write(&path, ranks.broadcast(Vec::new())?).map_err(|e| Error::io("writing", &path, e))?;
    }
    Ok(Received { folder: Some(folder), files })
}

/// A folder that goes away.
fn temporary_folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|e| Error::io("making a folder", &std::env::temp_dir(), e))
}

impl Received {
    fn start(&self) -> Start {
        let path = |place: usize| {
            self.folder.as_ref().filter(|_| self.files[place]).map(|folder| folder.path().join(NAMES[place]))
        };
        Start { checkpoint: path(0), record: path(1), accept_changed_data: false }
    }
}

/// The plan of rank 0, with data, teachers and caches where they lie `here`.
fn at_own_places(mut plan: Plan, here: &Plan) -> Plan {
    move_here((&mut plan.data, &mut plan.teachers, &mut plan.threads), here);
    plan
}

/// The same of an evaluation.
fn measured_at_own_places(mut plan: EvaluatePlan, here: Option<&Plan>) -> EvaluatePlan {
    if let Some(here) = here {
        move_here((&mut plan.data, &mut plan.teachers, &mut plan.threads), here);
    }
    plan
}

fn move_here((data, teachers, threads): (&mut DataPlan, &mut [TeacherPlan], &mut usize), here: &Plan) {
    let own = here.data.clone();
    (data.source, data.more, data.cache) = (own.source, own.more, own.cache);
    *threads = here.threads;
    for teacher in teachers {
        // A run that is measured without teachers has none, and the baseline neither.
        if let Some(own) = here.teachers.iter().find(|own| own.name == teacher.name).cloned() {
            (teacher.model, teacher.onnx, teacher.vectors) = (own.model, own.onnx, own.vectors);
        }
    }
}
