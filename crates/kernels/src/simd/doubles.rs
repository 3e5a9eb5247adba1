//! Vectors of float64, for kernels whose sums cancel in float32.
//!
//! Every form fuses multiply and add, the portable one too (by a call where the processor cannot). A kernel that works
//! on [`WIDTH`] lanes, whatever the register holds, therefore gives the same bits on every instruction set.

/// Lanes that kernels count in: the widest register; the narrower ones take them in several steps.
pub(crate) const WIDTH: usize = 8;

/// A vector of `f64` lanes; `LANES` divides [`WIDTH`].
///
/// # Safety of the methods
/// The instruction set of the implementation must be available; pointers must be valid for `LANES` doubles, of any
/// alignment.
pub(crate) trait Doubles: Copy {
    /// The vector.
    type V: Copy;
    /// Doubles in a vector.
    const LANES: usize;
    unsafe fn load(from: *const f64) -> Self::V;
    unsafe fn store(to: *mut f64, v: Self::V);
    unsafe fn splat(value: f64) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `c - a * b`, rounded once.
    unsafe fn neg_mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `v`, but at most `high` and at least `low`; a NaN stays.
    unsafe fn clamp(v: Self::V, low: Self::V, high: Self::V) -> Self::V;
}

/// The sum of [`WIDTH`] lanes, pairwise.
#[inline(always)]
pub(crate) fn add_lanes(v: &[f64; WIDTH]) -> f64 {
    ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
}

/// Four lanes in plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Applies a scalar operation lane by lane.
macro_rules! lanes {
    ($i:ident => $value:expr) => {{
        let mut out = [0.0_f64; 4];
        let mut $i = 0;
        while $i < 4 {
            out[$i] = $value;
            $i += 1;
        }
        out
    }};
}

impl Doubles for Portable {
    type V = [f64; 4];
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn load(from: *const f64) -> [f64; 4] {
        // SAFETY: `from` is valid for four doubles by the trait's contract, of any alignment.
        unsafe { from.cast::<[f64; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f64, v: [f64; 4]) {
        // SAFETY: `to` is valid for four doubles by the trait's contract, of any alignment.
        unsafe { to.cast::<[f64; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn splat(value: f64) -> [f64; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn sub(a: [f64; 4], b: [f64; 4]) -> [f64; 4] {
        lanes!(i => a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn add(a: [f64; 4], b: [f64; 4]) -> [f64; 4] {
        lanes!(i => a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f64; 4], b: [f64; 4]) -> [f64; 4] {
        lanes!(i => a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f64; 4], b: [f64; 4], c: [f64; 4]) -> [f64; 4] {
        lanes!(i => a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn neg_mul_add(a: [f64; 4], b: [f64; 4], c: [f64; 4]) -> [f64; 4] {
        lanes!(i => (-a[i]).mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn clamp(v: [f64; 4], low: [f64; 4], high: [f64; 4]) -> [f64; 4] {
        let below = lanes!(i => if high[i] < v[i] { high[i] } else { v[i] });
        lanes!(i => if low[i] > below[i] { low[i] } else { below[i] })
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) use arm::Neon;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Doubles;
    use std::arch::x86_64::*;

    /// Four lanes of AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    /// Eight lanes of AVX-512 F.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    impl Doubles for Avx2 {
        type V = __m256d;
        const LANES: usize = 4;
        instructions! {
            fn load(from: *const f64) -> __m256d = _mm256_loadu_pd(from);
            fn store(to: *mut f64, v: __m256d) -> () = _mm256_storeu_pd(to, v);
            fn splat(value: f64) -> __m256d = _mm256_set1_pd(value);
            fn sub(a: __m256d, b: __m256d) -> __m256d = _mm256_sub_pd(a, b);
            fn add(a: __m256d, b: __m256d) -> __m256d = _mm256_add_pd(a, b);
            fn mul(a: __m256d, b: __m256d) -> __m256d = _mm256_mul_pd(a, b);
            fn mul_add(a: __m256d, b: __m256d, c: __m256d) -> __m256d = _mm256_fmadd_pd(a, b, c);
            fn neg_mul_add(a: __m256d, b: __m256d, c: __m256d) -> __m256d = _mm256_fnmadd_pd(a, b, c);
            // Both instructions give their second operand where one is no number.
            fn clamp(v: __m256d, low: __m256d, high: __m256d) -> __m256d = _mm256_max_pd(low, _mm256_min_pd(high, v));
        }
    }

    impl Doubles for Avx512 {
        type V = __m512d;
        const LANES: usize = 8;
        instructions! {
            fn load(from: *const f64) -> __m512d = _mm512_loadu_pd(from);
            fn store(to: *mut f64, v: __m512d) -> () = _mm512_storeu_pd(to, v);
            fn splat(value: f64) -> __m512d = _mm512_set1_pd(value);
            fn sub(a: __m512d, b: __m512d) -> __m512d = _mm512_sub_pd(a, b);
            fn add(a: __m512d, b: __m512d) -> __m512d = _mm512_add_pd(a, b);
            fn mul(a: __m512d, b: __m512d) -> __m512d = _mm512_mul_pd(a, b);
            fn mul_add(a: __m512d, b: __m512d, c: __m512d) -> __m512d = _mm512_fmadd_pd(a, b, c);
            fn neg_mul_add(a: __m512d, b: __m512d, c: __m512d) -> __m512d = _mm512_fnmadd_pd(a, b, c);
            // Both instructions give their second operand where one is no number.
            fn clamp(v: __m512d, low: __m512d, high: __m512d) -> __m512d = _mm512_max_pd(low, _mm512_min_pd(high, v));
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::Doubles;
    use std::arch::aarch64::*;

    /// Four lanes of NEON, in two registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Neon;

    type Pair = float64x2x2_t;

    /// `$value` of each register of the pairs.
    macro_rules! pair {
        ($($v:ident),* => $value:expr) => {
            float64x2x2_t({ $(let $v = $v.0;)* $value }, { $(let $v = $v.1;)* $value })
        };
    }

    impl Doubles for Neon {
        type V = Pair;
        const LANES: usize = 4;
        instructions! {
            fn load(from: *const f64) -> Pair = float64x2x2_t(vld1q_f64(from), vld1q_f64(from.add(2)));
            fn store(to: *mut f64, v: Pair) -> () = {
                vst1q_f64(to, v.0);
                vst1q_f64(to.add(2), v.1)
            };
            fn splat(value: f64) -> Pair = float64x2x2_t(vdupq_n_f64(value), vdupq_n_f64(value));
            fn sub(a: Pair, b: Pair) -> Pair = pair!(a, b => vsubq_f64(a, b));
            fn add(a: Pair, b: Pair) -> Pair = pair!(a, b => vaddq_f64(a, b));
            fn mul(a: Pair, b: Pair) -> Pair = pair!(a, b => vmulq_f64(a, b));
            fn mul_add(a: Pair, b: Pair, c: Pair) -> Pair = pair!(a, b, c => vfmaq_f64(c, a, b));
            fn neg_mul_add(a: Pair, b: Pair, c: Pair) -> Pair = pair!(a, b, c => vfmsq_f64(c, a, b));
            // Comparisons, not minimum and maximum, so that a zero keeps its sign as on x86-64.
            fn clamp(v: Pair, low: Pair, high: Pair) -> Pair = pair!(v, low, high => {
                let v = vbslq_f64(vcltq_f64(high, v), high, v);
                vbslq_f64(vcgtq_f64(low, v), low, v)
            });
        }
    }
}
