//! The exact nearest neighbours of every row among all other rows, or among those of a gallery, in tiles.
//!
//! A float32 matrix product of centred rows gives all distances of a tile of queries approximately. For each query, an
//! upper bound of its k-th distance comes from the minima of short stretches; whatever lies within the bound plus the
//! product's worst rounding error is measured again in float64 from differences, and sorted by (distance, index). So
//! the order is that of the exact distances, at the speed of a matrix product.
//!
//! The worst error: a product of d terms in float32 is off by at most (d + 1) u |a| |b| (u = 2^-24; Higham 2002,
//! section 3.1), norms, centring and differences by a few u of the same size.
//!
//! Memory beside the rows: one copy, its panels, and a tile of 512 x n.

use crate::matrix::{Operand, gemm};
use crate::team::Parts;
use crate::{Team, check};

/// Queries of one tile: at 60,000 rows the tile has 123 MB.
const TILE: usize = 512;
/// Distances of one stretch, whose minimum stands for it.
const STRETCH: usize = 32;

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Which one.
    pub index: u32,
    /// The squared Euclidean distance, in float64 from differences.
    pub squared: f64,
}

/// For every row i of `[n, d]`, calls `visit(i, order)` with its nearest other rows, nearest first, ties by the smaller
/// index: `count(i)` of them, or all n - 1 if there are fewer. Returns what `visit` gave, in order of i.
///
/// The rows must be finite.
pub fn nearest<T: Send>(
    team: &Team,
    rows: &[f32],
    n: usize,
    d: usize,
    count: impl Fn(usize) -> usize + Sync,
    visit: impl Fn(usize, &[u32]) -> T + Sync,
) -> Vec<T> {
    check::length("retrieval::nearest", "rows", rows.len(), n * d);
    nearest_in(team, None, rows, d, count, |i, found| {
        visit(i, &found.iter().map(|neighbour| neighbour.index).collect::<Vec<u32>>())
    })
}

/// As [`nearest`], for every row i of `queries [m, d]` among the rows of `gallery [n, d]`. Without queries the rows of the
/// gallery are the queries, and none is its own neighbour.
///
/// # Panics
/// For a `d` of 0, or rows of another length.
pub fn nearest_in<T: Send>(
    team: &Team,
    queries: Option<&[f32]>,
    gallery: &[f32],
    d: usize,
    count: impl Fn(usize) -> usize + Sync,
    visit: impl Fn(usize, &[Neighbour]) -> T + Sync,
) -> Vec<T> {
    let rows = queries.unwrap_or(gallery);
    let [m, n] = [rows, gallery].map(|rows| rows.len() / d);
    check::length("retrieval::nearest_in", "queries", rows.len(), m * d);
    check::length("retrieval::nearest_in", "gallery", gallery.len(), n * d);
    let centred = Centred::new(gallery, queries, d);
    let centred_queries = centred.queries.as_deref().unwrap_or(&centred.rows);
    let mut results: Vec<Option<T>> = (0..m).map(|_| None).collect();
    let mut tile = vec![0.0; TILE.min(m) * n];
    for first in (0..m).step_by(TILE) {
        let size = TILE.min(m - first);
        let tile = &mut tile[..size * n];
        let left = Operand::row_major(&centred_queries[first * d..], d);
        gemm(team, [size, n, d], left, Operand::transposed(&centred.rows, d), None, tile);
        let (products, out) = (&*tile, Parts::new(&mut results));
        team.for_each(size, |query| {
            let i = first + query;
            let one = Query {
                row: &rows[i * d..][..d],
                norm: norm(&centred_queries[i * d..][..d]),
                itself: queries.is_none().then_some(i),
                products: &products[query * n..][..n],
            };
            let others = n - usize::from(one.itself.is_some());
            let order = centred.order(gallery, &one, count(i).min(others));
            // SAFETY: `results` has a place for each row, `None` before; each query runs once and writes its own.
            unsafe { *out.pointer(i) = Some(visit(i, &order)) };
        });
    }
    results.into_iter().flatten().collect()
}

/// What is searched for.
struct Query<'a> {
    /// As it was given.
    row: &'a [f32],
    /// Its norm, centred and scaled.
    norm: f64,
    /// Which row of the gallery it is, if it is one.
    itself: Option<usize>,
    /// Its products with the rows of the gallery, both centred and scaled.
    products: &'a [f32],
}

