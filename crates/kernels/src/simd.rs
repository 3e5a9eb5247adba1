//! One way to write a kernel for every instruction set.
//!
//! A kernel is a type with a generic [`Kernel::run`] that is always inlined; [`dispatch`] calls it from a function
//! compiled for the chosen instruction set, so that both the vector operations of [`Simd`] and plain loops (which the
//! compiler vectorises) use it. Closures and functions that are not inlined would be compiled for the baseline: hot
//! code keeps to loops and `#[inline(always)]` functions.
//!
//! # What is promised where
//! - That the instruction set is there: by [`Isa`], which is only had for this processor. `dispatch` is therefore safe,
//!   and `run` and every function below it with a parameter `S: Simd` or `F: Doubles` may count on it.
//! - That pointers are valid and nobody else uses what they point to: by whoever makes the kernel. A kernel of slices
//!   is made by naming its fields; one of pointers only by an `unsafe fn new` that says what must hold
//!   until it has run.

/// Writes `body` out for every number below a constant of at most 17: sums that a loop counter indexes would lie in memory, not in
/// registers.
macro_rules! unrolled {
    ($i:ident in $count:expr => $body:expr) => {
        unrolled!(@ $i, $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    (@ $i:ident, $count:expr, $body:expr, $($number:literal)*) => {
        $(if $number < $count {
            let $i: usize = $number;
            $body
        })*
    };
}
pub(crate) use unrolled;

/// Methods of [`Simd`] or [`Doubles`] that are one expression of vector instructions.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! instructions {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $out:ty = $value:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($argument: $kind),*) -> $out {
            // SAFETY: the instructions need their instruction set, which the trait's contract demands of the caller. A
            // load or store is one of any alignment, and its pointer valid for a whole vector by the same contract.
            unsafe { $value }
        }
    )*};
}

pub(crate) mod doubles;

use crate::Isa;
use crate::isa::Level;
use doubles::Doubles;

/// A vector of `f32` lanes.
///
/// # Safety of the methods
/// The instruction set of the implementation must be available; pointers must be valid for `LANES` floats, of any
/// alignment.
pub(crate) trait Simd: Copy {
    /// The vector.
    type V: Copy;
    /// Floats in a vector.
    const LANES: usize;
    /// Rows of the matrix product's register tile ([`crate::matrix`]); it is two vectors wide.
    const ROWS: usize;
    /// The vectors of float64 of the same instruction set.
    type F64: Doubles;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The power of two whose exponent, as a float has it, stands in the lowest bits.
    unsafe fn exponent(v: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set has it.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where one is no number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where one is no number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `v` where `y > 0`, else 0.
    unsafe fn where_positive(y: Self::V, v: Self::V) -> Self::V;
    /// `v` where `a > b`, else `otherwise`. The bits of `v` and `otherwise` are only moved: they may stand for
    /// integers.
    unsafe fn where_greater(a: Self::V, b: Self::V, v: Self::V, otherwise: Self::V) -> Self::V;
    /// `v` where `a` and `b` have the same bits, else 0.
    unsafe fn where_same(a: Self::V, b: Self::V, v: Self::V) -> Self::V;
    /// The lanes from `part * F64::LANES` on, widened.
    unsafe fn widen(v: Self::V, part: usize) -> <Self::F64 as Doubles>::V;

    /// The first `count` floats, zeros after them; a whole vector where `count` >= `LANES`. `from` need not be valid
    /// beyond.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self::V {
        // SAFETY: `from` is valid for the smaller of `count` and LANES floats, by the contract; the buffer of 16 holds
        // any vector, and all of it is initialised.
        unsafe {
            if count >= Self::LANES {
                return Self::load(from);
            }
            let mut buffer = [0.0_f32; 16];
            from.copy_to_nonoverlapping(buffer.as_mut_ptr(), count);
            Self::load(buffer.as_ptr())
        }
    }
    /// Writes the first `count` lanes, or all where `count` >= `LANES`. `to` need not be valid beyond.
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: Self::V, count: usize) {
        // SAFETY: `to` is valid for the smaller of `count` and LANES floats, by the contract, and cannot overlap a
        // buffer of this call; the buffer of 16 holds any vector.
        unsafe {
            if count >= Self::LANES {
                return Self::store(to, v);
            }
            let mut buffer = [0.0_f32; 16];
            Self::store(buffer.as_mut_ptr(), v);
            to.copy_from_nonoverlapping(buffer.as_ptr(), count);
        }
    }
}

