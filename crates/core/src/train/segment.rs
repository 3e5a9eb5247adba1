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
    waited_for_ranks: Duration,
    loss: f64,
    /// Sums, until the report divides them.
    terms: Vec<TermMean>,
    recent: Recent,
}

struct Recent {
    start: Instant,
    images: u64,
    waited: Duration,
    waited_for_ranks: Duration,
}

/// What happened since the last step event.
pub(super) struct Rates {
    pub images_per_second: f64,
    /// Shares of the time.
    pub data_wait: f64,
    pub rank_wait: f64,
}

impl Segment {
    pub(super) fn new() -> Segment {
        let zero = Duration::ZERO;
        Segment {
            start: Instant::now(),
            steps: 0,
            images: 0,
            waited: zero,
            waited_for_ranks: zero,
            loss: 0.0,
            terms: Vec::new(),
            recent: Recent::new(),
        }
    }

    /// Counts one step, of which training waited so long for its batch and for other ranks.
    pub(super) fn add(&mut self, value: &ObjectiveValue, images: usize, waited: Duration, for_ranks: Duration) {
        self.steps += 1;
        self.images += images as u64;
        self.waited += waited;
        self.waited_for_ranks += for_ranks;
        self.recent.images += images as u64;
        self.recent.waited += waited;
        self.recent.waited_for_ranks += for_ranks;
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

    /// What happened since the last call.
    pub(super) fn rates(&mut self) -> Rates {
        let Recent { start, images, waited, waited_for_ranks } = std::mem::replace(&mut self.recent, Recent::new());
        let seconds = start.elapsed().as_secs_f64().max(1e-9);
        let share = |waited: Duration| (waited.as_secs_f64() / seconds).min(1.0);
        Rates {
            images_per_second: images as f64 / seconds,
            data_wait: share(waited),
            rank_wait: share(waited_for_ranks),
        }
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
            rank_wait_seconds: self.waited_for_ranks.as_secs_f64(),
            images: self.images,
            loss: self.loss / steps,
            collapsed,
            terms: self.terms.into_iter().map(mean).collect(),
        }
    }
}

impl Recent {
    fn new() -> Recent {
        Recent { start: Instant::now(), images: 0, waited: Duration::ZERO, waited_for_ranks: Duration::ZERO }
    }
}
