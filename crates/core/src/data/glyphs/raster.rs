//! Ink to pixels: each pixel is as bright as the part of it that the nearest stroke covers.
//!
//! A stroke is a chain of capsules (segments with round ends and a half-width that changes along them). With d the distance
//! of a pixel's centre from a segment and r its half-width, both in pixels, the pixel is covered by
//! clamp(r + 1/2 - d, 0, 1), which is exact for a long straight edge and close to it elsewhere; a line thinner than a
//! pixel is drawn one pixel wide and fainter.

use super::hand::Ink;
use super::skeleton::Point;

/// Draws ink (unit square) bright on black into `out` (`[size, size, channels]`).
pub fn draw(inks: &[Ink], size: usize, channels: usize, out: &mut [u8]) {
    let mut covered = vec![0f64; size * size];
    let scale = size as f64;
    for ink in inks {
        for pair in ink.windows(2) {
            let [(a, r), (b, s)] = [pair[0], pair[1]].map(|((x, y), pen)| ((x * scale, y * scale), pen * scale));
            capsule(a, r, b, s, size, &mut covered);
        }
    }
    for (pixel, &cover) in out.chunks_exact_mut(channels).zip(&covered) {
        pixel.fill((cover * 255.0).round() as u8);
    }
}

fn capsule(a: Point, r: f64, b: Point, s: f64, size: usize, covered: &mut [f64]) {
    let reach = r.max(s).max(0.5) + 1.0;
    let range = |p: f64, q: f64| {
        let low = (p.min(q) - reach).floor().clamp(0.0, size as f64) as usize;
        let high = (p.max(q) + reach).ceil().clamp(0.0, size as f64) as usize;
        low..high
    };
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let square = (dx * dx + dy * dy).max(1e-12);
    for y in range(a.1, b.1) {
        for x in range(a.0, b.0) {
            let (px, py) = (x as f64 + 0.5 - a.0, y as f64 + 0.5 - a.1);
            let t = ((px * dx + py * dy) / square).clamp(0.0, 1.0);
            let radius = r + t * (s - r);
            let distance = (px - t * dx).hypot(py - t * dy);
            let cover = (radius.max(0.5) + 0.5 - distance).clamp(0.0, 1.0) * (2.0 * radius).min(1.0);
            let pixel = &mut covered[y * size + x];
            *pixel = pixel.max(cover);
        }
    }
}
