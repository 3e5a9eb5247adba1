//! NumPy's array file, version 1.0: float32, C order.
//!
//! Layout (numpy.lib.format): `\x93NUMPY`, 1, 0, header length as u16, the header (a Python dictionary, padded with
//! spaces so that the data starts at a multiple of 64), then the values, little-endian.

use std::path::Path;

use super::file::write_atomically;
use crate::error::Result;
use crate::tensor::HostTensor;

/// Writes one float32 array; `numpy.load` reads it.
pub fn write(path: &Path, tensor: &HostTensor) -> Result<()> {
    let header = header(&tensor.shape);
    write_atomically(path, |out| {
        out.write_all(&header)?;
        tensor.data.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
    })
}

/// What stands before the values of an array of this shape.
pub fn header(shape: &[usize]) -> Vec<u8> {
    let axes: String = shape.iter().map(|length| format!("{length}, ")).collect();
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({axes}), }}");
    let before = 10 + text.len() + 1;
    text.push_str(&" ".repeat(before.next_multiple_of(64) - before));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_documented_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write(&path, &HostTensor { shape: vec![2, 3], data: vec![0.0, 1.0, 2.0, 3.0, 4.0, -5.5] }).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        assert_eq!((10 + length) % 64, 0);
        let text = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert!(text.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, ), }"), "{text}");
        assert!(text.ends_with('\n'));
        assert_eq!(bytes.len(), 10 + length + 24);
        assert_eq!(&bytes[bytes.len() - 4..], (-5.5f32).to_le_bytes());
    }
}
