//! What the kernel tests share: random slices, comparisons, and the teams to try.
#![allow(dead_code)] // Each test binary uses some of these.

use rkd_kernels::activation::Activation;
use rkd_kernels::{Isa, Team};

/// `length` numbers in [-0.5, 0.5), always the same for a seed (splitmix64).
pub fn random(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..length).map(next).collect()
}

/// An activation in f64.
pub fn activated(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Relu => x.max(0.0),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => x * normal(x),
    }
}

/// Its slope.
pub fn slope(activation: Activation, x: f64) -> f64 {
    let within = |low: f64, high: f64, slope: f64| if low < x && x < high { slope } else { 0.0 };
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Relu => within(0.0, f64::INFINITY, 1.0),
        Activation::Relu6 => within(0.0, 6.0, 1.0),
        Activation::HardSigmoid => within(-3.0, 3.0, 1.0 / 6.0),
        Activation::HardSwish => within(-3.0, 3.0, x / 3.0 + 0.5) + if x >= 3.0 { 1.0 } else { 0.0 },
        Activation::Sigmoid => sigmoid * (1.0 - sigmoid),
        Activation::Silu => sigmoid * (1.0 + x * (1.0 - sigmoid)),
        Activation::Gelu => normal(x) + x * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt(),
    }
}

/// The probability of a standard normal number below x, by a series of positive terms.
fn normal(x: f64) -> f64 {
    if x.abs() > 10.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut n) = (x.abs(), 0.0, 1.0);
    while term > 1e-18 * sum {
        sum += term;
        n += 2.0;
        term *= x * x / n;
    }
    0.5 + x.signum() * sum * (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

/// Whether Miri interprets the tests: thousands of times slower, so they take the smaller of their sizes.
pub const INTERPRETED: bool = cfg!(miri);

/// Whether an emulator runs the tests, as `RKD_TEST_EMULATED` says: some ten times slower, so they leave out the largest sizes.
pub fn emulated() -> bool {
    std::env::var_os("RKD_TEST_EMULATED").is_some()
}

/// One team for every instruction set here, or that of `RKD_ISA` alone, and 1, 2 and 3 threads, the threads of one set together.
pub fn teams() -> Vec<Vec<Team>> {
    let all = Isa::compared().unwrap_or_else(|message| panic!("{message}")).into_iter();
    all.map(|isa| (1..=if INTERPRETED { 2 } else { 3 }).map(|threads| Team::with_isa(threads, isa)).collect()).collect()
}

/// Panics unless the largest difference is at most `tolerance` of the largest expected entry.
#[track_caller]
pub fn assert_close(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let largest = expected.iter().fold(1e-30, |m: f64, v| m.max(v.abs()));
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(got) - expected).abs() / largest;
        // Written so that a NaN fails.
        assert!(error <= tolerance, "{what}: element {i} is {got}, expected {expected} ({error:.1e} of the largest)");
    }
}

/// Panics unless both have the same bits.
#[track_caller]
pub fn assert_same_bits(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}: length");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(a.to_bits() == b.to_bits(), "{what}: element {i} is {a:e} and {b:e}");
    }
}

/// Runs `kernel` on every team: all results must be near `expected`, those of one instruction set the same bits on any
/// number of threads, and so those of AVX2 and AVX-512, and of the two portable forms.
#[track_caller]
pub fn check(what: &str, expected: &[Vec<f64>], tolerance: f64, kernel: impl Fn(&Team) -> Vec<Vec<f32>>) {
    let mut families: [Option<Vec<Vec<f32>>>; 2] = [None, None];
    for teams in teams() {
        let isa = teams[0].isa();
        let first = kernel(&teams[0]);
        for (i, (got, expected)) in first.iter().zip(expected).enumerate() {
            assert_close(&format!("{what}, output {i}, {isa:?}"), got, expected, tolerance);
        }
        for team in &teams[1..] {
            for (i, (a, b)) in first.iter().zip(kernel(team)).enumerate() {
                assert_same_bits(&format!("{what}, output {i}, {isa:?}, {} threads", team.threads()), a, &b);
            }
        }
        let portable = [Isa::PORTABLE, Isa::PORTABLE_WIDE].contains(&isa);
        for (a, b) in families[usize::from(portable)].get_or_insert_with(|| first.clone()).iter().zip(&first) {
            assert_same_bits(&format!("{what}, {isa:?} against its family"), a, b);
        }
    }
}
