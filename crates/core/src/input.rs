//! Reading what a user wrote: JSON to typed values, with errors that name the option, what was expected and what came.
//!
//! [`read`] is a serde deserialiser over a JSON value that knows where it is, so plain `#[derive(Deserialize)]` types get
//! errors such as `losses[1].delta: invalid value: expected a number greater than 0, received "1"`. Ranges are types
//! ([`Whole`], [`Positive`], ...), on a field of another type by [`via`]. What serde would buffer, and so lose the place
//! of (enums told apart by a field), reads itself from [`At`]: see `tagged!`.
//!
//! JavaScript has values that JSON has not. They come as texts that begin with a zero byte, which no option's text may
//! hold: `"\0NaN"` is NaN.

use std::cell::RefCell;
use std::fmt;
use std::path::{Component, MAIN_SEPARATOR, Path, PathBuf};

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Code, Error, Result};
use crate::spelling::likely;

/// The largest whole number that JavaScript holds exactly.
pub const SAFE: u64 = (1 << 53) - 1;

/// Reads `value`, which errors call `name`; the empty name is that of all options, whose fields need no other.
///
/// # Errors
/// `ERR_INVALID_OPTION`, `ERR_UNKNOWN_OPTION`: the subject is the field, `name.field[2]`.
pub fn read<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T> {
    T::deserialize(Reader { value, path: name.into(), opened: false }).map_err(|refusal| refusal.error)
}

/// Reads `value` as the types of this library write it: null is nothing, and not refused.
pub fn read_written<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| Error::new(Code::Internal, format!("a value has another form: {e}")))
}

/// `value` as JSON.
pub fn write(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::new(Code::Internal, format!("a value has no JSON form: {e}")))
}

/// An `ERR_INVALID_OPTION` about `subject`.
pub fn invalid(subject: impl Into<String>, expected: impl Into<String>, received: impl Into<String>) -> Error {
    Error::new(Code::InvalidOption, "invalid value").with_subject(subject).with_values(expected, received)
}

/// An `ERR_INVALID_OPTION` about an option that was left out.
pub fn needed(subject: impl Into<String>) -> Error {
    Error::new(Code::InvalidOption, "this option is needed").with_subject(subject)
}

/// An `ERR_UNKNOWN_OPTION` about the field `name` of what `path` is, which has the fields `known`.
pub fn unknown(path: &str, name: &str, known: &[&str]) -> Error {
    let error = Error::new(Code::UnknownOption, "there is no such option")
        .with_subject(join(path, name))
        .with_values(format!("one of {}", known.join(", ")), format!("{name:?}"));
    suggest(error, name, known)
}

/// `value`, if it is one of `known`.
pub fn one_of<'a>(subject: &str, value: &Value, known: &[&'a str]) -> Result<&'a str> {
    if let Some(found) = known.iter().find(|known| value.as_str() == Some(known)) {
        return Ok(found);
    }
    Err(suggest(invalid(subject, choices(known), show(value)), value.as_str().unwrap_or_default(), known))
}

fn choices(known: &[&str]) -> String {
    known.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")
}

fn suggest(error: Error, word: &str, known: &[&str]) -> Error {
    match likely(word, known) {
        Some(near) => error.with_advice(format!("did you mean {near:?}?")),
        None => error,
    }
}

/// `path.name`; the options themselves have no name.
fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

