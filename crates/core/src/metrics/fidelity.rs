//! Relation fidelity: how well a student keeps the relations of its teacher's embedding, apart from any labels.
//!
//! ```text
//! rank correlation   Spearman's rho between the teacher's and the student's distances of all pairs, ties by mean rank;
//!                    the same of their angles of triples (a, b, c), the angle at a
//! angle difference   mean over triples of |angle^s - angle^t|, in degrees
//! neighbour overlap  mean over items of |kNN^s n kNN^t| / k
//! Recall@K           share of items whose 1NN^t is in KNN^s: that of approximate search (Jegou, Douze, Schmid 2011), with the
//!                    teacher's space for the exact one
//! ```
//! n items, teacher `[n, d_t]`, student `[n, d_s]`. All are blind to the scale of either embedding. Overlap and recall are
//! exact; of equally near items the one of the smaller index comes first. The k of the overlap is at most a quarter, rounded up, of the
//! other items, so that chance alone makes no score. The correlation of distances is over all n (n - 1) / 2 pairs up to
//! [`FidelityOptions::pairs`], and over as many pairs drawn by key beyond. Angles are always of drawn triples of three
//! different items; the standard error is that of their mean. A leg of length 0 makes the angle 90 degrees, as its cosine
//! of 0 in the losses.

use std::collections::BTreeMap;

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
    /// Neighbours that are compared; at most a quarter of the others, rounded up.
    pub neighbours: usize,
    /// The K of Recall@K, each at least 1.
    pub ks: Vec<usize>,
    /// Seed of pairs and triples.
    pub seed: u64,
}

impl Default for FidelityOptions {
    fn default() -> Self {
        FidelityOptions { pairs: 4_000_000, triples: 100_000, neighbours: 10, ks: vec![1, 2, 4, 8], seed: 0 }
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
    /// Spearman's rank correlation of angles, in `[-1, 1]`; 0 where all angles of one side are equal.
    pub angle_rank_correlation: f64,
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
    /// For every K asked for the share of items whose nearest neighbour for the teacher is among the K nearest for the
    /// student, in `[0, 1]`.
    #[cfg_attr(test, ts(type = "Record<string, number>"))]
    pub recall: BTreeMap<usize, f64>,
}

impl Fidelity {
    /// The scores in which more is better and 1 is the teacher: `neighbourOverlap`, `distanceRankCorrelation`,
    /// `angleRankCorrelation` and `teacherRecall@K`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let recall = self.recall.iter().map(|(k, recall)| (format!("teacherRecall@{k}"), *recall));
        let others = [
            ("neighbourOverlap", self.neighbour_overlap),
            ("distanceRankCorrelation", self.distance_rank_correlation),
            ("angleRankCorrelation", self.angle_rank_correlation),
        ];
        recall.chain(others.map(|(name, score)| (name.to_string(), score))).collect()
    }
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
    let angles = |rows: &Rows<'_>| parallel(team, &triples, |&[a, b, c]| rows.angle(a, b, c));
    let (angles_s, angles_t) = (angles(&student), angles(&teacher));
    let differences: Vec<f64> = angles_s.iter().zip(&angles_t).map(|(s, t)| (s - t).abs()).collect();
    let (angle_difference, angle_difference_error) = mean_and_error(&differences);
    let neighbours = options.neighbours.min((n - 1).div_ceil(4));
    let near = nearest(team, teacher.data, n, teacher.d, |_| neighbours.max(1), |_, order| order.to_vec());
    let largest = options.ks.iter().copied().max().unwrap_or(0).max(neighbours);
    // Of each item how many neighbours are common, and the rank of the teacher's nearest, from 0.
    let found = nearest(
        team,
        student.data,
        n,
        student.d,
        |_| largest,
        |i, order| {
            let common = order.iter().take(neighbours).filter(|item| near[i].contains(item)).count();
            (common, order.iter().position(|item| *item == near[i][0]).unwrap_or(usize::MAX))
        },
    );
    let common: usize = found.iter().map(|(common, _)| common).sum();
    let recall = |k: usize| found.iter().filter(|(_, rank)| *rank < k).count() as f64 / n as f64;
    Ok(Fidelity {
        distance_rank_correlation: correlation,
        pairs: pairs.len(),
        angle_rank_correlation: self::correlation(&mean_ranks(&angles_s), &mean_ranks(&angles_t)),
        angle_difference,
        angle_difference_error,
        triples: triples.len(),
        neighbour_overlap: common as f64 / (n * neighbours).max(1) as f64,
        neighbours,
        recall: options.ks.iter().map(|&k| (k, recall(k))).collect(),
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

/// Pearson's correlation; 0 where one side does not vary, or of nothing.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() {
        return 0.0;
    }
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
        assert!(found.angle_rank_correlation > 1.0 - 1e-6, "{found:?}");
        assert!(found.neighbour_overlap > 0.99, "{found:?}");
        assert_eq!(found.recall[&1], 1.0);
        assert_eq!((found.pairs, found.triples, found.neighbours), (40 * 39 / 2, 100_000, 10));
    }

