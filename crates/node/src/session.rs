//! `BindingSession`: what JavaScript holds of a session. A method is a command; it is queued, and its promise never
//! rejects.

use std::path::PathBuf;
use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, PromiseRaw};
use napi::{Env, Result};
use napi_derive::napi;
use rkd_core::bench::{self, BenchPlan};
use rkd_core::data::Part;
use rkd_core::input;
use rkd_core::options::{self, DataOption, Job};
use rkd_core::train::event::{Control, Event};
use rkd_core::train::neighbours::Picture;
use rkd_core::train::report::{Evaluation, SessionSummary};
use rkd_core::train::{
    EmbedPlan, Look, Plan, Start, Training, Who, embed, export, lead, lead_evaluation, look, merge, neighbours,
};
use rkd_core::{Code, Error};
use serde::Serialize;
use serde_json::Value;

use crate::error::BindingError;
use crate::ranks;
use crate::reply::{BindingReply, value, written};
use crate::worker::{Opened, Worker, closed};

/// A promise of a reply.
type Promised<'env, T = BindingReply> = Result<PromiseRaw<'env, T>>;

/// What `open` found.
#[derive(Serialize)]
struct OpenReport {
    summary: SessionSummary,
    /// The text that was given to `saveCheckpoint`, after a resume.
    policy: Value,
}

/// One image, as the network sees it but for the normalisation.
#[napi(object)]
pub struct BindingPicture {
    /// Its path inside the source.
    pub id: String,
    /// The name of its class; empty without labels.
    pub class: String,
    /// A PNG file.
    #[napi(ts_type = "Uint8Array")]
    pub png: Buffer,
}

/// A query and what is nearest to it, nearest first.
#[napi(object)]
pub struct BindingNeighbours {
    /// The query.
    pub query: BindingPicture,
    /// The other images of the part that are nearest to it.
    pub neighbours: Vec<BindingPicture>,
}

/// The reply to `neighbours`: exactly one of the two.
#[napi(object)]
pub struct BindingNeighboursReply {
    /// The queries.
    pub value: Option<Vec<BindingNeighbours>>,
    /// Why there are none.
    pub error: Option<BindingError>,
}

/// A sample of a part of the data, for a report.
#[napi(object)]
pub struct BindingLook {
    /// The images; in `png` stands a PNG or, of a large image, a JPEG file, and nothing where a session looks.
    pub images: Vec<BindingPicture>,
    /// The student's embeddings `[images, d]`, float32 in the machine's order.
    #[napi(ts_type = "Uint8Array")]
    pub student: Buffer,
    /// Those of each teacher.
    #[napi(ts_type = "Uint8Array[]")]
    pub teachers: Vec<Buffer>,
    /// Images of the whole part.
    pub of: u32,
}

/// The reply to `look` and `lookAt`: exactly one of the two.
#[napi(object)]
pub struct BindingLookReply {
    /// The sample.
    pub value: Option<BindingLook>,
    /// Why there is none.
    pub error: Option<BindingError>,
}

/// A thread that runs commands in order.
#[napi]
pub struct BindingSession {
    worker: Arc<Worker>,
}

#[napi]
impl BindingSession {
    /// Starts the thread.
    #[napi(constructor)]
    pub fn new() -> Result<Self> {
        let worker =
            Worker::start().map_err(|e| napi::Error::from_reason(format!("no thread could be started: {e}")))?;
        Ok(BindingSession { worker: Arc::new(worker) })
    }

