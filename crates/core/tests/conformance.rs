//! The rows of `docs/conformance.md`: where the paper, its released code and other libraries define a thing differently.
//! Each test writes the other definition out, loop by loop, and says how it stands to this one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rkd_core::losses::{Feature, FeatureMap, LossInputs, LossValue, Matrix, TermSpec, evaluate_loss};
use rkd_core::metrics::retrieval;
use rkd_core::random::Random;
use rkd_core::ranks::Ranks;
use rkd_core::sampling::{DistanceWeighting, distance_weights};
use rkd_core::train::balance::Balance;
use rkd_core::train::objective::{BatchFeatures, Objective};
use rkd_kernels::Team;
use serde_json::{Value, json};

fn draw(n: usize, d: usize, purpose: &str) -> Matrix {
    let mut random = Random::keyed(2, n as u64, d as u64, purpose);
    Matrix::new(purpose, &(0..n * d).map(|_| random.normal()).collect::<Vec<f64>>(), n, d).unwrap()
}

/// The loss `spec` of `student`; where it takes labels, of three rows a class.
fn found(spec: Value, student: &Matrix, teacher: Option<&Matrix>, parameters: &[Matrix]) -> LossValue {
    let (team, term) = (Team::new(1), serde_json::from_value::<TermSpec>(spec).unwrap());
    let labels = labels(student.rows);
    let mut inputs = LossInputs::new(student, &team, Random::keyed(0, 0, 0, "conformance")).with_labels(&labels);
    if let Some(teacher) = teacher {
        inputs = inputs.with_teacher(teacher);
    }
    evaluate_loss(&term, &inputs.with_parameters(parameters)).unwrap()
}

fn labels(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| i / 3).collect()
}

fn value(spec: Value, student: &Matrix, teacher: &Matrix) -> f64 {
    found(spec, student, Some(teacher), &[]).value
}

/// A loss of labels.
fn labelled(spec: Value, student: &Matrix) -> f64 {
    found(spec, student, None, &[]).value
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!(expected != 0.0 && (found - expected).abs() <= tolerance * expected.abs(), "{found} {expected}");
}

fn same(found: f64, expected: f64) {
    near(found, expected, 1e-12);
}

/// They differ by more than a hundredth.
fn differ(found: f64, other: f64) {
    assert!((found - other).abs() > 0.01 * other.abs(), "{found} {other}");
}

fn sum(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().sum()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    sum(a.iter().zip(b).map(|(a, b)| a * b))
}

fn distance(z: &Matrix, i: usize, j: usize) -> f64 {
    sum(z.row(i).iter().zip(z.row(j)).map(|(a, b)| (a - b).powi(2))).sqrt()
}

/// All (i, j) of n items, (i, i) included.
fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n * n).map(move |place| (place / n, place % n))
}

fn huber(x: f64, delta: f64) -> f64 {
    if x.abs() <= delta { x * x / 2.0 } else { delta * (x.abs() - delta / 2.0) }
}

/// PyTorch's `smooth_l1_loss`, without its mean.
fn smooth_l1(x: f64, beta: f64) -> f64 {
    if x.abs() < beta { x * x / (2.0 * beta) } else { x.abs() - beta / 2.0 }
}

/// The cosine at `vertex` between `a` and `b`, differences divided by their norm or `smallest`.
fn cosine(z: &Matrix, vertex: usize, a: usize, b: usize, smallest: f64) -> f64 {
    let unit = |end: usize| {
        let norm = distance(z, vertex, end).max(smallest);
        z.row(end).iter().zip(z.row(vertex)).map(|(e, v)| (e - v) / norm).collect::<Vec<_>>()
    };
    dot(&unit(a), &unit(b))
}

/// The rows divided by their norms.
fn unit_rows(z: &Matrix) -> Matrix {
    let rows = z.data.chunks_exact(z.columns);
    let data = rows.flat_map(|row| row.iter().map(|v| v / dot(row, row).sqrt())).collect::<Vec<f64>>();
    Matrix::new("unit", &data, z.rows, z.columns).unwrap()
}

/// RKD-D's terms before any mean: the huber of every (i, j), with the mean distances as given.
fn distance_terms(student: &Matrix, teacher: &Matrix, [mu_s, mu_t]: [f64; 2], delta: f64) -> Vec<f64> {
    let term = |(i, j)| huber(distance(student, i, j) / mu_s - distance(teacher, i, j) / mu_t, delta);
    pairs(student.rows).map(term).collect()
}

/// The mean distance of two different rows.
fn mu(z: &Matrix) -> f64 {
    sum(pairs(z.rows).map(|(i, j)| distance(z, i, j))) / (z.rows * (z.rows - 1)) as f64
}

#[test]
fn means_are_over_all_entries_or_over_distinct_tuples() {
    let (s, t, n) = (draw(6, 4, "s"), draw(6, 3, "t"), 6.0);
    // The paper's sums.
    let distances = sum(distance_terms(&s, &t, [mu(&s), mu(&t)], 1.0));
    let angles = sum((0..6).flat_map(|v| {
        let ends = pairs(6).filter(move |&(a, b)| a != b && a != v && b != v);
        ends.map(|(a, b)| huber(cosine(&s, v, a, b, 1e-12) - cosine(&t, v, a, b, 1e-12), 1.0)).collect::<Vec<_>>()
    }));
    for (kind, total, entries, tuples) in
        [("rkd-distance", distances, n * n, n * (n - 1.0)), ("rkd-angle", angles, n * n * n, n * (n - 1.0) * (n - 2.0))]
    {
        same(value(json!({"kind": kind}), &s, &t), total / entries);
        same(value(json!({"kind": kind, "reduction": "distinct"}), &s, &t), total / tuples);
    }
}