/// A computation that can be compiled for several instruction sets. Implementations mark `run` `#[inline(always)]`.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// Does the work.
    ///
    /// # Safety
    /// The instruction set of `S` is available. Whatever else the work needs, the kernel's fields or its constructor
    /// promise.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Runs `kernel` compiled for `isa`.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    // SAFETY: an `Isa` exists only for what the processor supports, and each arm runs the kernel with the vectors of
    // that instruction set. Those of plain Rust need none, and those of NEON nothing that the baseline of arm64 has not.
    unsafe {
        match isa.level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::avx512(kernel),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::avx2(kernel),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => kernel.run::<arm::Neon>(),
            Level::PortableWide => kernel.run::<Portable<16, 14>>(),
            Level::Portable => kernel.run::<Portable<8, 4>>(),
        }
    }
}

/// L lanes in plain Rust, with register tiles of R rows.
#[derive(Clone, Copy)]
pub(crate) struct Portable<const L: usize, const R: usize>;

/// Applies a scalar operation lane by lane.
macro_rules! lanes {
    ($i:ident => $value:expr) => {{
        let mut out = [0.0_f32; L];
        let mut $i = 0;
        while $i < L {
            out[$i] = $value;
            $i += 1;
        }
        out
    }};
}

impl<const L: usize, const R: usize> Simd for Portable<L, R> {
    type V = [f32; L];
    const LANES: usize = L;
    const ROWS: usize = R;
    type F64 = doubles::Portable;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; L] {
        // SAFETY: `from` is valid for L floats by the trait's contract, of any alignment.
        unsafe { from.cast::<[f32; L]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: [f32; L]) {
        // SAFETY: `to` is valid for L floats by the trait's contract, of any alignment.
        unsafe { to.cast::<[f32; L]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; L] {
        [value; L]
    }
    #[inline(always)]
    unsafe fn add(a: [f32; L], b: [f32; L]) -> [f32; L] {
        lanes!(i => a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; L], b: [f32; L]) -> [f32; L] {
        lanes!(i => a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; L], b: [f32; L]) -> [f32; L] {
        lanes!(i => a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: [f32; L], b: [f32; L]) -> [f32; L] {
        lanes!(i => a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn exponent(v: [f32; L]) -> [f32; L] {
        lanes!(i => f32::from_bits(v[i].to_bits() << 23))
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f32; L], b: [f32; L], c: [f32; L]) -> [f32; L] {
        lanes!(i => a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; L], b: [f32; L]) -> [f32; L] {
        lanes!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; L], b: [f32; L]) -> [f32; L] {
        lanes!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn where_positive(y: [f32; L], v: [f32; L]) -> [f32; L] {
        lanes!(i => if y[i] > 0.0 { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn where_greater(a: [f32; L], b: [f32; L], v: [f32; L], otherwise: [f32; L]) -> [f32; L] {
        lanes!(i => if a[i] > b[i] { v[i] } else { otherwise[i] })
    }
    #[inline(always)]
    unsafe fn where_same(a: [f32; L], b: [f32; L], v: [f32; L]) -> [f32; L] {
        lanes!(i => if a[i].to_bits() == b[i].to_bits() { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn widen(v: [f32; L], part: usize) -> [f64; 4] {
        [0, 1, 2, 3].map(|i| f64::from(v[4 * part + i]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, Simd, doubles};
    use std::arch::x86_64::*;

    /// # Safety
    /// The processor supports AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's processor supports what `Avx2` is made of.
        unsafe { kernel.run::<Avx2>() }
    }

    /// # Safety
    /// The processor supports AVX-512 F, AVX2 and FMA.
    #[target_feature(enable = "avx512f,avx2,fma")]
    pub(super) unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's processor supports what `Avx512` is made of.
        unsafe { kernel.run::<Avx512>() }
    }

    /// AVX2 with FMA: 12 accumulators of 6 x 16, two vectors of the panel and one broadcast fill 15 of 16 registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    /// AVX-512 F: 28 accumulators of 14 x 32, two vectors of the panel and one broadcast fill 31 of 32 registers.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
        const ROWS: usize = 6;
        type F64 = doubles::Avx2;
        instructions! {
            fn load(from: *const f32) -> __m256 = _mm256_loadu_ps(from);
            fn store(to: *mut f32, v: __m256) -> () = _mm256_storeu_ps(to, v);
            fn splat(value: f32) -> __m256 = _mm256_set1_ps(value);
            fn add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
            fn sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
            fn mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
            fn div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
            fn exponent(v: __m256) -> __m256 = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(v)));
            fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
            fn max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
            fn min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
            fn where_positive(y: __m256, v: __m256) -> __m256 =
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(y, _mm256_setzero_ps()), v);
            fn where_greater(a: __m256, b: __m256, v: __m256, otherwise: __m256) -> __m256 =
                _mm256_blendv_ps(otherwise, v, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b));
            fn where_same(a: __m256, b: __m256, v: __m256) -> __m256 = _mm256_and_ps(
                _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_castps_si256(a), _mm256_castps_si256(b))), v);
            fn widen(v: __m256, part: usize) -> __m256d = match part {
                0 => _mm256_cvtps_pd(_mm256_castps256_ps128(v)),
                _ => _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v)),
            };
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> __m256 {
            /// Ones for the lanes that are read, from place 8 - `count` on.
            const LANES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: the caller has the instruction set; of the lanes beyond `count`, at most 8, nothing is read, and the
            // mask is within its table.
            unsafe {
                match count >= 8 {
                    true => _mm256_loadu_ps(from),
                    false => _mm256_maskload_ps(from, _mm256_loadu_si256(LANES.as_ptr().add(8 - count).cast())),
                }
            }
        }
    }

    impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;
        const ROWS: usize = 14;
        type F64 = doubles::Avx512;
        instructions! {
            fn load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
            fn store(to: *mut f32, v: __m512) -> () = _mm512_storeu_ps(to, v);
            fn splat(value: f32) -> __m512 = _mm512_set1_ps(value);
            fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
            fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
            fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
            fn div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
            fn exponent(v: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(v)));
            fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
            fn max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
            fn min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
            fn where_positive(y: __m512, v: __m512) -> __m512 =
                _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(y, _mm512_setzero_ps()), v);
            fn where_greater(a: __m512, b: __m512, v: __m512, otherwise: __m512) -> __m512 =
                _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), otherwise, v);
            fn where_same(a: __m512, b: __m512, v: __m512) -> __m512 =
                _mm512_maskz_mov_ps(_mm512_cmpeq_epi32_mask(_mm512_castps_si512(a), _mm512_castps_si512(b)), v);
            fn widen(v: __m512, part: usize) -> __m512d = match part {
                0 => _mm512_cvtps_pd(_mm512_castps512_ps256(v)),
                _ => _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(v)))),
            };
        }
        #[inline(always)]
        unsafe fn load_first(from: *const f32, count: usize) -> __m512 {
            // SAFETY: the caller has the instruction set; of the lanes beyond `count` nothing is read.
            unsafe { if count >= 16 { _mm512_loadu_ps(from) } else { _mm512_maskz_loadu_ps((1 << count) - 1, from) } }
        }
        #[inline(always)]
        unsafe fn store_first(to: *mut f32, v: __m512, count: usize) {
            // SAFETY: the caller has the instruction set; of the lanes beyond `count` nothing is written.
            unsafe {
                match count >= 16 {
                    true => _mm512_storeu_ps(to, v),
                    false => _mm512_mask_storeu_ps(to, (1 << count) - 1, v),
                }
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{Simd, doubles};
    use std::arch::aarch64::*;

    /// NEON, two registers of four lanes a vector: as 16 pairs, its 32 registers are AVX2's 16 of as many lanes. What was
    /// laid out for those fits: 12 accumulators of 6 x 16, two vectors of the panel and one factor take 29 registers.
    /// Each factor is loaded for 16 columns; with one register a vector, tiles of 12 x 8 would load one for 8.
    #[derive(Clone, Copy)]
    pub(crate) struct Neon;

    type Pair = float32x4x2_t;

    /// `$value` of each register of the pairs.
    macro_rules! pair {
        ($($v:ident),* => $value:expr) => {
            float32x4x2_t({ $(let $v = $v.0;)* $value }, { $(let $v = $v.1;)* $value })
        };
    }

    /// The bits of `v` where those of `mask` are ones, else zeros.
    #[inline(always)]
    fn masked(mask: uint32x4_t, v: float32x4_t) -> float32x4_t {
        // SAFETY: arm64 always has NEON.
        unsafe { vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(v))) }
    }

    impl Simd for Neon {
        type V = Pair;
        const LANES: usize = 8;
        const ROWS: usize = 6;
        type F64 = doubles::Neon;
        instructions! {
            fn load(from: *const f32) -> Pair = float32x4x2_t(vld1q_f32(from), vld1q_f32(from.add(4)));
            fn store(to: *mut f32, v: Pair) -> () = {
                vst1q_f32(to, v.0);
                vst1q_f32(to.add(4), v.1)
            };
            fn splat(value: f32) -> Pair = float32x4x2_t(vdupq_n_f32(value), vdupq_n_f32(value));
            fn add(a: Pair, b: Pair) -> Pair = pair!(a, b => vaddq_f32(a, b));
            fn sub(a: Pair, b: Pair) -> Pair = pair!(a, b => vsubq_f32(a, b));
            fn mul(a: Pair, b: Pair) -> Pair = pair!(a, b => vmulq_f32(a, b));
            fn div(a: Pair, b: Pair) -> Pair = pair!(a, b => vdivq_f32(a, b));
            fn exponent(v: Pair) -> Pair = pair!(v => vreinterpretq_f32_u32(vshlq_n_u32::<23>(vreinterpretq_u32_f32(v))));
            fn mul_add(a: Pair, b: Pair, c: Pair) -> Pair = pair!(a, b, c => vfmaq_f32(c, a, b));
            // The instructions of these names give no number where either is none.
            fn max(a: Pair, b: Pair) -> Pair = pair!(a, b => vbslq_f32(vcgtq_f32(a, b), a, b));
            fn min(a: Pair, b: Pair) -> Pair = pair!(a, b => vbslq_f32(vcltq_f32(a, b), a, b));
            fn where_positive(y: Pair, v: Pair) -> Pair = pair!(y, v => masked(vcgtzq_f32(y), v));
            fn where_greater(a: Pair, b: Pair, v: Pair, otherwise: Pair) -> Pair =
                pair!(a, b, v, otherwise => vbslq_f32(vcgtq_f32(a, b), v, otherwise));
            fn where_same(a: Pair, b: Pair, v: Pair) -> Pair =
                pair!(a, b, v => masked(vceqq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(b)), v));
            fn widen(v: Pair, part: usize) -> float64x2x2_t = {
                let half = if part == 0 { v.0 } else { v.1 };
                float64x2x2_t(vcvt_f64_f32(vget_low_f32(half)), vcvt_high_f64_f32(half))
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers at which instruction sets could differ: zeros of both signs, infinities, none, denormal, next to each other.
    const SPECIAL: [f32; 16] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        -1e-40,
        1e-40,
        f32::MAX,
        f32::MIN,
        3.3333333,
        -3.333333,
        1.0000001,
        16_777_217.0,
    ];

    /// What the operations give for 16 values of each operand, by name, of which every vector has its part.
    struct Operations([[f32; 16]; 3]);

    impl Kernel for Operations {
        type Output = Vec<(&'static str, [f32; 16])>;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> Self::Output {
            let names = [
                "splat",
                "add",
                "sub",
                "mul",
                "div",
                "exponent",
                "mul_add",
                "max",
                "min",
                "where_positive",
                "where_greater",
                "where_same",
                "load_first",
                "store_first",
            ];
            let mut out = names.map(|name| (name, [7.0; 16]));
            for at in (0..16).step_by(S::LANES) {
                // SAFETY: LANES divides 16, and the instruction set is there by the contract of `run`.
                unsafe {
                    let [a, b, c] = [0, 1, 2].map(|operand| S::load(self.0[operand].as_ptr().add(at)));
                    let values = [
                        S::splat(self.0[0][3]),
                        S::add(a, b),
                        S::sub(a, b),
                        S::mul(a, b),
                        S::div(a, b),
                        S::exponent(a),
                        S::mul_add(a, b, c),
                        S::max(a, b),
                        S::min(a, b),
                        S::where_positive(a, b),
                        S::where_greater(a, b, c, a),
                        S::where_same(a, b, c),
                        S::load_first(self.0[0].as_ptr().add(at), at + 3),
                    ];
                    for ((_, out), value) in out.iter_mut().zip(values) {
                        S::store(out.as_mut_ptr().add(at), value);
                    }
                    S::store_first(out[13].1.as_mut_ptr().add(at), a, at + 3);
                }
            }
            out.into()
        }
    }

    /// Whether value i of 16 is among the first of its vector, of which the one from `at` on takes `at + 3`.
    fn first(lanes: usize, i: usize) -> bool {
        i % lanes < i / lanes * lanes + 3
    }

    #[test]
    fn operations_are_those_of_the_definitions_on_every_instruction_set() {
        let scalar = |name: &str, fused: bool, lanes: usize, i: usize, [a, b, c]: [f32; 3]| match name {
            "splat" => SPECIAL[3],
            "add" => a + b,
            "sub" => a - b,
            "mul" => a * b,
            "div" => a / b,
            "exponent" => f32::from_bits(a.to_bits() << 23),
            "mul_add" => {
                if fused {
                    a.mul_add(b, c)
                } else {
                    a * b + c
                }
            }
            "max" => {
                if a > b {
                    a
                } else {
                    b
                }
            }
            "min" => {
                if a < b {
                    a
                } else {
                    b
                }
            }
            "where_positive" => {
                if a > 0.0 {
                    b
                } else {
                    0.0
                }
            }
            "where_greater" => {
                if a > b {
                    c
                } else {
                    a
                }
            }
            "where_same" => {
                if a.to_bits() == b.to_bits() {
                    c
                } else {
                    0.0
                }
            }
            "load_first" => {
                if first(lanes, i) {
                    a
                } else {
                    0.0
                }
            }
            _ => {
                if first(lanes, i) {
                    a
                } else {
                    7.0
                }
            }
        };
        for isa in Isa::supported() {
            let fused = ![Isa::PORTABLE, Isa::PORTABLE_WIDE].contains(&isa);
            let lanes = dispatch(isa, Lanes);
            for turn in 0..16 {
                let operand = |by: usize| std::array::from_fn(|i| SPECIAL[(i + by) % 16]);
                let operands = [SPECIAL, operand(turn), operand(5 * turn + 3)];
                for (name, got) in dispatch(isa, Operations(operands)) {
                    for (i, got) in got.into_iter().enumerate() {
                        let values = operands.map(|operand| operand[i]);
                        let expected = scalar(name, fused, lanes, i, values);
                        let same = got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan());
                        assert!(same, "{isa:?}: {name} of {values:?} is {got:e}, expected {expected:e}");
                    }
                }
            }
        }
    }

    struct Lanes;

    impl Kernel for Lanes {
        type Output = usize;
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> usize {
            S::LANES
        }
    }

    /// What the operations of doubles give for eight values of each operand, and those of `wide` widened.
    struct DoubleOperations {
        operands: [[f64; doubles::WIDTH]; 3],
        wide: [f32; 16],
    }

    impl Kernel for DoubleOperations {
        type Output = ([[f64; doubles::WIDTH]; 6], [f64; 16]);
        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> Self::Output {
            let (mut out, mut wide) = ([[0.0; doubles::WIDTH]; 6], [0.0; 16]);
            let lanes = <S::F64 as Doubles>::LANES;
            // SAFETY: LANES of both kinds divide what they are counted through, and the instruction set is there by the
            // contract of `run`.
            unsafe {
                for at in (0..doubles::WIDTH).step_by(lanes) {
                    let [a, b, c] = self.operands.map(|operand| S::F64::load(operand.as_ptr().add(at)));
                    let values = [
                        S::F64::add(a, b),
                        S::F64::sub(a, b),
                        S::F64::mul(a, b),
                        S::F64::mul_add(a, b, c),
                        S::F64::neg_mul_add(a, b, c),
                        S::F64::clamp(a, S::F64::splat(-0.0), S::F64::splat(1.0)),
                    ];
                    for (out, value) in out.iter_mut().zip(values) {
                        S::F64::store(out.as_mut_ptr().add(at), value);
                    }
                }
                for at in (0..16).step_by(S::LANES) {
                    let v = S::load(self.wide.as_ptr().add(at));
                    for part in 0..S::LANES / lanes {
                        S::F64::store(wide.as_mut_ptr().add(at + part * lanes), S::widen(v, part));
                    }
                }
            }
            (out, wide)
        }
    }

    #[test]
    fn doubles_are_those_of_the_definitions_on_every_instruction_set() {
        let special = [0.0, -0.0, 1.0, -1.0 / 3.0, f64::INFINITY, f64::NAN, 1e-310, 1.0 + f64::EPSILON];
        for isa in Isa::supported() {
            for turn in 0..8 {
                let operand = |by: usize| std::array::from_fn(|i| special[(i + by) % 8]);
                let operands = [special, operand(turn), operand(3 * turn + 1)];
                let (out, wide) = dispatch(isa, DoubleOperations { operands, wide: SPECIAL });
                for i in 0..doubles::WIDTH {
                    let [a, b, c] = operands.map(|operand| operand[i]);
                    let low = if a > 1.0 { 1.0 } else { a };
                    let clamped = if -0.0 > low { -0.0 } else { low };
                    let expected = [a + b, a - b, a * b, a.mul_add(b, c), (-a).mul_add(b, c), clamped];
                    for (which, expected) in expected.into_iter().enumerate() {
                        let got = out[which][i];
                        let same = got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan());
                        assert!(
                            same,
                            "{isa:?}: operation {which} of {a:e}, {b:e}, {c:e} is {got:e}, expected {expected:e}"
                        );
                    }
                }
                for (got, value) in wide.into_iter().zip(SPECIAL) {
                    let same = got.to_bits() == f64::from(value).to_bits() || (got.is_nan() && value.is_nan());
                    assert!(same, "{isa:?}: {value:e} widened is {got:e}");
                }
            }
        }
    }
}
