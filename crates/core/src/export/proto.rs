//! The wire format of protobuf, as far as an ONNX model needs it: whole numbers and what has a length.
//!
//! A message is a list of fields. A field is a tag, `number << 3 | kind`, and its content: a number in groups of seven bits
//! (kind 0), a length and so many bytes (kind 2): a text, another message, or the four bytes of a float (kind 5). A list is its field once for each item. The numbers
//! of the fields are those of `onnx.proto`.

use std::io::Write;

/// A message in the making. Long contents stay where they are until they are written.
#[derive(Default)]
pub(super) struct Message {
    pieces: Vec<Vec<u8>>,
}

impl Message {
    /// A whole number; negative ones too, as ten bytes.
    pub(super) fn int(mut self, field: u64, value: i64) -> Self {
        self.varint(field << 3);
        self.varint(value as u64);
        self
    }

    /// A number in float32.
    pub(super) fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.pieces.push(value.to_le_bytes().to_vec());
        self
    }

    /// A text.
    pub(super) fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes().to_vec())
    }

    /// Bytes.
    pub(super) fn bytes(mut self, field: u64, value: Vec<u8>) -> Self {
        self.tag(field, value.len());
        self.pieces.push(value);
        self
    }

    /// A message within.
    pub(super) fn message(mut self, field: u64, message: Message) -> Self {
        self.tag(field, message.len());
        self.pieces.extend(message.pieces);
        self
    }

    /// A field for each of `items`, as `add` adds it.
    pub(super) fn all<T>(self, items: impl IntoIterator<Item = T>, add: impl Fn(Self, T) -> Self) -> Self {
        items.into_iter().fold(self, add)
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// Writes all of it.
    pub(super) fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        self.pieces.iter().try_for_each(|piece| out.write_all(piece))
    }

    fn tag(&mut self, field: u64, length: usize) {
        self.varint(field << 3 | 2);
        self.varint(length as u64);
    }

    fn varint(&mut self, mut value: u64) {
        const FEW: usize = 256;
        if self.pieces.last().is_none_or(|piece| piece.len() > FEW) {
            self.pieces.push(Vec::new());
        }
        let Some(piece) = self.pieces.last_mut() else { return };
        while value >= 0x80 {
            piece.push(value as u8 | 0x80);
            value >>= 7;
        }
        piece.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(message: &Message) -> Vec<u8> {
        let mut out = Vec::new();
        message.write(&mut out).unwrap();
        assert_eq!(out.len(), message.len());
        out
    }

    #[test]
    fn fields_are_those_of_the_format() {
        // 150 is the example of protobuf's own documentation; -1 takes ten bytes.
        assert_eq!(bytes(&Message::default().int(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(bytes(&Message::default().float(2, 1.0)), [0x15, 0x00, 0x00, 0x80, 0x3f]);
        let minus = [[0x08].as_slice(), &[0xff; 9], &[0x01]].concat();
        assert_eq!(bytes(&Message::default().int(1, -1)), minus);
        assert_eq!(bytes(&Message::default().text(2, "testing")), [b"\x12\x07".as_slice(), b"testing"].concat());
        let several = Message::default().all([3, 270], |message, value| message.int(6, value));
        assert_eq!(bytes(&several), [0x30, 3, 0x30, 0x8e, 2]);
        let within = Message::default().message(3, Message::default().int(1, 150));
        assert_eq!(bytes(&within), [0x1a, 3, 0x08, 0x96, 0x01]);
    }

    #[test]
    fn long_contents_have_their_length_before_them() {
        let long = vec![7; 300];
        let outer = Message::default().message(1, Message::default().bytes(2, long.clone()).int(3, 1));
        let inner = [[0x12, 0xac, 0x02].as_slice(), &long, &[0x18, 1]].concat();
        assert_eq!(bytes(&outer), [[0x0a, 0xb1, 0x02].as_slice(), &inner].concat());
    }
}