#[test]
fn the_mean_distance_of_the_student_has_a_gradient() {
    let (s, t) = (draw(6, 4, "s"), draw(6, 3, "t"));
    let gradient = found(json!({"kind": "rkd-distance"}), &s, Some(&t), &[]).gradient;
    let numeric = |loss: &dyn Fn(&Matrix) -> f64| {
        let at = |place: usize, step: f64| {
            let mut moved = s.clone();
            moved.data[place] += step;
            loss(&moved)
        };
        (0..s.data.len()).map(|place| (at(place, 1e-6) - at(place, -1e-6)) / 2e-6).collect::<Vec<f64>>()
    };
    let mu_t = mu(&t);
    let whole = numeric(&|z| mean(&distance_terms(z, &t, [mu(z), mu_t], 1.0)));
    let detached = numeric(&|z| mean(&distance_terms(z, &t, [mu(&s), mu_t], 1.0)));
    let apart =
        |other: &[f64]| sum(gradient.iter().zip(other).map(|(a, b)| (a - b).abs())) / dot(&whole, &whole).sqrt();
    assert!(apart(&whole) < 1e-7 && apart(&detached) > 0.1, "{} {}", apart(&whole), apart(&detached));
    // With it the student's scale has no gradient; detached it has.
    assert!(dot(&gradient, &s.data).abs() < 1e-12 && dot(&detached, &s.data).abs() > 1e-3);
}

#[test]
fn a_mean_with_the_diagonal_is_another_weight_and_delta() {
    let (s, t, n) = (draw(7, 4, "s"), draw(7, 3, "t"), 7.0);
    let growth = n / (n - 1.0);
    for delta in [1.0, 0.2] {
        let here = value(json!({"kind": "rkd-distance", "delta": delta / growth}), &s, &t) * growth * growth;
        same(here, mean(&distance_terms(&s, &t, [mu(&s) / growth, mu(&t) / growth], delta)));
        // PaddleClas: the diagonal stays at 1e-6, and 1e-12 is added to the mean.
        let all = |z: &Matrix| pairs(7).map(|(i, j)| distance(z, i, j).max(1e-6)).collect::<Vec<f64>>();
        let (ds, dt) = (all(&s), all(&t));
        let (mu_s, mu_t) = (mean(&ds) + 1e-12, mean(&dt) + 1e-12);
        let paddle: Vec<f64> = ds.iter().zip(&dt).map(|(s, t)| huber(s / mu_s - t / mu_t, delta)).collect();
        near(here, mean(&paddle), 1e-5);
    }
}

#[test]
fn smooth_l1_with_a_beta_is_huber_over_delta() {
    let (s, t) = (draw(6, 4, "s"), draw(6, 3, "t"));
    for delta in [1.0, 0.1] {
        let terms = pairs(6).map(|(i, j)| smooth_l1(distance(&s, i, j) / mu(&s) - distance(&t, i, j) / mu(&t), delta));
        same(value(json!({"kind": "rkd-distance", "delta": delta}), &s, &t), delta * mean(&terms.collect::<Vec<_>>()));
    }
    same(value(json!({"kind": "rkd-distance"}), &s, &t), mean(&distance_terms(&s, &t, [mu(&s), mu(&t)], 1.0)));
}

#[test]
fn the_vertex_stands_first_or_in_the_middle() {
    let (s, t) = (draw(5, 4, "s"), draw(5, 3, "t"));
    let mut middle = 0.0;
    for (i, j) in pairs(5) {
        for k in 0..5 {
            // The angle i j k of the paper, at j.
            middle += huber(cosine(&s, j, i, k, 1e-12) - cosine(&t, j, i, k, 1e-12), 1.0);
        }
    }
    same(value(json!({"kind": "rkd-angle"}), &s, &t), middle / 125.0);
}

#[test]
fn coincident_rows_are_a_guard_apart_and_nothing_flows_between_them() {
    let (mut s, t) = (draw(6, 4, "s"), draw(6, 3, "t"));
    s.data.copy_within(0..4, 8); // rows 0 and 2
    // The released code's distance, whose square is at least 1e-12 off the diagonal.
    let guarded = |z: &Matrix, i, j| if i == j { 0.0 } else { distance(z, i, j).max(1e-6) };
    let mu = |z: &Matrix| sum(pairs(6).map(|(i, j)| guarded(z, i, j))) / 30.0;
    let terms = pairs(6).map(|(i, j)| huber(guarded(&s, i, j) / mu(&s) - guarded(&t, i, j) / mu(&t), 1.0));
    let distances = found(json!({"kind": "rkd-distance"}), &s, Some(&t), &[]);
    same(distances.value, mean(&terms.collect::<Vec<_>>()));
    // An angle with a leg of length 0 has the cosine 0 in the released code too; there its gradient is of the order 1e12.
    let mut cosines = Vec::new();
    for (i, j) in pairs(6) {
        cosines.extend((0..6).map(|k| huber(cosine(&s, j, i, k, 1e-12) - cosine(&t, j, i, k, 1e-12), 1.0)));
    }
    let angles = found(json!({"kind": "rkd-angle"}), &s, Some(&t), &[]);
    same(angles.value, mean(&cosines));
    for gradient in [&distances.gradient, &angles.gradient] {
        let largest = gradient.iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
        assert!(largest > 1e-4 && largest < 1.0, "{largest}");
    }
}

#[test]
fn features_may_be_normalized_before_their_relations() {
    let (s, t) = (draw(6, 4, "s"), draw(6, 3, "t"));
    for kind in ["rkd-distance", "rkd-angle"] {
        let normalized = value(json!({"kind": kind, "normalize": true}), &s, &t);
        same(normalized, value(json!({"kind": kind}), &unit_rows(&s), &unit_rows(&t)));
        differ(normalized, value(json!({"kind": kind}), &s, &t));
    }
}

