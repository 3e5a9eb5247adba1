use super::{BLOCK, check, columns, flat, int, launch, rows};
use crate::device::{Device, Result};

/// Threads of a block of `squared_distances` in each direction.
const TILE: usize = 16;
/// Vertices, or first rows of edges, of a thread.
const EACH: usize = 4;

/// A relational loss: what its sum over pairs or triples of items is divided by, and Huber's threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relation {
    /// Items.
    pub n: usize,
    /// Huber's threshold, positive.
    pub delta: f64,
    /// What sum and gradient are divided by.
    pub divisor: f64,
}

/// So many float64 numbers.
fn doubles<D: Device>(device: &D, count: usize) -> Result<D::Buffer> {
    device.take(2 * count)
}

/// The squared distances of the rows of `x [n, d]`, `[n, n]` in float64.
fn squared_distances<D: Device>(device: &D, x: &D::Buffer, [n, d]: [usize; 2]) -> Result<D::Buffer> {
    let squared = doubles(device, n * n)?;
    let tiles = n.div_ceil(TILE) as u32;
    launch!(device, squared_distances, ([tiles, tiles, 1], [TILE as u32; 2]), [x, &squared, int(n), int(d)])?;
    Ok(squared)
}

/// The columns of an embedding of n rows.
fn width<D: Device>(name: &str, x: &D::Buffer, n: usize) -> usize {
    let d = D::len(x) / n.max(1);
    check::<D>("a relational loss", &[(name, x, n * d)]);
    d
}

/// The value, from numbers of float64 to be added up, and the gradient `[n, d]` from that over the squared distances of
/// `x [n, d]`.
fn finish<D: Device>(
    device: &D,
    relation: &Relation,
    (x, d): (&D::Buffer, usize),
    (partial, count): (&D::Buffer, usize),
    gradient: &D::Buffer,
) -> Result<[D::Buffer; 2]> {
    let &Relation { n, divisor, .. } = relation;
    let [value, out] = [device.take(1)?, device.take(n * d)?];
    launch!(device, finish_value, rows(1), [partial, 1.0 / divisor, &value, int(count)])?;
    launch!(device, pull_back, columns(n, d), [x, gradient, 1.0 / divisor, &out, int(n), int(d)])?;
    Ok([value, out])
}

/// RKD distance of `student [n, d]` and `teacher [n, e]`: the value and its gradient `[n, d]`, computed in float64. `n` is 2 at
/// least.
pub fn rkd_distance<D: Device>(
    device: &D,
    relation: &Relation,
    student: &D::Buffer,
    teacher: &D::Buffer,
) -> Result<[D::Buffer; 2]> {
    let &Relation { n, delta, .. } = relation;
    assert!(n >= 2, "rkd_distance: {n} items have no pairs");
    let of = |name, x| -> Result<[D::Buffer; 2]> {
        let squared = squared_distances(device, x, [n, width::<D>(name, x, n)])?;
        let sums = doubles(device, n)?;
        launch!(device, row_distances, rows(n), [&squared, &sums, int(n)])?;
        Ok([squared, sums])
    };
    let ([student_squared, student_sums], [teacher_squared, teacher_sums]) =
        (of("student", student)?, of("teacher", teacher)?);
    let [slopes, values, along] = [doubles(device, n * n)?, doubles(device, n)?, doubles(device, n)?];
    launch!(
        device,
        distance_slopes,
        rows(n),
        [&student_squared, &teacher_squared, &student_sums, &teacher_sums, delta, &slopes, &values, &along, int(n)]
    )?;
    launch!(device, distance_gradient, rows(n), [&student_squared, &student_sums, &along, &slopes, int(n)])?;
    finish(device, relation, (student, width::<D>("student", student, n)), (&values, n), &slopes)
}

/// RKD angle of `student [n, d]` and `teacher [n, e]`: the value and its gradient `[n, d]`, computed in float64. Where
/// `same_leg`, the sum is over b = c too, as in the authors' code.
pub fn rkd_angle<D: Device>(
    device: &D,
    relation: &Relation,
    same_leg: bool,
    student: &D::Buffer,
    teacher: &D::Buffer,
) -> Result<[D::Buffer; 2]> {
    let &Relation { n, delta, .. } = relation;
    let of = |name, x| -> Result<[D::Buffer; 3]> {
        let squared = squared_distances(device, x, [n, width::<D>(name, x, n)])?;
        let [length, inverse] = [doubles(device, n * n)?, doubles(device, n * n)?];
        launch!(device, lengths, flat(n * n), [&squared, &length, &inverse, n * n])?;
        Ok([squared, length, inverse])
    };
    let ([squared_s, l_s, r_s], [squared_t, l_t, r_t]) = (of("student", student)?, of("teacher", teacher)?);
    let gradient = doubles(device, n * n)?;
    let [wide, tall] = [n.div_ceil(BLOCK[0]), n.div_ceil(BLOCK[1] * EACH)];
    let blocks = ([wide as u32, tall as u32, 1], BLOCK.map(|size| size as u32));
    let partial = doubles(device, wide * tall)?;
    launch!(
        device,
        angle_legs,
        blocks,
        [&squared_s, &squared_t, &l_s, &r_s, &l_t, &r_t, delta, i32::from(same_leg), &gradient, &partial, int(n)]
    )?;
    launch!(device, angle_edges, blocks, [&squared_s, &squared_t, &l_s, &r_s, &l_t, &r_t, delta, &gradient, int(n)])?;
    finish(device, relation, (student, width::<D>("student", student, n)), (&partial, wide * tall), &gradient)
}
