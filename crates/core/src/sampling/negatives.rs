//! Choosing negatives: the triplets (anchor, positive, negative) of a batch, and the pairs in them.
//!
//! Positives are all ordered pairs of one class in the batch; for each of them [`Negatives`] says which items of other
//! classes complete a triplet (reference: the paper's section 4.1 and the authors' samplers). Ties go to the smaller
//! index. Random choices come from the batch's own stream, so a run repeats.

use rkd_kernels::Team;
use serde::{Deserialize, Serialize};

use super::distance_weighted::{DistanceWeighting, distance_weights};
use crate::error::Result;
use crate::input::invalid;
use crate::random::Random;
use crate::tensor::Matrix;

/// Which negatives a triplet loss takes for an anchor and a positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
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

/// How the negatives of a batch are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampler {
    /// The choice.
    pub negatives: Negatives,
    /// With [`Negatives::DistanceWeighted`]: lets the weights underflow to uniform ones as in the authors' released code,
    /// see [`DistanceWeighting::uniform_when_underflow`].
    pub uniform_when_underflow: bool,
}

impl From<Negatives> for Sampler {
    fn from(negatives: Negatives) -> Self {
        Sampler { negatives, uniform_when_underflow: false }
    }
}

impl Sampler {
    /// Refuses an option that would have no effect.
    pub(crate) fn validate(self) -> Result<()> {
        if !self.uniform_when_underflow || self.negatives == Negatives::DistanceWeighted {
            return Ok(());
        }
        let negatives = serde_json::to_value(self.negatives).unwrap_or_default();
        Err(invalid("uniformWhenUnderflow", format!("false with negatives {negatives}"), "true")
            .with_advice("only distance-weighted negatives have weights that underflow"))
    }

    /// The triplets (anchor, positive, negative) of a batch, in order of anchor, positive, negative.
    ///
    /// `squared` gives the squared distance of two rows of `z`.
    pub fn triplets(
        self,
        team: &Team,
        z: &Matrix,
        labels: &[u32],
        squared: impl Fn(usize, usize) -> f64,
        random: &mut Random,
    ) -> Vec<[usize; 3]> {
        let n = labels.len();
        let weights = match self.negatives {
            Negatives::DistanceWeighted => {
                let weighting = DistanceWeighting {
                    uniform_when_underflow: self.uniform_when_underflow,
                    ..DistanceWeighting::default()
                };
                distance_weights(team, z, labels, weighting)
            }
            _ => Vec::new(),
        };
        let mut triplets = Vec::new();
        for a in 0..n {
            let others: Vec<usize> = (0..n).filter(|&j| labels[j] != labels[a]).collect();
            if others.is_empty() {
                continue;
            }
            for p in (0..n).filter(|&p| p != a && labels[p] == labels[a]) {
                let chosen = match self.negatives {
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

    /// The ordered pairs (anchor, positive) and (anchor, negative) of [`Self::triplets`], each with how many triplets it
    /// is in. With all negatives this takes O(n^2), however many triplets there are.
    pub fn pairs(
        self,
        team: &Team,
        z: &Matrix,
        labels: &[u32],
        squared: impl Fn(usize, usize) -> f64,
        random: &mut Random,
    ) -> Pairs {
        let n = labels.len();
        let mut pairs = Pairs { n, triplets: 0, counts: vec![0; n * n] };
        if self.negatives == Negatives::All {
            for (i, row) in pairs.counts.chunks_exact_mut(n.max(1)).enumerate() {
                let same = labels.iter().filter(|&&label| label == labels[i]).count();
                for (j, count) in row.iter_mut().enumerate().filter(|(j, _)| *j != i) {
                    *count = if labels[j] == labels[i] { n - same } else { same - 1 };
                }
                pairs.triplets += (same - 1) * (n - same);
            }
        } else {
            for [a, p, q] in self.triplets(team, z, labels, squared, random) {
                pairs.counts[a * n + p] += 1;
                pairs.counts[a * n + q] += 1;
                pairs.triplets += 1;
            }
        }
        pairs
    }
}

/// The pairs in the triplets of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    n: usize,
    /// How many triplets there are.
    pub triplets: usize,
    /// `[n, n]`.
    counts: Vec<usize>,
}

impl Pairs {
    /// (anchor, other item, number of triplets with this pair), where that is not 0, row by row.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(place, &count)| (place / self.n, place % self.n, count as f64))
    }
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
        let mut random = Random::keyed(1, 0, 0, "test");
        Sampler::from(negatives).triplets(&Team::new(1), &z, &labels, squared, &mut random)
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
    fn pairs_are_counted_over_the_triplets() {
        let (z, labels) = line();
        let squared = |i: usize, j: usize| (z.data[i] - z.data[j]).powi(2);
        for negatives in [Negatives::All, Negatives::Hard, Negatives::SemiHard, Negatives::Random] {
            let mut random = Random::keyed(1, 0, 0, "test");
            let pairs = Sampler::from(negatives).pairs(&Team::new(1), &z, &labels, squared, &mut random);
            let triplets = chosen(negatives);
            let mut expected = std::collections::BTreeMap::new();
            for [a, p, q] in &triplets {
                *expected.entry((*a, *p)).or_insert(0.0) += 1.0;
                *expected.entry((*a, *q)).or_insert(0.0) += 1.0;
            }
            let found: Vec<_> = pairs.iter().map(|(i, j, count)| ((i, j), count)).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{negatives:?}");
            assert_eq!(pairs.triplets, triplets.len());
        }
    }

    #[test]
    fn a_batch_without_positives_or_negatives_has_no_triplet() {
        let (z, team) = (Matrix::new("z", &[0.0, 1.0, 2.0], 3, 1).unwrap(), Team::new(1));
        for labels in [[0, 0, 0], [0, 1, 2]] {
            for negatives in [Negatives::All, Negatives::Random, Negatives::Hard, Negatives::DistanceWeighted] {
                let (sampler, random) = (Sampler::from(negatives), &mut Random::keyed(1, 0, 0, ""));
                assert_eq!(sampler.triplets(&team, &z, &labels, |_, _| 1.0, random), [[0; 3]; 0]);
                let pairs = sampler.pairs(&team, &z, &labels, |_, _| 1.0, random);
                assert_eq!((pairs.triplets, pairs.iter().count()), (0, 0));
            }
        }
    }
}
