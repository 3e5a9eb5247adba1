//! The matrix product C = A B in f32, and the register tile that everything heavy is built on.
//!
//! B is packed into *panels* two vectors wide: `[n / W][k][W]`, zero beyond n. A is read where it lies, by a row stride
//! and a step stride, since a broadcast needs no alignment: row-major and transposed operands, and gathered pixels, all
//! go without packing. A tile of `Simd::ROWS` x W sums lives in registers.
//!
//! The k terms of an element are summed in stretches of `DEPTH` (fused multiply-add in order, from zero), and the
//! stretches in order; how rows and columns are cut among threads never changes a bit.
//!
//! Shapes: A `[m, k]`, B `[k, n]`, C `[m, n]`.

// Operations on arrays of registers: plain index loops say it best.
#![allow(clippy::needless_range_loop)]

use crate::finish::Finish;
use crate::isa::Level;
use crate::simd::{Kernel, Simd, dispatch, unrolled};
use crate::team::Parts;
use crate::{Isa, Team, check, scratch};

/// Terms summed at a stretch: a panel of 256 x 16 floats is 16 KiB, half of a first-level cache.
pub(crate) const DEPTH: usize = 256;
/// Most rows of a block of work: 28 tiles of 6, 12 of 14; 168 KiB of A at full depth stay in the second-level cache.
pub(crate) const BLOCK_ROWS: usize = 168;
/// Units of work wanted at least, so that a few threads end at about the same time.
const UNITS: usize = 16;

/// The panel width of an instruction set: two vectors.
pub(crate) fn panel_width(isa: Isa) -> usize {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => 32,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => 16,
        #[cfg(target_arch = "aarch64")]
        Level::Neon => 16,
        Level::PortableWide => 32,
        Level::Portable => 16,
    }
}

/// A matrix operand in a slice: element (i, j) is `data[i * row + j * column]`.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// The stride from one row to the next.
    pub row: usize,
    /// The stride from one column to the next.
    pub column: usize,
}

impl<'a> Operand<'a> {
    /// A row-major matrix of `columns` columns.
    pub fn row_major(data: &'a [f32], columns: usize) -> Self {
        Operand { data, row: columns, column: 1 }
    }

    /// The transpose of a row-major matrix of `columns` columns.
    pub fn transposed(data: &'a [f32], columns: usize) -> Self {
        Operand { data, row: 1, column: columns }
    }

    /// The transpose of this operand.
    pub(crate) fn transpose(self) -> Self {
        Operand { row: self.column, column: self.row, ..self }
    }

    /// The operand without its first `rows` rows and `columns` columns.
    pub(crate) fn skip(self, rows: usize, columns: usize) -> Self {
        Operand { data: &self.data[(rows * self.row + columns * self.column).min(self.data.len())..], ..self }
    }

    /// Panics unless a `rows` x `columns` matrix lies inside the data.
    #[track_caller]
    fn check(&self, name: &str, rows: usize, columns: usize) {
        if rows > 0 && columns > 0 {
            let last = (rows - 1) * self.row + (columns - 1) * self.column;
            let length = self.data.len();
            assert!(last < length, "gemm: `{name}` must hold {rows} x {columns} elements and has {length}");
        }
    }
}

/// `c = a b (+ bias)`: `a` is m x k, `b` k x n, `c` row-major m x n, `bias` `[n]` added to every row.
pub fn gemm(team: &Team, size: [usize; 3], a: Operand<'_>, b: Operand<'_>, bias: Option<&[f32]>, c: &mut [f32]) {
    gemm_finished(team, size, a, b, Finish { bias, ..Finish::default() }, c);
}

/// As [`gemm`], with what is done to the elements of `c` while they are in the cache.
pub fn gemm_finished(
    team: &Team,
    [m, n, k]: [usize; 3],
    a: Operand<'_>,
    b: Operand<'_>,
    finish: Finish<'_>,
    c: &mut [f32],
) {
    a.check("a", m, k);
    b.check("b", k, n);
    check::length("gemm", "c", c.len(), m * n);
    finish.check("gemm", n, m * n);
    scratch::with(panels_length(team.isa(), k, n), |panels| {
        pack(team, k, n, &[(0, k, b)], panels);
        multiply_panels(team, [m, n, k], a, panels, finish, c);
    });
}

