//! Procedurally drawn handwritten characters: the data set that needs no file.
//!
//! A *class* is a skeleton of one to four strokes ([`skeleton`]) drawn from the seed once; a *writer* is a hand with its own
//! slant, width, size, proportions and wobble ([`hand`]); an *image* is the skeleton in that hand with a fresh bit of
//! carelessness, drawn as antialiased ink ([`raster`]), bright on black. Everything is a pure function of
//! (seed, class, writer, image size).
//!
//! Each writer draws each character once, as in Omniglot (Lake, Salakhutdinov, Tenenbaum, 2015), whose look is the model:
//! a network has to learn the strokes and to overlook the hand.

pub mod hand;
pub mod raster;
pub mod skeleton;

use std::fmt;

use crate::error::{Code, Error, Result};
use crate::random::Random;

/// Which glyphs: `glyphs`, or `glyphs:classes=400,writers=20,seed=7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlyphSpec {
    /// Number of characters, 2 to 10,000; 240 by default.
    pub classes: usize,
    /// Number of writers, so of images of each character, 1 to 1,000; 20 by default.
    pub writers: usize,
    /// Seed of characters and hands; 0 by default. Not the run's seed: the data stay the same from run to run.
    pub seed: u64,
}

impl Default for GlyphSpec {
    fn default() -> Self {
        GlyphSpec { classes: 240, writers: 20, seed: 0 }
    }
}

impl fmt::Display for GlyphSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "glyphs:classes={},writers={},seed={}", self.classes, self.writers, self.seed)
    }
}

impl GlyphSpec {
    /// Reads `glyphs` or `glyphs:key=value,...`.
    ///
    /// # Errors
    /// When a key is unknown or a number out of range.
    pub fn parse(text: &str) -> Result<GlyphSpec> {
        let mut spec = GlyphSpec::default();
        let options = text.strip_prefix("glyphs").unwrap_or(text).trim_start_matches(':');
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number: Option<u64> = value.trim().parse().ok();
            let limited = |low: u64, high: u64| {
                number
                    .filter(|n| (low..=high).contains(n))
                    .ok_or_else(|| invalid(text, format!("{key}={low} to {key}={high}"), option))
            };
            match key.trim() {
                "classes" => spec.classes = limited(2, 10_000)? as usize,
                "writers" => spec.writers = limited(1, 1_000)? as usize,
                "seed" => spec.seed = limited(0, u64::MAX)?,
                _ => return Err(invalid(text, "classes=, writers= or seed=".into(), option)),
            }
        }
        Ok(spec)
    }

    /// Draws one image into `out` (`[size, size, channels]`; all channels alike).
    pub fn draw(&self, class: usize, writer: usize, size: usize, channels: usize, out: &mut [u8]) {
        assert_eq!(out.len(), size * size * channels, "out is [size, size, channels]");
        let skeleton = skeleton::skeleton(&mut Random::keyed(self.seed, 0, class as u64, "glyph character"));
        let hand = hand::Hand::new(&mut Random::keyed(self.seed, 0, writer as u64, "glyph hand"));
        let image = (class * 1_000 + writer) as u64;
        let strokes = hand.write(&skeleton, &mut Random::keyed(self.seed, 0, image, "glyph image"));
        raster::draw(&strokes, size, channels, out);
    }
}

fn invalid(text: &str, expected: String, received: &str) -> Error {
    Error::new(Code::InvalidOption, "the glyphs cannot be drawn as asked")
        .with_subject(text)
        .with_values(expected, received)
        .with_advice("write for example glyphs:classes=400,writers=20,seed=7")
}
