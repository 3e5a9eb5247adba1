//! `BindingModel`: what JavaScript holds of a loaded model. A model has a thread of its own, which embeds whatever waits in
//! one forward pass, and handles of the same file and options share it, in whatever worker thread they are: weights are
//! in memory once, and calls of all of them share passes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use napi::bindgen_prelude::{Float32Array, PromiseRaw, Uint8Array};
use napi::{Env, Result};
use napi_derive::napi;
use rkd_core::options;
use rkd_core::serve::{Image, LoadedModel, ServePlan, ServedModel};
use rkd_core::{Code, Error};
use tokio::sync::oneshot;

use crate::background::in_background;
use crate::error::BindingError;
use crate::panics::guard;
use crate::reply::{BindingReply, value};
use crate::worker::instruction_set;

/// An image: a file, the content of one, or pixels.
#[napi(object)]
pub struct BindingImage {
    /// An absolute path.
    pub file: Option<String>,
    /// The content of a file or, where the others are given, pixels `[height, width, channels]`.
    pub bytes: Option<Uint8Array>,
    /// Pixels of a row.
    pub width: Option<u32>,
    /// Rows.
    pub height: Option<u32>,
    /// Bytes of a pixel.
    pub channels: Option<u32>,
}

/// The reply to `embed`: either the rows or the error.
#[napi(object)]
pub struct BindingRowsReply {
    /// `[images, dimension]`.
    pub rows: Option<Float32Array>,
    /// Why there are none.
    pub error: Option<BindingError>,
    /// Which of the images cannot be embedded, where it is one of them.
    pub place: Option<u32>,
}

/// What became of a call: its rows, or why there are none and of which image that is said.
type Outcome = std::result::Result<Vec<f32>, (Box<BindingError>, Option<u32>)>;

/// A call that waits.
struct Call {
    /// The handle, and its number for the call.
    of: (u64, f64),
    images: Vec<Image>,
    reply: oneshot::Sender<Outcome>,
}

/// A model, its queue and its thread.
struct Server {
    key: Key,
    batch: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    calls: VecDeque<Call>,
    /// What the thread has read, or why it could not.
    opened: Option<std::result::Result<LoadedModel, Box<BindingError>>>,
    handles: usize,
    ended: bool,
}

/// What makes two handles share a server: the file as it is now, and how it is run.
#[derive(Clone, Debug, PartialEq)]
struct Key {
    file: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
    how: ServePlan,
}

impl Key {
    fn of(plan: &ServePlan) -> rkd_core::Result<Key> {
        let failed = |e| Error::io("reading the model", &plan.model, e);
        let about = std::fs::metadata(&plan.model).map_err(failed)?;
        let file = std::fs::canonicalize(&plan.model).map_err(failed)?;
        Ok(Key { file, length: about.len(), modified: about.modified().ok(), how: plan.clone() })
    }
}

/// All servers of this process that run.
fn servers() -> MutexGuard<'static, Vec<Weak<Server>>> {
    static SERVERS: Mutex<Vec<Weak<Server>>> = Mutex::new(Vec::new());
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// The server of `plan`, which has one handle more: one that runs, or a new one.
    fn join(plan: &ServePlan) -> rkd_core::Result<Arc<Server>> {
        let key = Key::of(plan)?;
        let mut all = servers();
        all.retain(|server| server.strong_count() > 0);
        for server in all.iter().filter_map(Weak::upgrade).filter(|server| server.key == key) {
            let mut state = server.lock();
            if state.handles > 0 && !matches!(state.opened, Some(Err(_))) {
                state.handles += 1;
                drop(state);
                return Ok(server);
            }
        }
        let state = Mutex::new(State { handles: 1, ..State::default() });
        let server = Arc::new(Server { key, batch: plan.batch, state, changed: Condvar::new() });
        let (own, plan) = (Arc::clone(&server), plan.clone());
        let thread = std::thread::Builder::new().name("rkd-model".to_string());
        thread
            .spawn(move || own.run(&plan))
            .map_err(|e| Error::new(Code::Internal, format!("no thread could be started: {e}")))?;
        all.push(Arc::downgrade(&server));
        Ok(server)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read, once it is.
    fn opened(&self) -> std::result::Result<LoadedModel, Box<BindingError>> {
        let mut state = self.lock();
        loop {
            match &state.opened {
                Some(opened) => return opened.clone(),
                None => state = self.wait(state),
            }
        }
    }

    /// One handle less; what waits is still done.
    fn leave(&self) {
        self.lock().handles -= 1;
        self.changed.notify_all();
    }

    /// Returns when the thread has ended, or at once while others hold the model.
    fn wait_for_end(&self) {
        let mut state = self.lock();
        while state.handles == 0 && !state.ended {
            state = self.wait(state);
        }
    }

    /// The thread.
    fn run(&self, plan: &ServePlan) {
        let model = guard(|| instruction_set().and_then(|_| ServedModel::open(plan)));
        let (model, opened) = match model {
            Ok(model) => {
                let about = model.about().clone();
                (Some(model), Ok(about))
            }
            Err(error) => (None, Err(Box::new(error.into()))),
        };
        self.lock().opened = Some(opened);
        self.changed.notify_all();
        if let Some(model) = &model {
            while let Some(calls) = self.next() {
                embed(model, calls);
            }
        }
        drop(model);
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// The calls of the next pass, in the order in which they came, once there are such; nothing after the last one.
    fn next(&self) -> Option<Vec<Call>> {
        let mut state = self.lock();
        while state.calls.is_empty() {
            if state.handles == 0 {
                return None;
            }
            state = self.wait(state);
        }
        let (mut calls, mut images) = (Vec::new(), 0);
        while let Some(call) = state.calls.pop_front() {
            images += call.images.len();
            if images > self.batch && !calls.is_empty() {
                state.calls.push_front(call);
                break;
            }
            calls.push(call);
        }
        Some(calls)
    }
}

/// Embeds the images of all `calls` in one pass, and answers them.
fn embed(model: &ServedModel, calls: Vec<Call>) {
    let mut images = Vec::new();
    let mut waiting = Vec::new();
    for call in calls {
        waiting.push((call.images.len(), call.reply));
        images.extend(call.images);
    }
    match guard(|| model.embed(&images)) {
        Ok(rows) => {
            let mut rows = rows.into_iter();
            for (count, reply) in waiting {
                let own: Vec<_> = rows.by_ref().take(count).collect();
                let _ = reply.send(outcome_of(own));
            }
        }
        Err(error) => {
            let error = Box::new(BindingError::from(error));
            for (_, reply) in waiting {
                let _ = reply.send(Err((error.clone(), None)));
            }
        }
    }
}

/// All rows, or the error of the first image that has none.
fn outcome_of(rows: Vec<rkd_core::Result<Vec<f32>>>) -> Outcome {
    let mut all = Vec::new();
    for (place, row) in rows.into_iter().enumerate() {
        all.append(&mut row.map_err(|error| (Box::new(BindingError::from(error)), Some(place as u32)))?);
    }
    Ok(all)
}

/// A handle of a loaded model.
#[napi]
pub struct BindingModel {
    handle: Arc<Handle>,
}

impl Default for BindingModel {
    fn default() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        BindingModel { handle: Arc::new(Handle { number, server: OnceLock::new(), closed: Mutex::new(false) }) }
    }
}

