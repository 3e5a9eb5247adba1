//! Relation fidelity: how well a student keeps the relations of its teacher's embedding, apart from any labels.
//!
//! ```text
//! rank correlation   Spearman's rho between the teacher's and the student's distances of all pairs, ties by mean rank
//! angle difference   mean over triples (a, b, c) of |angle^s - angle^t|, the angle at a, in degrees
//! neighbour overlap  mean over items of |kNN^s n kNN^t| / k
//! ```
//! n items, teacher `[n, d_t]`, student `[n, d_s]`. All three are blind to the scale of either embedding. The overlap is
//! exact. The correlation is over all n (n - 1) / 2 pairs up to [`FidelityOptions::pairs`], and over as many pairs drawn
//! by key beyond. Angles are always of drawn triples of three different items; the standard error is that of their mean.
//! A leg of length 0 makes the angle 90 degrees, as its cosine of 0 in the losses.

use rkd_kernels::{Team, retrieval::nearest};
use serde::Serialize;

use crate::error::{Code, Error, Result};
use crate::random::Random;

/// How much is looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct FidelityOptions {
    /// Pairs that the correlation is computed on at most.
    pub pairs: usize,
    /// Triples that are drawn.
    pub triples: usize,
    /// Neighbours that are compared; fewer where there are fewer others.
    pub neighbours: usize,
    /// Seed of pairs and triples.
    pub seed: u64,
}

impl Default for FidelityOptions {
    fn default() -> Self {
        FidelityOptions { pairs: 4_000_000, triples: 100_000, neighbours: 10, seed: 0 }
    }
}

/// How well relations are kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Fidelity {
    /// Spearman's rank correlation of distances, in `[-1, 1]`; 0 where all distances of one side are equal.
    pub distance_rank_correlation: f64,
    /// Pairs it was computed on.
    pub pairs: usize,
    /// Mean absolute difference of angles, in degrees, `[0, 180]`.
    pub angle_difference: f64,
    /// Standard error of that mean.
    pub angle_difference_error: f64,
    /// Triples it was computed on; 0 for fewer than three items.
    pub triples: usize,
    /// Share of common nearest neighbours, in `[0, 1]`.
    pub neighbour_overlap: f64,
    /// Neighbours compared of each item.
    pub neighbours: usize,
}

/// Compares `student [n, d_s]` with `teacher [n, d_t]`, row i of both describing item i.
///
/// # Errors
/// `ERR_INVALID_SHAPE` if rows and lengths do not fit, `ERR_INVALID_DATA` for fewer than two items, `ERR_NON_FINITE` for
/// entries that are no finite numbers.
pub fn relation_fidelity(
    team: &Team,
    teacher: &[f32],
    student: &[f32],
    n: usize,
    options: &FidelityOptions,
) -> Result<Fidelity> {
    let (teacher, student) = (Rows::new("teacher", teacher, n)?, Rows::new("student", student, n)?);
    let pairs = choose_pairs(n, options);
    let distances = |rows: &Rows<'_>| parallel(team, &pairs, |&[i, j]| rows.squared(i, j));
    let correlation = correlation(&mean_ranks(&distances(&student)), &mean_ranks(&distances(&teacher)));
    let triples = choose_triples(n, options);
    let differences = parallel(team, &triples, |&[a, b, c]| (student.angle(a, b, c) - teacher.angle(a, b, c)).abs());
    let (angle_difference, angle_difference_error) = mean_and_error(&differences);
    let neighbours = options.neighbours.min(n - 1);
    let near = |rows: &Rows<'_>| nearest(team, rows.data, n, rows.d, |_| neighbours, |_, order| order.to_vec());
    let common = |(s, t): (&Vec<u32>, &Vec<u32>)| s.iter().filter(|item| t.contains(item)).count();
    let common: usize = near(&student).iter().zip(&near(&teacher)).map(common).sum();
    Ok(Fidelity {
        distance_rank_correlation: correlation,
        pairs: pairs.len(),
        angle_difference,
        angle_difference_error,
        triples: triples.len(),
        neighbour_overlap: common as f64 / (n * neighbours).max(1) as f64,
        neighbours,
    })
}

/// An embedding, row by row.
struct Rows<'a> {
    data: &'a [f32],
    d: usize,
}

impl<'a> Rows<'a> {
    fn new(name: &str, data: &'a [f32], n: usize) -> Result<Rows<'a>> {
        if n < 2 {
            return Err(Error::new(Code::InvalidData, "relations are between items")
                .with_values("at least 2 items", n.to_string())
                .with_advice("compare on more images"));
        }
        if data.is_empty() || !data.len().is_multiple_of(n) {
            return Err(Error::new(Code::InvalidShape, "the embedding does not fit the number of items")
                .with_subject(name)
                .with_values(format!("{n} rows of equal length"), format!("{} numbers", data.len())));
        }
        let d = data.len() / n;
        if let Some(place) = data.iter().position(|value| !value.is_finite()) {
            return Err(Error::new(Code::NonFinite, format!("the embedding of item {} is not finite", place / d))
                .with_subject(name)
                .with_values("finite numbers", data[place].to_string())
                .with_advice("the network is damaged or diverged; train it with a smaller learning rate"));
        }
        Ok(Rows { data, d })
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.d..][..self.d]
    }

