//! What a character is: one to four strokes, each a line of points, before any hand writes it.
//!
//! Strokes are what scripts are made of: straight strokes between the places of a 3 x 4 grid, arcs, hooks (a straight
//! stroke that ends in a bow), waves and curves through several places, loops, and rarely a dot. A further stroke mostly
//! starts on an earlier one or crosses it, as in letters.

use std::f64::consts::{PI, TAU};

use crate::random::Random;

/// Points of the plane; a glyph lies around the unit square, x to the right and y down.
pub type Point = (f64, f64);

/// A stroke: points close enough together to be joined by straight lines.
pub type Stroke = Vec<Point>;

/// Draws a character; it fills the unit square in its longer direction and is centred.
pub fn skeleton(random: &mut Random) -> Vec<Stroke> {
    let count = [1, 1, 2, 2, 2, 2, 3, 3, 3, 4][random.below(10)];
    let mut strokes: Vec<Stroke> = Vec::new();
    // One stroke alone must be a curve, or half of all characters would be bare lines.
    while strokes.len() < count {
        let start = match strokes.last() {
            Some(_) if random.uniform() < 0.7 => on_stroke(&strokes, random),
            _ => grid(random),
        };
        let stroke = if count == 1 { curve(start, random) } else { any_stroke(start, random) };
        let is_dot = stroke.len() < 8;
        if if is_dot { strokes.len() > 1 } else { length(&stroke) > 0.25 && adds_ink(&stroke, &strokes) } {
            strokes.push(stroke);
        }
    }
    fit(&mut strokes);
    strokes
}

/// A place of the grid, a little beside it.
fn grid(random: &mut Random) -> Point {
    let x = [0.08, 0.5, 0.92][random.below(3)];
    let y = [0.04, 0.35, 0.65, 0.96][random.below(4)];
    (x + 0.05 * random.normal(), y + 0.05 * random.normal())
}

/// A place on an earlier stroke: an end, the middle, or anywhere.
fn on_stroke(strokes: &[Stroke], random: &mut Random) -> Point {
    let stroke = &strokes[random.below(strokes.len())];
    let last = stroke.len() - 1;
    stroke[[0, last, last / 2, random.below(stroke.len())][random.below(4)]]
}

fn any_stroke(start: Point, random: &mut Random) -> Stroke {
    match random.below(20) {
        0..=6 => straight(start, random),
        7..=10 => arc(start, random),
        11..=13 => hook(start, random),
        14..=16 => through_places(start, random),
        17..=18 => loop_at(start, random),
        _ => dot(grid(random)),
    }
}

fn curve(start: Point, random: &mut Random) -> Stroke {
    match random.below(5) {
        0 => {
            let mut stroke = arc(start, random);
            let end = stroke[stroke.len() - 1];
            stroke.extend(straight(end, random));
            stroke
        }
        1 => {
            let mut stroke = hook(start, random);
            let end = stroke[stroke.len() - 1];
            stroke.extend(arc(end, random));
            stroke
        }
        2 => {
            let mut stroke = loop_at(start, random);
            let end = stroke[stroke.len() - 1];
            stroke.extend(through_places(end, random));
            stroke
        }
        _ => through_places(start, random),
    }
}

/// A straight stroke, mostly level, upright, or along a diagonal.
fn straight(start: Point, random: &mut Random) -> Stroke {
    let angle = [0.0, 0.0, 0.5, 0.5, 0.5, 0.25, 0.75][random.below(7)] * PI + 0.08 * random.normal();
    let reach = random.between(0.35, 0.95);
    // Towards the middle of the square, so that the character stays together.
    let inward = (0.5 - start.0) * angle.cos() + (0.5 - start.1) * angle.sin() + 0.05 * random.normal() >= 0.0;
    let reach = if inward { reach } else { -reach };
    sampled(16, |t| (start.0 + t * reach * angle.cos(), start.1 + t * reach * angle.sin()))
}

/// Part of an ellipse, from a quarter to nearly all of it.
fn arc(start: Point, random: &mut Random) -> Stroke {
    let (rx, ry) = (random.between(0.18, 0.45), random.between(0.18, 0.42));
    let from = random.below(8) as f64 * TAU / 8.0 + 0.1 * random.normal();
    let sweep = random.between(0.3, 0.85) * TAU * if random.uniform() < 0.5 { 1.0 } else { -1.0 };
    let centre = (start.0 - rx * from.cos(), start.1 - ry * from.sin());
    sampled(40, |t| {
        let angle = from + t * sweep;
        (centre.0 + rx * angle.cos(), centre.1 + ry * angle.sin())
    })
}

/// A straight stroke that goes over into a bow.
fn hook(start: Point, random: &mut Random) -> Stroke {
    let mut stroke = straight(start, random);
    let (a, b) = (stroke[0], stroke[stroke.len() - 1]);
    let direction = (b.1 - a.1).atan2(b.0 - a.0);
    let side = if random.uniform() < 0.5 { 1.0 } else { -1.0 };
    let radius = random.between(0.1, 0.25);
    let sweep = random.between(0.35, 0.75) * TAU;
    let centre = (b.0 - side * radius * direction.sin(), b.1 + side * radius * direction.cos());
    stroke.extend(sampled(24, |t| {
        let angle = direction - side * PI / 2.0 + side * t * sweep;
        (centre.0 + radius * angle.cos(), centre.1 + radius * angle.sin())
    }));
    stroke
}

