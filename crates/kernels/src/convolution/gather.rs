//! Gathering the pixels under the kernel of a convolution into rows of a matrix.
//!
//! A row belongs to one pixel of a *grid* (the output of a convolution, or one phase of its input); its columns are the
//! kernel positions' channels: `[position][channel]`. Positions that lie side by side in the source form one *segment*,
//! one copy.

use super::Conv2d;
use crate::matrix::Operand;

/// Where the rows come from.
pub(super) struct Gather<'a> {
    pub source: &'a [f32],
    /// Rows, columns and channels of a source image.
    pub size: [usize; 3],
    /// The first channel of the group.
    pub first: usize,
    /// The channels of the group.
    pub channels: usize,
    /// Images.
    pub n: usize,
    /// Rows and columns of the grid in one image.
    pub grid: [usize; 2],
    /// Source pixels from one grid pixel to the next.
    pub step: [usize; 2],
    pub segments: Vec<Segment>,
}

/// A run of `columns` neighbouring kernel positions.
pub(super) struct Segment {
    /// The source pixel of the first position, from the grid pixel times the step.
    pub offset: [isize; 2],
    pub columns: usize,
    /// The first column in the gathered matrix.
    pub at: usize,
}

impl<'a> Gather<'a> {
    /// The gathering of a convolution's input for group `group`: the k dimension is `[kh, kw, c_in / groups]`.
    pub(super) fn input(shape: &Conv2d, x: &'a [f32], group: usize) -> Gather<'a> {
        let channels = shape.group_inputs();
        let run = if shape.groups == 1 && shape.dilation[1] == 1 { shape.kernel[1] } else { 1 };
        let mut segments = Vec::new();
        for position in (0..shape.positions()).step_by(run) {
            let steps = [position / shape.kernel[1], position % shape.kernel[1]];
            let offset = [0, 1].map(|a| (steps[a] * shape.dilation[a]) as isize - shape.padding[a] as isize);
            segments.push(Segment { offset, columns: run, at: position * channels });
        }
        Gather {
            source: x,
            size: [shape.h, shape.w, shape.c_in],
            first: group * channels,
            channels,
            n: shape.n,
            grid: shape.output(),
            step: shape.stride,
            segments,
        }
    }

    /// Rows of the gathered matrix.
    pub(super) fn rows(&self) -> usize {
        self.n * self.grid[0] * self.grid[1]
    }

    /// Columns of the gathered matrix.
    pub(super) fn columns(&self) -> usize {
        self.segments.iter().map(|segment| segment.columns * self.channels).sum()
    }

    /// Whether the gathered matrix is the source itself: a 1 x 1 convolution of stride 1 without padding.
    pub(super) fn is_source(&self) -> bool {
        let one = self.segments.len() == 1 && self.segments[0].columns == 1 && self.segments[0].offset == [0, 0];
        one && self.step == [1, 1] && self.grid == [self.size[0], self.size[1]] && self.channels == self.size[2]
    }

    /// The gathered matrix, where it is the source itself.
    pub(super) fn source_rows(&self) -> Option<Operand<'a>> {
        self.is_source().then(|| Operand::row_major(self.source, self.channels))
    }

    /// Writes rows `rows[0]..rows[1]`, columns `columns[0]..columns[1]`, into `out`, row-major without gaps.
    pub(super) fn fill(&self, rows: [usize; 2], columns: [usize; 2], out: &mut [f32]) {
        let longest = self.segments.iter().map(|segment| segment.columns * self.channels).max().unwrap_or(0);
        match longest {
            0..=16 if columns == [0, self.columns()] => self.fill_short::<16>(rows, out),
            17..=32 if columns == [0, self.columns()] => self.fill_short::<32>(rows, out),
            _ => self.fill_long(rows, columns, out),
        }
    }

