//! Book-keeping of one call of `train`: means, rates, and when a step is worth an event.

use std::time::{Duration, Instant};

use super::event::{Control, Term};
use super::objective::ObjectiveValue;
use super::report::SegmentReport;

/// The sums of a segment, and of the time since its last step event.
pub(super) struct Segment {
    start: Instant,
    steps: u64,
    images: u64,
    waited: Duration,
    loss: f64,
    terms: Vec<Term>,
    recent: Recent,
}

struct Recent {
    start: Instant,
    images: u64,
    waited: Duration,
}

impl Segment {
    pub(super) fn new() -> Segment {
        let start = Instant::now();
        let recent = Recent { start, images: 0, waited: Duration::ZERO };
        Segment { start, steps: 0, images: 0, waited: Duration::ZERO, loss: 0.0, terms: Vec::new(), recent }
    }

    /// Counts one step.
    pub(super) fn add(&mut self, value: &ObjectiveValue, images: usize, waited: Duration) {
        self.steps += 1;
        self.images += images as u64;
        self.waited += waited;
        self.recent.images += images as u64;
        self.recent.waited += waited;
        self.loss += value.total;
        if self.terms.is_empty() {
            self.terms = value.terms.clone();
        } else {
            self.terms.iter_mut().zip(&value.terms).for_each(|(sum, term)| sum.value += term.value);
        }
    }

    /// Images per second and the share of time spent waiting since the last news, if it is time for news.
    pub(super) fn news(&mut self, control: &Control) -> Option<(f64, f64)> {
        if !control.step_event_due() {
            return None;
        }
        let seconds = self.recent.start.elapsed().as_secs_f64().max(1e-9);
        let news = (self.recent.images as f64 / seconds, (self.recent.waited.as_secs_f64() / seconds).min(1.0));
        self.recent = Recent { start: Instant::now(), images: 0, waited: Duration::ZERO };
        Some(news)
    }

    /// The whole segment; means are 0 where there was no step.
    pub(super) fn report(self, step: u64, cancelled: bool) -> SegmentReport {
        let steps = self.steps.max(1) as f64;
        let terms = self.terms.into_iter().map(|term| Term { value: term.value / steps, ..term }).collect();
        SegmentReport {
            step,
            cancelled,
            seconds: self.start.elapsed().as_secs_f64(),
            data_wait_seconds: self.waited.as_secs_f64(),
            images: self.images,
            loss: self.loss / steps,
            terms,
        }
    }
}