#[test]
fn a_map_is_one_long_row() {
    let (rows, t) = (draw(5, 24, "s"), draw(5, 3, "t"));
    let map = Matrix::tensor("map", &rows.data, &[5, 2, 3, 4]).unwrap();
    let flattened = value(json!({"kind": "rkd-distance"}), &map, &t);
    same(flattened, value(json!({"kind": "rkd-distance"}), &rows, &t));
    // Averaged over its pixels first, as `pooled` is and PaddleClas does, it is another loss.
    let pooled = map.data.chunks_exact(24).flat_map(|map| (0..4).map(|k| sum((0..6).map(|p| map[p * 4 + k])) / 6.0));
    let pooled = Matrix::new("pooled", &pooled.collect::<Vec<f64>>(), 5, 4).unwrap();
    differ(value(json!({"kind": "rkd-distance"}), &pooled, &t), flattened);
}

#[test]
fn small_constants_in_the_mean_change_only_the_last_digits() {
    let (s, t) = (draw(6, 4, "s"), draw(6, 3, "t"));
    // KD_Lib: 1e-10 under the root, 1e-7 added to the mean.
    let far = |z: &Matrix, i, j| if i == j { 0.0 } else { distance(z, i, j).max(1e-5) };
    let mu = |z: &Matrix| sum(pairs(6).map(|(i, j)| far(z, i, j))) / 30.0 + 1e-7;
    let terms = pairs(6).map(|(i, j)| huber(far(&s, i, j) / mu(&s) - far(&t, i, j) / mu(&t), 1.0));
    near(value(json!({"kind": "rkd-distance"}), &s, &t), mean(&terms.collect::<Vec<_>>()), 1e-5);
}

#[test]
fn a_gram_product_in_float32_loses_near_neighbours() {
    let (noise, t) = (draw(6, 4, "s"), draw(6, 3, "t"));
    // Rows 0.01 apart, 10 from the origin.
    let s: Vec<f32> = noise.data.iter().map(|v| (10.0 + 0.01 * v) as f32).collect();
    let row = |i: usize| &s[i * 4..][..4];
    let product = |i, j| row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum::<f32>();
    let gram =
        |i, j| if i == j { 0.0 } else { (product(i, i) + product(j, j) - 2.0 * product(i, j)).max(1e-12).sqrt() };
    let mu_s = pairs(6).map(|(i, j)| gram(i, j)).sum::<f32>() / 30.0;
    let terms = pairs(6).map(|(i, j)| huber(f64::from(gram(i, j) / mu_s) - distance(&t, i, j) / mu(&t), 1.0));
    let s = Matrix::new("s", &s, 6, 4).unwrap();
    let here = value(json!({"kind": "rkd-distance"}), &s, &t);
    same(here, mean(&distance_terms(&s, &t, [mu(&s), mu(&t)], 1.0)));
    differ(mean(&terms.collect::<Vec<_>>()), here);
}

#[test]
fn a_batch_of_one_is_zero_where_the_released_code_divides_by_zero() {
    let (s, t) = (draw(1, 4, "s"), draw(1, 3, "t"));
    assert!((sum(pairs(1).map(|(i, j)| distance(&s, i, j))) / 0.0).is_nan());
    for kind in ["rkd-distance", "rkd-angle"] {
        assert_eq!(found(json!({"kind": kind}), &s, Some(&t), &[]), LossValue::new(0.0, vec![0.0; 4]));
    }
}

#[test]
fn a_term_of_weight_zero_is_not_computed() {
    let team = Team::new(1);
    let features = |z: Matrix| FeatureMap::from([(Feature::Embedding, z)]);
    let (student, teacher) = (features(draw(5, 4, "s")), features(draw(5, 4, "t")));
    // The rows are no episode: computed, the second term would be an error.
    let specs = |weight| {
        [
            json!({"kind": "rkd-distance"}),
            json!({"kind": "prototypical", "way": 2, "supportCount": 2, "weight": weight}),
        ]
        .map(|spec| serde_json::from_value(spec).unwrap())
    };
    let total = |weight: f64| {
        let random = Random::keyed(1, 0, 0, "loss");
        let (student, teachers) = (&student, std::slice::from_ref(&teacher));
        let batch = BatchFeatures {
            student,
            teachers,
            labels: &[0; 5],
            parameters: &[],
            team: &team,
            ranks: Ranks::one(),
            random,
        };
        let objective = Objective::new(&specs(weight), &[("teacher", 1.0)]).unwrap();
        objective.evaluate(&batch, 0).map(|terms| objective.weigh(terms, &Balance::default(), 0).total)
    };
    assert!(total(1.0).is_err());
    same(
        total(0.0).unwrap(),
        value(json!({"kind": "rkd-distance"}), &student[&Feature::Embedding], &teacher[&Feature::Embedding]),
    );
}

#[test]
fn attention_is_a_mean_over_pixels() {
    let (s, t) = (draw(3, 24, "s"), draw(3, 30, "t"));
    let [s, t] = [(s, 4), (t, 5)].map(|(z, c)| Matrix::tensor("map", &z.data, &[3, 2, 3, c]).unwrap());
    // Sums over channels where the code has means: the norm divides either away.
    let attention = |z: &Matrix, i: usize, c: usize| {
        let q: Vec<f64> = z.row(i).chunks_exact(c).map(|pixel| dot(pixel, pixel)).collect();
        let norm = dot(&q, &q).sqrt();
        q.iter().map(|q| q / norm).collect::<Vec<f64>>()
    };
    let squares: Vec<f64> = (0..3)
        .map(|i| sum(attention(&s, i, 4).iter().zip(attention(&t, i, 5)).map(|(s, t)| (s - t).powi(2))))
        .collect();
    // The squared norm of each image's difference, mean over images, is h w times as much.
    same(value(json!({"kind": "attention-transfer"}), &s, &t) * 6.0, mean(&squares));
    // The paper's norm is not squared.
    differ(mean(&squares.iter().map(|square| square.sqrt()).collect::<Vec<_>>()), mean(&squares));
}

