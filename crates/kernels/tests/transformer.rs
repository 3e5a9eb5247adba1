//! The kernels of transformers against plain loops in f64: layer norm, attention, tokens.

mod support;

use rkd_kernels::Team;
use rkd_kernels::activation::Activation;
use rkd_kernels::attention::{self, Attention};
use rkd_kernels::elementwise::{activate, activate_backward};
use rkd_kernels::normalization::{layer_norm, layer_norm_backward};
use rkd_kernels::tokens::{add_tokens, add_tokens_backward};
use support::{INTERPRETED, activated, check, random, slope};

const TOLERANCE: f64 = 3e-6;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn layer_norm_and_its_gradient() {
    let sizes: &[[usize; 2]] =
        if INTERPRETED { &[[1, 1], [3, 17]] } else { &[[1, 1], [3, 17], [5, 192], [400, 33], [2000, 48], [7, 1000]] };
    for &[rows, c] in sizes {
        // A mean of 3 beside a spread of 0.3.
        let x: Vec<f32> = random(rows * c, 1).iter().map(|v| v + 3.0).collect();
        let (weight, bias, dy, added) = (random(c, 2), random(c, 3), random(rows * c, 4), random(rows * c, 5));
        let mut expected: Vec<Vec<f64>> = [rows * c, rows * c, rows * c, c, c].iter().map(|&l| vec![0.0; l]).collect();
        for row in 0..rows {
            let at = |values: &[f32]| wide(&values[row * c..][..c]);
            let (x, dy) = (at(&x), at(&dy));
            let mean = x.iter().sum::<f64>() / c as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / c as f64;
            let rstd = 1.0 / (variance + 1e-6).sqrt();
            let h: Vec<f64> = x.iter().map(|x| (x - mean) * rstd).collect();
            let g: Vec<f64> = dy.iter().zip(&weight).map(|(dy, &w)| dy * f64::from(w)).collect();
            let sum = g.iter().sum::<f64>() / c as f64;
            let product = g.iter().zip(&h).map(|(g, h)| g * h).sum::<f64>() / c as f64;
            for j in 0..c {
                expected[0][row * c + j] = h[j] * f64::from(weight[j]) + f64::from(bias[j]);
                expected[1][row * c + j] = rstd * (g[j] - sum - h[j] * product);
                expected[2][row * c + j] = expected[1][row * c + j] + f64::from(added[row * c + j]);
                expected[3][j] += dy[j] * h[j];
                expected[4][j] += dy[j];
            }
        }
        let run = |team: &Team| {
            let [mut y, mut dx, mut sum] = [(); 3].map(|()| vec![f32::NAN; rows * c]);
            let [mut mean, mut rstd] = [(); 2].map(|()| vec![f32::NAN; rows]);
            let [mut dweight, mut dbias] = [(); 2].map(|()| vec![f32::NAN; c]);
            layer_norm(team, c, 1e-6, &x, &weight, &bias, &mut y, &mut mean, &mut rstd);
            for (added, dx) in [(Some(&added[..]), &mut sum), (None, &mut dx)] {
                layer_norm_backward(team, &x, &weight, &mean, &rstd, &dy, added, dx, &mut dweight, &mut dbias);
            }
            vec![y, dx, sum, dweight, dbias]
        };
        // A single column is its own mean: what is left is rounding, divided by sqrt(epsilon).
        let tolerance = if c == 1 { 1e-3 } else { 1e-5 };
        check(&format!("layer norm of {rows} x {c}"), &expected, tolerance, run);
    }
}