/// A value in an error message: short, and never a whole array.
pub fn show(value: &Value) -> String {
    match value {
        Value::String(text) => match text.strip_prefix('\0') {
            Some(other) => other.into(),
            None if text.chars().count() > 60 => format!("{:?}", text.chars().take(57).collect::<String>() + "..."),
            None => format!("{text:?}"),
        },
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(fields) if fields.is_empty() => "an object with no keys".into(),
        Value::Object(fields) => {
            format!("an object with {}", fields.keys().take(5).map(String::as_str).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A value with its place, for types that read themselves.
#[derive(Clone, Debug)]
pub struct At {
    /// The name in errors.
    pub path: String,
    /// The value.
    pub value: Value,
}

impl At {
    /// The value as a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        read(&self.path, &self.value)
    }

    /// Takes the field `kind` out, which is one of `kinds`; the other fields stay.
    pub fn take_kind(&mut self, kinds: &[&'static str], expected: &str) -> Result<&'static str> {
        let Value::Object(fields) = &mut self.value else {
            return Err(invalid(&self.path, expected, show(&self.value)));
        };
        let kind = fields.shift_remove("kind").unwrap_or(Value::String("\0undefined".into()));
        one_of(&join(&self.path, "kind"), &kind, kinds)
    }

    /// Moves the fields `names` into a value of their own.
    pub fn split(&mut self, names: &[&str]) -> At {
        let mut taken = serde_json::Map::new();
        if let Value::Object(fields) = &mut self.value {
            for name in names {
                taken.extend(fields.shift_remove(*name).map(|value| (name.to_string(), value)));
            }
        }
        At { path: self.path.clone(), value: Value::Object(taken) }
    }

    /// The error about the field that is its subject, under its full name.
    pub fn place(&self, mut error: Error) -> Error {
        error.subject = Some(error.subject.map_or(self.path.clone(), |name| join(&self.path, &name)));
        error
    }
}

/// The name by which [`At`] asks [`Reader`] for itself.
const AT: &str = "rkd::At";

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<At, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = At;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<At, A::Error> {
                let path = seq.next_element()?.unwrap_or_default();
                Ok(At { path, value: seq.next_element()?.unwrap_or_default() })
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<At, D::Error> {
                Ok(At { path: String::new(), value: Value::deserialize(deserializer)? })
            }
        }
        deserializer.deserialize_newtype_struct(AT, Visit)
    }
}

thread_local! {
    /// The error that [`carry`] sends through serde, whose own errors are texts, with that text.
    static CARRIED: RefCell<Option<(String, Error)>> = const { RefCell::new(None) };
}

/// An error of this library as one of serde's.
pub fn carry<E: de::Error>(error: Error) -> E {
    let text = error.to_string();
    CARRIED.set(Some((text.clone(), error)));
    E::custom(text)
}

/// An error on its way up to the [`Reader`] of the value that it is about.
#[derive(Debug)]
struct Refusal {
    error: Error,
    /// Whether it has its full subject.
    placed: bool,
}

impl Refusal {
    fn new(error: Error) -> Self {
        Refusal { error, placed: false }
    }

    fn expected(what: &dyn fmt::Display) -> Self {
        // serde's words for its own types.
        let expected = match what.to_string().as_str() {
            "f64" | "f32" => "a number".into(),
            "a boolean" => "true or false".into(),
            "a string" | "a borrowed string" => "a text".into(),
            "a sequence" => "a list".into(),
            "usize" | "u64" | "u32" => "a whole number at least 0".into(),
            "a map" => "an object".into(),
            text if text.starts_with("struct ") => "an object".into(),
            text => text.to_string(),
        };
        let mut error = Error::new(Code::InvalidOption, "invalid value");
        error.expected = Some(expected);
        Refusal::new(error)
    }

    /// About `value` at `path`, unless a part of it is what it is about.
    fn place(mut self, path: &str, value: &Value) -> Self {
        if !self.placed {
            self.placed = true;
            let error = &mut self.error;
            error.subject = match error.subject.take() {
                Some(field) => Some(join(path, &field)),
                None => Some(path.into()).filter(|path: &String| !path.is_empty()).or(Some("options".into())),
            };
            if error.expected.is_some() && error.received.is_none() {
                error.received = Some(show(value));
            }
        }
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        match CARRIED.take() {
            Some((carried, error)) if carried == text => Refusal { placed: true, error },
            _ => Refusal::new(Error::new(Code::InvalidOption, text)),
        }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Refusal::expected(&expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Refusal::expected(&expected)
    }

    fn invalid_length(_: usize, expected: &dyn de::Expected) -> Self {
        Refusal::expected(&expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut error = Error::new(Code::InvalidOption, "invalid value");
        error.expected = Some(choices(expected));
        Refusal::new(suggest(error, variant, expected))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Refusal::new(unknown("", field, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Refusal::new(needed(field))
    }
}

/// Deserialises a value, and says its place in errors.
struct Reader<'v> {
    value: &'v Value,
    path: String,
    /// Whether an `Option` around it has been read: then null is nothing. Null alone is no way to leave an option out.
    opened: bool,
}

impl<'v> Reader<'v> {
    fn child(&self, value: &'v Value, path: String) -> Reader<'v> {
        Reader { value, path, opened: false }
    }

    /// Visits the value as it is.
    fn visit<'de, V: Visitor<'de>>(&self, visitor: V, in_map: bool) -> Result<V::Value, Refusal> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), ..) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (.., value) => visitor.visit_f64(value.unwrap_or(f64::NAN)),
            },
            Value::String(text) if text.starts_with('\0') => Err(de::Error::invalid_type(Unexpected::Unit, &visitor)),
            Value::String(text) => visitor.visit_str(text),
            Value::Array(items) => visitor.visit_seq(Items { reader: self, items: items.iter().enumerate() }),
            Value::Object(fields) => {
                visitor.visit_map(Fields { reader: self, fields: fields.iter(), current: None, in_map })
            }
        }
    }
}

macro_rules! deserialize {
    ($($method:ident($($argument:ident: $kind:ty),*)),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, Refusal> {
            $(let _ = $argument;)*
            self.visit(visitor, false).map_err(|refusal| refusal.place(&self.path, self.value))
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Refusal;

    deserialize!(
        deserialize_any(), deserialize_bool(), deserialize_i8(), deserialize_i16(), deserialize_i32(),
        deserialize_i64(), deserialize_u8(), deserialize_u16(), deserialize_u32(), deserialize_u64(),
        deserialize_f32(), deserialize_f64(), deserialize_char(), deserialize_str(), deserialize_string(),
        deserialize_bytes(), deserialize_byte_buf(), deserialize_unit(), deserialize_seq(),
        deserialize_identifier(), deserialize_ignored_any(),
        deserialize_unit_struct(name: &'static str),
        deserialize_tuple(length: usize),
        deserialize_tuple_struct(name: &'static str, length: usize),
    );

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.visit(visitor, true).map_err(|refusal| refusal.place(&self.path, self.value))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let result = match self.value {
            Value::Array(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)), // serde would take its items in order
            _ => self.visit(visitor, false),
        };
        result.map_err(|refusal| refusal.place(&self.path, self.value))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        match self.value {
            Value::Null if self.opened => visitor.visit_none(),
            _ => visitor.visit_some(Reader { opened: true, ..self }),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let result = match self.value {
            Value::String(text) if !text.starts_with('\0') => {
                let name: StrDeserializer<'_, Refusal> = text.as_str().into_deserializer();
                visitor.visit_enum(name)
            }
            _ => Err(de::Error::unknown_variant("", variants)),
        };
        result.map_err(|refusal: Refusal| refusal.place(&self.path, self.value))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Refusal> {
        if name != AT {
            return visitor.visit_newtype_struct(self);
        }
        let place = [Value::String(self.path.clone()), self.value.clone()];
        visitor.visit_seq(de::value::SeqDeserializer::new(place.into_iter().map(Plain)))
    }
}

/// A value read by its own deserialiser.
struct Plain(Value);

impl<'de> IntoDeserializer<'de, Refusal> for Plain {
    type Deserializer = PlainDeserializer;
    fn into_deserializer(self) -> PlainDeserializer {
        PlainDeserializer(self.0)
    }
}

struct PlainDeserializer(Value);

impl<'de> Deserializer<'de> for PlainDeserializer {
    type Error = Refusal;
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        self.0.deserialize_any(visitor).map_err(de::Error::custom)
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Items<'r, 'v> {
    reader: &'r Reader<'v>,
    items: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_, '_> {
    type Error = Refusal;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refusal> {
        let Some((i, item)) = self.items.next() else { return Ok(None) };
        seed.deserialize(self.reader.child(item, format!("{}[{i}]", self.reader.path))).map(Some)
    }
}

struct Fields<'r, 'v> {
    reader: &'r Reader<'v>,
    fields: serde_json::map::Iter<'v>,
    current: Option<(&'v str, &'v Value)>,
    /// Whether the keys are the user's own: `learningRates["fc"]`.
    in_map: bool,
}

impl<'de> de::MapAccess<'de> for Fields<'_, '_> {
    type Error = Refusal;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refusal> {
        let Some((key, value)) = self.fields.next() else { return Ok(None) };
        self.current = Some((key, value));
        let key: StrDeserializer<'_, Refusal> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refusal> {
        let (key, value) = self.current.take().unwrap_or(("", &Value::Null));
        let path = &self.reader.path;
        let path = if self.in_map { format!("{path}[{key:?}]") } else { join(path, key) };
        seed.deserialize(self.reader.child(value, path))
    }
}

/// Reads a field of type `T` as a `W`, which says its range.
pub fn via<'de, W: Deserialize<'de> + Into<T>, T, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    W::deserialize(deserializer).map(Into::into)
}

/// Reads a field that may be null, which is nothing.
pub fn nullable<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::<Option<T>>::deserialize(deserializer).map(Option::flatten)
}

/// Reads a field of type `T` that may be null, which is nothing, as a `W`.
pub fn nullable_via<'de, W: Deserialize<'de> + Into<T>, T, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(nullable::<W, D>(deserializer)?.map(Into::into))
}

/// Reads a list as one of `W`, which says the range of each item.
pub fn list_via<'de, W: Deserialize<'de> + Into<T>, T, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Vec::<W>::deserialize(deserializer)?.into_iter().map(Into::into).collect())
}

/// A whole number from `FROM` to `TO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Whole<const FROM: u64, const TO: u64 = SAFE>(pub u64);

impl<const FROM: u64, const TO: u64> From<Whole<FROM, TO>> for u64 {
    fn from(Whole(value): Whole<FROM, TO>) -> u64 {
        value
    }
}

impl<const FROM: u64, const TO: u64> From<Whole<FROM, TO>> for usize {
    fn from(Whole(value): Whole<FROM, TO>) -> usize {
        usize::try_from(value).unwrap_or(usize::MAX)
    }
}

impl<'de, const FROM: u64, const TO: u64> Deserialize<'de> for Whole<FROM, TO> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let to = if TO == SAFE { String::new() } else { format!(" and at most {TO}") };
        let expected = format!("a whole number at least {FROM}{to}");
        let fits = |value: f64| value.fract() == 0.0 && value >= FROM as f64 && value <= TO as f64;
        number(deserializer, &expected, fits).map(|value| Whole(value as u64))
    }
}