#[test]
fn soft_targets_hold_the_square_of_their_temperature() {
    let (s, t) = (draw(5, 4, "s"), draw(5, 4, "t"));
    for temperature in [1.0, 4.0] {
        let softmax = |row: &[f64]| {
            let powers: Vec<f64> = row.iter().map(|v| (v / temperature).exp()).collect();
            powers.iter().map(|power| power / sum(powers.iter().copied())).collect::<Vec<f64>>()
        };
        let divergence = |i: usize| sum(softmax(t.row(i)).iter().zip(softmax(s.row(i))).map(|(t, s)| t * (t / s).ln()));
        let divergences: Vec<f64> = (0..5).map(divergence).collect();
        let here = value(json!({"kind": "soft-target-kl", "temperature": temperature}), &s, &t);
        // Park et al.: the weight is T^2, 16 at T = 4. PyTorch's "batchmean".
        same(here, temperature * temperature * mean(&divergences));
        // PyTorch's "mean", as in the code of Zagoruyko and Komodakis, divides by the 4 classes too.
        same(here / 4.0, temperature * temperature * sum(divergences) / 20.0);
    }
}

#[test]
fn a_hint_is_a_mean_over_entries_and_a_linear_hint_a_sum() {
    let (s, t, p) = (draw(5, 4, "s"), draw(5, 3, "t"), draw(3, 4, "projection"));
    let square = |i: usize| sum((0..3).map(|k| (dot(p.row(k), s.row(i)) - t.row(i)[k]).powi(2)));
    let squares = mean(&(0..5).map(square).collect::<Vec<_>>());
    let with = |kind: &str| found(json!({ "kind": kind }), &s, Some(&t), std::slice::from_ref(&p)).value;
    same(with("linear-hint"), squares);
    same(with("hint"), squares / 3.0);
}

/// Plackett-Luce over the first `count` of each query, straight from the definition.
fn dark_rank(s: &Matrix, t: &Matrix, alpha: f64, beta: f64, count: usize) -> f64 {
    let queries = (0..s.rows).map(|i| {
        let mut order: Vec<usize> = (0..s.rows).filter(|&j| j != i).collect();
        order.sort_by(|&a, &b| distance(t, i, a).total_cmp(&distance(t, i, b)));
        let scores: Vec<f64> = order[..count].iter().map(|&j| -alpha * distance(s, i, j).powf(beta)).collect();
        sum((0..count).map(|k| sum(scores[k..].iter().map(|score| score.exp())).ln() - scores[k]))
    });
    mean(&queries.collect::<Vec<_>>())
}

#[test]
fn dark_rank_has_the_papers_alpha_or_the_command_lines() {
    let (s, t) = (unit_rows(&draw(7, 4, "s")), draw(7, 3, "t"));
    let paper = value(json!({"kind": "hard-dark-rank"}), &s, &t);
    same(paper, dark_rank(&s, &t, 3.0, 3.0, 4));
    let command_line = value(json!({"kind": "hard-dark-rank", "alpha": 2.0}), &s, &t);
    same(command_line, dark_rank(&s, &t, 2.0, 3.0, 4));
    differ(command_line, paper);
}

#[test]
fn dark_rank_orders_the_nearest_four_or_the_whole_batch() {
    let (s, t) = (unit_rows(&draw(7, 4, "s")), draw(7, 3, "t"));
    for (length, count) in [(4, 4), (6, 6), (100, 6)] {
        let here = value(json!({"kind": "hard-dark-rank", "permuteLength": length}), &s, &t);
        same(here, dark_rank(&s, &t, 3.0, 3.0, count));
    }
}

/// The inner products of all rows, `[n, n]`.
fn products(z: &Matrix) -> Vec<f64> {
    pairs(z.rows).map(|(i, j)| dot(z.row(i), z.row(j))).collect()
}

/// `sum (a - b)^2`.
fn squares(a: &[f64], b: &[f64]) -> f64 {
    sum(a.iter().zip(b).map(|(a, b)| (a - b).powi(2)))
}

/// Each row of the inner products divided by its norm.
fn similarities(z: &Matrix) -> Vec<f64> {
    unit_rows(&Matrix::new("products", &products(z), z.rows, z.rows).unwrap()).data
}

#[test]
fn similarities_are_of_the_embedding_or_of_whole_maps() {
    let term: TermSpec = serde_json::from_value(json!({"kind": "similarity-preserving"})).unwrap();
    assert_eq!(term.build().reads(), Feature::Embedding);
    // RepDistiller's `view(bsz, -1)`; maps of different sizes and depths have similarities of one size.
    let (s, t) = (draw(4, 2 * 3 * 5, "s"), draw(4, 3 * 4 * 2, "t"));
    let maps = [(&s, [4, 2, 3, 5]), (&t, [4, 3, 4, 2])].map(|(z, shape)| Matrix::tensor("", &z.data, &shape).unwrap());
    let expected = squares(&similarities(&s), &similarities(&t)) / 16.0;
    same(value(json!({"kind": "similarity-preserving"}), &maps[0], &maps[1]), expected);
}

#[test]
fn similarities_are_divided_by_the_norms_of_their_rows() {
    let (s, t) = (draw(6, 4, "s"), draw(6, 3, "t"));
    let here = value(json!({"kind": "similarity-preserving"}), &s, &t);
    same(here, squares(&similarities(&s), &similarities(&t)) / 36.0);
    let whole = |z: &Matrix| {
        let products = products(z);
        products.iter().map(|p| p / dot(&products, &products).sqrt()).collect::<Vec<_>>()
    };
    differ(here, squares(&whole(&s), &whole(&t)) / 36.0);
}

/// The Gaussian's expansion to the second order as torchdistill writes it, on rows as they are.
fn correlations(z: &Matrix, gamma: f64) -> Vec<f64> {
    let expansion = |c: f64| 1.0 + 2.0 * gamma * c + (2.0 * gamma).powi(2) / 2.0 * c * c;
    products(z).into_iter().map(|c| (-2.0 * gamma).exp() * expansion(c)).collect()
}