#[test]
fn a_row_without_variance_is_its_shift_and_a_nan_stays_one() {
    let team = Team::new(1);
    let x = [2.5, 2.5, 2.5, 1.0, f32::NAN, 0.0];
    let ([mut y, mut dx], [mut mean, mut rstd]) = ([[0.0f32; 6]; 2], [[0.0f32; 2]; 2]);
    let [weight, bias] = [[1.0, 2.0, 3.0], [0.5, 0.25, 0.125]];
    layer_norm(&team, 3, 1e-6, &x, &weight, &bias, &mut y, &mut mean, &mut rstd);
    assert_eq!(y[..3], bias);
    assert!(y[3..].iter().all(|y| y.is_nan()), "{y:?}");
    let [mut dweight, mut dbias] = [[0.0f32; 3]; 2];
    let (mean, rstd) = (&mean[..1], &rstd[..1]);
    layer_norm_backward(&team, &x[..3], &weight, mean, rstd, &[1.0; 3], None, &mut dx[..3], &mut dweight, &mut dbias);
    assert!(dx[..3].iter().all(|dx| dx.is_finite()), "{dx:?}");
}

/// y and dx in f64.
fn attended(shape: &Attention, x: &[f32], dy: &[f32]) -> Vec<Vec<f64>> {
    let Attention { n, tokens, heads, channels } = *shape;
    let (mut y, mut dx) = (vec![0.0; n * tokens * heads * channels], vec![0.0; x.len()]);
    let factor = 1.0 / (channels as f64).sqrt();
    for (image, head) in (0..n).flat_map(|image| (0..heads).map(move |head| (image, head))) {
        let place =
            |token: usize, of: usize, c: usize| (((image * tokens + token) * 3 + of) * heads + head) * channels + c;
        let out = |token: usize, c: usize| ((image * tokens + token) * heads + head) * channels + c;
        let dot = |f: &dyn Fn(usize) -> f64| (0..channels).map(f).sum::<f64>();
        for i in 0..tokens {
            let score = |j: usize| factor * dot(&|c| f64::from(x[place(i, 0, c)]) * f64::from(x[place(j, 1, c)]));
            let scores: Vec<f64> = (0..tokens).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            let p: Vec<f64> = powers.iter().map(|power| power / sum).collect();
            let dp: Vec<f64> =
                (0..tokens).map(|j| dot(&|c| f64::from(dy[out(i, c)]) * f64::from(x[place(j, 2, c)]))).collect();
            let along: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
            for j in 0..tokens {
                let ds = factor * p[j] * (dp[j] - along);
                for c in 0..channels {
                    y[out(i, c)] += p[j] * f64::from(x[place(j, 2, c)]);
                    dx[place(i, 0, c)] += ds * f64::from(x[place(j, 1, c)]);
                    dx[place(j, 1, c)] += ds * f64::from(x[place(i, 0, c)]);
                    dx[place(j, 2, c)] += p[j] * f64::from(dy[out(i, c)]);
                }
            }
        }
    }
    vec![y, dx]
}

#[test]
fn attention_and_its_gradient() {
    // One token, whole and broken vectors, several blocks of rows, stretches of terms.
    let sizes: &[[usize; 4]] = match INTERPRETED {
        true => &[[1, 3, 2, 2]],
        false => &[
            [2, 1, 1, 1],
            [2, 5, 3, 4],
            [1, 16, 2, 8],
            [2, 37, 3, 20],
            [1, 197, 3, 64],
            [1, 300, 1, 24],
            [1, 2, 1, 300],
        ],
    };
    for &[n, tokens, heads, channels] in sizes {
        let shape = Attention { n, tokens, heads, channels };
        // Scores of some units, so that a few keys take most of a row.
        let x: Vec<f32> = random(n * tokens * 3 * heads * channels, 6).iter().map(|v| 3.0 * v).collect();
        let dy = random(n * tokens * heads * channels, 7);
        let run = |team: &Team| {
            let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
            attention::forward(team, &shape, &x, &mut y);
            attention::backward(team, &shape, &x, &dy, &mut dx);
            vec![y, dx]
        };
        check(&format!("{shape:?}"), &attended(&shape, &x, &dy), TOLERANCE, run);
    }
}

