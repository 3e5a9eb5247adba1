//! Python's pickle format, read as data.
//!
//! A pickle is a program for a small stack machine (the opcodes stand in CPython's `Lib/pickletools.py`). Python's own
//! reader imports and calls whatever the program names. This one calls nothing: a call of a name that the caller allows
//! becomes an [`Object::Call`] that says what was asked for, every other name ends the reading with an error. Only the
//! opcodes that PyTorch writes are known.
//!
//! Objects lie in one list and name each other by index, so that no depth of nesting can exhaust the stack.

use std::collections::HashMap;

use crate::error::{Code, Error, Result};

/// Index of an object in [`Pickle::objects`].
pub(super) type Id = usize;

/// A value of the pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Pairs in the order they were set; of two with the same key the later counts.
    Dictionary(Vec<(Id, Id)>),
    /// A name of a module, `collections.OrderedDict` for example.
    Global(String),
    /// An allowed name and the arguments (a tuple) it would be called with.
    Call {
        function: String,
        arguments: Id,
    },
    /// What lies outside the pickle: a storage.
    Persistent(Id),
}

/// What was read.
#[derive(Debug)]
pub(super) struct Pickle {
    objects: Vec<Object>,
    root: Id,
}

impl Pickle {
    pub(super) fn root(&self) -> &Object {
        &self.objects[self.root]
    }

    pub(super) fn get(&self, id: Id) -> &Object {
        &self.objects[id]
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A whole number that is not negative.
    pub(super) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }
}

/// The most objects of one pickle; a checkpoint of ten thousand tensors has a tenth of it.
const MOST_OBJECTS: usize = 1 << 22;

/// The dictionary whose order PyTorch keeps.
const ORDERED_DICTIONARY: &str = "collections.OrderedDict";

