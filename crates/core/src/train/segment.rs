//! Book-keeping of one call of `train`: means and rates.

use std::time::{Duration, Instant};

use super::event::Term;
use super::objective::ObjectiveValue;
use super::report::{SegmentReport, TermMean};

/// The sums of a segment, and of the time since its last step event.
pub(super) struct Segment {
    start: Instant,
    steps: u64,
    images: u64,
    waited: Duration,
    loss: f64,
    /// Sums, until the report divides them.
    terms: Vec<TermMean>,
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
        value.terms.iter().for_each(|term| self.add_term(term));
    }

    fn add_term(&mut self, term: &Term) {
        match self.terms.iter_mut().find(|sum| sum.term.name == term.name) {
            Some(sum) => {
                sum.steps += 1;
                sum.term.weight = term.weight;
                sum.term.value += term.value;
                sum.term.gradient_norm += term.gradient_norm;
            }
            None => self.terms.push(TermMean { steps: 1, term: term.clone() }),
        }
    }

    /// Images per second and the share of time spent waiting since the last step event.
    pub(super) fn rates(&mut self) -> (f64, f64) {
        let seconds = self.recent.start.elapsed().as_secs_f64().max(1e-9);
        let rates = (self.recent.images as f64 / seconds, (self.recent.waited.as_secs_f64() / seconds).min(1.0));
        self.recent = Recent { start: Instant::now(), images: 0, waited: Duration::ZERO };
        rates
    }

    /// The whole segment; means are 0 where there was no step.
    pub(super) fn report(self, step: u64, cancelled: bool, collapsed: bool) -> SegmentReport {
        let steps = self.steps.max(1) as f64;
        let mean = |TermMean { steps, term }: TermMean| {
            let (value, gradient_norm) = (term.value / steps as f64, term.gradient_norm / steps as f64);
            TermMean { steps, term: Term { value, gradient_norm, ..term } }
        };
        SegmentReport {
            step,
            cancelled,
            seconds: self.start.elapsed().as_secs_f64(),
            data_wait_seconds: self.waited.as_secs_f64(),
            images: self.images,
            loss: self.loss / steps,
            collapsed,
            terms: self.terms.into_iter().map(mean).collect(),
        }
    }
}
