//! Choosing negatives for triplets.
//!
//! Positives are all ordered pairs of one class in the batch; for each of them [`Negatives`] says which items of other
//! classes complete a triplet (reference: the paper's section 4.1 and the authors' samplers). Ties go to the smaller
//! index. Random choices come from the batch's own stream, so a run repeats.

mod distance_weighted;

pub use distance_weighted::{CUTOFF, NONZERO, distance_weights};

use serde::{Deserialize, Serialize};

use crate::losses::Matrix;
use crate::random::Random;

/// Which negatives a triplet loss takes for an anchor and a positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Negatives {
    /// Every one.
    #[default]
    All,
    /// One, uniformly.
    Random,
    /// The one nearest to the anchor.
    Hard,
    /// The nearest one that is farther than the positive; where there is none, the farthest (as the authors' code).
    SemiHard,
    /// One, drawn so that all distances are about equally frequent (Wu et al. 2017); see [`distance_weights`].
    DistanceWeighted,
}

/// The triplets (anchor, positive, negative) of a batch, in order of anchor, positive, negative.
///
/// `squared` gives the squared distance of two rows of `z`.
pub fn choose_triplets(
    negatives: Negatives,
    z: &Matrix,
    labels: &[u32],
    squared: impl Fn(usize, usize) -> f64,
    random: &mut Random,
) -> Vec<[usize; 3]> {
    let n = labels.len();
    let weights = match negatives {
        Negatives::DistanceWeighted => distance_weights(z, labels, CUTOFF, NONZERO),
        _ => Vec::new(),
    };
    let mut triplets = Vec::new();
    for a in 0..n {
        let others: Vec<usize> = (0..n).filter(|&j| labels[j] != labels[a]).collect();
        if others.is_empty() {
            continue;
        }
        for p in (0..n).filter(|&p| p != a && labels[p] == labels[a]) {
            let chosen = match negatives {
                Negatives::All => {
                    triplets.extend(others.iter().map(|&q| [a, p, q]));
                    continue;
                }
                Negatives::Random => others[random.below(others.len())],
                Negatives::Hard => nearest(&others, |q| squared(a, q)),
                Negatives::SemiHard => semi_hard(&others, squared(a, p), |q| squared(a, q)),
                Negatives::DistanceWeighted => draw(&weights[a * n..][..n], random.uniform()),
            };
            triplets.push([a, p, chosen]);
        }
    }
    triplets
}

/// The item of the smallest key; the first of equals. `items` is not empty.
fn nearest(items: &[usize], key: impl Fn(usize) -> f64) -> usize {
    items.iter().copied().reduce(|best, item| if key(item) < key(best) { item } else { best }).unwrap_or_default()
}

/// The nearest item beyond `positive`, else the farthest.
fn semi_hard(items: &[usize], positive: f64, key: impl Fn(usize) -> f64) -> usize {
    let beyond: Vec<usize> = items.iter().copied().filter(|&item| key(item) > positive).collect();
    if beyond.is_empty() { nearest(items, |item| -key(item)) } else { nearest(&beyond, key) }
}

/// The index at which the running sum of `weights` passes `share` of it; never one of weight 0.
fn draw(weights: &[f64], share: f64) -> usize {
    let target = share * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let mut last = 0;
    for (index, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        sum += weight;
        last = index;
        if sum > target {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five points on a line: two of class 0, two of class 1, one of class 2.
    fn line() -> (Matrix, Vec<u32>) {
        (Matrix::new("z", &[0.0, 1.0, 1.5, 4.0, -0.5], 5, 1).unwrap(), vec![0, 0, 1, 1, 2])
    }

    fn chosen(negatives: Negatives) -> Vec<[usize; 3]> {
        let (z, labels) = line();
        let squared = |i: usize, j: usize| (z.data[i] - z.data[j]).powi(2);
        choose_triplets(negatives, &z, &labels, squared, &mut Random::keyed(1, 0, 0, "test"))
    }

    #[test]
    fn all_takes_every_negative_of_every_positive_pair() {
        let expected = [[0, 1], [1, 0]].into_iter().flat_map(|[a, p]| [2, 3, 4].map(|q| [a, p, q]));
        let expected: Vec<_> =
            expected.chain([[2, 3], [3, 2]].into_iter().flat_map(|[a, p]| [0, 1, 4].map(|q| [a, p, q]))).collect();
        assert_eq!(chosen(Negatives::All), expected);
    }

    #[test]
    fn hard_takes_the_nearest() {
        assert_eq!(chosen(Negatives::Hard), [[0, 1, 4], [1, 0, 2], [2, 3, 1], [3, 2, 1]]);
    }

    #[test]
    fn semi_hard_takes_the_nearest_beyond_the_positive_or_the_farthest() {
        // Anchor 2 (1.5), positive at 2.5: nothing is farther, so the farthest, item 4 at 2.0.
        assert_eq!(chosen(Negatives::SemiHard), [[0, 1, 2], [1, 0, 4], [2, 3, 4], [3, 2, 1]]);
    }

    #[test]
    fn drawn_negatives_are_of_other_classes_and_repeat_with_the_stream() {
        let (_, labels) = line();
        for negatives in [Negatives::Random, Negatives::DistanceWeighted] {
            let triplets = chosen(negatives);
            assert_eq!(triplets, chosen(negatives));
            assert_eq!(triplets.len(), 4);
            assert!(triplets.iter().all(|&[a, p, q]| labels[a] == labels[p] && labels[a] != labels[q]));
        }
    }

    #[test]
    fn a_batch_without_positives_or_negatives_has_no_triplet() {
        let z = Matrix::new("z", &[0.0, 1.0, 2.0], 3, 1).unwrap();
        for labels in [[0, 0, 0], [0, 1, 2]] {
            for negatives in [Negatives::All, Negatives::Random, Negatives::Hard, Negatives::DistanceWeighted] {
                let triplets = choose_triplets(negatives, &z, &labels, |_, _| 1.0, &mut Random::keyed(1, 0, 0, ""));
                assert_eq!(triplets, [[0; 3]; 0]);
            }
        }
    }
}