/// As [`gemm_finished`] with `b` in panels; lengths are checked by the caller.
pub(crate) fn multiply_panels(
    team: &Team,
    [m, n, k]: [usize; 3],
    a: Operand<'_>,
    panels: &[f32],
    finish: Finish<'_>,
    c: &mut [f32],
) {
    let (out, cut) = (Parts::new(c), Cut::new(team.isa(), m, n));
    team.for_each(cut.units(), |unit| {
        let (rows, columns) = cut.unit(unit);
        let (at, count) = (rows[0] * n, rows[1] - rows[0]);
        let block = Block { left: a.skip(rows[0], 0), runs: None, rows: count, depth: [0, k], columns };
        // SAFETY: `c` has m rows of n, and the unit's rows and columns end there; no other unit has both its rows and its
        // columns, so nobody else uses these elements.
        unsafe {
            block.multiply(team.isa(), panels, k, finish.bias, out.pointer(at), n);
            finish.apply(team.isa(), out.pointer(at), at, n, count, columns);
        }
    });
}

/// Packs a k x n matrix into `panels`: terms `[first, end)` of k, each an operand of `n` columns.
pub(crate) fn pack(team: &Team, k: usize, n: usize, terms: &[(usize, usize, Operand<'_>)], panels: &mut [f32]) {
    let width = panel_width(team.isa());
    team.for_each_chunk(panels, (k * width).max(1), |panel, out| {
        let column = panel * width;
        for &(first, end, operand) in terms {
            fill_panel(&mut out[first * width..end * width], width, operand.skip(0, column), width.min(n - column));
        }
    });
}

/// Floats of all panels of a k x n matrix.
pub(crate) fn panels_length(isa: Isa, k: usize, n: usize) -> usize {
    n.next_multiple_of(panel_width(isa)) * k
}

/// Packs `columns` <= `width` columns of `b` into one panel of `out.len() / width` terms, zero beyond them.
pub(crate) fn fill_panel(out: &mut [f32], width: usize, b: Operand<'_>, columns: usize) {
    if b.column == 1 {
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            copy_short(&b.data[i * b.row..i * b.row + columns], &mut out[..columns]);
            out[columns..].iter_mut().for_each(|out| *out = 0.0);
        }
        return;
    }
    // Squares of `width` x `width`, so that neither reading nor writing leaves the first-level cache.
    for (block, out) in out.chunks_mut(width * width).enumerate() {
        let start = block * width;
        for column in 0..width {
            for (i, out) in out.chunks_exact_mut(width).enumerate() {
                let value = if column < columns { b.data[(start + i) * b.row + column * b.column] } else { 0.0 };
                out[column] = value;
            }
        }
    }
}

/// Copies a few vectors, for which a call would be long.
#[inline(always)]
fn copy_short(from: &[f32], to: &mut [f32]) {
    let ((from, rest), (to, last)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
    from.iter().zip(to).for_each(|(from, to)| *to = *from);
    rest.iter().zip(last).for_each(|(from, to)| *to = *from);
}

/// How an m x n result is cut into units of work: blocks of rows, and of columns where the rows are few.
pub(crate) struct Cut {
    m: usize,
    n: usize,
    rows: usize,
    columns: usize,
}

impl Cut {
    pub(crate) fn new(isa: Isa, m: usize, n: usize) -> Cut {
        let width = panel_width(isa);
        let tile = if width == 32 { 14 } else { 6 };
        let blocks = m.div_ceil(BLOCK_ROWS).max(1);
        let rows = m.div_ceil(blocks).next_multiple_of(tile);
        let panels = n.div_ceil(width).max(1);
        let groups = UNITS.div_ceil(blocks).min(panels);
        Cut { m, n, rows, columns: panels.div_ceil(groups) * width }
    }

    pub(crate) fn units(&self) -> usize {
        self.m.div_ceil(self.rows.max(1)) * self.n.div_ceil(self.columns)
    }

    /// The rows and the columns of a unit, each `[first, end]`.
    pub(crate) fn unit(&self, unit: usize) -> ([usize; 2], [usize; 2]) {
        let groups = self.n.div_ceil(self.columns);
        let (row, column) = (unit / groups * self.rows, unit % groups * self.columns);
        ([row, self.m.min(row + self.rows)], [column, self.n.min(column + self.columns)])
    }
}

/// Some terms of one block of the result.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    /// A, from the block's first row and first term.
    pub left: Operand<'a>,
    /// Where A's terms do not follow each other by its column stride all along: the terms of a run, of which `depth` is a
    /// whole number, and the elements from one run to the next.
    pub runs: Option<[usize; 2]>,
    pub rows: usize,
    /// The terms `[first, end]` within the panels. From 0 the result is overwritten, else added to. More than a stretch are summed
    /// stretch by stretch; with runs there is one stretch at most.
    pub depth: [usize; 2],
    /// The columns `[first, end]` of the result; the first begins a panel.
    pub columns: [usize; 2],
}

impl Block<'_> {
    /// Multiplies by `panels` of `k` terms in all, and adds to the elements of `out` as in [`Block::multiply`].
    ///
    /// # Safety
    /// As [`Block::multiply`], and the elements of `out` are initialised.
    pub(crate) unsafe fn add(self, isa: Isa, panels: &[f32], k: usize, out: *mut f32, out_row: usize) {
        // SAFETY: `BlockProduct::new` asks for no more than this function, and the kernel has run when it returns.
        unsafe { self.run(isa, panels, k, Start::Add, out, out_row) };
    }

    /// Multiplies by `panels` of `k` terms in all, into `out`: element (i, j) is `out[i * out_row + j]`, where i counts
    /// the block's rows and j all columns. `bias` is added with the first term.
    ///
    /// # Safety
    /// `out` is valid for all the block's elements, initialised if its terms do not begin at 0, and nobody else uses
    /// them until this returns. All else is checked.
    pub(crate) unsafe fn multiply(
        self,
        isa: Isa,
        panels: &[f32],
        k: usize,
        bias: Option<&[f32]>,
        out: *mut f32,
        out_row: usize,
    ) {
        let start = match bias {
            _ if self.depth[0] > 0 => Start::Add,
            None => Start::Zero,
            Some(bias) => Start::Bias(&bias[..self.columns[1]]),
        };
        // SAFETY: `BlockProduct::new` asks for no more than this function, and the kernel has run when it returns.
        unsafe { self.run(isa, panels, k, start, out, out_row) };
    }

    /// # Safety
    /// As [`BlockProduct::new`], until it returns.
    unsafe fn run(self, isa: Isa, panels: &[f32], k: usize, mut start: Start<'_>, out: *mut f32, out_row: usize) {
        let [first, end] = self.depth;
        if self.rows == 0 || self.columns[0] >= self.columns[1] {
            return;
        }
        assert!(self.runs.is_none() || end - first <= DEPTH, "a block's runs exceed a stretch");
        // At least once, so that no terms give the start.
        for from in (first..end.max(first + 1)).step_by(DEPTH) {
            let stretch = Block { left: self.left.skip(0, from - first), depth: [from, end.min(from + DEPTH)], ..self };
            // SAFETY: the caller's promise is the constructor's; stretches after the first add to what it wrote.
            dispatch(isa, unsafe { BlockProduct::new(stretch, isa, panels, k, start, out, out_row) });
            start = Start::Add;
        }
    }
}

