//! The queue between the session's thread, which must never wait, and JavaScript, which may be busy.
//!
//! Holds at most [`CAPACITY`] events. When it is full the oldest droppable event (a progress record) makes room:
//! the next one says the same and newer. All others are never dropped, nor the mark that ends a command, behind which
//! no event of that command can come.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rkd_core::train::event::Event;
use tokio::sync::Notify;

/// About ten seconds of step events at their highest rate.
const CAPACITY: usize = 256;

/// Events on their way to JavaScript, as JSON.
#[derive(Default)]
pub struct EventQueue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    events: VecDeque<(bool, String)>,
    closed: bool,
}

impl EventQueue {
    /// Adds an event; never waits for the reader.
    pub fn push(&self, event: &Event) {
        if let Ok(text) = serde_json::to_string(event) {
            self.put(event.is_progress(), text);
        }
    }

    /// Marks that a command and all its events are done.
    pub fn mark(&self) {
        self.put(false, r#"{"type":"done"}"#.to_string());
    }

    fn put(&self, droppable: bool, text: String) {
        let mut state = self.lock();
        if state.events.len() >= CAPACITY
            && let Some(oldest) = state.events.iter().position(|(droppable, _)| *droppable)
        {
            state.events.remove(oldest);
        }
        state.events.push_back((droppable, text));
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
