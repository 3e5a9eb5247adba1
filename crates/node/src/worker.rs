//! The session's thread: takes commands one after the other, so that a session is never used from two places.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rkd_core::train::Training;
use rkd_core::train::event::Control;
use rkd_core::{Code, Error, Result, input};
use tokio::sync::oneshot;

use crate::events::Mailbox;
use crate::panics::guard;

/// The session that is open.
pub type Opened = Option<Box<dyn Training>>;

/// A command: what to do on the thread. Answers its caller itself, and says whether the session is still whole.
type Command = Box<dyn FnOnce(&mut Opened, &Control) -> bool + Send>;

/// A handle of the thread. Dropping it cancels what runs and lets the thread end.
pub struct Worker {
    commands: Mutex<Option<Sender<Command>>>,
    /// Stops the running command at the next step boundary.
    pub control: Control,
    /// What the running command reports.
    pub events: Arc<Mailbox>,
}

impl Worker {
    /// Starts the thread `rkd-session`.
    pub fn start() -> std::io::Result<Worker> {
        let (commands, inbox) = channel();
        let events = Arc::new(Mailbox::default());
        let sink = Arc::clone(&events);
        let control = Control::new(move |event| sink.push(&event));
        let (own_control, own_events) = (control.clone(), Arc::clone(&events));
        std::thread::Builder::new().name("rkd-session".to_string()).spawn(move || {
            serve(&inbox, &own_control);
            own_events.close();
        })?;
        Ok(Worker { commands: Mutex::new(Some(commands)), control, events })
    }

    /// Queues `work`; the receiver gets what it returns, after the mark behind its events.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Opened, &Control) -> Result<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<T>> {
        let (reply, receiver) = oneshot::channel();
        let folder = std::env::current_dir().ok();
        let events = Arc::clone(&self.events);
        let command: Command = Box::new(move |session, control| {
            // The process may have gone elsewhere since.
            input::start_paths_at(folder);
            let outcome = guard(|| instruction_set().and_then(|_| work(session, control)));
            let whole = outcome.as_ref().err().is_none_or(|error| error.code != Code::Internal);
            events.mark();
            let _ = reply.send(outcome);
            whole
        });
        // A closed worker drops the command with its `reply`, which the receiver sees.
        if let Some(commands) = &*self.commands.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = commands.send(command);
        }
        receiver
    }

    /// Cancels what runs and takes no further command; the mailbox closes when the thread has ended.
    pub fn close(&self) {
        self.control.cancel();
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.close();
    }
}

fn serve(inbox: &Receiver<Command>, control: &Control) {
    let mut session: Opened = None;
    for command in inbox {
        if !command(&mut session, control) {
            session = None; // a panic may have left it half changed
        }
    }
    let _ = guard(|| {
        session = None;
        Ok(())
    });
}

/// The name of the instruction set of the kernels. One that is forced by the environment must be one of this processor's.
pub fn instruction_set() -> Result<&'static str> {
    rkd_kernels::Isa::chosen().map(|isa| isa.name()).map_err(|message| {
        let advice = "correct or unset RKD_ISA";
        Error::new(Code::InvalidOption, message).with_advice(advice)
    })
}

/// The error of a command that came after [`Worker::close`].
pub fn closed() -> Error {
    Error::new(Code::Cancelled, "the session is closed").with_advice("start another run")
}