    fn squared(&self, i: usize, j: usize) -> f64 {
        let square = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).powi(2);
        self.row(i).iter().zip(self.row(j)).map(square).sum()
    }

    /// The angle at a between b and c, in degrees.
    fn angle(&self, a: usize, b: usize, c: usize) -> f64 {
        let (mut dot, mut left, mut right) = (0.0, 0.0, 0.0);
        for ((&a, &b), &c) in self.row(a).iter().zip(self.row(b)).zip(self.row(c)) {
            let (b, c) = (f64::from(b) - f64::from(a), f64::from(c) - f64::from(a));
            dot += b * c;
            left += b * b;
            right += c * c;
        }
        let legs = left.sqrt() * right.sqrt();
        if legs == 0.0 { 90.0 } else { (dot / legs).clamp(-1.0, 1.0).acos().to_degrees() }
    }
}

/// All pairs, or as many as the options allow, drawn by key.
fn choose_pairs(n: usize, options: &FidelityOptions) -> Vec<[usize; 2]> {
    if n * (n - 1) / 2 <= options.pairs {
        return (0..n).flat_map(|i| (0..i).map(move |j| [i, j])).collect();
    }
    let mut random = Random::keyed(options.seed, 0, 0, "fidelity pairs");
    let mut draw = || {
        let i = random.below(n);
        [i, other(i, random.below(n - 1))]
    };
    (0..options.pairs).map(|_| draw()).collect()
}

/// Triples of three different items, drawn by key; none of fewer than three items.
fn choose_triples(n: usize, options: &FidelityOptions) -> Vec<[usize; 3]> {
    if n < 3 {
        return Vec::new();
    }
    let mut random = Random::keyed(options.seed, 0, 0, "fidelity triples");
    let mut draw = || {
        let a = random.below(n);
        let b = other(a, random.below(n - 1));
        let c = random.below(n - 2);
        [a, b, other(a.max(b), other(a.min(b), c))]
    };
    (0..options.triples).map(|_| draw()).collect()
}

/// The item of rank `rank` when `item` is left out.
fn other(item: usize, rank: usize) -> usize {
    if rank < item { rank } else { rank + 1 }
}

/// `of` every entry, on all threads, in order.
fn parallel<T: Sync>(team: &Team, entries: &[T], of: impl Fn(&T) -> f64 + Sync) -> Vec<f64> {
    const CHUNK: usize = 4096;
    let mut values = vec![0.0; entries.len()];
    team.for_each_chunk(&mut values, CHUNK, |chunk, values| {
        for (value, entry) in values.iter_mut().zip(&entries[chunk * CHUNK..]) {
            *value = of(entry);
        }
    });
    values
}

/// The rank of every value from 0; equal values share the mean of their ranks.
fn mean_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<u32> = (0..values.len() as u32).collect();
    order.sort_unstable_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]).then(a.cmp(&b)));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let equal = |&&place: &&u32| values[place as usize] == values[order[first] as usize];
        let count = order[first..].iter().take_while(equal).count();
        let rank = first as f64 + (count - 1) as f64 / 2.0;
        order[first..first + count].iter().for_each(|&place| ranks[place as usize] = rank);
        first += count;
    }
    ranks
}

/// Pearson's correlation; 0 where one side does not vary.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    if aa == 0.0 || bb == 0.0 { 0.0 } else { (ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0) }
}