fn number<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &str,
    fits: impl Fn(f64) -> bool,
) -> Result<f64, D::Error> {
    struct Visit<'e, F>(&'e str, F);
    impl<F: Fn(f64) -> bool> Visitor<'_> for Visit<'_, F> {
        type Value = f64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
            if value.is_finite() && (self.1)(value) {
                return Ok(value);
            }
            Err(E::invalid_value(Unexpected::Float(value), &self))
        }
        fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
            self.visit_f64(value as f64)
        }
        fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
            self.visit_f64(value as f64)
        }
    }
    deserializer.deserialize_f64(Visit(expected, fits))
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident: $expected:literal, $fits:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name(pub f64);

        impl From<$name> for f64 {
            fn from($name(value): $name) -> f64 {
                value
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                number(deserializer, $expected, $fits).map($name)
            }
        }
    )*};
}

numbers! {
    /// Any finite number.
    Finite: "a number", |_| true;
    /// A number greater than 0.
    Positive: "a number greater than 0", |value| value > 0.0;
    /// A number at least 0.
    NotNegative: "a number at least 0", |value| value >= 0.0;
    /// A number in `[0, 1)`.
    Share: "a number at least 0 and less than 1", |value| (0.0..1.0).contains(&value);
    /// A number in `[0, 1]`.
    Unit: "a number at least 0 and at most 1", |value| (0.0..=1.0).contains(&value);
    /// A number in `(0, 1]`.
    Factor: "a number greater than 0 and at most 1", |value| value > 0.0 && value <= 1.0;
    /// A number in `(0, 100]`.
    Hundredfold: "a number greater than 0 and at most 100", |value| value > 0.0 && value <= 100.0;
    /// Degrees between 0 and 90.
    Acute: "a number greater than 0 and less than 90", |value| value > 0.0 && value < 90.0;
    /// Degrees in `[0, 180]`.
    HalfTurn: "a number at least 0 and at most 180", |value| (0.0..=180.0).contains(&value);
    /// Degrees in `[0, 80]`.
    Shear: "a number at least 0 and at most 80", |value| (0.0..=80.0).contains(&value);
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident: $expected:literal, $fits:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(pub String);

        impl From<$name> for String {
            fn from($name(value): $name) -> String {
                value
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visit;
                impl Visitor<'_> for Visit {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        let fits: fn(&str) -> bool = $fits;
                        if fits(text) { Ok($name(text.into())) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
                    }
                }
                deserializer.deserialize_str(Visit)
            }
        }
    )*};
}

