//! The instruction sets the kernels are written for, found at run time.
//!
//! Kernels that use fused multiply-add give the same bits under AVX-512, AVX2 and NEON; the portable forms round after each
//! multiplication, so differ from them in the last bits and agree with each other.

use std::fmt;

/// The environment variable that forces an instruction set by its name, for tests and comparisons.
pub const VARIABLE: &str = "RKD_ISA";

/// An instruction set that this processor supports: there is no way to have another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(Level);

/// The instruction sets, widest first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Level {
    /// x86-64 with AVX-512 F: 16 lanes of f32, 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// x86-64 with AVX2 and FMA: 8 lanes of f32, 16 registers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// arm64, which always has it: 8 lanes of f32 in two registers of four, 32 registers.
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
    PortableWide,
}

impl Isa {
    /// Plain Rust that the compiler vectorises for the baseline of the target.
    pub const PORTABLE: Isa = Isa(Level::Portable);
    /// Plain Rust in the shape of AVX-512 (16 lanes, tiles of 14 x 32), slower than [`Isa::PORTABLE`]: it lets tests
    /// cover that shape on processors without AVX-512.
    pub const PORTABLE_WIDE: Isa = Isa(Level::PortableWide);

    /// Every instruction set of this processor, the one to take first: its own from the widest on, then
    /// [`Isa::PORTABLE`] and [`Isa::PORTABLE_WIDE`], which run everywhere.
    pub fn supported() -> Vec<Isa> {
        let mut supported = Vec::new();
        // An interpreter has no vector instructions.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            if is_x86_feature_detected!("avx512f") {
                supported.push(Isa(Level::Avx512));
            }
            supported.push(Isa(Level::Avx2));
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        supported.push(Isa(Level::Neon));
        supported.extend([Isa::PORTABLE, Isa::PORTABLE_WIDE]);
        supported
    }

    /// The instruction set to run with: the first of [`Isa::supported`], or the one that the environment variable
    /// [`VARIABLE`] names.
    ///
    /// # Errors
    /// When the variable names none of this processor's; the message lists them.
    pub fn chosen() -> Result<Isa, String> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Isa::supported()[0]),
            Some(name) => Isa::named(&name.to_string_lossy()).map_err(|message| format!("{VARIABLE}: {message}")),
        }
    }

    /// All of [`Isa::supported`], or only the one that [`VARIABLE`] names: what tests and comparisons run.
    ///
    /// # Errors
    /// As [`Isa::chosen`].
    pub fn compared() -> Result<Vec<Isa>, String> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Isa::supported()),
            Some(_) => Isa::chosen().map(|isa| vec![isa]),
        }
    }

    /// The instruction set of this name.
    ///
    /// # Errors
    /// When this processor has none of this name; the message lists those it has.
    pub fn named(name: &str) -> Result<Isa, String> {
        let supported = Isa::supported();
        supported.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| {
            let names: Vec<&str> = supported.iter().map(|isa| isa.name()).collect();
            format!("expected an instruction set of this processor ({}), received \"{name}\"", names.join(", "))
        })
    }

    /// The name, as reports print it: `avx512`, `avx2`, `neon`, `portable` or `portable-wide`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
            Level::Portable => "portable",
            Level::PortableWide => "portable-wide",
        }
    }

    /// Whether it multiplies and adds with one rounding. Those that do give the same bits, and so do those that do not.
    pub fn is_fused(self) -> bool {
        !matches!(self.0, Level::Portable | Level::PortableWide)
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_instruction_set_and_any_other_name_the_list() {
        let supported = Isa::supported();
        assert_eq!(supported[supported.len() - 2..], [Isa::PORTABLE, Isa::PORTABLE_WIDE]);
        for isa in supported {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
        }
        let message = Isa::named("sse9").unwrap_err();
        assert!(message.contains("portable, portable-wide)") && message.ends_with("received \"sse9\""), "{message}");
    }
}
