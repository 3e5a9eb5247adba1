//! What a running session tells its caller, and how the caller stops it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

/// What a session tells its caller. Every step has its event; where the norm of a gradient has to be fetched from another
/// device, steps have at most one every [`Control::STEP_INTERVAL`].
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// Images are being decoded into the cache.
    Decode {
        /// Images done so far.
        done: u64,
        /// Images in all.
        total: u64,
        /// Rate since the start of decoding.
        images_per_second: f64,
    },
    /// Teacher features are being computed once for all training images.
    TeacherFeatures {
        /// Images done so far.
        done: u64,
        /// Images in all.
        total: u64,
    },
    /// A training step has ended.
    Step(StepEvent),
    /// Images are being embedded, for an evaluation or for `embed`.
    Embed {
        /// Images done so far.
        done: u64,
        /// Images in all.
        total: u64,
    },
    /// Shards of embeddings are being joined into one file.
    Merge {
        /// Files of shards read so far: each is read twice, to check it and to copy it.
        done: u64,
        /// Files to read, twice the shards.
        total: u64,
    },
    /// The ranges of activations are being measured, for an export in int8.
    Calibrate {
        /// Images done so far.
        done: u64,
        /// Images in all.
        total: u64,
    },
    /// The weights `"auto"` have been found and stay from here on.
    Weights {
        /// Steps done.
        step: u64,
        /// The terms that were balanced.
        weights: Vec<ChosenWeight>,
    },
    /// The student's embeddings are running together in one point. Comes once in a run.
    Collapse(CollapseEvent),
    /// Something the user should know that does not stop the run.
    Warning {
        /// A full sentence.
        message: String,
    },
}

impl Event {
    /// Whether it is mere progress: the next one says the same and newer, so a reader that is behind may miss it.
    pub fn is_progress(&self) -> bool {
        match self {
            Event::Decode { .. }
            | Event::TeacherFeatures { .. }
            | Event::Embed { .. }
            | Event::Merge { .. }
            | Event::Calibrate { .. } => true,
            Event::Step(_) | Event::Weights { .. } | Event::Collapse(_) | Event::Warning { .. } => false,
        }
    }
}

/// The student's embeddings have run together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct CollapseEvent {
    /// Steps done, from 1.
    pub step: u64,
    /// The root mean square distance of two embeddings of the step's batch.
    pub distance: f64,
    /// The same in the first batch.
    pub start: f64,
    /// What this means and what to try, in full sentences.
    pub message: String,
}

/// The state of training after a step.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct StepEvent {
    /// Steps done, from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Epoch this step belongs to, from 1.
    pub epoch: u64,
    /// The weighted sum of all terms.
    pub loss: f64,
    /// Each term, in the plan's order.
    pub terms: Vec<Term>,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Euclidean norm of the whole gradient before clipping.
    pub gradient_norm: f64,
    /// Training images per second since the last step event.
    pub images_per_second: f64,
    /// Share of the time since the last step event that training waited for data, in `[0, 1]`.
    pub data_wait_share: f64,
    /// Share of that time in which it waited for other ranks, and for what they sent; 0 in one process.
    pub rank_wait_share: f64,
}

/// One term of the total loss.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "TermValue"))]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// The loss's kind; the second of the same kind is `kind#2`.
    pub name: String,
    /// Its weight in the sum, in this step.
    pub weight: f64,
    /// Its value before weighting. Terms of weight 0 are not computed and not listed.
    pub value: f64,
    /// Euclidean norm of its gradient with respect to the student's feature that it reads, before weighting.
    pub gradient_norm: f64,
}

/// A weight that balancing has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ChosenWeight {
    /// The term, as in [`Term::name`].
    pub name: String,
    /// Its weight from now on.
    pub weight: f64,
}

/// The caller's side of a running session: where events go, and the flag that stops it at the next step boundary.
#[derive(Clone)]
pub struct Control {
    cancelled: Arc<AtomicBool>,
    sink: Arc<dyn Fn(Event) + Send + Sync>,
    last_step_event: Arc<Mutex<Option<Instant>>>,
}

impl Control {
    /// Shortest time between two events of progress.
    pub const STEP_INTERVAL: Duration = Duration::from_millis(50);

    /// A control whose events go to `sink`, on the session's thread; `sink` must not block.
    pub fn new(sink: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Control {
            cancelled: Arc::new(AtomicBool::new(false)),
            sink: Arc::new(sink),
            last_step_event: Arc::new(Mutex::new(None)),
        }
    }

    /// A control that drops all events.
    pub fn silent() -> Self {
        Control::new(|_| {})
    }

    /// The same control, with `who` before the text of each warning.
    pub fn about(&self, who: &str) -> Self {
        let (sink, who) = (Arc::clone(&self.sink), who.to_string());
        let named = move |event| match event {
            Event::Warning { message } => sink(Event::Warning { message: format!("{who}: {message}") }),
            event => sink(event),
        };
        Control { sink: Arc::new(named), ..self.clone() }
    }

    /// The same control, whose events nobody hears.
    pub fn quiet(&self) -> Self {
        Control { sink: Arc::new(|_| {}), ..self.clone() }
    }

    /// Asks the session to stop at the next step boundary. Idempotent; may be called from any thread.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether [`Control::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Sends an event.
    pub fn emit(&self, event: Event) {
        (self.sink)(event);
    }

    /// Whether enough time has passed for another step event that costs something; if so, the clock starts anew.
    pub fn step_event_due(&self) -> bool {
        let mut last = self.last_step_event.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let due = last.is_none_or(|before| before.elapsed() >= Self::STEP_INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_were_found_are_no_progress_that_a_reader_may_miss() {
        assert!(Event::Embed { done: 1, total: 2 }.is_progress());
        assert!(!Event::Weights { step: 20, weights: Vec::new() }.is_progress());
        assert!(!Event::Warning { message: String::new() }.is_progress());
    }

    #[test]
    fn warnings_about_somebody_name_them_and_nothing_else_changes() {
        let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
        let sink = Arc::clone(&heard);
        let control = Control::new(move |event| sink.lock().unwrap().push(event));
        let about = control.about("Teacher a");
        about.emit(Event::Warning { message: "It is odd.".into() });
        about.emit(Event::Embed { done: 1, total: 2 });
        let heard = heard.lock().unwrap();
        assert!(matches!(&heard[0], Event::Warning { message } if message == "Teacher a: It is odd."));
        assert!(matches!(heard[1], Event::Embed { done: 1, total: 2 }));
        control.cancel();
        assert!(about.is_cancelled());
    }
}