/// What the sums of a stretch are added to.
#[derive(Clone, Copy)]
enum Start<'a> {
    Zero,
    Bias(&'a [f32]),
    Add,
}

/// The kernel of [`Block::multiply`] and [`Block::add`].
struct BlockProduct<'a> {
    block: Block<'a>,
    panels: &'a [f32],
    k: usize,
    start: Start<'a>,
    out: *mut f32,
    out_row: usize,
}

impl<'a> BlockProduct<'a> {
    /// Checks every bound but those of `out`.
    ///
    /// # Safety
    /// Until the kernel has run, `out` is valid for all the block's elements, initialised with [`Start::Add`], and
    /// nobody else uses them; the kernel runs with `isa`.
    unsafe fn new(
        block: Block<'a>,
        isa: Isa,
        panels: &'a [f32],
        k: usize,
        start: Start<'a>,
        out: *mut f32,
        out_row: usize,
    ) -> Self {
        let ([first, end], last) = (block.depth, block.columns[1]);
        assert!(first <= end && end <= k && panels.len() >= panels_length(isa, k, last), "a block exceeds its panels");
        if end > first {
            let [run, jump] = block.runs.unwrap_or([end - first, 0]);
            assert!((end - first).is_multiple_of(run), "a block ends within a run");
            let skipped = (((end - first) / run - 1) * jump).min(block.left.data.len());
            Operand { data: &block.left.data[skipped..], ..block.left }.check("left", block.rows, run);
        }
        if let Start::Bias(bias) = start {
            assert!(bias.len() >= last, "a block exceeds its bias");
        }
        BlockProduct { block, panels, k, start, out, out_row }
    }
}

