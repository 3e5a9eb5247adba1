//! Few-shot accuracy: "N-way K-shot" with a 95 % interval (Snell, Swersky, Zemel 2017, sections 2.2 and 3.1).
//!
//! An [episode](crate::data::episode) draws N classes, K supports and Q queries of each. The prototype of a class is the
//! mean of its supports; a query is right if the prototype nearest to it, by squared Euclidean distance, is that of its
//! class (of equally near ones the class drawn first counts, so a collapsed embedding scores 1 / N). With a_e the share of
//! right queries of episode e of E:
//!
//! ```text
//! accuracy = mean of a_e        interval = 1.96 s / sqrt(E)        s^2 = sum (a_e - accuracy)^2 / (E - 1)
//! ```
//! Episodes are drawn by (seed, number of the episode), so two models are measured on the same ones. Embeddings are
//! float32 `[n, d]`, computed once; means and distances are float64.

use rkd_kernels::Team;
use serde::{Deserialize, Serialize};

use super::retrieval::check_embeddings;
use crate::data::EpisodePlan;
use crate::data::episode::Episodes;
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// One kind of episode that is to be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FewShotPlan {
    /// N, at least 2.
    pub way: usize,
    /// K, at least 1.
    pub shots: usize,
    /// Q, queries of each class, at least 1.
    pub queries: usize,
    /// E, at least 2.
    pub episodes: usize,
}

impl FewShotPlan {
    /// The metric's name: `fewshot/5-way-1-shot`.
    pub fn name(&self) -> String {
        format!("fewshot/{}-way-{}-shot", self.way, self.shots)
    }
}

/// Accuracy over episodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FewShot {
    /// Mean over episodes, in `[0, 1]`.
    pub accuracy: f64,
    /// Half the width of the 95 % interval.
    pub interval: f64,
}

/// Episodes that one thread takes at a time.
const EPISODES: usize = 4;

/// Measures `embeddings [n, d]` with one label each, on all of `team`'s threads.
///
/// # Errors
/// `ERR_INVALID_SHAPE` if the lengths do not fit, `ERR_INVALID_OPTION` for a count that is too small, `ERR_NON_FINITE` if
/// an embedding has an entry that is no finite number, `ERR_INVALID_DATA` if too few classes have enough items.
pub fn few_shot(
    team: &Team,
    embeddings: &[f32],
    n: usize,
    d: usize,
    labels: &[u32],
    plan: &FewShotPlan,
    seed: u64,
) -> Result<FewShot> {
    check_embeddings(embeddings, n, d, labels)?;
    if plan.episodes < 2 {
        return Err(Error::new(Code::InvalidOption, "there are too few episodes for an interval")
            .with_subject("fewShot.episodes")
            .with_values("at least 2", plan.episodes.to_string()));
    }
    let shape = EpisodePlan { way: plan.way, shots: plan.shots, queries: plan.queries };
    let episodes = Episodes::new("fewShot", (0..n as u32).zip(labels.iter().copied()), &shape)?;
    let mut accuracies = vec![0.0; plan.episodes];
    team.for_each_chunk(&mut accuracies, EPISODES, |block, accuracies| {
        for (i, accuracy) in accuracies.iter_mut().enumerate() {
            let number = (block * EPISODES + i) as u64;
            let episode = episodes.draw(&mut Random::keyed(seed, number, 0, "few-shot"));
            *accuracy = right(embeddings, d, &episode, &shape) as f64 / (plan.way * plan.queries) as f64;
        }
    });
    let count = plan.episodes as f64;
    let accuracy = accuracies.iter().sum::<f64>() / count;
    let squares: f64 = accuracies.iter().map(|a| (a - accuracy) * (a - accuracy)).sum();
    Ok(FewShot { accuracy, interval: 1.96 * (squares / (count - 1.0)).sqrt() / count.sqrt() })
}

