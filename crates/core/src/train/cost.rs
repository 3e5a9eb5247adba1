//! What a step will cost, told before the first one.

use rkd_kernels::{Team, relations};

use crate::losses::{LossSpec, TermSpec};

/// Seconds of a step's relational loss from which on the user is told.
const SLOW: f64 = 5.0;

/// A warning where the angle losses of batches of `n` embeddings of `d` numbers, each evaluated `times` times, take long:
/// their time grows with n^3. The time is measured on a small batch; see [`relations::estimate_seconds`].
pub(super) fn slow_losses(terms: &[TermSpec], team: &Team, [n, d]: [usize; 2], times: usize) -> Option<String> {
    let angle = |term: &&TermSpec| matches!(term.loss, LossSpec::RkdAngle(_)) && !term.weight.is_off();
    let count = terms.iter().filter(angle).count();
    if count == 0 {
        return None;
    }
    let seconds = (times * count) as f64 * relations::estimate_seconds(team, n, d);
    (seconds > SLOW).then(|| {
        format!(
            "rkd-angle compares all triples of a batch: with {n} images a step will spend about {seconds:.0} seconds on it. \
             Its time grows with the cube of the batch; half the batch takes an eighth."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::losses::{RkdAngle, RkdDistance, Weight};

    #[test]
    fn only_large_batches_with_an_angle_term_are_slow() {
        let team = Team::new(1);
        let distance = TermSpec::new(LossSpec::RkdDistance(RkdDistance::default()));
        let angle = TermSpec::new(LossSpec::RkdAngle(RkdAngle::default()));
        let off = TermSpec { weight: Weight::Number(0.0), ..angle.clone() };
        assert_eq!(slow_losses(&[distance, off], &team, [100_000, 8], 1), None);
        assert_eq!(slow_losses(std::slice::from_ref(&angle), &team, [16, 8], 2), None);
        let message = slow_losses(&[angle], &team, [100_000, 8], 1).unwrap();
        assert!(message.contains("with 100000 images"), "{message}");
    }
}
