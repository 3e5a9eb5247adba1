//! Retrieval metrics: Recall@K, MAP@R, R-precision, kNN accuracy. Every item is a query against all others, or each of the
//! queries one against all of a gallery.
//!
//! Those are ordered by Euclidean distance, ties by the smaller index; with R items of the query's class among them:
//!
//! - Recall@K: share of queries with an item of their class among the first K (Park et al. 2019, section 4.1);
//! - R-precision: share of the first R that are of the query's class, mean over queries with R > 0;
//! - MAP@R: mean over k = 1..R of precision@k where the k-th is of the class, else 0 (Musgrave et al. 2020, eq. 6);
//! - kNN accuracy: share of queries whose class has most votes among the first K; of classes with equally many votes the
//!   one whose nearest item comes first wins.

use std::collections::HashMap;

use rkd_kernels::Team;
pub use rkd_kernels::retrieval::Neighbour;
use rkd_kernels::retrieval::nearest_in;
use serde::Serialize;

use crate::error::{Code, Error, Result};
use crate::input::invalid;

/// Retrieval quality of labelled embeddings; all shares are in `[0, 1]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Retrieval {
    /// Recall for every K, in the order asked for.
    pub recall: Vec<(usize, f64)>,
    /// kNN accuracy for every K, in the order asked for.
    pub knn: Vec<(usize, f64)>,
    /// Mean average precision at R; 0 where no query has a relevant item.
    pub map_at_r: f64,
    /// R-precision; 0 where no query has a relevant item.
    pub r_precision: f64,
    /// Queries: without a gallery all items.
    pub queries: usize,
    /// Queries with an item of their class among those they are set against.
    pub queries_with_relevant: usize,
}

/// Vectors `[n, d]` with one label each.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Row by row.
    pub vectors: &'a [f32],
    /// The class of each row.
    pub labels: &'a [u32],
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
    check_embeddings(embeddings, n, d, labels)?;
    retrieval_in(team, None, Labelled { vectors: embeddings, labels }, d, ks)
}