/// The rows without the gallery's mean, scaled to norms of at most 1: products lose as little as possible, and none
/// overflows.
struct Centred {
    rows: Vec<f32>,
    /// The queries, where they are not the rows.
    queries: Option<Vec<f32>>,
    /// Squared norms of `rows`.
    squares: Vec<f32>,
    /// The largest norm among the rows.
    largest: f64,
    d: usize,
}

impl Centred {
    fn new(rows: &[f32], queries: Option<&[f32]>, d: usize) -> Centred {
        let n = rows.len() / d;
        let mut mean = vec![0.0f64; d];
        for row in rows.chunks_exact(d) {
            mean.iter_mut().zip(row).for_each(|(mean, &v)| *mean += f64::from(v) / n as f64);
        }
        let centre = |row: &[f32]| row.iter().zip(&mean).map(|(&v, mean)| f64::from(v) - mean).collect::<Vec<f64>>();
        let longest = |rows: &[f32]| rows.chunks_exact(d).map(|row| norm64(&centre(row))).fold(0.0, f64::max);
        let (largest, far) = (longest(rows), queries.map_or(0.0, longest));
        // A power of two changes no digit.
        let of_all = largest.max(far);
        let scale = if of_all > 0.0 { (-of_all.log2().ceil()).exp2() } else { 1.0 };
        let scaled =
            |rows: &[f32]| -> Vec<f32> { rows.chunks_exact(d).flat_map(centre).map(|v| (v * scale) as f32).collect() };
        let (rows, queries) = (scaled(rows), queries.map(scaled));
        let squares =
            rows.chunks_exact(d).map(|row| row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() as f32);
        Centred { squares: squares.collect(), rows, queries, largest: largest * scale, d }
    }

    /// The `count` rows of `gallery` that are nearest to the query.
    fn order(&self, gallery: &[f32], query: &Query<'_>, count: usize) -> Vec<Neighbour> {
        if count == 0 {
            return Vec::new();
        }
        let Query { row, norm, itself, products } = *query;
        let n = products.len();
        let other = |&j: &usize| Some(j) != itself;
        let stretch = if n / STRETCH >= 2 * count { STRETCH } else { 1 };
        let mut minima: Vec<f32> = self.squares.chunks(stretch).zip(products.chunks(stretch)).map(smallest).collect();
        if let Some(i) = itself {
            let own = i / stretch * stretch..n.min(i / stretch * stretch + stretch);
            minima[i / stretch] =
                own.filter(other).map(|j| self.approximate(products, j)).fold(f32::INFINITY, f32::min);
        }
        // At least `count` of the approximate distances do not exceed this one.
        let kth = *minima.clone().select_nth_unstable_by(count - 1, f32::total_cmp).1;
        let bound = f64::from(kth) + 2.0 * self.error(norm);
        let near = (0..minima.len()).filter(|&place| f64::from(minima[place]) <= bound);
        let near = near.flat_map(|place| place * stretch..n.min(place * stretch + stretch));
        let mut near: Vec<Neighbour> = near
            .filter(|j| other(j) && f64::from(self.approximate(products, *j)) <= bound)
            .map(|j| Neighbour { index: j as u32, squared: exact(row, &gallery[j * self.d..][..self.d]) })
            .collect();
        near.sort_unstable_by(|a, b| a.squared.total_cmp(&b.squared).then(a.index.cmp(&b.index)));
        near.truncate(count);
        near
    }

    /// `|a - b|^2 - |a|^2 = |b|^2 - 2 a b`: the query's own norm does not change the order.
    fn approximate(&self, products: &[f32], j: usize) -> f32 {
        self.squares[j] - 2.0 * products[j]
    }

    /// The largest error of an approximate distance from the exact one, of a query whose norm is `own`.
    fn error(&self, own: f64) -> f64 {
        let unit = f64::from(f32::EPSILON) / 2.0;
        let largest = self.largest;
        2.0 * (self.d + 8) as f64 * unit * own * largest + 11.0 * unit * (own + largest) * (own + largest)
    }
}