#[test]
fn correlations_are_a_gaussian_of_unit_rows_or_inner_products() {
    let (s, t) = (draw(6, 4, "s"), draw(6, 3, "t"));
    let here = value(json!({"kind": "correlation-congruence"}), &s, &t);
    same(here, squares(&correlations(&unit_rows(&s), 0.4), &correlations(&unit_rows(&t), 0.4)) / 36.0);
    differ(here, squares(&correlations(&s, 0.4), &correlations(&t, 0.4)) / 36.0);
    // torchdistill's other kernel.
    let bilinear = value(json!({"kind": "correlation-congruence", "kernel": "bilinear"}), &s, &t);
    same(bilinear, squares(&products(&s), &products(&t)) / 36.0);
}

#[test]
fn correlations_differ_by_a_mean_of_squares() {
    let (s, t) = (unit_rows(&draw(6, 4, "s")), unit_rows(&draw(6, 3, "t")));
    let root = squares(&correlations(&s, 0.4), &correlations(&t, 0.4)).sqrt() / 36.0;
    let here = value(json!({"kind": "correlation-congruence"}), &s, &t);
    same(here, root * root * 36.0);
    differ(here, root);
}

#[test]
fn correlations_do_not_see_a_rotation() {
    let t = draw(6, 4, "t");
    // A quarter turn: two coordinates change places, one of them its sign.
    let turned = t.data.chunks_exact(4).flat_map(|row| [-row[1], row[0], row[2], row[3]]).collect::<Vec<_>>();
    let s = Matrix::new("s", &turned, 6, 4).unwrap();
    for kernel in ["gaussian-rbf", "bilinear"] {
        assert!(value(json!({"kind": "correlation-congruence", "kernel": kernel}), &s, &t) < 1e-28);
    }
    let off = |i: usize, k: usize| (s.row(i)[k] - t.row(i)[k]).abs();
    let neighbours = (0..5).map(|i| sum((0..4).map(|k| off(i, k) * off(i + 1, k))));
    assert!(mean(&neighbours.collect::<Vec<_>>()) > 0.1);
}

/// Every (anchor, positive, negative) of [`labels`].
fn triplets(n: usize) -> Vec<[usize; 3]> {
    let labels = labels(n);
    let chosen = |&[a, p, q]: &[usize; 3]| a != p && labels[a] == labels[p] && labels[a] != labels[q];
    pairs(n).flat_map(|(a, p)| (0..n).map(move |q| [a, p, q])).filter(chosen).collect()
}

/// `|z_i - z_j + 1e-6|`, PyTorch's `pairwise_distance`.
fn offset(z: &Matrix, i: usize, j: usize) -> f64 {
    sum(z.row(i).iter().zip(z.row(j)).map(|(a, b)| (a - b + 1e-6).powi(2))).sqrt()
}

#[test]
fn triplets_are_of_squared_or_of_plain_distances() {
    let z = unit_rows(&draw(9, 4, "z"));
    let terms = |far: &dyn Fn(usize, usize) -> f64| {
        mean(&triplets(9).into_iter().map(|[a, p, q]| (far(a, p) - far(a, q) + 0.2).max(0.0)).collect::<Vec<_>>())
    };
    let paper = labelled(json!({"kind": "triplet-squared", "negatives": "all"}), &z);
    same(paper, terms(&|i, j| distance(&z, i, j).powi(2)));
    let code = labelled(json!({"kind": "triplet-euclidean", "negatives": "all"}), &z);
    same(code, terms(&|i, j| offset(&z, i, j)));
    differ(code, paper);
}

#[test]
fn the_offset_of_plain_triplets_changes_only_the_last_digits() {
    let z = unit_rows(&draw(9, 4, "z"));
    let terms = |far: fn(&Matrix, usize, usize) -> f64| {
        mean(
            &triplets(9)
                .into_iter()
                .map(|[a, p, q]| (far(&z, a, p) - far(&z, a, q) + 5.0).max(0.0))
                .collect::<Vec<_>>(),
        )
    };
    let here = labelled(json!({"kind": "triplet-euclidean", "negatives": "all", "margin": 5.0}), &z);
    same(here, terms(offset));
    // pytorch-metric-learning, where all triplets are above 0.
    let theirs = terms(distance);
    assert_ne!(here, theirs);
    near(here, theirs, 1e-6);
}

#[test]
fn a_batch_of_one_class_is_zero() {
    let (z, team) = (unit_rows(&draw(6, 4, "z")), Team::new(1));
    for kind in
        ["triplet-squared", "triplet-euclidean", "contrastive", "lifted-structure", "n-pairs", "angular", "margin"]
    {
        let term = serde_json::from_value::<TermSpec>(json!({"kind": kind})).unwrap();
        let inputs = LossInputs::new(&z, &team, Random::keyed(0, 0, 0, "conformance")).with_labels(&[4; 6]);
        let found = evaluate_loss(&term, &inputs).unwrap();
        assert!(found.value == 0.0 && found.gradient.iter().all(|&slope| slope == 0.0), "{kind}");
    }
}

#[test]
fn triplets_that_are_satisfied_count_in_the_mean() {
    let z = unit_rows(&draw(9, 4, "z"));
    let losses = triplets(9).into_iter().map(|[a, p, q]| offset(&z, a, p) - offset(&z, a, q) + 0.2);
    let losses: Vec<f64> = losses.map(|loss| loss.max(0.0)).collect();
    // pytorch-metric-learning: the mean of those above 0.
    let active: Vec<f64> = losses.iter().copied().filter(|loss| *loss > 0.0).collect();
    let here = labelled(json!({"kind": "triplet-euclidean", "negatives": "all"}), &z);
    same(here, mean(&active) * active.len() as f64 / losses.len() as f64);
    differ(here, mean(&active));
}

