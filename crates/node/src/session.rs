//! `BindingSession`: what JavaScript holds of a session.

use std::sync::Arc;

use napi::bindgen_prelude::PromiseRaw;
use napi::{Env, Result};
use napi_derive::napi;

use crate::error::BindingError;
use crate::worker::{Reply, Worker, closed};

/// The reply to a command: exactly one of the two.
#[napi(object)]
pub struct BindingReply {
    /// The result as JSON.
    pub value: Option<String>,
    /// Why there is none.
    pub error: Option<BindingError>,
}

impl From<Reply> for BindingReply {
    fn from(reply: Reply) -> Self {
        match reply {
            Ok(value) => BindingReply { value: Some(value.to_string()), error: None },
            Err(error) => BindingReply { value: None, error: Some(error.into()) },
        }
    }
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

    /// Queues a command (JSON) and promises its reply. Never rejects.
    #[napi]
    pub fn send<'env>(&self, env: &'env Env, command: String) -> Result<PromiseRaw<'env, BindingReply>> {
        let receiver = self.worker.send(command);
        env.spawn_future(async move { Ok(receiver.await.unwrap_or_else(|_| Err(closed())).into()) })
    }

    /// Promises the next event (JSON); nothing after the last one, which comes when the session has been closed.
    #[napi]
    pub fn next<'env>(&self, env: &'env Env) -> Result<PromiseRaw<'env, Option<String>>> {
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
}
