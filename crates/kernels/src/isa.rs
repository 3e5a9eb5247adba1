//! The instruction sets the kernels are written for, found at run time.
//!
//! Kernels that use fused multiply-add give the same bits under [`Isa::Avx512`] and [`Isa::Avx2`]; the portable forms
//! round after each multiplication, so differ from them in the last bits and agree with each other.

/// An instruction set level, widest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// x86-64 with AVX-512 F: 16 lanes of f32, 32 registers.
    Avx512,
    /// x86-64 with AVX2 and FMA: 8 lanes of f32, 16 registers.
    Avx2,
    /// Plain Rust that the compiler vectorises for the baseline of the target.
    Portable,
    /// Plain Rust in the shape of AVX-512 (16 lanes, tiles of 14 x 32), slower than [`Isa::Portable`]: it lets tests
    /// cover that shape on processors without AVX-512, and is not listed as supported.
    PortableWide,
}

impl Isa {
    /// The widest level this processor supports.
    pub fn detect() -> Isa {
        Isa::supported()[0]
    }

    /// Every level this processor supports, widest first; [`Isa::Portable`] is always the last.
    pub fn supported() -> Vec<Isa> {
        [Isa::Avx512, Isa::Avx2, Isa::Portable].into_iter().filter(|isa| isa.is_supported()).collect()
    }

    /// Whether this processor can run the level; the two portable ones run everywhere.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            match self {
                Isa::Avx512 => avx2 && is_x86_feature_detected!("avx512f"),
                Isa::Avx2 => avx2,
                Isa::Portable | Isa::PortableWide => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            matches!(self, Isa::Portable | Isa::PortableWide)
        }
    }

    /// The name as reports print it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
            Isa::PortableWide => "portable-wide",
        }
    }
}