#[test]
fn contrastive_weighs_both_sides_equally() {
    let (z, labels) = (unit_rows(&draw(9, 4, "z")), labels(9));
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for (i, j) in pairs(9).filter(|(i, j)| i != j) {
        match labels[i] == labels[j] {
            true => near.push(offset(&z, i, j).powi(2)),
            false => far.push((0.9 - offset(&z, i, j)).max(0.0).powi(2)),
        }
    }
    let here = labelled(json!({"kind": "contrastive", "margin": 0.9, "negatives": "all"}), &z);
    same(here, (mean(&near) + mean(&far)) / 2.0);
    // Hadsell et al.: every pair once, halved.
    differ(here, mean(&[near.clone(), far.clone()].concat()) / 2.0);
    // pytorch-metric-learning: distances, not squared, each side's mean over those above 0.
    let plain = |terms: &[f64]| mean(&terms.iter().map(|t| t.sqrt()).filter(|t| *t > 0.0).collect::<Vec<_>>());
    differ(here, plain(&near) + plain(&far));
}

#[test]
fn lifted_structure_is_the_smooth_form() {
    let (z, labels) = (draw(9, 4, "z"), labels(9));
    let lifted = |gather: &dyn Fn(&[f64]) -> f64| {
        let positives = pairs(9).filter(|&(i, j)| i != j && labels[i] == labels[j]);
        let losses = positives.map(|(i, j)| {
            let pushes = [i, j].into_iter().flat_map(|end| {
                let negatives = (0..9).filter(|&k| labels[k] != labels[i]);
                negatives.map(|k| 1.0 - distance(&z, end, k)).collect::<Vec<f64>>()
            });
            (gather(&pushes.collect::<Vec<_>>()) + distance(&z, i, j)).max(0.0).powi(2) / 2.0
        });
        mean(&losses.collect::<Vec<_>>())
    };
    let here = labelled(json!({"kind": "lifted-structure"}), &z);
    same(here, lifted(&|pushes| sum(pushes.iter().map(|push| push.exp())).ln()));
    // Equation 3 takes the hardest negative alone.
    differ(here, lifted(&|pushes| pushes.iter().copied().fold(f64::NEG_INFINITY, f64::max)));
}

/// Anchor and positive of each class of [`labels`].
const CLASS_PAIRS: [[usize; 2]; 3] = [[0, 1], [3, 4], [6, 7]];

#[test]
fn n_pairs_are_regularised_by_squared_norms_or_not() {
    let z = draw(9, 4, "z");
    let softmax = CLASS_PAIRS.iter().map(|&[a, p]| {
        let products = CLASS_PAIRS.iter().map(|&[_, q]| dot(z.row(a), z.row(q)).exp());
        sum(products).ln() - dot(z.row(a), z.row(p))
    });
    let softmax = mean(&softmax.collect::<Vec<_>>());
    same(labelled(json!({"kind": "n-pairs"}), &z), softmax);
    // TensorFlow's `npairs_loss` adds a quarter of `reg_lambda` times the mean squared norms of both sides.
    let side = |side: usize| mean(&CLASS_PAIRS.map(|pair| dot(z.row(pair[side]), z.row(pair[side]))));
    let (lambda, regular) = (0.002, 0.25 * (side(0) + side(1)));
    same(labelled(json!({"kind": "n-pairs", "l2": 0.25 * lambda}), &z), softmax + lambda * regular);
}

#[test]
fn angular_negatives_are_the_positives_of_other_classes() {
    let z = draw(9, 4, "z");
    let t2 = 40f64.to_radians().tan().powi(2);
    let loss = |negatives: &dyn Fn(usize) -> Vec<usize>| {
        let losses = CLASS_PAIRS.iter().map(|&[a, p]| {
            let f = |q: usize| {
                4.0 * t2 * (dot(z.row(a), z.row(q)) + dot(z.row(p), z.row(q)))
                    - 2.0 * (1.0 + t2) * dot(z.row(a), z.row(p))
            };
            (1.0 + sum(negatives(a).into_iter().map(|q| f(q).exp()))).ln()
        });
        mean(&losses.collect::<Vec<_>>())
    };
    let others = |a: usize| CLASS_PAIRS.iter().filter(move |pair| pair[0] != a);
    let here = labelled(json!({"kind": "angular", "degrees": 40.0}), &z);
    same(here, loss(&|a| others(a).map(|pair| pair[1]).collect()));
    // The other reading of the paper's sum has their anchors too.
    differ(here, loss(&|a| others(a).flatten().copied().collect()));
}

#[test]
fn margin_divides_by_its_active_pairs_and_may_learn_its_boundary() {
    let z = unit_rows(&draw(9, 4, "z"));
    let sides = triplets(9).into_iter().flat_map(|[a, p, q]| {
        let (near, far) = (distance(&z, a, p), distance(&z, a, q));
        [(1.0, 0.2 + near - 1.2), (-1.0, 0.2 - far + 1.2)]
    });
    let active: Vec<(f64, f64)> = sides.filter(|(_, loss)| *loss > 0.0).collect();
    let expected = mean(&active.iter().map(|(_, loss)| *loss).collect::<Vec<_>>());
    same(labelled(json!({"kind": "margin", "negatives": "all"}), &z), expected);
    let beta = Matrix::new("beta", &[1.2], 1, 1).unwrap();
    let learned = found(json!({"kind": "margin", "learnBeta": true, "negatives": "all"}), &z, None, &[beta]);
    same(learned.value, expected);
    same(learned.parameters[0][0], -mean(&active.iter().map(|(sign, _)| *sign).collect::<Vec<_>>()));
    assert!(found(json!({"kind": "margin"}), &z, None, &[]).parameters.is_empty());
}