    /// The whole plan of what a user says.
    #[napi(ts_args_type = "job: Job, options: Json<unknown>", ts_return_type = "Promise<Reply<ResolvedRun>>")]
    pub fn resolve<'env>(&self, env: &'env Env, job: String, options: String) -> Promised<'env> {
        self.command(env, move |_, control| {
            options::run::resolve(job_of(&job)?, &value(&options)?, &|| control.is_cancelled())
        })
    }

    /// The whole plan of the run in the folder `out`, from its `plan.json`; what `resume` says comes before what is stored.
    #[napi(
        ts_args_type = "job: Job, plan: Json<Plan>, policy: Json<Policy>, out: string, resume: Json<ResumeOptions>",
        ts_return_type = "Promise<Reply<ResolvedRun>>"
    )]
    pub fn resolve_stored<'env>(
        &self,
        env: &'env Env,
        job: String,
        plan: String,
        policy: String,
        out: String,
        resume: String,
    ) -> Promised<'env> {
        self.command(env, move |_, control| {
            let stop = || control.is_cancelled();
            let (plan, policy, resume) = (value(&plan)?, value(&policy)?, value(&resume)?);
            options::run::resolve_stored(job_of(&job)?, &plan, &policy, &out, &resume, &stop)
        })
    }

    /// Whether processes are to train together.
    #[napi(ts_args_type = "distributed: Json<unknown>", ts_return_type = "Reply<boolean>")]
    pub fn asks_for_ranks(distributed: String) -> BindingReply {
        ranks::are_asked_for(&distributed).into()
    }

    /// Joins the processes that train together. Null where there are no others, or none are asked for.
    #[napi(ts_return_type = "Promise<Reply<{ rank: number; size: number; library: string } | null>>")]
    pub fn join_ranks<'env>(&self, env: &'env Env) -> Promised<'env> {
        self.command(env, move |_, _| ranks::join())
    }

    /// Follows the first of the processes to the end of its run, and gives its outcome.
    #[napi(
        ts_args_type = "job: Job, options: Json<unknown> | null",
        ts_return_type = "Promise<Reply<{ result: unknown; error?: undefined } | { result?: undefined; error: { code: RkdErrorCode; message: string } }>>"
    )]
    pub fn follow_ranks<'env>(&self, env: &'env Env, job: String, options: Option<String>) -> Promised<'env> {
        self.command(env, move |_, control| {
            let options = options.map(|options| value(&options)).transpose()?;
            ranks::follow(job_of(&job)?, options.as_ref(), control)
        })
    }

    /// Tells the other processes that the run of the first one has ended, with its outcome.
    #[napi(
        ts_args_type = "outcome: Json<{ result: unknown } | { error: { code: RkdErrorCode; message: string } }>",
        ts_return_type = "Promise<Reply<null>>"
    )]
    pub fn end_ranks<'env>(&self, env: &'env Env, outcome: String) -> Promised<'env> {
        self.command(env, move |_, _| ranks::end(value(&outcome)?))
    }

    /// Opens data, networks and, where the start names one, a checkpoint; where processes train together, on all of them.
    #[napi(
        ts_args_type = "plan: Json<Plan>, start: Json<SessionStart>",
        ts_return_type = "Promise<Reply<{ summary: SessionSummary; policy: string | null }>>"
    )]
    pub fn open<'env>(&self, env: &'env Env, plan: String, start: String) -> Promised<'env> {
        self.command(env, move |session, control| {
            *session = None; // frees the old one before the new one takes memory
            let (plan, start) = (written::<Plan>(&plan)?, written::<Start>(&start)?);
            let opened = session.insert(lead(&ranks::of_run(), plan, &start, control)?);
            Ok(OpenReport { summary: opened.summary(), policy: opened.policy().clone() })
        })
    }

    /// Trains until `untilStep` steps are done in all.
    #[napi(ts_return_type = "Promise<Reply<SegmentReport>>")]
    pub fn train<'env>(&self, env: &'env Env, until_step: f64) -> Promised<'env> {
        self.command(env, move |session, control| opened(session)?.train(until_step as u64, control))
    }

    /// Measures the student, or the teacher at the place `teacher` of the plan, on one part of the data.
    #[napi(
        ts_args_type = "teacher: number | null, part: Part, ks: readonly number[]",
        ts_return_type = "Promise<Reply<Evaluation>>"
    )]
    pub fn evaluate<'env>(&self, env: &'env Env, teacher: Option<u32>, part: String, ks: Vec<u32>) -> Promised<'env> {
        self.command(env, move |session, control| {
            let who = teacher.map_or(Who::Student, |place| Who::Teacher(place as usize));
            let part: Part = input::read("part", &part.into())?;
            let ks: Vec<usize> = ks.into_iter().map(|k| k as usize).collect();
            opened(session)?.evaluate(who, part, &ks, control)
        })
    }

    /// Remembers the present weights as the best.
    #[napi(ts_return_type = "Promise<Reply<null>>")]
    pub fn keep<'env>(&self, env: &'env Env) -> Promised<'env> {
        self.command(env, |session, _| opened(session)?.keep())
    }

    /// Writes a checkpoint with the caller's own state in it. That is text, not JSON: numbers that another program
    /// parsed and printed might not be the same bits.
    #[napi(ts_return_type = "Promise<Reply<null>>")]
    pub fn save_checkpoint<'env>(&self, env: &'env Env, path: String, policy: String) -> Promised<'env> {
        self.command(env, move |session, _| {
            opened(session)?.save_checkpoint(&PathBuf::from(path), Value::String(policy))
        })
    }

    /// Writes what later jobs compare their data with.
    #[napi(ts_return_type = "Promise<Reply<null>>")]
    pub fn save_record<'env>(&self, env: &'env Env, path: String) -> Promised<'env> {
        self.command(env, move |session, _| opened(session)?.save_record(&PathBuf::from(path)))
    }

    /// Writes the model: the best weights, or the present ones.
    #[napi(ts_return_type = "Promise<Reply<null>>")]
    pub fn save_model<'env>(&self, env: &'env Env, path: String, best: bool) -> Promised<'env> {
        self.command(env, move |session, _| opened(session)?.save_model(&PathBuf::from(path), best))
    }

    /// Measures a stored model; within a run of several processes on all of them.
    #[napi(
        ts_args_type = "options: Json<EvaluateOptions>",
        ts_return_type = "Promise<Reply<Evaluation & { readonly model: string; readonly part: Part }>>"
    )]
    pub fn evaluate_model<'env>(&self, env: &'env Env, options: String) -> Promised<'env> {
        self.command(env, move |_, control| {
            let plan = options::model::evaluate(&value(&options)?, &|| control.is_cancelled())?;
            let evaluation = lead_evaluation(&ranks::of_run(), &plan, control)?;
            Ok(Measured { model: plan.model.clone(), part: plan.part, evaluation })
        })
    }

    /// Looks at the nearest neighbours of a few images.
    #[napi(ts_args_type = "options: Json<NeighboursOptions>", ts_return_type = "Promise<BindingNeighboursReply>")]
    pub fn neighbours<'env>(&self, env: &'env Env, options: String) -> Promised<'env, BindingNeighboursReply> {
        let receiver = self.worker.run(move |_, control| {
            neighbours(&options::model::neighbours(&value(&options)?, &|| control.is_cancelled())?, control)
        });
        env.spawn_future(async move {
            Ok(match receiver.await.unwrap_or_else(|_| Err(closed())) {
                Ok(found) => {
                    let pictures = found.into_iter().map(|each| BindingNeighbours {
                        query: picture(each.query),
                        neighbours: each.neighbours.into_iter().map(picture).collect(),
                    });
                    BindingNeighboursReply { value: Some(pictures.collect()), error: None }
                }
                Err(error) => BindingNeighboursReply { value: None, error: Some(error.into()) },
            })
        })
    }

    /// Embeds at most `most` images of a part by the student as it is now.
    #[napi(ts_args_type = "part: Part, most: number", ts_return_type = "Promise<BindingLookReply>")]
    pub fn look<'env>(&self, env: &'env Env, part: String, most: u32) -> Promised<'env, BindingLookReply> {
        self.looking(env, move |session, control| {
            opened(session)?.look(input::read("part", &part.into())?, most as usize, control)
        })
    }

    /// The same images with pictures, and their embeddings by a stored model and by teachers.
    #[napi(ts_args_type = "options: Json<EvaluateOptions>, most: number", ts_return_type = "Promise<BindingLookReply>")]
    pub fn look_at<'env>(&self, env: &'env Env, options: String, most: u32) -> Promised<'env, BindingLookReply> {
        self.looking(env, move |_, control| {
            look(&options::model::evaluate(&value(&options)?, &|| control.is_cancelled())?, most as usize, control)
        })
    }

    /// What a data source is and what is missing in it, without decoding an image.
    #[napi(ts_args_type = "data: Json<Data | string>", ts_return_type = "Promise<Reply<DataSurvey>>")]
    pub fn survey<'env>(&self, env: &'env Env, data: String) -> Promised<'env> {
        self.command(env, move |_, control| {
            options::survey(&input::read::<DataOption>("data", &value(&data)?)?, &|| control.is_cancelled())
        })
    }

    /// What a teacher is and what it makes of three images.
    #[napi(ts_args_type = "teacher: Json<Teacher | string>", ts_return_type = "Promise<Reply<TeacherReport>>")]
    pub fn judge_teacher<'env>(&self, env: &'env Env, teacher: String) -> Promised<'env> {
        self.command(env, move |_, _| options::model::judge_teacher(&value(&teacher)?))
    }

    /// The whole plan of what a user says to `embed`.
    #[napi(ts_args_type = "options: Json<EmbedOptions>", ts_return_type = "Promise<Reply<EmbedPlan>>")]
    pub fn resolve_embed<'env>(&self, env: &'env Env, options: String) -> Promised<'env> {
        self.command(env, move |_, control| options::model::embed(&value(&options)?, &|| control.is_cancelled()))
    }

    /// Writes the embeddings of a data set.
    #[napi(ts_args_type = "plan: Json<EmbedPlan>", ts_return_type = "Promise<Reply<EmbedReport>>")]
    pub fn embed<'env>(&self, env: &'env Env, plan: String) -> Promised<'env> {
        self.command(env, move |_, control| embed(&written::<EmbedPlan>(&plan)?, control))
    }

    /// Makes one file of all shards of a data set's embeddings.
    #[napi(ts_args_type = "options: Json<MergeOptions>", ts_return_type = "Promise<Reply<MergeReport>>")]
    pub fn merge_shards<'env>(&self, env: &'env Env, options: String) -> Promised<'env> {
        self.command(env, move |_, control| merge(&options::model::merge(&value(&options)?)?, control))
    }

    /// Writes a model for other programs, and measures what it wrote.
    #[napi(ts_args_type = "options: Json<ExportOptions>", ts_return_type = "Promise<Reply<ExportReport>>")]
    pub fn export_model<'env>(&self, env: &'env Env, options: String) -> Promised<'env> {
        self.command(env, move |_, control| {
            let (plan, warnings) = options::model::export(&value(&options)?, &|| control.is_cancelled())?;
            warnings.into_iter().for_each(|message| control.emit(Event::Warning { message }));
            export(&plan, control)
        })
    }

    /// The names of the workloads of `rkd bench`.
    #[napi(ts_return_type = "Promise<Reply<readonly string[]>>")]
    pub fn workloads<'env>(&self, env: &'env Env) -> Promised<'env> {
        self.command(env, |_, _| Ok(bench::workloads()))
    }

    /// Measures one of them.
    #[napi(ts_args_type = "plan: Json<BenchPlan>", ts_return_type = "Promise<Reply<BenchReport>>")]
    pub fn bench<'env>(&self, env: &'env Env, plan: String) -> Promised<'env> {
        self.command(env, move |_, _| bench::run(&written::<BenchPlan>(&plan)?))
    }

    /// Measures where the time of its step goes.
    #[napi(ts_args_type = "plan: Json<BenchPlan>", ts_return_type = "Promise<Reply<ProfileReport>>")]
    pub fn profile<'env>(&self, env: &'env Env, plan: String) -> Promised<'env> {
        self.command(env, move |_, _| bench::profile(&written::<BenchPlan>(&plan)?))
    }

    /// Panics, so that tests see what a panic does. In published binaries, which have no debug assertions, an error.
    #[napi(ts_return_type = "Promise<Reply<null>>")]
    pub fn panic<'env>(&self, env: &'env Env, message: String) -> Promised<'env> {
        self.command(env, move |_, _| {
            if cfg!(debug_assertions) {
                panic!("{message}");
            }
            Err::<(), _>(Error::new(Code::Internal, "only builds with debug assertions panic on purpose"))
        })
    }

    /// Promises the next event; nothing after the last one, which comes when the session has been closed. `done` stands
    /// behind the events of each command.
    #[napi(ts_return_type = "Promise<Json<Event | { readonly type: 'done' }> | null>")]
    pub fn next<'env>(&self, env: &'env Env) -> Promised<'env, Option<String>> {
        let events = Arc::clone(&self.worker.events);
        env.spawn_future(async move { Ok(events.next().await) })
    }

    /// Asks the running command to stop at the next step boundary.
    #[napi]
    pub fn cancel(&self) {
        self.worker.control.cancel();
    }

    /// Cancels and ends the thread. Idempotent.
    #[napi]
    pub fn close(&self) {
        self.worker.close();
    }

    /// Leaves the processes that train together: the last thing that a process does, with this exit code.
    #[napi]
    pub fn leave_ranks(code: i32) {
        ranks::leave(code);
    }

    fn looking<'env>(
        &self,
        env: &'env Env,
        work: impl FnOnce(&mut Opened, &Control) -> rkd_core::Result<Look> + Send + 'static,
    ) -> Promised<'env, BindingLookReply> {
        let receiver = self.worker.run(work);
        env.spawn_future(async move {
            Ok(match receiver.await.unwrap_or_else(|_| Err(closed())) {
                Ok(Look { images, student, teachers, of }) => {
                    let images = images.into_iter().map(picture).collect();
                    let teachers = teachers.iter().map(|rows| bytes(rows)).collect();
                    let found = BindingLook { images, student: bytes(&student), teachers, of: of as u32 };
                    BindingLookReply { value: Some(found), error: None }
                }
                Err(error) => BindingLookReply { value: None, error: Some(error.into()) },
            })
        })
    }

    fn command<'env, T: Serialize + Send + 'static>(
        &self,
        env: &'env Env,
        work: impl FnOnce(&mut Opened, &Control) -> rkd_core::Result<T> + Send + 'static,
    ) -> Promised<'env> {
        let receiver = self.worker.run(work);
        env.spawn_future(async move { Ok(receiver.await.unwrap_or_else(|_| Err(closed())).into()) })
    }
}

/// An evaluation, and what of.
#[derive(Serialize)]
struct Measured {
    model: PathBuf,
    part: Part,
    #[serde(flatten)]
    evaluation: Evaluation,
}

fn job_of(name: &str) -> rkd_core::Result<Job> {
    input::read("job", &name.into())
}

fn opened(session: &mut Opened) -> rkd_core::Result<&mut Box<dyn Training>> {
    session.as_mut().ok_or_else(|| Error::new(Code::Internal, "no session is open"))
}

fn bytes(rows: &[f32]) -> Buffer {
    rows.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>().into()
}

fn picture(picture: Picture) -> BindingPicture {
    BindingPicture { id: picture.id, class: picture.class, png: picture.png.into() }
}
