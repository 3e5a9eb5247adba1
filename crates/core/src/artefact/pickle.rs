//! Python's pickle format, read as data.
//!
//! A pickle is a program for a small stack machine (the opcodes stand in CPython's `Lib/pickletools.py`). Python's own
//! reader imports and calls whatever the program names. This one calls nothing: a call becomes an [`Object::Call`] that
//! says what was asked for, so that tensors can be read beside a `Namespace`, a number of NumPy or any class of a
//! training script. A pickle that names a function made to act (`os.system`, `builtins.eval`, ...) is refused by that
//! name all the same: nobody saves it with weights.
//!
//! The opcodes are those of protocols 2 to 5, with Python 2's strings. Objects lie in one list and name each other by
//! index, so that no depth of nesting can exhaust the stack.

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
    /// What would be called, a name as a rule (before PyTorch 1.6 a class may lie outside the pickle), and the
    /// arguments (a tuple) it would be called with.
    Call {
        function: Id,
        arguments: Id,
    },
    /// What lies outside the pickle: a storage.
    Persistent(Id),
    /// What no reader here looks into: bytes, a set, a whole number of more than 64 bits.
    Opaque,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Pickle {
    objects: Vec<Object>,
    root: Id,
}

impl Pickle {
    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn objects(&self) -> &[Object] {
        &self.objects
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

    pub(super) fn global(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Global(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn dictionary(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Object::Dictionary(entries) => Some(entries),
            _ => None,
        }
    }

    /// The name that a call asks for, and its arguments.
    pub(super) fn call(&self, id: Id) -> Option<(&str, &[Id])> {
        match self.get(id) {
            Object::Call { function, arguments } => Some((self.global(*function)?, self.tuple(*arguments)?)),
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

/// The longest name of a module with its function or class; real ones have a third of it.
const LONGEST_NAME: usize = 300;

/// Python's dictionaries that PyTorch and training scripts save.
const DICTIONARIES: [&str; 2] = ["collections.OrderedDict", "collections.defaultdict"];

/// Modules and functions that act when they are called.
const ACTING_MODULES: [&str; 17] = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "shutil",
    "socket",
    "pty",
    "runpy",
    "importlib",
    "ctypes",
    "webbrowser",
    "code",
    "bdb",
    "pdb",
    "commands",
    "asyncio",
];
const ACTING_BUILTINS: [&str; 9] =
    ["eval", "exec", "execfile", "compile", "open", "print", "input", "breakpoint", "__import__"];

/// Reads one pickle at the start of `bytes`, and gives what comes after it.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` for a name that acts (named in the message), an opcode that is not known, a pickle that ends
/// too early or holds too much, and one that makes no sense.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle, &[u8])> {
    let mut machine =
        Machine { bytes, objects: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), pairs: 0 };
    loop {
        if let Some(root) = machine.step()? {
            return Ok((Pickle { objects: machine.objects, root }, machine.bytes));
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
    /// Pairs that dictionaries were made from: a list may be named any number of times.
    pairs: usize,
}

impl<'a> Machine<'a> {
    /// Does one opcode. Gives the result at the last one.
    fn step(&mut self) -> Result<Option<Id>> {
        let [opcode] = self.take_array()?;
        match opcode {
            b'.' => return self.pop().map(Some),
            // PROTO and FRAME: nothing to do.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | b'G' | 0x8a | 0x8b => self.number(opcode)?,
            b'X' | 0x8c | 0x8d | b'U' | b'T' => {
                let length = self.length(opcode)?;
                self.text(length)?;
            }
            b'B' | b'C' | 0x8e | 0x96 => {
                let length = self.length(opcode)?;
                self.take(length)?;
                self.push(Object::Opaque)?;
            }
            b')' | b']' | b'}' | 0x8f | 0x85..=0x87 | b't' | 0x91 | b'a' | b'e' | 0x90 | b's' | b'u' => {
                self.collection(opcode)?;
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memory(opcode)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Object::Text(module), Object::Text(name)) = (&self.objects[module], &self.objects[name]) else {
                    return Err(senseless("a name that is no text"));
                };
                let (module, name) = (shortened(module), shortened(name));
                self.global(&module, &name)?;
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Persistent(id))?;
            }
            b'R' | 0x81 => self.call()?,
            0x92 => {
                self.pop()?;
                self.call()?;
            }
            b'b' => self.attributes()?,
            other => return Err(senseless(&format!("the opcode 0x{other:02x}, which no state dict has"))),
        }
        Ok(None)
    }

    fn number(&mut self, opcode: u8) -> Result<()> {
        let number = match opcode {
            b'N' => Object::None,
            0x88 | 0x89 => Object::Bool(opcode == 0x88),
            b'J' => Object::Int(i32::from_le_bytes(self.take_array()?).into()),
            b'M' => Object::Int(u16::from_le_bytes(self.take_array()?).into()),
            b'G' => Object::Float(f64::from_be_bytes(self.take_array()?)),
            0x8a | 0x8b => {
                let length = self.length(opcode)?;
                long(self.take(length)?)
            }
            _ => Object::Int(self.take_array::<1>()?[0].into()),
        };
        self.push(number)
    }

    /// The length in front of a text, bytes or a long number: of one, four or eight bytes by the opcode.
    fn length(&mut self, opcode: u8) -> Result<usize> {
        match opcode {
            0x8a | 0x8c | b'U' | b'C' => Ok(self.take_array::<1>()?[0].into()),
            0x8d | 0x8e | 0x96 => Ok(usize::try_from(u64::from_le_bytes(self.take_array()?)).unwrap_or(usize::MAX)),
            _ => Ok(u32::from_le_bytes(self.take_array()?) as usize),
        }
    }

    fn collection(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b')' => self.push(Object::Tuple(Vec::new())),
            b']' => self.push(Object::List(Vec::new())),
            b'}' => self.push(Object::Dictionary(Vec::new())),
            0x8f => self.push(Object::Opaque),
            0x85..=0x87 => {
                let first = self.height(usize::from(opcode - 0x84))?;
                let items = self.stack.split_off(first);
                self.push(Object::Tuple(items))
            }
            b't' => {
                let items = self.since_mark()?;
                self.push(Object::Tuple(items))
            }
            0x91 => {
                self.since_mark()?;
                self.push(Object::Opaque)
            }
            b's' => {
                let first = self.height(2)?;
                let pair = self.stack.split_off(first);
                self.set(&pair)
            }
            b'u' => {
                let pairs = self.since_mark()?;
                self.set(&pairs)
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])
            }
            _ => {
                let items = self.since_mark()?;
                self.append(&items)
            }
        }
    }

    fn memory(&mut self, opcode: u8) -> Result<()> {
        let place = match opcode {
            0x94 => self.memo.len() as u32,
            b'q' | b'h' => self.take_array::<1>()?[0].into(),
            _ => u32::from_le_bytes(self.take_array()?),
        };
        if matches!(opcode, b'h' | b'j') { self.recall(place) } else { self.remember(place) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
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
        let length = self.bytes.iter().take(LONGEST_NAME + 1).position(|&byte| byte == b'\n');
        let line = self.take(length.ok_or_else(|| senseless("a name without an end"))?)?;
        let line = String::from_utf8_lossy(line).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self, object: Object) -> Result<()> {
        if self.objects.len() == MOST_OBJECTS {
            return Err(too_many());
        }
        self.stack.push(self.objects.len());
        self.objects.push(object);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id> {
        self.stack.pop().ok_or_else(|| senseless("a value that was never made"))
    }

    /// The height of the stack without its last `count` values.
    fn height(&self, count: usize) -> Result<usize> {
        self.stack.len().checked_sub(count).ok_or_else(|| senseless("a value that was never made"))
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or_else(|| senseless("a list without a beginning"))?))
    }

    /// A text, or bytes where it is none: Python 2 has one type for both.
    fn text(&mut self, length: usize) -> Result<()> {
        let text = std::str::from_utf8(self.take(length)?);
        self.push(text.map_or(Object::Opaque, |text| Object::Text(text.to_string())))
    }

    /// Objects of other classes may be lists or dictionaries too; what they hold is left out.
    fn append(&mut self, items: &[Id]) -> Result<()> {
        let list = self.stack[self.height(1)?];
        match &mut self.objects[list] {
            Object::List(list) => list.extend(items),
            Object::Call { .. } | Object::Opaque => {}
            _ => return Err(senseless("a value appended to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, pairs: &[Id]) -> Result<()> {
        let dictionary = self.stack[self.height(1)?];
        match &mut self.objects[dictionary] {
            Object::Dictionary(entries) if pairs.len().is_multiple_of(2) => {
                entries.extend(pairs.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            Object::Call { .. } => {}
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
            return Err(too_many());
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let module = if module == "__builtin__" { "builtins" } else { module };
        let acts = match module {
            "builtins" => ACTING_BUILTINS.contains(&name),
            _ => ACTING_MODULES.contains(&module.split('.').next().unwrap_or_default()),
        };
        let name = format!("{module}.{name}");
        if name.len() > LONGEST_NAME {
            return Err(senseless(&format!("a name of {} letters", name.len())));
        }
        if !acts {
            return self.push(Object::Global(name));
        }
        Err(Error::new(Code::InvalidArtefact, format!("the checkpoint asks for {name}, which is not run here"))
            .with_values("tensors and what training scripts save beside them", name)
            .with_advice(
                "trust no such file; where it is your own, save only the tensors, in Python: \
                 torch.save(model.state_dict(), path)",
            ))
    }

    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Object::Tuple(given) = &self.objects[arguments] else {
            return Err(senseless("a call without arguments"));
        };
        match &self.objects[function] {
            Object::Global(name) if DICTIONARIES.contains(&name.as_str()) => {
                let pairs = self.pairs(given)?;
                self.pairs += pairs.len();
                self.push(Object::Dictionary(pairs))
            }
            Object::Global(_) | Object::Call { .. } | Object::Persistent(_) => {
                self.push(Object::Call { function, arguments })
            }
            _ => Err(senseless("a call of what is no name")),
        }
    }

    /// What a dictionary is made from: nothing, the function that makes what is missing in it, or, in Python 2, a list
    /// of pairs.
    fn pairs(&self, given: &[Id]) -> Result<Vec<(Id, Id)>> {
        let Some(Object::List(items)) = given.first().map(|&id| &self.objects[id]) else { return Ok(Vec::new()) };
        if self.pairs + items.len() > MOST_OBJECTS {
            return Err(too_many());
        }
        let pair = |&id: &Id| match &self.objects[id] {
            Object::List(pair) | Object::Tuple(pair) if pair.len() == 2 => Ok((pair[0], pair[1])),
            _ => Err(senseless("a dictionary that is made from something else than pairs")),
        };
        items.iter().map(pair).collect()
    }

    /// PyTorch puts the versions of modules as attributes on a state dict; they are left out, as those of other
    /// objects.
    fn attributes(&mut self) -> Result<()> {
        self.pop()?;
        let of = self.stack[self.height(1)?];
        match self.objects[of] {
            Object::Dictionary(_) | Object::Call { .. } | Object::Opaque => Ok(()),
            _ => Err(senseless("attributes of what can have none")),
        }
    }
}

/// A whole number of any length, two's complement.
fn long(bytes: &[u8]) -> Object {
    if bytes.len() > 8 {
        return Object::Opaque;
    }
    let filler = if bytes.last().is_some_and(|&last| last >= 0x80) { 0xFF } else { 0 };
    let mut value = [filler; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    Object::Int(i64::from_le_bytes(value))
}

/// The beginning of a name: enough of it to see that it is too long.
fn shortened(name: &str) -> String {
    name.chars().take(LONGEST_NAME + 1).collect()
}

fn too_many() -> Error {
    senseless(&format!("more than {MOST_OBJECTS} objects"))
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
        read(bytes).map(|(pickle, _)| pickle)
    }

    #[test]
    fn values_of_every_kind() {
        // pickle.dumps({"a": [1, -2, 2**40, 0.5, None, True], "b": ("x", ())}, protocol=2), memo and all.
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01G?\xe0\x00\x00\x00\x00\x00\x00N\x88eX\x01\x00\x00\x00bq\x03X\x01\x00\x00\x00xq\x04)\x86q\x05u.";
        let pickle = read_plain(bytes).unwrap();
        let entries = pickle.dictionary(pickle.root()).unwrap();
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
    fn what_is_no_weight_is_read_and_not_called() {
        // Protocols 2 and 4 of {1, 2}, 2**80, b"abc", bytearray(b"x"), argparse.Namespace(lr=1) and a Python 2 string.
        let table: [&[u8]; 6] = [
            b"\x80\x04\x8f(K\x01K\x02\x90.",
            b"\x80\x02\x8a\x0b\0\0\0\0\0\0\0\0\0\0\x01.",
            b"\x80\x04C\x03abc.",
            b"\x80\x05\x96\x01\0\0\0\0\0\0\0x.",
            b"\x80\x02cargparse\nNamespace\n)\x81}U\x02lrK\x01sb.",
            b"\x80\x02U\x01\xff.",
        ];
        for bytes in table {
            let pickle = read_plain(bytes).unwrap();
            assert!(matches!(pickle.get(pickle.root()), Object::Opaque | Object::Call { .. }), "{pickle:?}");
        }
        // Python 2's collections.OrderedDict([["a", 1]]).
        let pickle = read_plain(b"\x80\x02ccollections\nOrderedDict\n]]U\x01aaK\x01aa\x85R.").unwrap();
        let [(key, value)] = *pickle.dictionary(pickle.root()).unwrap() else { panic!("{pickle:?}") };
        assert_eq!((pickle.text(key), pickle.size(value)), (Some("a"), Some(1)));
    }

    #[test]
    fn nonsense_is_an_error() {
        let long_name = [b"c".repeat(LONGEST_NAME + 2).as_slice(), b"\nx\n."].concat();
        let table: [&[u8]; 14] = [
            b"",
            b"\x80",
            b".",
            b"t.",
            b"X\xff\xff\xff\xffabc.",
            &long_name,
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
        let pickle = read_plain(&bytes).unwrap();
        assert!(pickle.tuple(pickle.root()).is_some());
        let many = vec![b')'; MOST_OBJECTS + 2];
        assert!(read_plain(&many).unwrap_err().to_string().contains("more than"));
    }
}