/// The smallest [`Centred::approximate`] of a stretch, in lanes that the compiler makes vectors of.
fn smallest((squares, products): (&[f32], &[f32])) -> f32 {
    let mut lanes = [f32::INFINITY; 8];
    let (squares, products) = (squares.chunks(lanes.len()), products.chunks(lanes.len()));
    for (squares, products) in squares.zip(products) {
        for ((lane, square), product) in lanes.iter_mut().zip(squares).zip(products) {
            let value = square - 2.0 * product;
            *lane = if value < *lane { value } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::INFINITY, f32::min)
}

fn norm64(row: &[f64]) -> f64 {
    row.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

/// The squared distance in float64, from differences.
fn exact(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).map(|difference| difference * difference).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(rows: &[f32], n: usize, d: usize, count: usize) -> Vec<Vec<u32>> {
        let row = |i: usize| &rows[i * d..][..d];
        let of = |i: usize| {
            let mut order: Vec<u32> = (0..n as u32).filter(|&j| j as usize != i).collect();
            order.sort_by(|&a, &b| {
                exact(row(i), row(a as usize)).total_cmp(&exact(row(i), row(b as usize))).then(a.cmp(&b))
            });
            order.truncate(count);
            order
        };
        (0..n).map(of).collect()
    }

    fn random(count: usize, seed: u64, levels: f32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..count).map(|_| (next() * levels).floor() / levels).collect()
    }

    #[test]
    fn equals_sorting_everything() {
        // Few levels make many exact ties; an offset of 1000 makes the product's rounding large.
        for (n, d, count, levels, offset) in [
            (2, 1, 1, 4.0, 0.0),
            (60, 2, 5, 3.0, 0.0),
            (300, 3, 4, 2.0, 0.0),
            (1200, 5, 8, 1e6, 1000.0),
            (90, 40, 89, 1e6, 0.0),
        ] {
            let rows: Vec<f32> = random(n * d, 3, levels).iter().map(|v| v + offset).collect();
            let found = nearest(&Team::new(2), &rows, n, d, |_| count, |_, order| order.to_vec());
            assert!(found == naive(&rows, n, d, count), "n={n} d={d}");
        }
    }

    /// Queries far from a gallery whose rows lie close together, among them some of its rows, against sorting everything.
    #[test]
    fn queries_apart_from_the_gallery_equal_sorting_everything() {
        for (m, n, d, count, levels, offset) in [
            (1, 1, 1, 1, 4.0, 0.0),
            (3, 700, 4, 9, 3.0, 0.0),
            (600, 40, 3, 40, 2.0, 0.0),
            (5, 900, 6, 4, 1e6, 1000.0),
            (2, 300, 2, 3, 1e6, -1e20),
        ] {
            let gallery = random(n * d, 7, levels);
            let mut queries: Vec<f32> = random(m * d, 8, levels).iter().map(|v| v + offset).collect();
            queries[..d].copy_from_slice(&gallery[..d]);
            let found = nearest_in(&Team::new(2), Some(&queries), &gallery, d, |_| count, |_, order| order.to_vec());
            for (query, found) in queries.chunks_exact(d).zip(found) {
                let of = |(j, row)| Neighbour { index: j as u32, squared: exact(query, row) };
                let mut all: Vec<Neighbour> = gallery.chunks_exact(d).enumerate().map(of).collect();
                all.sort_by(|a, b| a.squared.total_cmp(&b.squared).then(a.index.cmp(&b.index)));
                all.truncate(count);
                assert!(found == all, "m={m} n={n} d={d}");
            }
        }
    }

    #[test]
    fn rows_of_any_size_are_ordered() {
        for scale in [1e-30f32, 1e-20, 1e20, 1e38] {
            let rows: Vec<f32> = random(200 * 6, 5, 1e6).iter().map(|v| v * scale).collect();
            let found = nearest(&Team::new(1), &rows, 200, 6, |_| 3, |_, order| order.to_vec());
            assert!(found == naive(&rows, 200, 6, 3), "{scale}");
        }
    }

    #[test]
    fn identical_rows_come_in_order_of_index() {
        let found = nearest(&Team::new(1), &[0.25; 40], 20, 2, |i| i % 3, |i, order| (i, order.to_vec()));
        assert_eq!(found[5], (5, vec![0, 1]));
        assert_eq!(found[1], (1, vec![0]));
        assert_eq!(found[0], (0, vec![]));
    }
}
