//! How large a picture may be.

/// Largest picture that is decoded, in pixels: 64 million, more than any phone's ordinary photograph.
pub const MAX_PIXELS: u64 = 64_000_000;

/// Largest memory that one decoder may take for a picture, in bytes (64 million pixels of 4 channels of 16 bits).
pub const MAX_DECODER_BYTES: u64 = 512 << 20;

/// Whether a picture of this size is decoded.
///
/// # Errors
/// A clause that says what it is.
pub fn check_size(width: u32, height: u32) -> Result<(), String> {
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let limit = MAX_PIXELS / 1_000_000;
        return Err(format!("has {width}x{height} pixels; at most {limit} million are decoded, make it smaller"));
    }
    if width == 0 || height == 0 {
        return Err(format!("has {width}x{height} pixels"));
    }
    Ok(())
}

/// What a decoder that needs more memory says of its picture, a clause.
pub fn too_large() -> String {
    format!("is too large to decode within {} MiB; make it smaller", MAX_DECODER_BYTES >> 20)
}