texts! {
    /// A text that is not empty.
    Text: "a text that is not empty", |text| !text.trim().is_empty();
}

/// A path on this machine, as the system takes it. A `file:` URL is the path that it names, and `~` at the start the home
/// folder of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathText(pub String);

impl PathText {
    /// The path from the root on.
    pub fn absolute(&self) -> PathBuf {
        absolute(&self.0)
    }

    fn read(at: &At) -> Result<PathText> {
        let refuse = |expected: &str| invalid(&at.path, expected, show(&at.value));
        let text = match &at.value {
            Value::String(text) if !text.trim().is_empty() && !text.contains('\0') => text,
            _ => return Err(refuse("a path, without a zero byte")),
        };
        if let Some(below) =
            text.strip_prefix('~').filter(|below| below.is_empty() || below.starts_with(['/', MAIN_SEPARATOR]))
        {
            let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
            let home = home.and_then(|home| home.into_os_string().into_string().ok());
            return home.map(|home| PathText(home + below)).ok_or_else(|| {
                refuse("a path from the root on").with_advice("the system knows no home folder of this user")
            });
        }
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, rest)| is_scheme(scheme, rest)) else {
            return Ok(PathText(text.clone()));
        };
        if scheme.eq_ignore_ascii_case("file") {
            let expected = "a file: URL of this machine, for example \"file:///home/me/photos\"";
            return path_of_url(rest).map(PathText).ok_or_else(|| refuse(expected));
        }
        Err(refuse("a path on this machine").with_advice(
            "nothing is downloaded: fetch it with a program of your choice, and give the path of what it wrote",
        ))
    }
}