/// Reads one pickle. `allowed` says which names it may mention besides [`ORDERED_DICTIONARY`].
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` for a name that is not allowed (named in the message), an opcode that is not known, a pickle
/// that ends too early or holds too much, and one that makes no sense.
pub(super) fn read(bytes: &[u8], allowed: impl Fn(&str) -> bool) -> Result<Pickle> {
    let mut machine = Machine {
        bytes,
        objects: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        allowed: &allowed,
    };
    loop {
        if let Some(root) = machine.step()? {
            return Ok(Pickle { objects: machine.objects, root });
        }
    }
}

struct Machine<'a> {
    /// What is left of the program.
    bytes: &'a [u8],
    objects: Vec<Object>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl Machine<'_> {
    /// Does one opcode. Gives the result at the last one.
    fn step(&mut self) -> Result<Option<Id>> {
        let [opcode] = self.take_array()?;
        match opcode {
            // PROTO and FRAME: nothing to do.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'.' => return self.pop().map(Some),
            b'N' => self.push(Object::None)?,
            0x88 => self.push(Object::Bool(true))?,
            0x89 => self.push(Object::Bool(false))?,
            b'J' => {
                let value = i32::from_le_bytes(self.take_array()?);
                self.push(Object::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.take_array()?;
                self.push(Object::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.take_array()?);
                self.push(Object::Int(value.into()))?;
            }
            0x8a => self.long()?,
            b'G' => {
                let value = f64::from_be_bytes(self.take_array()?);
                self.push(Object::Float(value))?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.take_array()?);
                self.text(length as usize)?;
            }
            0x8c => {
                let [length] = self.take_array()?;
                self.text(length.into())?;
            }
            b')' => self.push(Object::Tuple(Vec::new()))?,
            b']' => self.push(Object::List(Vec::new()))?,
            b'}' => self.push(Object::Dictionary(Vec::new()))?,
            0x85..=0x87 => {
                let first = self.height(usize::from(opcode - 0x84))?;
                let items = self.stack.split_off(first);
                self.push(Object::Tuple(items))?;
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Object::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            b's' => {
                let first = self.height(2)?;
                let pair = self.stack.split_off(first);
                self.set(pair)?;
            }
            b'u' => {
                let pairs = self.since_mark()?;
                self.set(pairs)?;
            }
            b'q' => {
                let [place] = self.take_array()?;
                self.remember(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.take_array()?);
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let [place] = self.take_array()?;
                self.recall(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.take_array()?);
                self.recall(place)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.global(&module, &name)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Persistent(id))?;
            }
            b'R' => self.call()?,
            b'b' => self.attributes()?,
            other => return Err(senseless(&format!("the opcode 0x{other:02x}, which no state dict has"))),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let (taken, rest) =
            self.bytes.split_at_checked(count).ok_or_else(|| senseless("an end in the middle of a value"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Up to the next line feed.
    fn line(&mut self) -> Result<String> {
        let length = self.bytes.iter().position(|&byte| byte == b'\n');
        let line = self.take(length.unwrap_or(self.bytes.len()))?;
        let line = String::from_utf8_lossy(line).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self, object: Object) -> Result<()> {
        if self.objects.len() == MOST_OBJECTS {
            return Err(senseless(&format!("more than {MOST_OBJECTS} objects")));
        }
        self.stack.push(self.objects.len());
        self.objects.push(object);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        self.stack.pop().ok_or_else(|| senseless("a value that was never made"))
    }

    fn pop_text(&mut self) -> Result<String> {
        let id = self.pop()?;
        match &self.objects[id] {
            Object::Text(text) => Ok(text.clone()),
            _ => Err(senseless("a name that is no text")),
        }
    }

    /// The height of the stack without its last `count` values.
    fn height(&self, count: usize) -> Result<usize> {
        self.stack.len().checked_sub(count).ok_or_else(|| senseless("a value that was never made"))
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or_else(|| senseless("a list without a beginning"))?))
    }

    /// A whole number of up to eight bytes, two's complement.
    fn long(&mut self) -> Result<()> {
        let [length] = self.take_array()?;
        let bytes = self.take(length.into())?;
        if bytes.len() > 8 {
            return Err(senseless("a whole number of more than 64 bits"));
        }
        let filler = if bytes.last().is_some_and(|&last| last >= 0x80) { 0xFF } else { 0 };
        let mut value = [filler; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        self.push(Object::Int(i64::from_le_bytes(value)))
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let bytes = self.take(length)?.to_vec();
        let text = String::from_utf8(bytes).map_err(|_| senseless("a text that is not UTF-8"))?;
        self.push(Object::Text(text))
    }

    fn append(&mut self, items: Vec<Id>) -> Result<()> {
        let list = self.pop()?;
        self.stack.push(list);
        match &mut self.objects[list] {
            Object::List(list) => list.extend(items),
            _ => return Err(senseless("a value appended to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, pairs: Vec<Id>) -> Result<()> {
        let dictionary = self.pop()?;
        self.stack.push(dictionary);
        match &mut self.objects[dictionary] {
            Object::Dictionary(entries) if pairs.len().is_multiple_of(2) => {
                entries.extend(pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            _ => return Err(senseless("an entry set in what is no dictionary")),
        }
        Ok(())
    }

    fn remember(&mut self, place: u32) -> Result<()> {
        let id = self.stack[self.height(1)?];
        self.memo.insert(place, id);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<()> {
        let id = self.memo.get(&place).copied();
        self.stack.push(id.ok_or_else(|| senseless("a value that was never remembered"))?);
        // A stack of one byte each must not grow beyond what objects may.
        if self.stack.len() > MOST_OBJECTS {
            return Err(senseless(&format!("more than {MOST_OBJECTS} objects")));
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let name = format!("{module}.{name}");
        if name == ORDERED_DICTIONARY || (self.allowed)(&name) {
            return self.push(Object::Global(name));
        }
        let name: String = name.chars().take(100).collect();
        Err(Error::new(Code::InvalidArtefact, format!("the checkpoint asks for {name}, which is not run here"))
            .with_values("tensors, numbers, texts, lists and dictionaries", name)
            .with_advice("save only the tensors, in Python: torch.save(model.state_dict(), path)"))
    }

    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Object::Global(function) = &self.objects[function] else {
            return Err(senseless("a call of what is no name"));
        };
        let Object::Tuple(given) = &self.objects[arguments] else {
            return Err(senseless("a call without arguments"));
        };
        match function.as_str() {
            ORDERED_DICTIONARY if given.is_empty() => self.push(Object::Dictionary(Vec::new())),
            ORDERED_DICTIONARY => Err(senseless("an ordered dictionary that is made from something")),
            function => {
                let function = function.to_string();
                self.push(Object::Call { function, arguments })
            }
        }
    }

    /// PyTorch puts the versions of modules as attributes on a state dict; they are left out.
    fn attributes(&mut self) -> Result<()> {
        self.pop()?;
        let of = self.stack[self.height(1)?];
        match self.objects[of] {
            Object::Dictionary(_) => Ok(()),
            _ => Err(senseless("attributes of what is no dictionary")),
        }
    }
}

fn senseless(what: &str) -> Error {
    Error::new(Code::InvalidArtefact, "the checkpoint is damaged or of another kind")
        .with_values("a state dict that PyTorch saved", what)
        .with_advice("download it again, or save it anew, in Python: torch.save(model.state_dict(), path)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_plain(bytes: &[u8]) -> Result<Pickle> {
        read(bytes, |name| name == "torch.FloatStorage")
    }

    #[test]
    fn values_of_every_kind() {
        // pickle.dumps({"a": [1, -2, 2**40, 0.5, None, True], "b": ("x", ())}, protocol=2), memo and all.
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01G?\xe0\x00\x00\x00\x00\x00\x00N\x88eX\x01\x00\x00\x00bq\x03X\x01\x00\x00\x00xq\x04)\x86q\x05u.";
        let pickle = read_plain(bytes).unwrap();
        let Object::Dictionary(entries) = pickle.root() else { panic!("{pickle:?}") };
        assert_eq!(pickle.text(entries[0].0), Some("a"));
        let Object::List(items) = pickle.get(entries[0].1) else { panic!("{pickle:?}") };
        let items: Vec<&Object> = items.iter().map(|&id| pickle.get(id)).collect();
        let expected = [Object::Int(1), Object::Int(-2), Object::Int(1 << 40), Object::Float(0.5)];
        assert!(items.iter().zip(&expected).all(|(item, expected)| *item == expected));
        assert_eq!(items[4..], [&Object::None, &Object::Bool(true)]);
        let pair = pickle.tuple(entries[1].1).unwrap();
        assert_eq!((pickle.text(pair[0]), pickle.tuple(pair[1])), (Some("x"), Some(&[][..])));
    }

    #[test]
    fn a_name_that_is_not_allowed_is_refused_by_name_and_nothing_is_called() {
        // pickle.dumps of an object whose __reduce__ is os.system("..."), protocols 2 and 4.
        let table: [&[u8]; 2] = [
            b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.",
            b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.",
        ];
        for bytes in table {
            let error = read_plain(bytes).unwrap_err();
            assert_eq!(error.code, Code::InvalidArtefact);
            assert!(error.to_string().contains("asks for posix.system, which is not run here"), "{error}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let table: [&[u8]; 14] = [
            b"",
            b"\x80",
            b".",
            b"t.",
            b"X\xff\xff\xff\xffabc.",
            b"\x8a\x09123456789.",
            b"Na.",
            b"]K\x01s.",
            b"}(K\x01u.",
            b"h\x05.",
            b"NNR.",
            b"ctorch\nFloatStorage\nNR.",
            b"NNb.",
            b"\x82\x01.",
        ];
        for bytes in table {
            assert_eq!(read_plain(bytes).unwrap_err().code, Code::InvalidArtefact, "{bytes:?}");
        }
    }

    #[test]
    fn a_deep_nest_is_neither_a_recursion_nor_too_much() {
        let mut bytes = vec![b']'; 1];
        bytes.extend(std::iter::repeat_n(0x85, 1 << 20));
        bytes.push(b'.');
        assert!(matches!(read_plain(&bytes).unwrap().root(), Object::Tuple(_)));
        let many = vec![b')'; MOST_OBJECTS + 2];
        assert!(read_plain(&many).unwrap_err().to_string().contains("more than"));
    }
}
