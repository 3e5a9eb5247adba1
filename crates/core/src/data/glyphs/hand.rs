//! How somebody writes: a character's skeleton becomes ink strokes in one hand.

use std::f64::consts::TAU;

use super::skeleton::{Point, Stroke, length};
use crate::random::Random;

/// An ink stroke: points in the unit square (the image) and the pen's half-width there.
pub type Ink = Vec<(Point, f64)>;

/// A writer's habits.
#[derive(Clone, Debug)]
pub struct Hand {
    /// Half-width of the pen as a share of the image's side.
    pen: f64,
    /// Shift to the right of a point one unit higher.
    slant: f64,
    /// Turn of whole characters, in radians.
    turn: f64,
    /// Height of a character as a share of the image's side, and its width as a share of that.
    height: f64,
    breadth: f64,
    /// How far lines tremble, and how many times along a unit.
    wobble: f64,
    tremor: f64,
    /// How far strokes are out of place, size and turn.
    carelessness: f64,
    /// Share of a stroke's length by which it starts late or ends early (or goes on, if negative).
    haste: f64,
    /// How much straight strokes are bowed.
    bow: f64,
}

impl Hand {
    /// Draws a hand.
    pub fn new(random: &mut Random) -> Hand {
        Hand {
            pen: random.between(0.017, 0.031),
            slant: random.between(-0.12, 0.34),
            turn: random.between(-0.12, 0.12),
            height: random.between(0.52, 0.82),
            breadth: random.between(0.75, 1.15),
            wobble: random.between(0.005, 0.022),
            tremor: random.between(0.4, 1.0),
            carelessness: random.between(0.6, 1.5),
            haste: random.between(-0.03, 0.07),
            bow: random.between(-0.06, 0.06),
        }
    }

    /// Writes a character once.
    pub fn write(&self, skeleton: &[Stroke], random: &mut Random) -> Vec<Ink> {
        let turn = self.turn + 0.06 * self.carelessness * random.normal();
        let (sin, cos) = turn.sin_cos();
        let height = self.height * (1.0 + 0.05 * self.carelessness * random.normal());
        let breadth = self.breadth * (1.0 + 0.08 * self.carelessness * random.normal());
        let shift = (0.03 * random.normal(), 0.03 * random.normal());
        let place = |(x, y): Point| {
            let (x, y) = ((x - 0.5) * breadth + (0.5 - y) * self.slant, y - 0.5);
            (0.5 + shift.0 + height * (cos * x - sin * y), 0.5 + shift.1 + height * (sin * x + cos * y))
        };
        let mut inks: Vec<Ink> = skeleton.iter().map(|stroke| self.stroke(stroke, random, place)).collect();
        keep_inside(&mut inks);
        inks
    }

    fn stroke(&self, stroke: &[Point], random: &mut Random, place: impl Fn(Point) -> Point) -> Ink {
        let care = self.carelessness;
        // The stroke as a whole: a little out of place, out of size and turned about its middle.
        let middle = stroke[stroke.len() / 2];
        let offset = (0.028 * care * random.normal(), 0.028 * care * random.normal());
        let (x_size, y_size) = (1.0 + 0.07 * care * random.normal(), 1.0 + 0.07 * care * random.normal());
        let (sin, cos) = (0.07 * care * random.normal()).sin_cos();
        let [bow_x, bow_y] = [0, 1].map(|_| self.bow + 0.02 * care * random.normal());
        // Waves along the stroke that make it tremble, different in x and y.
        let waves: Vec<[f64; 3]> = (0..4)
            .map(|i| [self.tremor * (1.0 + f64::from(i / 2)), random.uniform() * TAU, self.wobble * random.normal()])
            .collect();
        let (pressure, phase) = (0.12 * random.normal(), random.uniform() * TAU);
        let (first, last) = self.ends(stroke, random);
        let total = length(stroke).max(1e-9);
        let mut along = 0.0;
        let mut before = stroke[0];
        let mut ink = Vec::with_capacity(stroke.len());
        for &point in &stroke[first..last] {
            along += (point.0 - before.0).hypot(point.1 - before.1);
            before = point;
            let bulge = (along / total * TAU / 2.0).sin();
            let wave = |i: usize| waves[i][2] * (waves[i][0] * TAU * along + waves[i][1]).sin();
            let (x, y) = ((point.0 - middle.0) * x_size, (point.1 - middle.1) * y_size);
            let x_new = middle.0 + offset.0 + cos * x - sin * y + bow_x * bulge + wave(0) + wave(2);
            let y_new = middle.1 + offset.1 + sin * x + cos * y + bow_y * bulge + wave(1) + wave(3);
            let pen = self.pen * (1.0 + pressure * (phase + along / total * TAU).sin());
            ink.push((place((x_new, y_new)), pen));
        }
        ink
    }

    /// The range of a stroke's points that is really written: a hasty hand starts late and stops early.
    fn ends(&self, stroke: &[Point], random: &mut Random) -> (usize, usize) {
        let n = stroke.len();
        let mut missing = || ((self.haste + 0.03 * random.normal()).max(0.0) * n as f64) as usize;
        let (first, last) = (missing().min(n / 4), n - missing().min(n / 4));
        (first, last)
    }
}

/// Shrinks and moves a character that would leave the paper.
fn keep_inside(inks: &mut [Ink]) {
    const MARGIN: f64 = 0.03;
    for axis in [0, 1] {
        let value = |point: &Point| if axis == 0 { point.0 } else { point.1 };
        let all = || inks.iter().flatten();
        let low = all().fold(f64::MAX, |low, (p, pen)| low.min(value(p) - pen));
        let high = all().fold(f64::MIN, |high, (p, pen)| high.max(value(p) + pen));
        let scale = ((1.0 - 2.0 * MARGIN) / (high - low)).min(1.0);
        let (from, to) = (low, low.clamp(MARGIN, (1.0 - MARGIN - scale * (high - low)).max(MARGIN)));
        for (point, _) in inks.iter_mut().flatten() {
            let moved = to + (value(point) - from) * scale;
            *(if axis == 0 { &mut point.0 } else { &mut point.1 }) = moved;
        }
    }
}