/// Whether `scheme:rest` is a URL: `s3://bucket`, not `C:\photos` or `glyphs:classes=10`.
fn is_scheme(scheme: &str, rest: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    let named = scheme.len() > 1 && scheme.starts_with(|letter: char| letter.is_ascii_alphabetic());
    named && scheme.chars().all(letters) && (rest.starts_with("//") || scheme.eq_ignore_ascii_case("file"))
}

/// The path that `file:` and `rest` name (RFC 8089); nothing where it is another machine's or no path.
fn path_of_url(rest: &str) -> Option<String> {
    let rest = rest.split(['?', '#']).next()?;
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(rest),
        None => rest,
    };
    let path = path.strip_prefix('/')?;
    let root = if cfg!(windows) { "" } else { "/" };
    let mut bytes = root.as_bytes().to_vec();
    let mut parts = path.split('%');
    bytes.extend(parts.next()?.bytes());
    for part in parts {
        let byte = u8::from_str_radix(part.get(..2)?, 16).ok().filter(|byte| ![0, b'/'].contains(byte))?;
        bytes.push(byte);
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).ok()
}

impl From<PathText> for PathBuf {
    fn from(PathText(path): PathText) -> PathBuf {
        path.into()
    }
}

impl<'de> Deserialize<'de> for PathText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PathText::read(&At::deserialize(deserializer)?).map_err(carry)
    }
}

