//! The way of events from the session's thread, which must never wait, to JavaScript, which may be busy.
//!
//! No queue of its own: a progress record that has not been fetched when the next one of its kind comes is replaced by it,
//! since that says the same and newer. What waits is so at most one record of each kind beside the events that must not be
//! lost: those of the steps of one segment, since nothing is trained before JavaScript asks for the next one, and a few others. The one bounded queue is `src/run/event-stream.ts`, which JavaScript fills from here.

use std::collections::VecDeque;
use std::mem::{Discriminant, discriminant};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rkd_core::train::event::Event;
use tokio::sync::Notify;

/// Events on their way to JavaScript, as JSON.
#[derive(Default)]
pub struct Mailbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// The kind is that of a progress record.
    events: VecDeque<(Option<Discriminant<Event>>, String)>,
    closed: bool,
}

impl Mailbox {
    /// Adds an event; never waits for the reader.
    pub fn push(&self, event: &Event) {
        if let Ok(text) = serde_json::to_string(event) {
            self.put(event.is_progress().then(|| discriminant(event)), text);
        }
    }

    /// Marks that a command and all its events are done.
    pub fn mark(&self) {
        self.put(None, r#"{"type":"done"}"#.to_string());
    }

    fn put(&self, progress: Option<Discriminant<Event>>, text: String) {
        let mut state = self.lock();
        if progress.is_some() {
            // Also behind another event: order matters to those that stay, and the newest record tells where work is.
            state.events.retain(|(kind, _)| *kind != progress);
        }
        state.events.push_back((progress, text));
        drop(state);
        self.changed.notify_one();
    }

    /// Says that no event will come any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next event; `None` after the last one.
    pub async fn next(&self) -> Option<String> {
        loop {
            {
                let mut state = self.lock();
                if let Some((_, text)) = state.events.pop_front() {
                    return Some(text);
                }
                if state.closed {
                    self.changed.notify_one(); // the next reader, if there is one, must not wait either
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
