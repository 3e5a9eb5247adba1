//! Retrieval metrics: Recall@K, MAP@R, R-precision, kNN accuracy. Every item is a query against all others.
//!
//! The others are ordered by Euclidean distance, ties by the smaller index; with R items of the query's class among them:
//!
//! - Recall@K: share of queries with an item of their class among the first K (Park et al. 2019, section 4.1);
//! - R-precision: share of the first R that are of the query's class, mean over queries with R > 0;
//! - MAP@R: mean over k = 1..R of precision@k where the k-th is of the class, else 0 (Musgrave et al. 2020, eq. 6);
//! - kNN accuracy: share of queries whose class has most votes among the first K; of classes with equally many votes the
//!   one whose nearest item comes first wins.

use std::collections::HashMap;

use rkd_kernels::{Team, retrieval::nearest};

use crate::error::{Code, Error, Result};

/// Retrieval quality of labelled embeddings; all shares are in `[0, 1]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrieval {
    /// Recall for every K, in the order asked for.
    pub recall: Vec<(usize, f64)>,
    /// kNN accuracy for every K, in the order asked for.
    pub knn: Vec<(usize, f64)>,
    /// Mean average precision at R; 0 where no query has a relevant item.
    pub map_at_r: f64,
    /// R-precision; 0 where no query has a relevant item.
    pub r_precision: f64,
    /// Queries: all items.
    pub queries: usize,
    /// Queries with another item of their class.
    pub queries_with_relevant: usize,
}

/// Measures `embeddings [n, d]` with one label each. Exact, in tiles, on all of `team`'s threads.
///
/// # Errors
/// `ERR_INVALID_SHAPE` if the lengths do not fit, `ERR_INVALID_OPTION` for a K of 0, `ERR_NON_FINITE` if an embedding
/// has an entry that is no finite number, `ERR_INVALID_DATA` for fewer than two items.
pub fn retrieval(
    team: &Team,
    embeddings: &[f32],
    n: usize,
    d: usize,
    labels: &[u32],
    ks: &[usize],
) -> Result<Retrieval> {
    check(embeddings, n, d, labels, ks)?;
    let mut sizes: HashMap<u32, usize> = HashMap::new();
    labels.iter().for_each(|&label| *sizes.entry(label).or_default() += 1);
    let relevant = |i: usize| sizes[&labels[i]] - 1;
    let largest = ks.iter().copied().max().unwrap_or(1);
    let scores = nearest(
        team,
        embeddings,
        n,
        d,
        |i| largest.max(relevant(i)),
        |i, order: &[u32]| {
            let order: Vec<u32> = order.iter().map(|&j| labels[j as usize]).collect();
            let same: Vec<bool> = order.iter().map(|&label| label == labels[i]).collect();
            let votes = ks.iter().map(|&k| vote(&order[..k.min(order.len())]) == Some(labels[i])).collect();
            Score { votes, ..Score::of(&same, relevant(i)) }
        },
    );
    let count = |k: usize| scores.iter().filter(|score| score.first < k).count() as f64;
    let with_relevant = (0..n).filter(|&i| relevant(i) > 0).count();
    let mean = |of: fn(&Score) -> f64| scores.iter().map(of).sum::<f64>() / with_relevant.max(1) as f64;
    Ok(Retrieval {
        recall: ks.iter().map(|&k| (k, count(k) / n as f64)).collect(),
        knn: ks
            .iter()
            .enumerate()
            .map(|(place, &k)| (k, scores.iter().filter(|score| score.votes[place]).count() as f64 / n as f64))
            .collect(),
        map_at_r: mean(|score| score.average_precision),
        r_precision: mean(|score| score.r_precision),
        queries: n,
        queries_with_relevant: with_relevant,
    })
}

/// One query.
#[derive(Clone, Debug, Default)]
struct Score {
    /// Whether the vote of the first K is right, for every K.
    votes: Vec<bool>,
    /// Rank of the first item of the class, from 0; `usize::MAX` if it is not among those looked at.
    first: usize,
    average_precision: f64,
    r_precision: f64,
}