/// What the handle's promises hold, too.
struct Handle {
    number: u64,
    server: OnceLock<Arc<Server>>,
    /// Whether it has left the server.
    closed: Mutex<bool>,
}

impl Handle {
    /// Leaves the server. Idempotent.
    fn close(&self) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = self.server.get().filter(|_| !*closed) {
            server.leave();
        }
        *closed = true;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

#[napi]
impl BindingModel {
    /// Holds nothing yet.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads the model, or joins one that is loaded.
    #[napi(ts_args_type = "options: Json<LoadModelOptions>", ts_return_type = "Promise<Reply<LoadedModel>>")]
    pub fn open<'env>(&self, env: &'env Env, options: String) -> Result<PromiseRaw<'env, BindingReply>> {
        let handle = Arc::clone(&self.handle);
        let folder = std::env::current_dir().ok();
        let work = move || {
            rkd_core::input::start_paths_at(folder);
            let plan = options::model::load_model(&value(&options)?)?;
            let server = Server::join(&plan)?;
            let opened = server.opened();
            let closed = handle.closed.lock().unwrap_or_else(PoisonError::into_inner);
            if handle.server.set(Arc::clone(&server)).is_err() || *closed {
                server.leave();
            }
            drop(closed);
            Ok(opened)
        };
        in_background(env, work, |opened| match opened {
            Ok(Ok(about)) => BindingReply::from(Ok(about)),
            Ok(Err(error)) => BindingReply { value: None, error: Some(*error) },
            Err(error) => BindingReply { value: None, error: Some(error.into()) },
        })
    }

    /// Embeds images; `call` is the number by which it can be cancelled.
    #[napi(
        ts_args_type = "call: number, images: readonly BindingImage[]",
        ts_return_type = "Promise<BindingRowsReply>"
    )]
    pub fn embed<'env>(
        &self,
        env: &'env Env,
        call: f64,
        images: Vec<BindingImage>,
    ) -> Result<PromiseRaw<'env, BindingRowsReply>> {
        let (reply, receiver) = oneshot::channel();
        if let Some(server) = self.handle.server.get() {
            let images = images.into_iter().map(owned).collect();
            server.lock().calls.push_back(Call { of: (self.handle.number, call), images, reply });
            server.changed.notify_all();
        }
        // A call that was cancelled is dropped with its sender.
        env.spawn_future(async move {
            let cancelled = |_| Err((Box::new(Error::new(Code::Cancelled, "the call was cancelled").into()), None));
            Ok(match receiver.await.unwrap_or_else(cancelled) {
                Ok(rows) => BindingRowsReply { rows: Some(Float32Array::new(rows)), error: None, place: None },
                Err((error, place)) => BindingRowsReply { rows: None, error: Some(*error), place },
            })
        })
    }

    /// Takes the call `call` out of the queue, where it is still there.
    #[napi]
    pub fn cancel(&self, call: f64) {
        if let Some(server) = self.handle.server.get() {
            let of = (self.handle.number, call);
            server.lock().calls.retain(|call| call.of != of);
        }
    }

    /// Gives the model back; calls that wait are still answered. Resolves when its memory is free, where no other handle
    /// holds it. Idempotent.
    #[napi(ts_return_type = "Promise<Reply<null>>")]
    pub fn close<'env>(&self, env: &'env Env) -> Result<PromiseRaw<'env, BindingReply>> {
        self.handle.close();
        let server = self.handle.server.get().cloned();
        let work = move || {
            server.iter().for_each(|server| server.wait_for_end());
            Ok(())
        };
        in_background(env, work, BindingReply::from)
    }
}

/// An image that no other thread changes.
fn owned(image: BindingImage) -> Image {
    let BindingImage { file, bytes, width, height, channels } = image;
    let data = || bytes.as_deref().map_or_else(Vec::new, <[u8]>::to_vec);
    match (file, width.zip(height).zip(channels)) {
        (Some(file), _) => Image::File(file.into()),
        (None, Some(((width, height), channels))) => {
            Image::Pixels { data: data(), width: width as usize, height: height as usize, channels: channels as usize }
        }
        (None, None) => Image::Encoded(data()),
    }
}
