//! The relational kernels against their definitions.

use super::*;
use crate::{Isa, Team};

fn rows(n: usize, d: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    (0..n * d)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
        })
        .collect()
}

fn huber(x: f64, delta: f64) -> f64 {
    if x.abs() <= delta { 0.5 * x * x } else { delta * (x.abs() - 0.5 * delta) }
}

/// The definition: unit vectors from the vertex, all triples.
fn naive_angle(student: &[f64], teacher: &[f64], n: usize, ds: usize, dt: usize, delta: f64) -> f64 {
    let cosine = |z: &[f64], d: usize, a: usize, b: usize, c: usize| {
        let leg = |i: usize| (0..d).map(|k| z[i * d + k] - z[a * d + k]).collect::<Vec<f64>>();
        let (u, v) = (leg(b), leg(c));
        let dot = |u: &[f64], v: &[f64]| u.iter().zip(v).map(|(u, v)| u * v).sum::<f64>();
        let lengths = dot(&u, &u).sqrt() * dot(&v, &v).sqrt();
        if lengths > 0.0 { dot(&u, &v) / lengths } else { 0.0 }
    };
    let mut total = 0.0;
    for a in 0..n {
        for b in 0..n {
            for c in 0..n {
                let x = cosine(student, ds, a, b, c) - cosine(teacher, dt, a, b, c);
                total += huber(x, delta);
            }
        }
    }
    total
}

/// The definition of the distance sum.
fn naive_distance(student: &[f64], teacher: &[f64], n: usize, ds: usize, dt: usize, delta: f64) -> f64 {
    let relative = |z: &[f64], d: usize| {
        let distance = |i: usize, j: usize| (0..d).map(|k| (z[i * d + k] - z[j * d + k]).powi(2)).sum::<f64>().sqrt();
        let pairs = (0..n).flat_map(|i| (0..n).filter(move |&j| j != i).map(move |j| (i, j)));
        let distances: Vec<f64> = pairs.map(|(i, j)| distance(i, j).max(SMALLEST)).collect();
        let mean = distances.iter().sum::<f64>() / distances.len() as f64;
        distances.into_iter().map(move |distance| distance / mean)
    };
    relative(student, ds).zip(relative(teacher, dt)).map(|(s, t)| huber(s - t, delta)).sum()
}

/// What a test of both losses needs: student and teacher, and what both are.
#[derive(Clone)]
struct Case {
    student: Vec<f64>,
    teacher: Vec<f64>,
    n: usize,
    ds: usize,
    dt: usize,
    delta: f64,
}

impl Case {
    fn new(n: usize, ds: usize, dt: usize, delta: f64) -> Case {
        Case { student: rows(n, ds, 1), teacher: rows(n, dt, 2), n, ds, dt, delta }
    }

    /// The kernels' sums over all entries and their gradients over the rows: distance, angle.
    fn run(&self, team: &Team) -> [(f64, Vec<f64>); 2] {
        let &Case { n, ds, dt, delta, .. } = self;
        let (s, t) = (widen(&self.student, n, ds), widen(&self.teacher, n, dt));
        let (squared_s, squared_t) = (squared_distances(team, &s, n, ds), squared_distances(team, &t, n, dt));
        let distance = distance_huber(team, &squared_s, &squared_t, n, delta);
        let angle = angle_huber(team, &squared_s, &squared_t, n, delta);
        let angle_value = angle.value + angle.one_sided as f64 * huber(1.0, delta);
        [(distance.value, distance.gradient), (angle_value, angle.gradient)]
            .map(|(value, gradient)| (value, pull_back(team, &s, &gradient, n, ds)))
    }

    /// The definitions.
    fn naive(&self) -> [f64; 2] {
        let (student, teacher) = (&self.student, &self.teacher);
        [naive_distance, naive_angle].map(|sum| sum(student, teacher, self.n, self.ds, self.dt, self.delta))
    }
}

#[test]
fn both_losses_equal_their_definitions_and_numeric_gradients() {
    let sizes = [(2, 3, 3, 1.0), (3, 1, 2, 1.0), (5, 2, 4, 1.0), (9, 5, 3, 0.1), (41, 3, 9, 1.0), (70, 2, 2, 0.05)];
    for (n, ds, dt, delta) in sizes {
        let case = Case::new(n, ds, dt, delta);
        let moved = |place: usize, step: f64| {
            let mut moved = case.clone();
            moved.student[place] += step;
            moved.naive()
        };
        for (which, (value, gradient)) in case.run(&Team::new(2)).into_iter().enumerate() {
            let naive = case.naive()[which];
            assert!((value - naive).abs() <= 1e-10 * naive.abs().max(1e-3), "n={n}: {value} {naive}");
            let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
            assert!(n < 3 || largest > 0.0, "n={n}");
            for place in [0, (n * ds) / 2, n * ds - 1] {
                let numeric = (moved(place, 1e-5)[which] - moved(place, -1e-5)[which]) / 2e-5;
                let analytic = gradient[place / ds * stride(ds) + place % ds];
                assert!((numeric - analytic).abs() <= 1e-6 * largest.max(1e-3), "n={n}: {numeric} {analytic}");
            }
        }
    }
}

/// The group sizes of the sweep change with n, and panels are 128 vertices: larger batches, by the value alone.
#[test]
fn larger_batches_equal_the_definition() {
    for n in [129, 260] {
        let case = Case::new(n, 2, 3, 0.5);
        let [(distance, _), (angle, _)] = case.run(&Team::new(2));
        let [naive_distance, naive_angle] = case.naive();
        assert!((distance - naive_distance).abs() <= 1e-10 * naive_distance, "n={n}: {distance} {naive_distance}");
        assert!((angle - naive_angle).abs() <= 1e-10 * naive_angle, "n={n}: {angle} {naive_angle}");
    }
}

