//! Winograd's minimal filtering F(4x4, 3x3) for 3 x 3 convolutions of stride 1 (Lavin and Gray, 2016, arXiv
//! 1509.09308).
//!
//!   y = A^T [(G w G^T) . (B^T d B)] A      d: 6 x 6 input tile, w: 3 x 3 weights, y: 4 x 4 output tile
//!                                         . element by element
//!
//! The element-by-element products, summed over the channels, are 36 matrix products, one for each place *xi* of the
//! 6 x 6 transform domain: `M[xi] = V[xi] U[xi]` with V [tiles, c], U [c, o], M [tiles, o]. They need 36
//! multiplications where the definition needs 144. The input gradient is the same convolution of dy with the weights
//! turned around and transposed; the weight gradient is `dw = G^T [sum over tiles of (B^T d B) . (A dy A^T)] G`.
//!
//! The interpolation points are 0, +-3/4, +-3/2 and infinity rather than the usual 0, +-1, +-2: exact in binary, and
//! the largest error falls from 1.2e-5 to 2.4e-6 of the largest output (256 channels, uniform inputs).
//!
//! Shapes: t tiles, c input channels, o output channels.

mod forward;
mod transform;
mod weight;

pub(super) use forward::{backward_input, forward, working_memory};
pub(super) use weight::{backward_weight, weight_working_memory};

use super::Conv2d;

/// Places of the transform domain, 6 x 6.
const PLACES: usize = 36;
/// Rows and columns of an output tile.
const TILE: usize = 4;
/// Fewest channels on either side for which the transforms pay.
const LEAST_CHANNELS: usize = 32;

/// Whether the convolution's passes go this way: by its geometry alone, so that a run's bits do not hang on the
/// machine.
pub(super) fn applies(shape: &Conv2d) -> bool {
    let plain = shape.kernel == [3, 3] && shape.stride == [1, 1] && shape.dilation == [1, 1] && shape.groups == 1;
    let channels = [shape.c_in, shape.c_out];
    plain && shape.padding.iter().all(|&p| p <= 2) && channels.iter().all(|c| c % 16 == 0 && *c >= LEAST_CHANNELS)
}

/// Products of all channels that an image of this output needs.
pub(super) fn products(output: [usize; 2]) -> usize {
    PLACES * output[0].div_ceil(TILE) * output[1].div_ceil(TILE)
}

/// How output tiles lie over NHWC images: tile (i, j) covers output rows from 4 i and input rows from 4 i - padding.
#[derive(Clone, Copy)]
struct Tiling {
    n: usize,
    /// Rows and columns of an input image.
    input: [usize; 2],
    /// Rows and columns of an output image.
    output: [usize; 2],
    padding: [usize; 2],
}

impl Tiling {
    fn new(shape: &Conv2d) -> Tiling {
        Tiling { n: shape.n, input: [shape.h, shape.w], output: shape.output(), padding: shape.padding }
    }

    /// The tiling of the input gradient: a convolution over dy that gives dx.
    fn reversed(&self) -> Tiling {
        Tiling { n: self.n, input: self.output, output: self.input, padding: self.padding.map(|p| 2 - p) }
    }

    fn tiles(&self) -> usize {
        self.n * self.output[0].div_ceil(TILE) * self.output[1].div_ceil(TILE)
    }

    /// Pixels of the output, over all images.
    fn pixels(&self) -> usize {
        self.n * self.output[0] * self.output[1]
    }

    /// The image of a tile and its first output row and column.
    fn place(&self, tile: usize) -> (usize, [usize; 2]) {
        let (down, across) = (self.output[0].div_ceil(TILE), self.output[1].div_ceil(TILE));
        (tile / (down * across), [tile / across % down * TILE, tile % across * TILE])
    }

    /// The pixel numbers (over all images) under a 6 x 6 input tile; `None` where it hangs over the edge.
    fn input_pixels(&self, tile: usize) -> [Option<usize>; PLACES] {
        let (n, first) = self.place(tile);
        std::array::from_fn(|at| {
            let row = (first[0] + at / 6).wrapping_sub(self.padding[0]);
            let column = (first[1] + at % 6).wrapping_sub(self.padding[1]);
            (row < self.input[0] && column < self.input[1]).then(|| (n * self.input[0] + row) * self.input[1] + column)
        })
    }

    /// The pixel numbers (over all images) under a 4 x 4 output tile; `None` where it hangs over the edge.
    fn output_pixels(&self, tile: usize) -> [Option<usize>; TILE * TILE] {
        let (n, first) = self.place(tile);
        std::array::from_fn(|at| {
            let (row, column) = (first[0] + at / TILE, first[1] + at % TILE);
            let inside = row < self.output[0] && column < self.output[1];
            inside.then(|| (n * self.output[0] + row) * self.output[1] + column)
        })
    }
}