#[test]
fn label_smoothing_spreads_over_all_classes() {
    let (z, labels) = (draw(9, 4, "z"), labels(9));
    let log_p = |i: usize, c: usize| z.row(i)[c] - sum(z.row(i).iter().map(|v| v.exp())).ln();
    // Spread over the other classes alone.
    let e = 0.3;
    let loss = |i: usize| {
        let own = labels[i] as usize;
        -sum((0..4).map(|c| if c == own { 1.0 - e } else { e / 3.0 } * log_p(i, c)))
    };
    let others = mean(&(0..9).map(loss).collect::<Vec<_>>());
    same(labelled(json!({"kind": "cross-entropy", "labelSmoothing": e * 4.0 / 3.0}), &z), others);
    differ(labelled(json!({"kind": "cross-entropy", "labelSmoothing": e}), &z), others);
}

/// The released code's probabilities of an anchor's negatives, in float32, and whether its weights underflowed.
fn released_probabilities(z: &Matrix, labels: &[u32], i: usize) -> (Vec<f64>, bool) {
    let unit = unit_rows(z);
    let d = z.columns as f32;
    let far = |j: usize| if i == j { 1.0 } else { (distance(&unit, i, j) as f32).max(0.5) };
    let log = |j: usize| (2.0 - d) * far(j).ln() - (d - 3.0) / 2.0 * (1.0 - far(j) * far(j) / 4.0).ln();
    let largest = (0..z.rows).map(log).fold(f32::NEG_INFINITY, f32::max);
    let is_drawn = |j: usize| labels[j] != labels[i] && far(j) < 1.4;
    let weights: Vec<f32> = (0..z.rows).map(|j| if is_drawn(j) { (log(j) - largest).exp() } else { 0.0 }).collect();
    let total: f32 = weights.iter().sum();
    if total > 0.0 {
        return (weights.iter().map(|w| f64::from(w / total)).collect(), false);
    }
    let others = labels.iter().filter(|&&label| label != labels[i]).count() as f64;
    (labels.iter().map(|&label| if label == labels[i] { 0.0 } else { 1.0 / others }).collect(), true)
}

#[test]
fn distance_weights_underflow_as_released_on_request_alone() {
    let team = Team::new(1);
    for (d, underflows) in [(8, false), (128, false), (512, true)] {
        // Classes of three around a centre each, all on one side of the origin.
        let (centres, own, labels) = (draw(10, d, "centres"), draw(9, d, "own"), labels(9));
        let at = |i: usize| (0..d).map(move |k| (i, k));
        let rows = (0..9).flat_map(at).map(|(i, k)| centres.row(9)[k] + centres.row(i / 3)[k] + 0.5 * own.row(i)[k]);
        let z = Matrix::new("z", &rows.collect::<Vec<f64>>(), 9, d).unwrap();
        let weights = |uniform_when_underflow| {
            let weighting = DistanceWeighting { uniform_when_underflow, ..DistanceWeighting::default() };
            distance_weights(&team, &z, &labels, weighting)
        };
        let (released, masked) = (weights(true), weights(false));
        for i in 0..9 {
            let (expected, underflew) = released_probabilities(&z, &labels, i);
            let apart = |found: &[f64]| {
                let pairs = found[i * 9..][..9].iter().zip(&expected);
                pairs.map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
            };
            assert_eq!(underflew, underflows, "{d}");
            assert!(apart(&released) < 1e-3, "{d}: {}", apart(&released));
            assert_eq!(apart(&masked) > 1e-3, underflows, "{d}: {}", apart(&masked));
        }
    }
}

#[test]
fn hard_negatives_have_no_farthest_distance() {
    let mut z = draw(9, 4, "z");
    z.data.iter_mut().for_each(|v| *v *= 1e7);
    let labels = labels(9);
    let nearest =
        |a: usize| (0..9).filter(|&q| labels[q] != labels[a]).map(|q| distance(&z, a, q)).fold(f64::MAX, f64::min);
    assert!((0..9).all(|a| nearest(a).powi(2) > 1e12));
    let positives: Vec<(usize, usize)> = pairs(9).filter(|&(a, p)| a != p && labels[a] == labels[p]).collect();
    let terms = positives.iter().map(|&(a, p)| (distance(&z, a, p).powi(2) - nearest(a).powi(2) + 0.2).max(0.0));
    same(labelled(json!({"kind": "triplet-squared", "negatives": "hard"}), &z), mean(&terms.collect::<Vec<_>>()));
}

#[test]
fn distance_weights_are_cut_off_near_and_far() {
    // On a circle: an anchor, and negatives at 0.1, 0.4, 1.39 and 1.41.
    let angle = |d: f64| 2.0 * (d / 2.0).asin();
    let rows: Vec<f64> = [0.0, 0.1, 0.4, 1.39, 1.41].iter().flat_map(|&d| [angle(d).cos(), angle(d).sin()]).collect();
    let z = Matrix::new("z", &rows, 5, 2).unwrap();
    let weights = |weighting| distance_weights(&Team::new(1), &z, &[0, 1, 2, 3, 4], weighting)[..5].to_vec();
    let usual = weights(DistanceWeighting::default());
    assert!(usual[1] == usual[2] && usual[2] > usual[3] && usual[3] > 0.0 && usual[4] == 0.0, "{usual:?}");
    let other = weights(DistanceWeighting { cutoff: 0.2, nonzero: 2.0, ..DistanceWeighting::default() });
    assert!(other[1] > other[2] && other[4] > 0.0, "{other:?}");
}

/// Retrieval of these points of a line.
fn on_a_line(points: &[f32], labels: &[u32], ks: &[usize]) -> rkd_core::metrics::Retrieval {
    retrieval(&Team::new(1), points, points.len(), 1, labels, ks).unwrap()
}