impl Kernel for BlockProduct<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (block, width) = (self.block, 2 * S::LANES);
        // As even as can be: a tile of few rows loads its panel for little.
        let height = block.rows.div_ceil(block.rows.div_ceil(S::ROWS).max(1)).max(1);
        for column in (block.columns[0]..block.columns[1]).step_by(width) {
            for row in (0..block.rows).step_by(height) {
                // SAFETY: `BlockProduct::new` has checked that A holds the block's rows and terms, the panels (of this
                // very width) its columns and terms and the bias its columns, and was promised the same of `out`; the
                // tile is a part of the block, since its rows and columns end where the block's do.
                unsafe {
                    let depth = block.depth[1] - block.depth[0];
                    let [run, jump] = block.runs.unwrap_or([depth.max(1), 0]);
                    let tile = Tile {
                        runs: depth / run,
                        run,
                        // From behind a run to the next.
                        jump: jump.wrapping_sub(run * block.left.column),
                        a: block.left.data.as_ptr().add(row * block.left.row),
                        row: block.left.row,
                        step: block.left.column,
                        panel: self.panels.as_ptr().add(column * self.k + block.depth[0] * width),
                        out: self.out.wrapping_add(row * self.out_row + column),
                        out_row: self.out_row,
                        columns: width.min(block.columns[1] - column),
                        start: match self.start {
                            Start::Bias(bias) => Start::Bias(&bias[column..]),
                            start => start,
                        },
                    };
                    tile.multiply_rows::<S>(height.min(block.rows - row));
                }
            }
        }
    }
}

/// One register tile: `runs` times `run` terms from A by strides and from one panel.
struct Tile<'a> {
    runs: usize,
    run: usize,
    jump: usize,
    a: *const f32,
    row: usize,
    step: usize,
    panel: *const f32,
    out: *mut f32,
    out_row: usize,
    columns: usize,
    start: Start<'a>,
}

impl Tile<'_> {
    /// # Safety
    /// The instruction set of `S` is available. `a` is valid for `rows` <= `S::ROWS` rows and the terms of all runs, `panel`
    /// for as many times two vectors, `out` and a bias for `columns` columns; `out` is initialised with [`Start::Add`],
    /// and nobody else uses it.
    #[inline(always)]
    unsafe fn multiply_rows<S: Simd>(&self, rows: usize) {
        macro_rules! one_of {
            ($vectors:literal, $($r:literal)*) => {
                match rows {
                    // SAFETY: `multiply` for R rows asks for what this function asks for with `rows` of R; one vector is
                    // enough for as many columns.
                    $($r if $r <= S::ROWS => unsafe { self.multiply::<S, $r, $vectors>() },)*
                    _ => unreachable!("a tile has at most as many rows as registers"),
                }
            };
        }
        match self.columns <= S::LANES {
            true => one_of!(1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
            false => one_of!(2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        }
    }

    /// # Safety
    /// As [`Tile::multiply_rows`] for R rows, and V vectors hold all columns.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const R: usize, const V: usize>(&self) {
        // SAFETY: row r < R of A lies `r * row` on, and of `out` `r * out_row`; a step of the loops takes one term of A and
        // V <= 2 vectors of the panel. `a` leaves A only after its last use, by a wrapping addition.
        unsafe {
            let mut sums = [[S::splat(0.0); V]; R];
            let mut a = self.a;
            let mut panel = self.panel;
            for _ in 0..self.runs {
                for _ in 0..self.run {
                    let mut b = [S::splat(0.0); V];
                    for v in 0..V {
                        b[v] = S::load(panel.add(v * S::LANES));
                    }
                    unrolled!(r in R => {
                        let value = S::splat(*a.add(r * self.row));
                        for v in 0..V {
                            sums[r][v] = S::mul_add(value, b[v], sums[r][v]);
                        }
                    });
                    a = a.wrapping_add(self.step);
                    panel = panel.add(2 * S::LANES);
                }
                a = a.wrapping_add(self.jump);
            }
            unrolled!(r in R => {
                let out = self.out.add(r * self.out_row);
                for v in 0..V {
                    self.finish::<S>(out, v * S::LANES, sums[r][v]);
                }
            });
        }
    }

    /// Writes a vector of sums to column `at` of a row that begins at `out`, as far as there are columns.
    ///
    /// # Safety
    /// The instruction set of `S` is available; `out` is a row of the tile, and `at` a column of it.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, out: *mut f32, at: usize, sum: S::V) {
        let count = self.columns - at;
        // SAFETY: from column `at` on the row and the bias have `count` columns, and no more are read or written.
        unsafe {
            let out = out.add(at);
            let value = match self.start {
                Start::Zero => sum,
                Start::Bias(bias) => S::add(sum, S::load_first(bias.as_ptr().add(at), count)),
                Start::Add => S::add(sum, S::load_first(out, count)),
            };
            S::store_first(out, value, count);
        }
    }
}
