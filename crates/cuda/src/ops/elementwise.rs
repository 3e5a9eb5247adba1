use rkd_kernels::activation::Activation;

use super::{check, check_as, flat, int, launch, number};
use crate::device::{Device, Kind, Result};

/// `n` times the same value.
pub fn fill<D: Device>(device: &D, kind: Kind, value: f32, n: usize) -> Result<D::Buffer> {
    let y = device.take_as(kind, n)?;
    launch!(device, fill of kind, flat(n), [&y, value, n])?;
    Ok(y)
}

/// The same values as another kind of numbers, rounded to the nearest, of two the even one.
///
/// # Panics
/// If they are of that kind.
pub fn as_kind<D: Device>(device: &D, x: &D::Buffer, kind: Kind) -> Result<D::Buffer> {
    let n = D::len(x);
    let y = device.take_as(kind, n)?;
    match (D::kind(x), kind) {
        (Kind::Float32, Kind::Bfloat16) => launch!(device, to_bf16, flat(n), [x, &y, n])?,
        (Kind::Bfloat16, Kind::Float32) => launch!(device, from_bf16, flat(n), [x, &y, n])?,
        _ => panic!("as_kind: the values are {kind:?} already"),
    }
    Ok(y)
}

/// A copy.
pub fn copy<D: Device>(device: &D, x: &D::Buffer) -> Result<D::Buffer> {
    let n = D::len(x);
    let y = device.take_as(D::kind(x), n)?;
    let all = Columns { of: n, first: 0 };
    copy_columns(device, [(x, all), (&y, all)], n, 1)?;
    Ok(y)
}

/// `a + b`.
pub fn sum<D: Device>(device: &D, a: &D::Buffer, b: &D::Buffer) -> Result<D::Buffer> {
    let (n, kind) = (D::len(a), D::kind(a));
    check_as::<D>("add", kind, &[("b", b, n)]);
    let y = device.take_as(kind, n)?;
    launch!(device, add of kind, flat(n), [a, b, &y, n])?;
    Ok(y)
}

/// `a += b`.
pub fn add_in_place<D: Device>(device: &D, a: &D::Buffer, b: &D::Buffer) -> Result<()> {
    let (n, kind) = (D::len(a), D::kind(a));
    check_as::<D>("add", kind, &[("b", b, n)]);
    launch!(device, add of kind, flat(n), [a, b, a, n])
}

/// `y *= factor`.
pub fn scale_in_place<D: Device>(device: &D, y: &D::Buffer, factor: f32) -> Result<()> {
    let n = D::len(y);
    check::<D>("scale", &[("y", y, n)]);
    launch!(device, scale, flat(n), [y, factor, n])
}

/// `y += by`.
pub fn shift_in_place<D: Device>(device: &D, y: &D::Buffer, by: f32) -> Result<()> {
    let n = D::len(y);
    check::<D>("shift", &[("y", y, n)]);
    launch!(device, shift, flat(n), [y, by, n])
}

/// `target = keep target + take source`.
pub fn blend_in_place<D: Device>(
    device: &D,
    target: &D::Buffer,
    source: &D::Buffer,
    keep: f32,
    take: f32,
) -> Result<()> {
    let n = D::len(target);
    check::<D>("blend", &[("target", target, n), ("source", source, n)]);
    launch!(device, blend, flat(n), [target, source, keep, take, n])
}

/// The activation of every value.
pub fn activate<D: Device>(device: &D, kind: Activation, x: &D::Buffer) -> Result<D::Buffer> {
    let (n, held) = (D::len(x), D::kind(x));
    let y = device.take_as(held, n)?;
    launch!(device, activate of held, flat(n), [number(Some(kind)), x, &y, n])?;
    Ok(y)
}

/// Its gradient from its input, or of a ReLU from its output.
pub fn activate_backward<D: Device>(device: &D, kind: Activation, x: &D::Buffer, dy: &D::Buffer) -> Result<D::Buffer> {
    let (n, held) = (D::len(x), D::kind(x));
    check_as::<D>("activate_backward", held, &[("dy", dy, n)]);
    let dx = device.take_as(held, n)?;
    launch!(device, activate_backward of held, flat(n), [number(Some(kind)), x, dy, &dx, n])?;
    Ok(dx)
}

/// Some columns of a matrix.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// Columns of the matrix.
    pub of: usize,
    /// The first of them.
    pub first: usize,
}

/// Copies `columns` columns of `rows` rows from one matrix to another.
///
/// # Panics
/// If a matrix is too small.
pub fn copy_columns<D: Device>(
    device: &D,
    [(x, from), (y, to)]: [(&D::Buffer, Columns); 2],
    columns: usize,
    rows: usize,
) -> Result<()> {
    let (n, kind) = (rows * columns, D::kind(x));
    check_as::<D>("copy_columns", kind, &[("y", y, D::len(y))]);
    for (name, buffer, place) in [("x", x, from), ("y", y, to)] {
        assert!(place.first + columns <= place.of, "copy_columns: {columns} columns of `{name}` exceed {place:?}");
        let needed = if n == 0 { 0 } else { (rows - 1) * place.of + place.first + columns };
        assert!(
            D::len(buffer) >= needed,
            "copy_columns: `{name}` must have {needed} values and has {}",
            D::len(buffer)
        );
    }
    launch!(device, copy_columns of kind, flat(n), [x, from.of, from.first, y, to.of, to.first, columns, rows])
}

/// `x [batch, rows, columns]` as `[batch, columns, rows]`.
pub fn transpose<D: Device>(device: &D, x: &D::Buffer, rows: usize, columns: usize) -> Result<D::Buffer> {
    let (n, kind) = (D::len(x), D::kind(x));
    assert!(n.is_multiple_of(rows * columns), "transpose: {n} values are not of matrices of {rows} x {columns}");
    let y = device.take_as(kind, n)?;
    let grid = [columns.div_ceil(32) as u32, rows.div_ceil(32) as u32, (n / (rows * columns)) as u32];
    launch!(device, transpose of kind, (grid, [32, 8]), [x, &y, int(rows), int(columns)])?;
    Ok(y)
}
