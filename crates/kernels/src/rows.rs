//! Sums along a row, in f64.

use crate::simd::Simd;
use crate::simd::doubles::{Doubles, WIDTH, add_lanes};

/// Most vectors of f64 that [`WIDTH`] lanes take.
const SLOTS: usize = 2;

/// A sum in the making: element i goes to lane i % [`WIDTH`], so every instruction set gives the same bits.
#[derive(Clone, Copy)]
pub(crate) struct Sum<S: Simd> {
    slots: [<S::F64 as Doubles>::V; SLOTS],
}

impl<S: Simd> Sum<S> {
    /// # Safety
    /// The instruction set of `S` is available.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        // SAFETY: the instruction set is all that this needs.
        Sum { slots: [unsafe { S::F64::splat(0.0) }; SLOTS] }
    }

    /// Adds the next elements.
    ///
    /// # Safety
    /// The instruction set of `S` is available.
    #[inline(always)]
    pub(crate) unsafe fn add(&mut self, v: S::V) {
        let lanes = <S::F64 as Doubles>::LANES;
        for part in 0..S::LANES / lanes {
            let slot = &mut self.slots[part % (WIDTH / lanes)];
            // SAFETY: the instruction set is all that this needs.
            *slot = unsafe { S::F64::add(*slot, S::widen(v, part)) };
        }
    }

    /// Adds the products of the next elements.
    ///
    /// # Safety
    /// The instruction set of `S` is available.
    #[inline(always)]
    pub(crate) unsafe fn add_product(&mut self, a: S::V, b: S::V) {
        let lanes = <S::F64 as Doubles>::LANES;
        for part in 0..S::LANES / lanes {
            let slot = &mut self.slots[part % (WIDTH / lanes)];
            // SAFETY: the instruction set is all that this needs.
            *slot = unsafe { S::F64::mul_add(S::widen(a, part), S::widen(b, part), *slot) };
        }
    }

    /// The sum.
    ///
    /// # Safety
    /// The instruction set of `S` is available.
    #[inline(always)]
    pub(crate) unsafe fn total(self) -> f64 {
        let lanes = <S::F64 as Doubles>::LANES;
        let mut buffer = [0.0; WIDTH];
        for (slot, sum) in self.slots.into_iter().enumerate().take(WIDTH / lanes) {
            // SAFETY: WIDTH doubles hold `WIDTH / lanes` vectors.
            unsafe { S::F64::store(buffer.as_mut_ptr().add(slot * lanes), sum) };
        }
        add_lanes(&buffer)
    }
}
