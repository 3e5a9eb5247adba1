//! The session's thread: takes commands one after the other, so that a session is never used from two places.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rkd_core::train::Training;
use rkd_core::train::event::Control;
use rkd_core::{Code, Error, Result};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::command::execute;
use crate::events::EventQueue;
use crate::panics::guard;

/// What comes back from one command.
pub type Reply = Result<Value>;

struct Request {
    command: String,
    reply: oneshot::Sender<Reply>,
}

/// A handle of the thread. Dropping it cancels what runs and lets the thread end.
pub struct Worker {
    requests: Mutex<Option<Sender<Request>>>,
    /// Stops the running command at the next step boundary.
    pub control: Control,
    /// What the running command reports.
    pub events: Arc<EventQueue>,
}

impl Worker {
    /// Starts the thread `rkd-session`.
    pub fn start() -> std::io::Result<Worker> {
        let (requests, inbox) = channel();
        let events = Arc::new(EventQueue::default());
        let sink = Arc::clone(&events);
        let control = Control::new(move |event| sink.push(&event));
        let (own_control, own_events) = (control.clone(), Arc::clone(&events));
        std::thread::Builder::new().name("rkd-session".to_string()).spawn(move || {
            serve(&inbox, &own_control, &own_events);
            own_events.close();
        })?;
        Ok(Worker { requests: Mutex::new(Some(requests)), control, events })
    }

    /// Queues a command; the receiver gets its reply.
    pub fn send(&self, command: String) -> oneshot::Receiver<Reply> {
        let (reply, receiver) = oneshot::channel();
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed worker drops `reply`, which the receiver sees.
        if let Some(requests) = &*requests {
            let _ = requests.send(Request { command, reply });
        }
        receiver
    }

    /// Cancels what runs and takes no further command; the event queue closes when the thread has ended.
    pub fn close(&self) {
        self.control.cancel();
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(inbox: &Receiver<Request>, control: &Control, events: &EventQueue) {
    let mut session: Option<Box<dyn Training>> = None;
    for request in inbox {
        let outcome = guard(|| execute(&mut session, &request.command, control));
        if outcome.as_ref().is_err_and(|error| error.code == Code::Internal) {
            session = None; // a panic may have left it half changed
        }
        events.mark();
        let _ = request.reply.send(outcome);
    }
    let _ = guard(|| {
        session = None;
        Ok(())
    });
}

/// The error of a command that came after [`Worker::close`].
pub fn closed() -> Error {
    Error::new(Code::Cancelled, "the session is closed").with_advice("start another run")
}
