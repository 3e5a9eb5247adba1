//! The element types of tensors in files, and how each becomes float32.

use half::{bf16, f16};

/// A type of numbers, little-endian in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision; rounded to the nearest float32.
    F64,
    /// IEEE 754 half precision: 1 sign, 5 exponent, 10 fraction bits.
    F16,
    /// The upper half of a float32.
    BF16,
    /// Whole numbers with a sign: PyTorch counts batches in those of 64 bits.
    I8,
    I16,
    I32,
    I64,
    /// Whole numbers without a sign.
    U8,
    U16,
    U32,
    U64,
    /// 0 is false.
    Bool,
}

impl Element {
    /// Bytes of one number.
    pub(super) fn size(self) -> usize {
        match self {
            Element::I8 | Element::U8 | Element::Bool => 1,
            Element::F16 | Element::BF16 | Element::I16 | Element::U16 => 2,
            Element::F32 | Element::I32 | Element::U32 => 4,
            Element::F64 | Element::I64 | Element::U64 => 8,
        }
    }

    /// Whether parameters can be of this type.
    pub(super) fn is_float(self) -> bool {
        matches!(self, Element::F32 | Element::F64 | Element::F16 | Element::BF16)
    }

    /// All numbers of `bytes`; bytes after the last whole one are left out.
    pub(super) fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        self.each_to_f32(bytes.chunks_exact(self.size()))
    }

    /// Numbers of [`size`](Element::size) bytes each; those of more than 24 bits are rounded.
    pub(super) fn each_to_f32<'a>(self, numbers: impl Iterator<Item = &'a [u8]>) -> Vec<f32> {
        let two = |b: &[u8]| [b[0], b[1]];
        let four = |b: &[u8]| [b[0], b[1], b[2], b[3]];
        let eight = |b: &[u8]| [b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]];
        match self {
            Element::F32 => numbers.map(|b| f32::from_le_bytes(four(b))).collect(),
            Element::F64 => numbers.map(|b| f64::from_le_bytes(eight(b)) as f32).collect(),
            Element::F16 => numbers.map(|b| f16::from_le_bytes(two(b)).to_f32()).collect(),
            Element::BF16 => numbers.map(|b| bf16::from_le_bytes(two(b)).to_f32()).collect(),
            Element::I8 => numbers.map(|b| f32::from(i8::from_le_bytes([b[0]]))).collect(),
            Element::I16 => numbers.map(|b| f32::from(i16::from_le_bytes(two(b)))).collect(),
            Element::I32 => numbers.map(|b| i32::from_le_bytes(four(b)) as f32).collect(),
            Element::I64 => numbers.map(|b| i64::from_le_bytes(eight(b)) as f32).collect(),
            Element::U8 => numbers.map(|b| f32::from(b[0])).collect(),
            Element::U16 => numbers.map(|b| f32::from(u16::from_le_bytes(two(b)))).collect(),
            Element::U32 => numbers.map(|b| u32::from_le_bytes(four(b)) as f32).collect(),
            Element::U64 => numbers.map(|b| u64::from_le_bytes(eight(b)) as f32).collect(),
            Element::Bool => numbers.map(|b| if b[0] == 0 { 0.0 } else { 1.0 }).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_those_of_the_standard() {
        let table = [
            (0x0000, 0.0),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x7BFF, 65504.0),
            (0x0001, 2.0f32.powi(-24)),
            (0x03FF, 1023.0 * 2.0f32.powi(-24)),
            (0x0400, 2.0f32.powi(-14)),
            (0x3555, 0.333_251_95),
            (0x7C00, f32::INFINITY),
            (0xFC00, f32::NEG_INFINITY),
        ];
        let half = |bits: u16| Element::F16.to_f32(&bits.to_le_bytes())[0];
        for (bits, expected) in table {
            assert_eq!(half(bits), expected, "{bits:04x}");
        }
        assert!(half(0x7C01).is_nan());
        // The numbers rise with their bits: no exponent is off by one.
        assert!((0..0x7C00).all(|bits: u16| half(bits) < half(bits + 1)));
    }
}