    #[test]
    fn strangers_are_not() {
        let found = compare(&draw(200, 8, "teacher"), &draw(200, 8, "student"), 200, &FidelityOptions::default());
        assert!(found.distance_rank_correlation.abs() < 0.1, "{found:?}");
        assert!(found.angle_difference > 10.0 && found.angle_difference_error > 0.0, "{found:?}");
        assert!(found.angle_rank_correlation.abs() < 0.1, "{found:?}");
        // Ten of 199 others by chance.
        assert!((found.neighbour_overlap - 10.0 / 199.0).abs() < 0.03, "{found:?}");
        assert!((found.recall[&8] - 8.0 / 199.0).abs() < 0.05, "{found:?}");
    }

    /// By definition: ranks by counting, all triples, neighbours by sorting.
    #[test]
    fn equals_the_definition() {
        let n = 12;
        let (teacher, student) = (draw(n, 3, "teacher"), draw(n, 2, "student"));
        let ks = vec![1, 2, 5, 40];
        let options = FidelityOptions { neighbours: 3, triples: 200_000, ks, ..FidelityOptions::default() };
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
            others
        };
        let first = |rows: &Rows<'_>, i: usize| near(rows, i)[..3].to_vec();
        let common: usize = (0..n).map(|i| first(&s, i).iter().filter(|j| first(&t, i).contains(j)).count()).sum();
        assert_eq!(found.neighbour_overlap, common as f64 / (3 * n) as f64);
        let hits = |k: usize| (0..n).filter(|&i| near(&s, i).iter().take(k).any(|j| *j == near(&t, i)[0])).count();
        let recall: BTreeMap<usize, f64> = [1, 2, 5, 40].map(|k| (k, hits(k) as f64 / n as f64)).into();
        assert_eq!(found.recall, recall);
        assert!(recall[&1] < recall[&5] && recall[&40] == 1.0, "{recall:?}");
    }

    /// More items than a tile of the search has, with equal rows among them, against distances in float64.
    #[test]
    fn recall_over_tiles_equals_the_definition() {
        let n = 700;
        let (mut teacher, student) = (draw(n, 4, "teacher"), draw(n, 4, "noise"));
        let student: Vec<f32> = teacher.iter().zip(student).map(|(t, noise)| t + 0.1 * noise).collect();
        teacher.copy_within(0..400, 400 * 4 + 8); // rows 0 to 99 stand again from row 402 on
        let options = FidelityOptions { pairs: 1000, triples: 10, ks: vec![1, 4, 8], ..FidelityOptions::default() };
        let found = compare(&teacher, &student, n, &options);
        let near = |rows: &Rows<'_>, i: usize| {
            let mut others: Vec<(f64, usize)> = (0..n).filter(|&j| j != i).map(|j| (rows.squared(i, j), j)).collect();
            others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            others
        };
        let (t, s) = (Rows::new("", &teacher, n).unwrap(), Rows::new("", &student, n).unwrap());
        let mut hits = BTreeMap::from([(1, 0.0), (4, 0.0), (8, 0.0)]);
        for i in 0..n {
            let truth = near(&t, i)[0].1;
            let rank = near(&s, i).iter().position(|(_, j)| *j == truth).unwrap();
            hits.iter_mut().for_each(|(k, hits)| *hits += f64::from(rank < *k));
        }
        hits.values_mut().for_each(|hits| *hits /= n as f64);
        assert_eq!(found.recall, hits);
        assert!(hits[&1] > 0.1 && hits[&1] < hits[&8] && hits[&8] < 1.0, "{hits:?}");
    }

    #[test]
    fn scores_have_names_and_the_teacher_has_all() {
        let teacher = draw(30, 4, "teacher");
        let metrics = compare(&teacher, &teacher, 30, &FidelityOptions::default()).metrics();
        let names: Vec<&str> = metrics.keys().map(String::as_str).collect();
        assert_eq!(names[..3], ["angleRankCorrelation", "distanceRankCorrelation", "neighbourOverlap"]);
        assert_eq!(names[3..], [1, 2, 4, 8].map(|k| format!("teacherRecall@{k}")));
        assert!(metrics.values().all(|score| (score - 1.0).abs() < 1e-12), "{metrics:?}");
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
        assert_eq!((two.angle_rank_correlation, two.recall[&1]), (0.0, 1.0));
        let text = |teacher: &[f32], n| {
            relation_fidelity(&Team::new(1), teacher, &[1.0], n, &FidelityOptions::default()).unwrap_err().to_string()
        };
        assert!(text(&[1.0], 1).contains("at least 2 items"));
        assert!(text(&[1.0, 2.0, 3.0], 2).contains("teacher"));
        assert!(text(&[1.0, f32::NAN], 2).contains("not finite"));
    }
}