impl Score {
    fn of(same: &[bool], relevant: usize) -> Score {
        let first = same.iter().position(|&same| same).unwrap_or(usize::MAX);
        let (mut hits, mut precisions) = (0.0, 0.0);
        for (rank, _) in same.iter().take(relevant).enumerate().filter(|(_, same)| **same) {
            hits += 1.0;
            precisions += hits / (rank + 1) as f64;
        }
        let r = relevant.max(1) as f64;
        Score { votes: Vec::new(), first, average_precision: precisions / r, r_precision: hits / r }
    }
}

/// The label with most votes; among equals the one that comes first. `None` for no votes.
fn vote(labels: &[u32]) -> Option<u32> {
    let mut votes: HashMap<u32, (usize, usize)> = HashMap::new();
    for (place, &label) in labels.iter().enumerate() {
        votes.entry(label).or_insert((0, place)).0 += 1;
    }
    votes.into_iter().max_by_key(|&(_, (count, first))| (count, usize::MAX - first)).map(|(label, _)| label)
}

fn check(embeddings: &[f32], n: usize, d: usize, labels: &[u32], ks: &[usize]) -> Result<()> {
    check_embeddings(embeddings, n, d, labels)?;
    if n < 2 {
        return Err(Error::new(Code::InvalidData, "retrieval needs something to retrieve")
            .with_values("at least 2 items", n.to_string())
            .with_advice("evaluate on more images"));
    }
    if ks.contains(&0) {
        return Err(Error::new(Code::InvalidOption, "Recall@0 has no meaning")
            .with_subject("ks")
            .with_values("whole numbers from 1", "0"));
    }
    Ok(())
}

/// Checks that `embeddings` are `[n, d]` finite numbers with one label each.
pub(super) fn check_embeddings(embeddings: &[f32], n: usize, d: usize, labels: &[u32]) -> Result<()> {
    if embeddings.len() != n * d || labels.len() != n {
        return Err(Error::new(Code::InvalidShape, "embeddings and labels do not fit together").with_values(
            format!("{n} x {d} numbers and {n} labels"),
            format!("{} numbers and {} labels", embeddings.len(), labels.len()),
        ));
    }
    if let Some(place) = embeddings.iter().position(|value| !value.is_finite()) {
        return Err(Error::new(Code::NonFinite, format!("the embedding of item {} is not finite", place / d))
            .with_values("finite numbers", embeddings[place].to_string())
            .with_advice("the network is damaged or diverged; train it with a smaller learning rate"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_votes_win_and_among_equals_the_nearest() {
        assert_eq!(vote(&[]), None);
        assert_eq!(vote(&[3]), Some(3));
        assert_eq!(vote(&[3, 1, 1]), Some(1));
        assert_eq!(vote(&[3, 1, 1, 3]), Some(3));
        assert_eq!(vote(&[5, 2, 7]), Some(5));
    }

    #[test]
    fn knn_accuracy_is_the_share_of_right_votes() {
        // On a line: 0 0 1 0 1 1 at places 0, 1, 2.2, 3.5, 5, 6.
        let (rows, labels) = ([0.0, 1.0, 2.2, 3.5, 5.0, 6.0], [0, 0, 1, 0, 1, 1]);
        let found = retrieval(&Team::new(1), &rows, 6, 1, &labels, &[1, 3]).unwrap();
        // K = 1: neighbours of each 1 0 1 2 5 4 -> right for items 0, 1, 4, 5.
        assert_eq!(found.knn[0], (1, 4.0 / 6.0));
        assert_eq!(found.knn[0].1, found.recall[0].1);
        // K = 3: votes 0 (0 1 0) right, 1 (0 1 0) right, 2 (0 0 0) wrong, 3 (1 1 0) wrong, 4 (1 0 1) right, 5 (1 0 1) right.
        assert_eq!(found.knn[1], (3, 4.0 / 6.0));
    }
}
