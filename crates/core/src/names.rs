//! Names and texts from outside: bytes of any encoding as text that loses nothing, and forms of one name that are equal.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Endings of images that are read.
pub const IMAGE_ENDINGS: [&str; 16] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "webp", "bmp", "dib", "gif", "tif", "tiff", "pgm", "ppm",
    "pbm",
];

/// A name as text. One in UTF-8 stays as it is; in another, each byte that is no UTF-8, and each of a control character, is
/// written `\x8C` (and a backslash `\\`). Two names never give the same text.
pub fn name_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        // A text that looks escaped is escaped, so that no other name can be written like it.
        Ok(text) if !text.contains("\\x") && !text.contains(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(escaped(bytes, char::is_control)),
    }
}

/// Bytes that are no text, and those of the characters that are `odd`, in hexadecimal.
fn escaped(bytes: &[u8], odd: fn(char) -> bool) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    let hexadecimal = |out: &mut String, bytes: &[u8]| {
        bytes.iter().for_each(|byte| write!(out, "\\x{byte:02X}").expect("a string takes it"));
    };
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => out.push_str("\\\\"),
                _ if odd(letter) => hexadecimal(&mut out, letter.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => out.push(letter),
            }
        }
        hexadecimal(&mut out, chunk.invalid());
    }
    out
}

/// Whether a name is one of those that [`name_of`] escaped.
pub fn is_escaped(name: &str) -> bool {
    name.contains("\\x")
}

/// A small text file's content: UTF-8 or, where it begins with the mark, UTF-16; without its byte-order mark. Bytes of another
/// encoding are written as in names, line by line, so that a list and the names it lists agree.
pub fn text_of(bytes: &[u8]) -> String {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units = bytes.as_chunks::<2>().0.iter().map(|&pair| unit(pair));
        char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => text_of(rest),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains("\\x") => text.to_string(),
            _ => bytes.split(|&byte| byte == b'\n').map(line_of).collect::<Vec<_>>().join("\n"),
        },
    }
}

fn line_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains("\\x") => Cow::Borrowed(text),
        _ => Cow::Owned(escaped(bytes, |_| false)),
    }
}

/// The composed form of a name (Unicode NFC): `é` as one letter, however it is written.
pub fn composed(name: &str) -> Cow<'_, str> {
    if is_nfc(name) { Cow::Borrowed(name) } else { Cow::Owned(name.nfc().collect()) }
}

/// What names that a person takes for the same have in common: composed, and in small letters.
pub fn folded(name: &str) -> String {
    composed(&composed(name).to_lowercase()).into_owned()
}

/// The file beside `path` whose name has `ending` behind that of `path`.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_bytes_give_different_names() {
        let names: [&[u8]; 8] =
            [b"cat", b"\x8c\xa2", b"\x8c\xa3", b"\\x8C\\xA2", b"\\\\x8C", b"\\\x8c", "猫".as_bytes(), b"a\\b"];
        let texts: Vec<Cow<str>> = names.iter().map(|name| name_of(name)).collect();
        assert_eq!(texts[..4], ["cat", "\\x8C\\xA2", "\\x8C\\xA3", "\\\\x8C\\\\xA2"]);
        assert_eq!(texts[6..], ["猫", "a\\b"]);
        assert_eq!(name_of(b"a\x1b[2J\nb"), "a\\x1B[2J\\x0Ab");
        let distinct: std::collections::BTreeSet<_> = texts.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{texts:?}");
    }

    #[test]
    fn texts_lose_their_byte_order_mark() {
        let marked = |unit: fn(u16) -> [u8; 2]| "\u{feff}été\r\nb".encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        for bytes in ["été\r\nb".into(), "\u{feff}été\r\nb".into(), marked(u16::to_le_bytes), marked(u16::to_be_bytes)]
        {
            assert_eq!(text_of(&bytes), "été\r\nb");
        }
        assert_eq!(text_of(b"a\n\x8c\xa2\nb"), "a\n\\x8C\\xA2\nb");
    }

    #[test]
    fn forms_of_a_name_are_equal() {
        assert_eq!(composed("e\u{301}te\u{301}"), "été");
        assert_eq!(folded("E\u{301}t\u{c9}"), "été");
    }
}