/// How many queries of an episode are right.
fn right(embeddings: &[f32], d: usize, episode: &[u32], shape: &EpisodePlan) -> usize {
    let row = |item: u32| &embeddings[item as usize * d..][..d];
    let (supports, queries) = episode.split_at(shape.way * shape.shots);
    let mut prototypes = vec![0.0; shape.way * d];
    for (prototype, supports) in prototypes.chunks_exact_mut(d).zip(supports.chunks_exact(shape.shots)) {
        for &item in supports {
            prototype.iter_mut().zip(row(item)).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        prototype.iter_mut().for_each(|sum| *sum /= shape.shots as f64);
    }
    let classes = queries.chunks_exact(shape.queries).enumerate();
    classes.map(|(class, items)| items.iter().filter(|&&item| nearest(row(item), &prototypes) == class).count()).sum()
}

/// The prototype nearest to `query`; the first of equally near ones.
fn nearest(query: &[f32], prototypes: &[f64]) -> usize {
    let mut best = (f64::INFINITY, 0);
    for (class, prototype) in prototypes.chunks_exact(query.len()).enumerate() {
        let square: f64 = query.iter().zip(prototype).map(|(&q, p)| (f64::from(q) - p) * (f64::from(q) - p)).sum();
        if square < best.0 {
            best = (square, class);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: FewShotPlan = FewShotPlan { way: 3, shots: 2, queries: 3, episodes: 50 };

    /// Noisy points around a centre for each of `classes` classes of 6 items, `[n, 5]`, with their labels.
    fn points(classes: usize, noise: f64) -> (Vec<f32>, Vec<u32>) {
        let mut random = Random::keyed(5, 0, 0, "points");
        let centres: Vec<f64> = (0..classes * 5).map(|_| random.normal()).collect();
        let labels: Vec<u32> = (0..classes * 6).map(|i| (i % classes) as u32).collect();
        let rows = labels.iter().flat_map(|&label| {
            let centre = &centres[label as usize * 5..][..5];
            centre.iter().map(|c| (c + noise * random.normal()) as f32).collect::<Vec<f32>>()
        });
        (rows.collect(), labels)
    }

    fn measure(rows: &[f32], labels: &[u32], plan: &FewShotPlan, threads: usize) -> FewShot {
        few_shot(&Team::new(threads), rows, labels.len(), rows.len() / labels.len(), labels, plan, 9).unwrap()
    }

    /// Straight from the definition: every pair of query and prototype, a sort, a share.
    fn naive(rows: &[f32], labels: &[u32], plan: &FewShotPlan) -> FewShot {
        let d = rows.len() / labels.len();
        let shape = EpisodePlan { way: plan.way, shots: plan.shots, queries: plan.queries };
        let pairs = labels.iter().enumerate().map(|(i, &label)| (i as u32, label));
        let episodes = Episodes::new("fewShot", pairs, &shape).unwrap();
        let mut shares = Vec::new();
        for number in 0..plan.episodes as u64 {
            let episode = episodes.draw(&mut Random::keyed(9, number, 0, "few-shot"));
            let (mut hits, mut asked) = (0, 0);
            for &query in &episode[plan.way * plan.shots..] {
                let mut found: Vec<(f64, usize, u32)> = Vec::new();
                for k in 0..plan.way {
                    let support = &episode[k * plan.shots..(k + 1) * plan.shots];
                    let difference = |j: usize| {
                        let mean = support.iter().map(|&s| f64::from(rows[s as usize * d + j])).sum::<f64>();
                        f64::from(rows[query as usize * d + j]) - mean / plan.shots as f64
                    };
                    let square = (0..d).map(|j| difference(j).powi(2)).sum();
                    found.push((square, k, labels[support[0] as usize]));
                }
                found.sort_by(|a, b| a.partial_cmp(b).unwrap());
                hits += usize::from(found[0].2 == labels[query as usize]);
                asked += 1;
            }
            shares.push(f64::from(hits as u32) / f64::from(asked));
        }
        let count = shares.len() as f64;
        let accuracy = shares.iter().sum::<f64>() / count;
        let variance = shares.iter().map(|s| (s - accuracy).powi(2)).sum::<f64>() / (count - 1.0);
        FewShot { accuracy, interval: 1.96 * (variance / count).sqrt() }
    }

    #[test]
    fn equals_the_definition() {
        let (rows, labels) = points(7, 0.8);
        let (found, expected) = (measure(&rows, &labels, &PLAN, 2), naive(&rows, &labels, &PLAN));
        assert!((found.accuracy - expected.accuracy).abs() < 1e-12, "{found:?} {expected:?}");
        assert!((found.interval - expected.interval).abs() < 1e-12, "{found:?} {expected:?}");
        assert!(found.accuracy > 1.0 / 3.0 && found.accuracy < 1.0 && found.interval > 0.0, "{found:?}");
    }

    #[test]
    fn separated_classes_are_always_right_and_a_collapsed_embedding_guesses() {
        let (rows, labels) = points(5, 1e-4);
        assert_eq!(measure(&rows, &labels, &PLAN, 1), FewShot { accuracy: 1.0, interval: 0.0 });
        let collapsed = measure(&vec![0.5; rows.len()], &labels, &PLAN, 1);
        assert!((collapsed.accuracy - 1.0 / 3.0).abs() < 1e-12 && collapsed.interval < 1e-12, "{collapsed:?}");
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (rows, labels) = points(7, 0.8);
        let one = measure(&rows, &labels, &PLAN, 1);
        assert_eq!([measure(&rows, &labels, &PLAN, 2), measure(&rows, &labels, &PLAN, 3)], [one; 2]);
    }

    #[test]
    fn impossible_episodes_are_refused() {
        let (mut rows, labels) = points(4, 0.8);
        let error = |rows: &[f32], plan: FewShotPlan| {
            few_shot(&Team::new(1), rows, labels.len(), 5, &labels, &plan, 9).unwrap_err().to_string()
        };
        let cases = [
            (FewShotPlan { way: 1, ..PLAN }, "fewShot.way: the episode is too small: expected at least 2"),
            (FewShotPlan { episodes: 1, ..PLAN }, "fewShot.episodes: there are too few episodes"),
            (FewShotPlan { way: 5, ..PLAN }, "5 classes of 5 images or more (2 + 3), received 4 of the 4 classes"),
            (FewShotPlan { queries: 5, ..PLAN }, "3 classes of 7 images or more (2 + 5), received 0 of the 4 classes"),
        ];
        for (plan, text) in cases {
            let message = error(&rows, plan);
            assert!(message.contains(text), "{message}");
        }
        rows[7] = f32::NAN;
        assert!(error(&rows, PLAN).contains("embedding of item 1 is not finite"));
    }
}