#[test]
fn the_order_of_the_items_does_not_matter() {
    let case = Case::new(150, 5, 4, 0.3);
    let reversed = |rows: &[f64], d: usize| rows.chunks_exact(d).rev().flatten().copied().collect::<Vec<f64>>();
    let turned = Case { student: reversed(&case.student, 5), teacher: reversed(&case.teacher, 4), ..case.clone() };
    let team = Team::new(2);
    for ((value, gradient), (turned, turned_gradient)) in case.run(&team).into_iter().zip(turned.run(&team)) {
        assert!((value - turned).abs() <= 1e-12 * value, "{value} {turned}");
        let largest = gradient.iter().fold(0.0f64, |m, g| m.max(g.abs()));
        let back = reversed(&turned_gradient, stride(5));
        assert!(gradient.iter().zip(&back).all(|(a, b)| (a - b).abs() <= 1e-11 * largest));
    }
}

#[test]
fn threads_and_vector_instructions_do_not_change_a_bit() {
    let sizes = [1, 2, 3, 17, 75, 140, 300];
    for &n in if cfg!(miri) { &sizes[..4] } else { &sizes[..] } {
        let case = Case::new(n, 11, 19, 1.0);
        let expected = case.run(&Team::new(1));
        for threads in [2, 3] {
            assert!(case.run(&Team::new(threads)) == expected, "n={n}, {threads} threads");
        }
        for isa in Isa::supported() {
            assert!(case.run(&Team::with_isa(2, isa)) == expected, "n={n}, {isa:?}");
        }
    }
}

#[test]
fn distances_are_those_of_differences() {
    let (n, d) = (19, 21);
    let z: Vec<f32> = rows(n, d, 5).iter().map(|&v| v as f32 + 300.0).collect();
    let matrix = squared_distances(&Team::new(2), &widen(&z, n, d), n, d);
    for i in 0..n {
        for j in 0..n {
            let expected: f64 = (0..d).map(|k| f64::from(z[i * d + k]) - f64::from(z[j * d + k])).map(|x| x * x).sum();
            assert!((matrix[i * stride(n) + j] - expected).abs() <= 1e-12 * expected);
        }
    }
}

#[test]
fn coincident_rows_have_no_gradient_between_them_and_nothing_is_nan() {
    let mut case = Case::new(6, 3, 3, 1.0);
    case.student.copy_within(0..3, 2 * 3);
    for ((value, gradient), naive) in case.run(&Team::new(1)).into_iter().zip(case.naive()) {
        assert!((value - naive).abs() <= 1e-10 * naive, "{value} {naive}");
        assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|&g| g != 0.0));
    }
    // Within the guard of 1e-6 a distance is a constant.
    case.student[6] += 1e-8;
    let squared = [&case.student, &case.teacher].map(|z| squared_distances(&Team::new(1), &widen(z, 6, 3), 6, 3));
    let gradient = distance_huber(&Team::new(1), &squared[0], &squared[1], 6, 1.0).gradient;
    assert!(squared[0][2] > 0.0 && gradient[2] == 0.0 && gradient[1] != 0.0, "{:?}", &gradient[..6]);
    case.student.fill(0.5);
    for ((value, gradient), naive) in case.run(&Team::new(1)).into_iter().zip(case.naive()) {
        assert!((value - naive).abs() <= 1e-10 * naive, "{value} {naive}");
        assert!(gradient.iter().all(|&g| g == 0.0));
    }
}

#[test]
fn batches_without_pairs_or_triples_are_zero() {
    for n in [0, 1] {
        for (value, gradient) in Case::new(n, 3, 2, 1.0).run(&Team::new(2)) {
            assert_eq!((value, gradient), (0.0, vec![0.0; n * stride(3)]));
        }
    }
}

#[test]
fn the_estimate_grows_between_the_square_and_the_cube() {
    let team = Team::new(1);
    assert!(estimate_seconds(&team, 0, 3) >= 0.0);
    let (small, large) = (estimate_seconds(&team, 256, 8), estimate_seconds(&team, 25_600, 8));
    // A factor of 1e4 to 1e6, with room for a busy machine.
    assert!(small > 0.0 && large / small > 1e3 && large / small < 1e8, "{small} {large}");
}

#[test]
fn panels_of_vertices_add_up_to_all_angles() {
    let (team, n) = (Team::new(2), 300);
    let squared = [1, 2].map(|seed| squared_distances(&team, &widen(&rows(n, 3, seed), n, 3), n, 3));
    let [student, teacher] = &squared;
    let whole = angle_huber(&team, student, teacher, n, 0.5);
    let parts = [0..1, 1..3].map(|panels| angle_huber_at(&team, student, teacher, n, 0.5, panels));
    let near = |a: f64, b: f64, scale: f64| assert!((a - b).abs() <= 1e-12 * scale, "{a} {b}");
    assert_eq!(angle_panels(n), 3);
    assert!(parts.iter().all(|part| part.value > 0.1 * whole.value));
    near(parts[0].value + parts[1].value, whole.value, whole.value);
    let largest = whole.gradient.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    for (place, &value) in whole.gradient.iter().enumerate() {
        near(parts[0].gradient[place] + parts[1].gradient[place], value, largest);
    }
}