/// Measures how the `queries` find their classes in the `gallery`; without queries the gallery's own items are such, and none
/// finds itself.
///
/// # Errors
/// As [`retrieval`]; `ERR_INVALID_DATA` without an item on either side.
pub fn retrieval_in(
    team: &Team,
    queries: Option<Labelled<'_>>,
    gallery: Labelled<'_>,
    d: usize,
    ks: &[usize],
) -> Result<Retrieval> {
    check_gallery(queries, gallery, d, ks)?;
    let mut sizes: HashMap<u32, usize> = HashMap::new();
    gallery.labels.iter().for_each(|&label| *sizes.entry(label).or_default() += 1);
    let of_query = queries.unwrap_or(gallery).labels;
    let itself = usize::from(queries.is_none());
    let relevant = |i: usize| sizes.get(&of_query[i]).map_or(0, |size| size - itself);
    let largest = ks.iter().copied().max().unwrap_or(1);
    let scores = nearest_in(
        team,
        queries.map(|queries| queries.vectors),
        gallery.vectors,
        d,
        |i| largest.max(relevant(i)),
        |i, found: &[Neighbour]| {
            let order: Vec<u32> = found.iter().map(|near| gallery.labels[near.index as usize]).collect();
            let same: Vec<bool> = order.iter().map(|&label| label == of_query[i]).collect();
            let votes = ks.iter().map(|&k| vote(&order[..k.min(order.len())]) == Some(of_query[i])).collect();
            Score { votes, ..Score::of(&same, relevant(i)) }
        },
    );
    let n = of_query.len();
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

/// The `k` rows of `gallery [n, d]` that are nearest to each of `queries [m, d]`, nearest first, ties by the smaller index;
/// without queries the gallery's own rows are such, and none finds itself. Fewer than `k` where there are no more. Exact.
///
/// # Errors
/// `ERR_INVALID_SHAPE`, `ERR_INVALID_DATA` and `ERR_NON_FINITE` for vectors that cannot be compared; `ERR_INVALID_OPTION` for
/// a `k` of 0.
pub fn nearest(
    team: &Team,
    queries: Option<&[f32]>,
    gallery: &[f32],
    d: usize,
    k: usize,
) -> Result<Vec<Vec<Neighbour>>> {
    if k == 0 {
        return Err(invalid("k", "a whole number from 1", "0"));
    }
    queries.map_or(Ok(()), |queries| check_rows("queries", queries, d, 1))?;
    check_rows("gallery", gallery, d, 1 + usize::from(queries.is_none()))?;
    Ok(nearest_in(team, queries, gallery, d, |_| k, |_, found| found.to_vec()))
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

fn check_gallery(queries: Option<Labelled<'_>>, gallery: Labelled<'_>, d: usize, ks: &[usize]) -> Result<()> {
    for (name, side) in queries.map(|side| ("queries", side)).into_iter().chain([("gallery", gallery)]) {
        check_rows(name, side.vectors, d, 1)?;
        let n = side.vectors.len() / d;
        if side.labels.len() != n {
            return Err(Error::new(Code::InvalidShape, "there is not one label for each vector")
                .with_subject(name)
                .with_values(format!("{n} labels"), side.labels.len().to_string()));
        }
    }
    let n = gallery.labels.len();
    if queries.is_none() && n < 2 {
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

/// Checks that `rows`, which errors call `name`, are at least `fewest` of `d` finite numbers each.
fn check_rows(name: &str, rows: &[f32], d: usize, fewest: usize) -> Result<()> {
    if d == 0 || !rows.len().is_multiple_of(d) {
        return Err(Error::new(Code::InvalidShape, "the vectors do not have the dimension that is said")
            .with_subject(name)
            .with_values(format!("rows of {d} numbers, at least one in each"), format!("{} numbers", rows.len())));
    }
    if rows.len() / d < fewest {
        return Err(Error::new(Code::InvalidData, "there are too few vectors")
            .with_subject(name)
            .with_values(format!("at least {fewest}"), (rows.len() / d).to_string()));
    }
    if let Some(place) = rows.iter().position(|value| !value.is_finite()) {
        return Err(Error::new(Code::NonFinite, format!("vector {} is not finite", place / d))
            .with_subject(name)
            .with_values("finite numbers", format!("{} at place {}", rows[place], place % d))
            .with_advice("leave such vectors out; a model that makes them has diverged"));
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

    /// Against loops over all pairs: queries of classes that the gallery has, has once, and has not.
    #[test]
    fn a_gallery_apart_equals_the_definition() {
        let (gallery, labels) = ([0.0, 1.0, 2.0, 3.0, 4.5, 9.0], [0, 0, 1, 0, 1, 2]);
        let (queries, wanted) = ([0.4, 3.4, 8.0, 2.5], [0, 1, 2, 7]);
        let sides = (Labelled { vectors: &queries, labels: &wanted }, Labelled { vectors: &gallery, labels: &labels });
        let found = retrieval_in(&Team::new(1), Some(sides.0), sides.1, 1, &[1, 2, 3]).unwrap();
        let mut hits = [0.0; 3];
        let (mut map, mut precision, mut with) = (0.0, 0.0, 0.0);
        for (query, class) in queries.iter().zip(wanted) {
            let mut order: Vec<usize> = (0..6).collect();
            order.sort_by(|&a, &b| (gallery[a] - query).abs().total_cmp(&(gallery[b] - query).abs()));
            let same: Vec<bool> = order.iter().map(|&item| labels[item] == class).collect();
            hits.iter_mut().zip(1..).for_each(|(hits, k)| *hits += f64::from(u8::from(same[..k].contains(&true))));
            let r = labels.iter().filter(|label| **label == class).count();
            if r > 0 {
                let before = |k: usize| same[..k].iter().filter(|same| **same).count() as f64;
                with += 1.0;
                precision += before(r) / r as f64;
                map += (1..=r).filter(|k| same[k - 1]).map(|k| before(k) / k as f64).sum::<f64>() / r as f64;
            }
        }
        assert_eq!(found.recall, [(1, hits[0] / 4.0), (2, hits[1] / 4.0), (3, hits[2] / 4.0)]);
        assert_eq!((found.map_at_r, found.r_precision), (map / with, precision / with));
        assert_eq!((found.queries, found.queries_with_relevant), (4, 3));
        let near = nearest(&Team::new(1), Some(&queries), &gallery, 1, 9).unwrap();
        assert_eq!(near[2].iter().map(|near| near.index).collect::<Vec<_>>(), [5, 4, 3, 2, 1, 0]);
        assert_eq!(near[2][0].squared, 1.0);
    }

    #[test]
    fn vectors_that_cannot_be_compared_are_told() {
        let team = Team::new(1);
        let text = |found: Result<Vec<Vec<Neighbour>>>| found.unwrap_err().to_string();
        let nan = text(nearest(&team, Some(&[1.0, 2.0, 3.0, f32::NAN]), &[0.0, 0.0], 2, 1));
        assert!(nan.contains("queries: vector 1 is not finite") && nan.contains("NaN at place 1"), "{nan}");
        assert!(text(nearest(&team, None, &[1.0, 2.0, 3.0], 2, 1)).contains("gallery: the vectors do not have"));
        assert!(text(nearest(&team, None, &[1.0, 2.0], 2, 1)).contains("at least 2, received 1"));
        assert!(text(nearest(&team, None, &[1.0, 2.0], 1, 0)).contains("k: invalid value"));
        let side = Labelled { vectors: &[1.0, 2.0], labels: &[0] };
        let error = retrieval_in(&team, None, side, 1, &[1]).unwrap_err().to_string();
        assert!(error.contains("gallery: there is not one label for each vector"), "{error}");
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
