//! NumPy's arrays: of a `.npy`, and each member of a `.npz`.
//!
//! Layout (numpy.lib.format): `\x93NUMPY`, the version, the header's length (u16, from version 2 on u32), the header (a
//! Python dictionary: `descr`, `fortran_order`, `shape`), then the values in row-major order.

use std::io::Read;

use super::columns::Kind;
use super::table::{LARGEST_DIMENSION, LONGEST_ID, MOST_VECTORS, VectorElement, damaged, unreadable, wrong_length};
use crate::error::Result;

/// The longest header, in bytes; that of an array has 118.
const LONGEST_HEADER: usize = 64 << 10;

/// The type of the elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Numbers that vectors are made of.
    Float(VectorElement),
    /// Texts of at most so many code points, four bytes each.
    Unicode(usize),
    /// Texts of at most so many bytes.
    Bytes(usize),
    /// Whole numbers of so many bytes, with a sign or without.
    Whole { size: usize, signed: bool },
    /// Others, as NumPy calls them.
    Other,
}

/// What stands before the values.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub element: Type,
    /// NumPy's name of the type.
    pub descr: String,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
    /// Bytes of the header, all that stands before the values.
    pub length: u64,
}

impl Header {
    /// Reads what stands before the values.
    pub(super) fn read(input: &mut impl Read) -> Result<Header> {
        let mut fixed = [0; 8];
        input.read_exact(&mut fixed).map_err(unreadable)?;
        let [0x93, b'N', b'U', b'M', b'P', b'Y', version, _] = fixed else {
            return Err(damaged("it is no array of NumPy"));
        };
        let mut length = [0; 4];
        let width = if version == 1 { 2 } else { 4 };
        input.read_exact(&mut length[..width]).map_err(unreadable)?;
        let length = u32::from_le_bytes(length) as usize;
        if !(1..=3).contains(&version) || length > LONGEST_HEADER {
            return Err(damaged("the array's header cannot be read")
                .with_values(
                    format!("version 1 to 3 and at most {LONGEST_HEADER} bytes"),
                    format!("version {version} and {length} bytes"),
                )
                .with_advice("write it again: numpy.save"));
        }
        let mut text = vec![0; length];
        input.read_exact(&mut text).map_err(unreadable)?;
        let text = String::from_utf8_lossy(&text);
        Header::parse(&text, (8 + width + length) as u64).ok_or_else(|| {
            let start: String = text.chars().take(120).collect();
            damaged("the array's header cannot be read")
                .with_values("a dictionary of descr, fortran_order and shape", format!("{:?}", start.trim()))
                .with_advice("write it again: numpy.save")
        })
    }

