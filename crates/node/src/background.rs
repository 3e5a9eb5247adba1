//! Work on a thread of its own that no session waits for.

use napi::bindgen_prelude::{PromiseRaw, ToNapiValue};
use napi::{Env, Result};
use rkd_core::{Code, Error};
use tokio::sync::oneshot;

use crate::panics::guard;
use crate::worker::instruction_set;

/// Does `work` on a new thread; the promise is of what `reply` makes of its outcome, and never rejects.
pub fn in_background<'env, T: Send + 'static, R: ToNapiValue + Send + 'static>(
    env: &'env Env,
    work: impl FnOnce() -> rkd_core::Result<T> + Send + 'static,
    reply: impl FnOnce(rkd_core::Result<T>) -> R + Send + 'static,
) -> Result<PromiseRaw<'env, R>> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name("rkd-background".to_string());
    let started = thread.spawn(move || {
        let _ = sender.send(guard(|| instruction_set().and_then(|_| work())));
    });
    started.map_err(|e| napi::Error::from_reason(format!("no thread could be started: {e}")))?;
    env.spawn_future(async move {
        let lost = |_| Err(Error::new(Code::Internal, "a thread ended without a reply"));
        Ok(reply(receiver.await.unwrap_or_else(lost)))
    })
}