#[test]
fn attention_takes_scores_of_any_size_and_keeps_a_nan() {
    let (team, shape) = (Team::new(1), Attention { n: 1, tokens: 2, heads: 1, channels: 1 });
    // Scores 1e8, far beyond what exp holds: all goes to the first key. x has Q, K, V of each token.
    let mut x = [1e4, 1e4, 5.0, 1e4, -1e4, 7.0];
    let (mut y, mut dx) = ([0.0f32; 2], [0.0f32; 6]);
    attention::forward(&team, &shape, &x, &mut y);
    assert_eq!(y, [5.0, 5.0]);
    attention::backward(&team, &shape, &x, &[1.0, 1.0], &mut dx);
    assert!(dx[2] == 2.0 && dx[5].abs() < 1e-30, "{dx:?}");
    assert!(dx.iter().all(|dx| dx.is_finite()), "{dx:?}");
    x[1] = f32::NAN;
    attention::forward(&team, &shape, &x, &mut y);
    assert!(y.iter().all(|y| y.is_nan()), "{y:?}");
}

#[test]
fn tokens_and_their_gradient() {
    for [n, patches, c] in [[1, 1, 1], [3, 4, 5], [2, 36, 48]] {
        let (x, class, dy) = (random(n * patches * c, 1), random(c, 2), random(n * (patches + 1) * c, 4));
        let position = random((patches + 1) * c, 3);
        let (mut y, mut dx) = (Vec::new(), Vec::new());
        let (mut dclass, mut dposition) = (vec![0.0; c], vec![0.0; (patches + 1) * c]);
        for image in 0..n {
            let tokens = class.iter().chain(&x[image * patches * c..][..patches * c]);
            y.extend(tokens.zip(&position).map(|(&token, &position)| f64::from(token) + f64::from(position)));
            let dy = wide(&dy[image * (patches + 1) * c..][..(patches + 1) * c]);
            dx.extend(&dy[c..]);
            dclass.iter_mut().zip(&dy).for_each(|(sum, dy)| *sum += dy);
            dposition.iter_mut().zip(&dy).for_each(|(sum, dy)| *sum += dy);
        }
        let expected = [y, dx, dclass, dposition];
        let run = |team: &Team| {
            let mut out = expected.each_ref().map(Vec::len).map(|length| vec![f32::NAN; length]);
            let [y, dx, dclass, dposition] = &mut out;
            add_tokens(team, &x, &class, &position, y);
            add_tokens_backward(team, &dy, dx, dclass, dposition);
            out.to_vec()
        };
        check(&format!("{n} x {patches} tokens of {c}"), &expected, TOLERANCE, run);
    }
}

#[test]
fn gelu_keeps_its_digits_on_both_sides_of_zero() {
    let x: Vec<f32> = (-1000..=1000).map(|i| i as f32 / 77.0).collect();
    let (team, ones) = (Team::new(1), vec![1.0; x.len()]);
    let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    activate(&team, Activation::Gelu, &x, &mut y);
    activate_backward(&team, Activation::Gelu, &x, &ones, &mut dx);
    for ((&x, &y), &dx) in x.iter().zip(&y).zip(&dx) {
        let (x, y, dx) = (f64::from(x), f64::from(y), f64::from(dx));
        // The reference itself is a difference below 0.
        let (value, slope) = (activated(Activation::Gelu, x), slope(Activation::Gelu, x));
        assert!((y - value).abs() <= 1e-6 * value.abs() + 1e-13, "gelu({x}) is {y}, expected {value}");
        assert!((dx - slope).abs() <= 6e-7, "gelu'({x}) is {dx}, expected {slope}");
    }
    let far = [-1e30, -60.0, 60.0, 1e30, f32::NAN, 0.0];
    let mut y = [0.0; 6];
    activate(&team, Activation::Gelu, &far, &mut y);
    assert!(y[0] == 0.0 && y[1].abs() < 1e-36 && y[2..4] == [60.0, 1e30] && y[4].is_nan() && y[5] == 0.0, "{y:?}");
}