    fn parse(text: &str, length: u64) -> Option<Header> {
        let after = |key: &str| {
            let (_, rest) = text.split_once(&format!("'{key}'"))?;
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let descr = after("descr")?;
        let descr = match descr.strip_prefix('\'') {
            Some(rest) => rest.split_once('\'')?.0,
            None => "a structure", // A list of fields.
        };
        let fortran = after("fortran_order")?;
        let axes = after("shape")?.strip_prefix('(')?.split_once(')')?.0;
        let axes = axes.split(',').map(str::trim).filter(|axis| !axis.is_empty());
        let shape = axes.map(|axis| axis.parse().ok()).collect::<Option<Vec<usize>>>()?;
        let fortran_order = fortran.starts_with("True");
        if !fortran_order && !fortran.starts_with("False") {
            return None;
        }
        Some(Header { element: Type::of(descr), descr: descr.into(), fortran_order, shape, length })
    }

    /// What a column of this kind can be.
    pub(super) fn kind(&self) -> Kind {
        match (&self.element, self.shape.len()) {
            (Type::Float(_), 2) => Kind::List,
            (Type::Unicode(_) | Type::Bytes(_), 1) => Kind::Text,
            (Type::Whole { .. }, 1) => Kind::Whole,
            _ => Kind::Other,
        }
    }

    /// Type and shape in words.
    pub(super) fn type_name(&self) -> String {
        let what = match &self.element {
            Type::Other if self.descr.ends_with('O') => "objects, pickled",
            _ => &self.descr,
        };
        format!("{what} {:?}", self.shape)
    }

    /// Bytes of the values, where those of one are known.
    fn value_bytes(&self) -> Option<u64> {
        let size = match self.element {
            Type::Float(element) => element.size(),
            Type::Unicode(letters) => letters.saturating_mul(4),
            Type::Bytes(size) | Type::Whole { size, .. } => size,
            Type::Other => return None,
        };
        Some(self.shape.iter().fold(size as u64, |bytes, &axis| bytes.saturating_mul(axis as u64)))
    }

    /// Refuses a file of another length than the header says.
    pub(super) fn check_length(&self, length: u64) -> Result<()> {
        match self.value_bytes().map(|bytes| bytes.saturating_add(self.length)) {
            Some(expected) if expected != length => Err(wrong_length("the array", expected, length)),
            _ => Ok(()),
        }
    }

    /// Rows, numbers in each and their type, of an array `[n, d]` of floats in row-major order; refuses others.
    pub(super) fn vectors(&self) -> Result<(usize, usize, VectorElement)> {
        match (&self.element, &self.shape[..]) {
            (Type::Float(element), &[rows, dimension]) if !self.fortran_order => Ok((rows, dimension, *element)),
            _ => {
                let order = if self.fortran_order { ", in Fortran's order" } else { "" };
                let advice = match self.shape.len() {
                    2 => "write it so: numpy.save(path, numpy.ascontiguousarray(vectors, \"<f4\"))",
                    _ => "make a row of each vector, for example by vectors.reshape(len(vectors), -1)",
                };
                Err(damaged("the array holds no vectors")
                    .with_values(
                        "float16, float32 or float64 of shape [vectors, numbers], little-endian, in C order",
                        format!("{}{order}", self.type_name()),
                    )
                    .with_advice(advice))
            }
        }
    }
}

impl Type {
    /// The type that NumPy calls `descr`.
    fn of(descr: &str) -> Type {
        let Some((order, rest)) = descr.split_at_checked(1) else { return Type::Other };
        let Some((letter, size)) = rest.split_at_checked(1) else { return Type::Other };
        let Ok(size) = size.parse::<usize>() else { return Type::Other };
        match (order, letter, size) {
            ("<", "f", 2) => Type::Float(VectorElement::Float16),
            ("<", "f", 4) => Type::Float(VectorElement::Float32),
            ("<", "f", 8) => Type::Float(VectorElement::Float64),
            ("<", "U", letters) => Type::Unicode(letters),
            ("|", "S", size) => Type::Bytes(size),
            ("<", "i" | "u", 2 | 4 | 8) | ("|", "i" | "u", 1) => Type::Whole { size, signed: letter == "i" },
            _ => Type::Other,
        }
    }
}

/// Reads the vectors behind `header` row by row.
pub(super) fn read_rows(
    header: &Header,
    input: &mut impl Read,
    add: impl FnMut(usize, &[f32]) -> Result<()>,
) -> Result<VectorElement> {
    let (rows, dimension, element) = header.vectors()?;
    if dimension == 0 || dimension > LARGEST_DIMENSION {
        return Err(damaged("the array holds no vectors")
            .with_values(format!("1 to {LARGEST_DIMENSION} numbers in each"), dimension.to_string())
            .with_advice("choose an array of shape [vectors, numbers]"));
    }
    element.read_rows(input, [rows, dimension], add)?;
    Ok(element)
}

/// Reads the texts or whole numbers behind `header`.
pub(super) fn read_ids(header: &Header, input: &mut impl Read) -> Result<Vec<String>> {
    let refused = || {
        damaged("the array holds no ids")
            .with_values("texts or whole numbers of shape [vectors]", header.type_name())
            .with_advice("write it so: numpy.array(ids, dtype=str)")
    };
    let &[count] = &header.shape[..] else { return Err(refused()) };
    let size = match header.element {
        Type::Unicode(letters) => letters.saturating_mul(4),
        Type::Bytes(size) | Type::Whole { size, .. } => size,
        _ => return Err(refused()),
    };
    if size == 0 || size > 4 * LONGEST_ID || count > MOST_VECTORS {
        return Err(damaged("the array holds no ids")
            .with_values(
                format!("at most {MOST_VECTORS} texts of 1 to {} bytes", 4 * LONGEST_ID),
                format!("{count} of {size} bytes"),
            )
            .with_advice("give shorter ids"));
    }
    let (mut bytes, mut ids) = (vec![0; size], Vec::new());
    for index in 0..count {
        input.read_exact(&mut bytes).map_err(unreadable)?;
        ids.push(id_of(&header.element, &bytes).ok_or_else(|| {
            damaged(format!("id {} of the array is no text in Unicode", index + 1)).with_advice("write it in UTF-8")
        })?);
    }
    Ok(ids)
}

fn id_of(element: &Type, bytes: &[u8]) -> Option<String> {
    match *element {
        Type::Unicode(_) => {
            let letters = bytes.as_chunks::<4>().0.iter().map(|&letter| char::from_u32(u32::from_le_bytes(letter)));
            let text = letters.collect::<Option<String>>()?;
            Some(text.trim_end_matches('\0').into())
        }
        Type::Bytes(_) => Some(std::str::from_utf8(bytes).ok()?.trim_end_matches('\0').into()),
        Type::Whole { signed, .. } => {
            let (negative, mut wide) = (signed && bytes.last()? >= &0x80, [0; 8]);
            wide.fill(if negative { 0xff } else { 0 });
            wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
            let unsigned = u64::from_le_bytes(wide);
            Some(if signed { (unsigned as i64).to_string() } else { unsigned.to_string() })
        }
        _ => None,
    }
}
