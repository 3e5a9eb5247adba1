//! What the processor can do at most: chains of fused multiply-adds that never leave the registers.
//!
//! Each chain is `a = a b + a` from 1 on with b = 2^-12, so a block ends near 132: no overflow, no denormal numbers. NEON
//! adds onto the register of a term, so a term of its own would be copied first; here the result takes its place. A chain
//! must wait for its own last result (4 cycles on most processors), so several run side by side to keep every unit
//! busy. The rate counts two operations for each lane of each instruction.

use std::hint::black_box;
use std::time::Instant;

use crate::Team;
use crate::simd::{Kernel, Simd, dispatch};

/// Multiply-adds of a chain in one block: tens of microseconds, so that starting a block costs nothing beside it.
const LENGTH: usize = 20_000;
/// Blocks of one region: many for each thread, so that a thread that wakes late is soon no matter.
const BLOCKS: usize = 64;
/// Regions of one measurement: other programs' load only ever adds, so the fastest tells.
const REGIONS: usize = 10;

/// The highest rate of single-precision fused multiply-adds on the team's threads and instruction set, in GFLOP/s (a
/// multiply-add is two operations). Takes some tens of milliseconds.
///
/// No kernel reaches it: they also load and store. Where an algorithm multiplies less than the definition says
/// (Winograd's convolution), a rate that counts the definition's operations can exceed it.
pub fn peak_gflops(team: &Team) -> f64 {
    gflops(team, LENGTH)
}

/// That with blocks of `length` steps.
fn gflops(team: &Team, length: usize) -> f64 {
    let isa = team.isa();
    let flops = (BLOCKS * dispatch(isa, Chains { length: 0 }).flops_per_step * length) as f64;
    let region = || {
        let start = Instant::now();
        team.for_each(BLOCKS, |_| {
            black_box(dispatch(isa, Chains { length }).sum);
        });
        start.elapsed().as_secs_f64()
    };
    flops / (0..REGIONS).map(|_| region()).fold(f64::INFINITY, f64::min) / 1e9
}

/// What a chain is multiplied by.
const FACTOR: f32 = 1.0 / 4096.0;

struct Chains {
    length: usize,
}

struct Chained {
    /// The sum of all lanes of all chains.
    sum: f32,
    /// Operations of one step of all chains.
    flops_per_step: usize,
}

impl Kernel for Chains {
    type Output = Chained;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Chained {
        // Enough for latency times units of any processor (x86-64: 4 x 2; arm64: 4 x 4, where a vector is two registers), and
        // few enough for its registers; a vector of the portable form takes two of x86-64's.
        // SAFETY: the instruction set is there by the contract of `run`.
        unsafe { if S::ROWS < 6 { chains::<S, 4>(self.length) } else { chains::<S, 12>(self.length) } }
    }
}

/// N chains of `length` steps.
///
/// # Safety
/// The instruction set of `S` is available.
#[inline(always)]
unsafe fn chains<S: Simd, const N: usize>(length: usize) -> Chained {
    let mut lanes = [0.0_f32; 16];
    let mut sum = 0.0;
    // SAFETY: the caller has the instruction set; `lanes` holds 16 floats, the most a vector has.
    unsafe {
        let factor = S::splat(black_box(FACTOR));
        let mut chains = [S::splat(1.0); N];
        for _ in 0..length {
            for chain in &mut chains {
                *chain = S::mul_add(*chain, factor, *chain);
            }
        }
        for chain in chains {
            S::store(lanes.as_mut_ptr(), chain);
            sum += lanes[..S::LANES].iter().sum::<f32>();
        }
    }
    Chained { sum, flops_per_step: 2 * S::LANES * N }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_instruction_set_runs_the_chains_it_counts() {
        for isa in Isa::supported() {
            let Chained { sum, flops_per_step } = dispatch(isa, Chains { length: 100 });
            let mean = f64::from(sum) / (flops_per_step / 2) as f64;
            let expected = (1.0 + f64::from(FACTOR)).powi(100);
            // A step more or less would be 2^-12 of it.
            assert!((mean / expected - 1.0).abs() < 2e-5, "{}: {mean}, expected {expected}", isa.name());
            let rate = gflops(&Team::with_isa(1, isa), 100);
            assert!(rate.is_finite() && rate > 0.0, "{}: {rate}", isa.name());
        }
    }
}