/// The mean and its standard error; zeros of nothing.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    if values.len() < 2 {
        return (values.iter().sum(), 0.0);
    }
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(n: usize, d: usize, purpose: &str) -> Vec<f32> {
        let mut random = Random::keyed(9, n as u64, d as u64, purpose);
        (0..n * d).map(|_| random.normal() as f32).collect()
    }

    fn compare(teacher: &[f32], student: &[f32], n: usize, options: &FidelityOptions) -> Fidelity {
        relation_fidelity(&Team::new(2), teacher, student, n, options).unwrap()
    }

    #[test]
    fn a_scaled_shifted_copy_is_faithful() {
        let teacher = draw(40, 5, "teacher");
        let copy: Vec<f32> = teacher.iter().map(|v| 4.0 * v + 1.0).collect();
        let found = compare(&teacher, &copy, 40, &FidelityOptions::default());
        assert!(found.distance_rank_correlation > 1.0 - 1e-6, "{found:?}");
        assert!(found.angle_difference < 1e-3, "{found:?}");
        assert!(found.neighbour_overlap > 0.99, "{found:?}");
        assert_eq!((found.pairs, found.triples, found.neighbours), (40 * 39 / 2, 100_000, 10));
    }

    #[test]
    fn strangers_are_not() {
        let found = compare(&draw(200, 8, "teacher"), &draw(200, 8, "student"), 200, &FidelityOptions::default());
        assert!(found.distance_rank_correlation.abs() < 0.1, "{found:?}");
        assert!(found.angle_difference > 10.0 && found.angle_difference_error > 0.0, "{found:?}");
        // Ten of 199 others by chance.
        assert!((found.neighbour_overlap - 10.0 / 199.0).abs() < 0.03, "{found:?}");
    }

    /// By definition: ranks by counting, all triples, neighbours by sorting.
    #[test]
    fn equals_the_definition() {
        let n = 12;
        let (teacher, student) = (draw(n, 3, "teacher"), draw(n, 2, "student"));
        let options = FidelityOptions { neighbours: 3, triples: 200_000, ..FidelityOptions::default() };
        let found = compare(&teacher, &student, n, &options);
        let rows = |data| Rows::new("", data, n).unwrap();
        let (t, s) = (rows(&teacher), rows(&student));
        let pairs: Vec<[usize; 2]> = (0..n).flat_map(|i| (0..i).map(move |j| [i, j])).collect();
        let rank = |rows: &Rows<'_>, [i, j]: [usize; 2]| {
            pairs.iter().filter(|[k, l]| rows.squared(*k, *l) < rows.squared(i, j)).count() as f64
        };
        let squares: f64 = pairs.iter().map(|&pair| (rank(&s, pair) - rank(&t, pair)).powi(2)).sum();
        let m = pairs.len() as f64;
        let spearman = 1.0 - 6.0 * squares / (m * (m * m - 1.0));
        assert!((found.distance_rank_correlation - spearman).abs() < 1e-12, "{found:?} {spearman}");
        let (mut sum, mut count) = (0.0, 0.0);
        for a in 0..n {
            for b in (0..n).filter(|&b| b != a) {
                for c in (0..n).filter(|&c| c != a && c != b) {
                    sum += (s.angle(a, b, c) - t.angle(a, b, c)).abs();
                    count += 1.0;
                }
            }
        }
        let off = (found.angle_difference - sum / count).abs();
        assert!(off < 4.0 * found.angle_difference_error, "{found:?} {}", sum / count);
        let near = |rows: &Rows<'_>, i: usize| {
            let mut others: Vec<usize> = (0..n).filter(|&j| j != i).collect();
            others.sort_by(|&a, &b| rows.squared(i, a).total_cmp(&rows.squared(i, b)));
            others[..3].to_vec()
        };
        let common: usize = (0..n).map(|i| near(&s, i).iter().filter(|item| near(&t, i).contains(item)).count()).sum();
        assert_eq!(found.neighbour_overlap, common as f64 / (3 * n) as f64);
    }

    #[test]
    fn equal_values_share_their_mean_rank() {
        assert_eq!(mean_ranks(&[5.0, 1.0, 5.0, 0.0]), [2.5, 1.0, 2.5, 0.0]);
        assert_eq!(correlation(&[1.0, 1.0], &[0.0, 2.0]), 0.0);
    }

    #[test]
    fn threads_do_not_change_a_bit_and_drawn_pairs_are_near_all() {
        let (teacher, student) = (draw(300, 4, "teacher"), draw(300, 4, "teacher").repeat(1));
        let student: Vec<f32> = student.iter().zip(draw(300, 4, "noise")).map(|(a, b)| a + 0.5 * b).collect();
        let drawn = FidelityOptions { pairs: 20_000, ..FidelityOptions::default() };
        let one = relation_fidelity(&Team::new(1), &teacher, &student, 300, &drawn).unwrap();
        assert_eq!(one, relation_fidelity(&Team::new(3), &teacher, &student, 300, &drawn).unwrap());
        let all = compare(&teacher, &student, 300, &FidelityOptions::default());
        assert!((one.distance_rank_correlation - all.distance_rank_correlation).abs() < 0.02, "{one:?} {all:?}");
        assert_eq!((one.pairs, all.pairs), (20_000, 300 * 299 / 2));
    }

    #[test]
    fn drawn_triples_are_of_different_items() {
        let triples = choose_triples(3, &FidelityOptions { triples: 600, ..FidelityOptions::default() });
        let mut seen = std::collections::BTreeSet::new();
        for triple in triples {
            let mut sorted = triple;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
            seen.insert(triple);
        }
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn collapsed_and_tiny_sets_have_defined_values() {
        let found = compare(&draw(20, 3, "teacher"), &[0.5; 40], 20, &FidelityOptions::default());
        assert_eq!(found.distance_rank_correlation, 0.0);
        assert!(found.angle_difference.is_finite());
        let two = compare(&[0.0, 1.0], &[3.0, 1.0], 2, &FidelityOptions::default());
        assert_eq!((two.triples, two.angle_difference, two.neighbour_overlap), (0, 0.0, 1.0));
        let text = |teacher: &[f32], n| {
            relation_fidelity(&Team::new(1), teacher, &[1.0], n, &FidelityOptions::default()).unwrap_err().to_string()
        };
        assert!(text(&[1.0], 1).contains("at least 2 items"));
        assert!(text(&[1.0, 2.0, 3.0], 2).contains("teacher"));
        assert!(text(&[1.0, f32::NAN], 2).contains("not finite"));
    }
}
