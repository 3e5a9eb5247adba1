//! Features as maps of one size: what hints and attention transfer compare pixel by pixel.
//!
//! A vector is a map of one pixel. The authors' networks have maps of one size at the same stage. Where sizes differ,
//! both maps are averaged to the smaller height and the smaller width, as PyTorch's `adaptive_avg_pool2d` does: of h
//! rows, row i of h' is the mean of rows `floor(i h / h')` to `ceil((i + 1) h / h') - 1`, and columns alike.

use std::borrow::Cow;
use std::ops::Range;

use super::{LossInputs, Matrix};
use crate::error::Result;

/// Maps `[n, h, w, c]`, and how to bring a gradient back to the feature they were made of.
pub(super) struct Maps<'a> {
    /// Height and width.
    pub size: [usize; 2],
    /// c.
    pub channels: usize,
    /// The numbers.
    pub data: Cow<'a, [f64]>,
    /// The size before averaging.
    from: [usize; 2],
}

/// Height, width and channels of a row of `shape` (`[n, d]` or `[n, h, w, c]`).
pub(super) fn row_shape(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [_, h, w, c] => [h, w, c],
        _ => [1, 1, shape.last().copied().unwrap_or(0)],
    }
}

/// The height and width at which features of these shapes are compared.
pub fn common_size(student: &[usize], teacher: &[usize]) -> [usize; 2] {
    let ([h, w, _], [height, width, _]) = (row_shape(student), row_shape(teacher));
    [h.min(height), w.min(width)]
}

/// The student's and the teacher's feature as maps of one size.
pub(super) fn pair<'a>(inputs: &LossInputs<'a>) -> Result<[Maps<'a>; 2]> {
    let (student, teacher) = (inputs.student, inputs.teacher()?);
    let [s, t] = [student, teacher].map(|matrix| matrix.map.unwrap_or([1, 1, matrix.columns]));
    let size = common_size(&student.shape(), &teacher.shape());
    Ok([Maps::new(student, s, size), Maps::new(teacher, t, size)])
}

impl<'a> Maps<'a> {
    fn new(matrix: &'a Matrix, [h, w, channels]: [usize; 3], size: [usize; 2]) -> Self {
        let from = [h, w];
        let data = match from == size {
            true => Cow::Borrowed(matrix.data.as_slice()),
            false => Cow::Owned(shrink(&matrix.data, from, size, channels)),
        };
        Maps { size, channels, data, from }
    }

    /// The gradient over the feature, from one over these maps.
    pub fn pull_back(&self, gradient: Vec<f64>) -> Vec<f64> {
        if self.from == self.size {
            return gradient;
        }
        let (large, small) = (self.from[0] * self.from[1], self.size[0] * self.size[1]);
        let mut out = vec![0.0; gradient.len() / small * large];
        let images = out.chunks_exact_mut(large * self.channels).zip(gradient.chunks_exact(small * self.channels));
        for (out, gradient) in images {
            for (pixel, window) in windows(self.from, self.size).enumerate() {
                let share = 1.0 / window.len() as f64;
                let gradient = &gradient[pixel * self.channels..][..self.channels];
                for place in window {
                    let out = &mut out[place * self.channels..][..self.channels];
                    out.iter_mut().zip(gradient).for_each(|(out, g)| *out += share * g);
                }
            }
        }
        out
    }
}

/// The means over the windows of every map.
fn shrink(data: &[f64], from: [usize; 2], to: [usize; 2], channels: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(data.len() / (from[0] * from[1]) * to[0] * to[1]);
    for image in data.chunks_exact(from[0] * from[1] * channels) {
        for window in windows(from, to) {
            let share = 1.0 / window.len() as f64;
            let start = out.len();
            out.resize(start + channels, 0.0);
            for place in window {
                let pixel = &image[place * channels..][..channels];
                out[start..].iter_mut().zip(pixel).for_each(|(out, value)| *out += share * value);
            }
        }
    }
    out
}

/// The places of the pixels that each pixel of the smaller map is the mean of.
fn windows(from: [usize; 2], to: [usize; 2]) -> impl Iterator<Item = Vec<usize>> {
    let rows = move |i| window(i, from[0], to[0]);
    let columns = move |j| window(j, from[1], to[1]);
    let pixels = (0..to[0]).flat_map(move |i| (0..to[1]).map(move |j| (i, j)));
    pixels.map(move |(i, j)| rows(i).flat_map(|y| columns(j).map(move |x| y * from[1] + x)).collect())
}

fn window(i: usize, from: usize, to: usize) -> Range<usize> {
    i * from / to..((i + 1) * from).div_ceil(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_adaptive_pooling() {
        assert_eq!((0..3).map(|i| window(i, 7, 3)).collect::<Vec<_>>(), [0..3, 2..5, 4..7]);
        assert_eq!((0..2).map(|i| window(i, 4, 2)).collect::<Vec<_>>(), [0..2, 2..4]);
        let shrunk = shrink(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], [1, 2], 1);
        assert_eq!(shrunk, [3.0, 4.0]);
    }
}
