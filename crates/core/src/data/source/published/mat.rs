//! MATLAB files of level 5, as far as annotations need them: numbers, texts, cells and structures.
//!
//! ```text
//! 128 bytes of head, "IM" at 126 (little-endian), then elements: type u32, length u32, content, up to a multiple of 8
//! a small element has its length in the upper half of the type, and its content in the 4 bytes that follow
//! type 15: content is a zlib stream of one element      type 14: an array, itself made of elements:
//!     flags (class in the lowest byte), dimensions, name, and then by class
//!     1 cell: arrays      2 structure: length of a field's name, names, arrays (all fields of one, then of the next)
//!     4 text: its letters      6 to 15 numbers: their values, of any numeric type
//! ```
//! Source: MathWorks, "MAT-File Format", level 5.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// An array.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of numbers.
    Numbers(Vec<f64>),
    /// Of letters.
    Text(String),
    /// Of arrays, or of structures.
    List(Vec<Value>),
    /// One structure: its fields.
    Structure(Vec<(String, Value)>),
}

impl Value {
    /// What a cell or an array of structures holds.
    pub fn elements(&self) -> &[Value] {
        if let Value::List(values) = self { values } else { &[] }
    }

    /// A field of a structure.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let Value::Structure(fields) = self else { return None };
        fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// A text.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// The first number.
    pub fn number(&self) -> Option<f64> {
        if let Value::Numbers(numbers) = self { numbers.first().copied() } else { None }
    }
}

/// Most bytes that all compressed variables may unpack to together; those of Cars 196 have 20 MB.
const MAX_BYTES: u64 = 64 << 20;
/// Most arrays and numbers of a file, and letters of the names of its fields; those of Cars 196 have 400,000.
const MAX_ITEMS: usize = 4 << 20;
/// Most arrays inside one another.
const MAX_DEPTH: usize = 8;

/// The variables of a file; `None` where it is damaged or of another kind.
pub fn read(bytes: &[u8]) -> Option<Vec<(String, Value)>> {
    if bytes.get(126..128)? != b"IM" {
        return None;
    }
    let mut rest = &bytes[128..];
    let (mut variables, mut left) = (Vec::new(), MAX_BYTES);
    let mut budget = Budget(MAX_ITEMS);
    while rest.len() >= 8 {
        let (kind, content) = element(&mut rest)?;
        let unpacked;
        let content = if kind == 15 {
            let mut all = Vec::new();
            ZlibDecoder::new(content).take(left).read_to_end(&mut all).ok()?;
            left -= all.len() as u64;
            unpacked = all;
            element(&mut &unpacked[..]).filter(|(kind, _)| *kind == 14)?.1
        } else {
            content
        };
        variables.push(array(content, MAX_DEPTH, &mut budget)?);
    }
    Some(variables)
}

/// How much may still be made of a file.
struct Budget(usize);

impl Budget {
    /// Takes `count` from it; `None` once it is spent.
    fn take(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.checked_sub(count)?;
        Some(())
    }
}

/// Takes the next element from `rest`: its type and content.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let word = |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let (kind, length) = (word(0)?, word(4));
    if kind >> 16 != 0 {
        let content = rest.get(4..4 + (kind >> 16) as usize).filter(|content| content.len() <= 4)?;
        *rest = rest.get(8..)?;
        return Some((kind & 0xffff, content));
    }
    let length = length? as usize;
    let content = rest.get(8..8usize.checked_add(length)?)?;
    // A compressed element is followed at once by the next; the last one may lack its filling.
    let filled = if kind == 15 { length } else { length.next_multiple_of(8) };
    *rest = rest.get(8 + filled..).unwrap_or_default();
    Some((kind, content))
}

/// Name and value of an array.
fn array(mut rest: &[u8], depth: usize, budget: &mut Budget) -> Option<(String, Value)> {
    let depth = depth.checked_sub(1)?;
    budget.take(1)?;
    if rest.is_empty() {
        return Some((String::new(), Value::Numbers(Vec::new())));
    }
    let class = *element(&mut rest)?.1.first()?;
    let dimensions = element(&mut rest)?.1.chunks_exact(4).map(|d| u32::from_le_bytes(d.try_into().expect("4 bytes")));
    let count = dimensions.into_iter().try_fold(1usize, |count, d| count.checked_mul(d as usize))?;
    let name = String::from_utf8_lossy(element(&mut rest)?.1).into_owned();
    let value = match class {
        1 => Value::List(list(&mut rest, count, depth, budget)?),
        2 => structures(&mut rest, count, depth, budget)?,
        4 => Value::Text(
            numbers(&mut rest, budget)?.iter().filter_map(|&letter| char::from_u32(letter as u32)).collect(),
        ),
        6..=15 => Value::Numbers(numbers(&mut rest, budget)?),
        _ => return None,
    };
    Some((name, value))
}

fn list(rest: &mut &[u8], count: usize, depth: usize, budget: &mut Budget) -> Option<Vec<Value>> {
    (0..count).map(|_| Some(array(element(rest).filter(|(kind, _)| *kind == 14)?.1, depth, budget)?.1)).collect()
}

fn structures(rest: &mut &[u8], count: usize, depth: usize, budget: &mut Budget) -> Option<Value> {
    let length = u32::from_le_bytes(element(rest)?.1.get(..4)?.try_into().ok()?) as usize;
    let names = element(rest)?.1.chunks_exact(length.max(1)).map(|name| {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    let names: Vec<String> = names.collect();
    // A structure without fields takes nothing from the file, and each one names its fields anew.
    let cost = 1 + names.iter().map(|name| 1 + name.len() / 16).sum::<usize>();
    let one = |_| {
        budget.take(cost)?;
        let values = list(rest, names.len(), depth, budget)?;
        Some(Value::Structure(names.iter().cloned().zip(values).collect()))
    };
    let mut all = (0..count).map(one).collect::<Option<Vec<Value>>>()?;
    Some(if all.len() == 1 { all.remove(0) } else { Value::List(all) })
}

/// The numbers of an element, which may be stored in a smaller type than that of their array.
fn numbers(rest: &mut &[u8], budget: &mut Budget) -> Option<Vec<f64>> {
    let (kind, bytes) = element(rest)?;
    budget.take(bytes.len() / 8)?;
    macro_rules! all {
        ($t:ty) => {
            bytes
                .chunks_exact(size_of::<$t>())
                .map(|b| <$t>::from_le_bytes(b.try_into().expect("whole numbers")) as f64)
                .collect()
        };
    }
    Some(match kind {
        1 => all!(i8),
        2 | 16 => all!(u8),
        3 => all!(i16),
        4 | 17 => all!(u16),
        5 => all!(i32),
        6 | 18 => all!(u32),
        7 => all!(f32),
        9 => all!(f64),
        12 => all!(i64),
        13 => all!(u64),
        _ => return None,
    })
}