thread_local! {
    /// See [`start_paths_at`].
    static START: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Says where relative paths begin on this thread from now on; none: the working directory of the moment.
pub fn start_paths_at(folder: Option<PathBuf>) {
    START.set(folder);
}

/// `path` from the root on, without `.` and `..`.
pub fn absolute(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let path = START.with_borrow(|start| start.as_deref().map_or_else(|| path.to_path_buf(), |start| start.join(path)));
    let whole = std::path::absolute(&path).unwrap_or(path);
    let mut clean = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    clean
}

/// Defines an enum whose variants are told apart by the field `kind`, with their names, and reads it from [`At`]. A field
/// with `#[serde(default = ...)]` may be left out.
macro_rules! tagged {
    (
        $(#[$meta:meta])*
        $what:literal,
        $typescript:literal,
        pub enum $name:ident {$(
            $(#[$variant_meta:meta])*
            $kind:literal => $variant:ident {$(
                $(#[$field_meta:meta])*
                $field:ident: $type:ty,
            )*},
        )*}
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[cfg_attr(test, derive(ts_rs::TS))]
        #[cfg_attr(test, ts(rename = $typescript))]
        #[serde(tag = "kind", rename_all_fields = "camelCase")]
        pub enum $name {$(
            $(#[$variant_meta])*
            #[serde(rename = $kind)]
            $variant {$(
                $(#[$field_meta])*
                $field: $type,
            )*},
        )*}

        impl $name {
            /// The kinds there are.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            fn read(mut at: $crate::input::At) -> $crate::error::Result<Self> {
                let found: Self = match at.take_kind(Self::KINDS, $what)? {
                    $($kind => {
                        #[derive(serde::Deserialize)]
                        #[serde(rename_all = "camelCase", deny_unknown_fields)]
                        struct Fields {$(
                            $(#[$field_meta])*
                            $field: $type,
                        )*}
                        let Fields { $($field),* } = at.read()?;
                        Self::$variant { $($field),* }
                    })*
                    other => unreachable!("{other} is one of KINDS"),
                };
                found.validate().map_err(|error| at.place(error))?;
                Ok(found)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::read($crate::input::At::deserialize(deserializer)?).map_err($crate::input::carry)
            }
        }
    };
}
pub(crate) use tagged;

/// The names of the fields of the struct `T`, as they are read.
pub fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Names<'n>(&'n mut &'static [&'static str]);
    impl<'de> Deserializer<'de> for Names<'_> {
        type Error = Refusal;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refusal> {
            Err(de::Error::custom("only structs have fields"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Refusal> {
            *self.0 = fields;
            Err(de::Error::custom("the names are all that was asked for"))
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut names: &'static [&'static str] = &[];
    let _ = T::deserialize(Names(&mut names));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<String> {
        read::<PathText>("data", &text.into()).map(|path| path.0)
    }

    #[test]
    fn a_path_may_be_a_file_url_or_begin_at_home() {
        let home = std::env::home_dir().unwrap().into_os_string().into_string().unwrap();
        for (text, expected) in [
            ("photos", "photos".into()),
            ("~user/photos", "~user/photos".into()),
            ("a/~", "a/~".into()),
            ("C:\\photos", "C:\\photos".into()),
            ("glyphs:classes=10", "glyphs:classes=10".into()),
            ("runs:2/a", "runs:2/a".into()),
            ("~", home.clone()),
            ("~/photos", format!("{home}/photos")),
        ] {
            assert_eq!(path(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_file_url_is_its_path() {
        for text in ["file:///a/b%20c", "file:/a/b%20c", "FILE://localhost/a/b%20c", "file:///a/b%20c?x#y"] {
            assert_eq!(path(text).unwrap(), "/a/b c");
        }
        for text in ["file://server/a", "file:a", "file:///a%2Fb", "file:///a%00", "file:///a%zz", "file:///a%"] {
            assert!(path(text).unwrap_err().to_string().contains("expected a file: URL of this machine"), "{text}");
        }
    }

    #[test]
    fn nothing_is_downloaded() {
        for text in ["https://a.example/b.zip", "s3://bucket/a", "hf://datasets/a", "gs://a", "HTTP://a"] {
            let message = path(text).unwrap_err().to_string();
            let expected = format!(
                "data: invalid value: expected a path on this machine, received {text:?}. Nothing is downloaded"
            );
            assert!(message.starts_with(&expected), "{message}");
        }
    }
}