#[test]
fn a_query_never_finds_itself_and_ties_go_to_the_smaller_index() {
    // Items 0 and 1 coincide and are of two classes; so do 2 and 3, of one.
    let (points, labels) = ([0.0f32, 0.0, 5.0, 5.0], [0, 1, 0, 0]);
    assert_eq!(on_a_line(&points, &labels, &[1]).recall, [(1, 0.5)]);
    // Sorting all with the query and dropping the first drops item 0 from its twin's list, and keeps the twin in it.
    let by_dropping = (0..4).filter(|&i| {
        let mut order: Vec<usize> = (0..4).collect();
        order.sort_by(|&a, &b| (points[a] - points[i]).abs().total_cmp(&(points[b] - points[i]).abs()));
        labels[order[1]] == labels[i]
    });
    assert_eq!(by_dropping.count(), 3);
    // All in one place: every query finds item 0, item 0 finds item 1.
    assert_eq!(on_a_line(&[7.0; 4], &[0, 0, 1, 1], &[1]).recall, [(1, 0.5)]);
    assert_eq!(on_a_line(&[7.0; 4], &[0, 1, 1, 1], &[1]).recall, [(1, 0.0)]);
}

#[test]
fn a_query_without_another_of_its_class_is_a_miss_of_recall_alone() {
    let found = on_a_line(&[0.0, 1.0, 9.0], &[0, 0, 1], &[1, 2, 99]);
    assert_eq!(found.recall, [(1, 2.0 / 3.0), (2, 2.0 / 3.0), (99, 2.0 / 3.0)]);
    assert_eq!((found.map_at_r, found.r_precision, found.queries_with_relevant), (1.0, 1.0, 2));
}

#[test]
fn map_at_r_looks_at_the_first_r_alone() {
    // From item 0 the order is 1, 2, 3, 4; of its class are 2 and 3.
    let (points, labels) = ([0.0f64, 1.0, 2.5, 4.5, 100.0], [0, 1, 0, 0, 1]);
    let (mut at_r, mut whole) = (0.0, 0.0);
    for i in 0..5 {
        let mut order: Vec<usize> = (0..5).filter(|&j| j != i).collect();
        order.sort_by(|&a, &b| (points[a] - points[i]).abs().total_cmp(&(points[b] - points[i]).abs()));
        let same: Vec<bool> = order.iter().map(|&j| labels[j] == labels[i]).collect();
        let r = same.iter().filter(|same| **same).count();
        let precision = |k: usize| same[..=k].iter().filter(|same| **same).count() as f64 / (k + 1) as f64;
        let over = |last: usize| sum((0..last).filter(|&k| same[k]).map(precision)) / r as f64;
        at_r += over(r) / 5.0;
        whole += over(4) / 5.0;
    }
    let points = points.map(|point| point as f32);
    same(on_a_line(&points, &labels, &[1]).map_at_r, at_r);
    differ(whole, at_r);
}

#[test]
fn unit_rows_are_ranked_by_distance_as_by_cosine() {
    let (z, labels) = (draw(30, 4, "z"), labels(30));
    let measure = |z: &Matrix| {
        let rows: Vec<f32> = z.data.iter().map(|&v| v as f32).collect();
        retrieval(&Team::new(1), &rows, 30, 4, &labels, &[1, 5]).unwrap()
    };
    let unit = unit_rows(&z);
    let hits = (0..30).filter(|&i| {
        let others = (0..30).filter(|&j| j != i);
        let best = others.max_by(|&a, &b| dot(unit.row(i), unit.row(a)).total_cmp(&dot(unit.row(i), unit.row(b))));
        labels[best.unwrap()] == labels[i]
    });
    same(measure(&unit).recall[0].1, hits.count() as f64 / 30.0);
    assert_ne!(measure(&z), measure(&unit));
}

#[test]
fn a_row_shorter_than_the_smallest_norm_is_divided_by_it() {
    let (mut s, t) = (draw(4, 3, "s"), draw(4, 3, "t"));
    let square = |s: f64, t: f64| (s - t).powi(2);
    for scale in [0.0, 1e-14, 1e-8] {
        let row = [0.6 * scale, 0.0, 0.8 * scale];
        s.data[..3].copy_from_slice(&row);
        let found = found(json!({"kind": "feature-regression", "normalize": true}), &s, Some(&t), &[]);
        let (mut unit, teacher) = (unit_rows(&draw(4, 3, "s")), unit_rows(&t));
        // PyTorch's `normalize`; its 1e-12 is of the norm, not of its square.
        unit.data[..3].copy_from_slice(&row.map(|v| v / scale.max(1e-12)));
        same(found.value, sum(unit.data.iter().zip(&teacher.data).map(|(s, t)| square(*s, *t))) / 4.0);
        assert!(found.is_finite());
    }
}

/// The repository's folder.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_row_of_the_page_has_its_test_and_every_test_its_row() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let page = read("docs/conformance.md");
    // | what | the others | rkd | the option for the other | `test` |
    let rows =
        page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what ") && !line.contains("---"));
    let mut here = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() == 5 && cells.iter().all(|cell| !cell.is_empty()), "five cells: {row}");
        for test in cells[4].split("<br>") {
            let test = test.trim().trim_matches('`');
            match test.split_once("::") {
                None => assert!(here.insert(test.to_string()), "{test} has two rows"),
                Some((path, title)) if path.ends_with(".ts") => {
                    assert!(read(path).contains(&format!("(\"{title}\"")), "{path} has no test {title}");
                }
                Some((path, name)) => {
                    let (source, definition) = (read(path), format!("fn {name}() {{"));
                    let lines: Vec<&str> = source.lines().map(str::trim).collect();
                    let is_test = lines.windows(2).any(|pair| pair == ["#[test]", definition.as_str()]);
                    assert!(is_test, "{path} has no test {name}");
                }
            }
        }
    }
    let source = read("crates/core/tests/conformance.rs");
    let lines: Vec<&str> = source.lines().collect();
    let tests = lines
        .windows(2)
        .filter(|pair| pair[0] == "#[test]")
        .filter_map(|pair| pair[1].strip_prefix("fn ").and_then(|name| name.strip_suffix("() {")).map(str::to_string));
    let mut tests: BTreeSet<String> = tests.collect();
    assert!(tests.remove("every_row_of_the_page_has_its_test_and_every_test_its_row"));
    assert_eq!(here, tests);
}