    /// [`Gather::fill`] of all columns, for segments of at most N floats (few input channels, as in a first layer). A
    /// segment inside the source is copied as N floats, a few vectors, which beats a call for nine floats; what that
    /// writes beyond the segment is written again by those that follow.
    fn fill_short<const N: usize>(&self, rows: [usize; 2], out: &mut [f32]) {
        let (width, [h, w, pitch], [height, columns]) = (self.columns(), self.size, self.grid);
        // The grid columns whose every segment lies between the first and the last column of the source.
        let reach = |end: bool| {
            self.segments.iter().map(move |segment| segment.offset[1] + if end { segment.columns as isize } else { 0 })
        };
        let first = usize::try_from(-reach(false).min().unwrap_or(0)).unwrap_or(0).div_ceil(self.step[1]);
        let room = w as isize - reach(true).max().unwrap_or(0);
        let last = usize::try_from(room).map_or(0, |room| room / self.step[1] + 1);
        let mut row = rows[0];
        while row < rows[1] {
            let (n, line, column) = (row / (height * columns), row / columns % height, row % columns);
            let end = rows[1].min(row + columns - column);
            let source_line = |segment: &Segment| (line * self.step[0]) as isize + segment.offset[0];
            let inside = self.segments.iter().all(|segment| (0..h as isize).contains(&source_line(segment)));
            for row in row..end {
                let (column, place) = (row % columns, (row - rows[0]) * width);
                let inside = inside && (first..last).contains(&column);
                for segment in &self.segments {
                    let out = &mut out[place + segment.at..];
                    let from = (column * self.step[1]) as isize + segment.offset[1];
                    let start = ((n * h) as isize + source_line(segment)) * w as isize + from;
                    let start = start * pitch as isize + self.first as isize;
                    if inside && start as usize + N <= self.source.len() && N <= out.len() {
                        out[..N].copy_from_slice(&self.source[start as usize..start as usize + N]);
                    } else {
                        self.copy(segment, n, [line, column], [0, segment.columns * self.channels], out);
                    }
                }
            }
            row = end;
        }
    }

    /// [`Gather::fill`] for any segments and columns.
    fn fill_long(&self, rows: [usize; 2], columns: [usize; 2], out: &mut [f32]) {
        let width = columns[1] - columns[0];
        self.each_row(rows, |row, n, grid| {
            for segment in &self.segments {
                let end = segment.at + segment.columns * self.channels;
                let (low, high) = (segment.at.max(columns[0]), end.min(columns[1]));
                if low < high {
                    let range = [low - segment.at, high - segment.at];
                    self.copy(segment, n, grid, range, &mut out[row * width + low - columns[0]..]);
                }
            }
        });
    }

    /// Calls `visit(row from 0, image, grid pixel)` for each row, without a division for each.
    #[inline(always)]
    fn each_row(&self, rows: [usize; 2], mut visit: impl FnMut(usize, usize, [usize; 2])) {
        let image = self.grid[0] * self.grid[1];
        let (mut n, pixel) = (rows[0] / image, rows[0] % image);
        let mut grid = [pixel / self.grid[1], pixel % self.grid[1]];
        for row in 0..rows[1] - rows[0] {
            visit(row, n, grid);
            grid[1] += 1;
            if grid[1] == self.grid[1] {
                grid = [grid[0] + 1, 0];
            }
            if grid[0] == self.grid[0] {
                (n, grid[0]) = (n + 1, 0);
            }
        }
    }

    /// Copies elements `range` of a segment's `columns * channels` to the beginning of `out`, zero where they lie
    /// outside the source.
    #[inline]
    fn copy(&self, segment: &Segment, n: usize, grid: [usize; 2], range: [usize; 2], out: &mut [f32]) {
        let [h, w, pitch] = self.size;
        let length = range[1] - range[0];
        let row = (grid[0] * self.step[0]) as isize + segment.offset[0];
        let column = (grid[1] * self.step[1]) as isize + segment.offset[1];
        let inside = |position: isize| position.clamp(0, segment.columns as isize) as usize * self.channels;
        let low = inside(-column).clamp(range[0], range[1]);
        let high = inside(w as isize - column).clamp(range[0], range[1]);
        if row < 0 || row >= h as isize || low >= high {
            out[..length].fill(0.0);
            return;
        }
        let start = ((n * h + row as usize) * w) as isize + column;
        let start = (start * pitch as isize + (self.first + low) as isize) as usize;
        out[..low - range[0]].fill(0.0);
        out[low - range[0]..high - range[0]].copy_from_slice(&self.source[start..start + high - low]);
        out[high - range[0]..length].fill(0.0);
    }
}