/// A smooth curve, or a zigzag, through two to four places of the grid.
fn through_places(start: Point, random: &mut Random) -> Stroke {
    let mut places = vec![start];
    let count = 3 + random.below(3);
    while places.len() < count {
        let place = grid(random);
        let last = places[places.len() - 1];
        if (place.0 - last.0).hypot(place.1 - last.1) > 0.25 {
            places.push(place);
        }
    }
    let cornered = random.uniform() < 0.3;
    let mut stroke = Vec::new();
    for i in 0..places.len() - 1 {
        let at = |j: isize| places[(i as isize + j).clamp(0, places.len() as isize - 1) as usize];
        let [p, q, r, s] = [at(-1), at(0), at(1), at(2)];
        stroke.extend(sampled(16, |t| match cornered {
            true => (q.0 + t * (r.0 - q.0), q.1 + t * (r.1 - q.1)),
            false => (catmull_rom(p.0, q.0, r.0, s.0, t), catmull_rom(p.1, q.1, r.1, s.1, t)),
        }));
    }
    stroke
}

/// The cubic through q (t = 0) and r (t = 1) with slopes (r - p) / 2 and (s - q) / 2 (Catmull, Rom, 1974).
fn catmull_rom(p: f64, q: f64, r: f64, s: f64, t: f64) -> f64 {
    q + 0.5 * t * (r - p + t * (2.0 * p - 5.0 * q + 4.0 * r - s + t * (3.0 * (q - r) + s - p)))
}

/// A small closed ring.
fn loop_at(start: Point, random: &mut Random) -> Stroke {
    let (rx, ry) = (random.between(0.1, 0.26), random.between(0.1, 0.26));
    let from = random.uniform() * TAU;
    let centre = (start.0 - rx * from.cos(), start.1 - ry * from.sin());
    sampled(32, |t| (centre.0 + rx * (from + t * TAU).cos(), centre.1 + ry * (from + t * TAU).sin()))
}

fn dot(at: Point) -> Stroke {
    sampled(3, |t| (at.0 + 0.03 * t, at.1 + 0.03 * t))
}

fn sampled(count: usize, point: impl Fn(f64) -> Point) -> Stroke {
    (0..count).map(|i| point(i as f64 / (count - 1) as f64)).collect()
}

/// Whether most of `stroke` lies clear of the strokes before it: what runs along an earlier stroke cannot be seen, and
/// what is tangled with it cannot be read.
fn adds_ink(stroke: &[Point], before: &[Stroke]) -> bool {
    const CLEAR: f64 = 0.12;
    let is_clear = |p: &&Point| before.iter().flatten().all(|q| (p.0 - q.0).hypot(p.1 - q.1) > CLEAR);
    stroke.iter().filter(is_clear).count() * 2 > stroke.len()
}

/// Length of a stroke.
pub fn length(stroke: &[Point]) -> f64 {
    stroke.windows(2).map(|pair| (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1)).sum()
}

/// Scales and moves all strokes into the unit square. Height and width may differ, but no more than by half again as much
/// as they did, so that flat and slim characters remain.
fn fit(strokes: &mut [Stroke]) {
    let all = || strokes.iter().flatten();
    let low = all().fold((f64::MAX, f64::MAX), |low, p| (low.0.min(p.0), low.1.min(p.1)));
    let high = all().fold((f64::MIN, f64::MIN), |high, p| (high.0.max(p.0), high.1.max(p.1)));
    let (width, height) = ((high.0 - low.0).max(1e-3), (high.1 - low.1).max(1e-3));
    let scale = 1.0 / width.max(height);
    let (x_scale, y_scale) = ((1.5 * scale).min(1.0 / width), (1.5 * scale).min(1.0 / height));
    let middle = ((low.0 + high.0) / 2.0, (low.1 + high.1) / 2.0);
    for point in strokes.iter_mut().flatten() {
        *point = (0.5 + (point.0 - middle.0) * x_scale, 0.5 + (point.1 - middle.1) * y_scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slope at the first of four points of a cubic.
    fn slope(points: [Point; 4]) -> Point {
        let [p, q, r, s] = points;
        let along = |p: f64, q: f64, r: f64, s: f64| -11.0 * p + 18.0 * q - 9.0 * r + 2.0 * s;
        (along(p.0, q.0, r.0, s.0), along(p.1, q.1, r.1, s.1))
    }

    #[test]
    fn strokes_through_places_are_smooth_there_or_bare_lines_between() {
        let (mut smooth, mut cornered) = (0, 0);
        for number in 0..100 {
            let stroke = through_places((0.5, 0.5), &mut Random::keyed(7, number, 0, "stroke"));
            assert_eq!(stroke[0], (0.5, 0.5));
            let pieces = stroke.as_chunks::<16>().0;
            let is_line = |piece: &[Point; 16]| {
                let (straight, whole) = (length(&[piece[0], piece[15]]), length(piece));
                whole - straight < 1e-12
            };
            let all_lines = pieces.iter().all(is_line);
            *if all_lines { &mut cornered } else { &mut smooth } += 1;
            for pair in pieces.windows(2) {
                let [before, after] = [pair[0], pair[1]];
                assert!(length(&[before[15], after[0]]) < 1e-12, "stroke {number} is broken");
                let arriving = slope([before[15], before[14], before[13], before[12]]);
                let leaving = slope([after[0], after[1], after[2], after[3]]);
                let turn = (arriving.0 + leaving.0).hypot(arriving.1 + leaving.1);
                assert!(all_lines || turn < 1e-9, "stroke {number} has a corner of {turn}");
            }
        }
        assert!(smooth > 50 && cornered > 15, "{smooth} {cornered}");
    }
}
