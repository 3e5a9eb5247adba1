//! The alarm for a collapsing student: all its embeddings run together in one point.
//!
//! Watched is the root mean square distance of two items of a batch, `sqrt(2 n / (n - 1) sum_k variance_k)`, which costs
//! one pass over the embeddings. A triplet loss with hard negatives can drive it to zero, and so can a large learning
//! rate; retrieval is then a matter of chance, while the loss may look well.

use serde::{Deserialize, Serialize};

use super::event::CollapseEvent;
use crate::losses::Matrix;

/// The share of the distance at the start below which the alarm rings.
const SHARE: f64 = 0.01;

/// What the alarm remembers. It travels in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CollapseAlarm {
    /// The distance in the first batch.
    start: Option<f64>,
    /// Whether it has rung; it does so once.
    rung: bool,
}

impl CollapseAlarm {
    /// Whether it has rung.
    pub fn has_rung(&self) -> bool {
        self.rung
    }

    /// Looks at the embeddings of step `step` (from 1); the first time that they have run together, says so.
    pub fn watch(&mut self, step: u64, embedding: &Matrix) -> Option<CollapseEvent> {
        let now = distance(embedding)?;
        let start = *self.start.get_or_insert(now);
        // Embeddings that are one point from the beginning have collapsed too.
        if self.rung || (now >= SHARE * start && now > 0.0) {
            return None;
        }
        self.rung = true;
        let message = format!(
            "Step {step}: the student's embeddings are running together; their mean distance is {now:.2e}, and was \
             {start:.2e} at the start. Try a smaller learning rate, more warm-up steps, or negatives that are less hard."
        );
        Some(CollapseEvent { step, distance: now, start, message })
    }
}

/// The root mean square distance of two different rows; none for fewer than two.
fn distance(embedding: &Matrix) -> Option<f64> {
    let n = embedding.rows;
    if n < 2 {
        return None;
    }
    let rows = || embedding.data.chunks_exact(embedding.columns);
    let mut mean = vec![0.0; embedding.columns];
    rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / n as f64));
    let squares: f64 =
        rows().map(|row| row.iter().zip(&mean).map(|(v, mean)| (v - mean) * (v - mean)).sum::<f64>()).sum();
    Some((2.0 * squares / (n - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(scale: f64) -> Matrix {
        let data: Vec<f64> = [0.0, 0.0, 3.0, 4.0, -3.0, 4.0].map(|v| v * scale + 7.0).into();
        Matrix::new("student", &data, 3, 2).unwrap()
    }

    #[test]
    fn the_distance_is_that_of_pairs() {
        // 5, 5 and 6.
        assert!((distance(&rows(1.0)).unwrap() - (86.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(distance(&Matrix::new("student", &[1.0f32], 1, 1).unwrap()), None);
    }

    #[test]
    fn it_rings_once_and_says_what_to_try() {
        let mut alarm = CollapseAlarm::default();
        assert_eq!(alarm.watch(1, &rows(1.0)), None);
        assert_eq!(alarm.watch(2, &rows(0.011)), None);
        let CollapseEvent { step, distance, start, message } = alarm.watch(3, &rows(0.009)).unwrap();
        assert_eq!((step, (start / distance).round()), (3, 111.0));
        assert!(message.starts_with("Step 3: ") && message.contains("smaller learning rate"), "{message}");
        assert_eq!(alarm.watch(4, &rows(0.0)), None);
        assert!(alarm.has_rung());
    }

    #[test]
    fn embeddings_that_start_in_one_point_ring_at_once() {
        let mut alarm = CollapseAlarm::default();
        assert!(alarm.watch(1, &rows(0.0)).unwrap().message.starts_with("Step 1: "));
        assert_eq!(alarm.watch(2, &rows(0.0)), None);
    }
}
