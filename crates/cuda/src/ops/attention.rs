use super::{check, check_as, flat, int, launch, rows};
use crate::device::{Device, Kind, Matrix, Product, Result};

/// Tokens `[n, tokens, c]`: a class token `[c]` before those of `x [n, tokens - 1, c]`, plus `position [tokens, c]`.
pub fn add_tokens<D: Device>(
    device: &D,
    x: &D::Buffer,
    class: &D::Buffer,
    position: &D::Buffer,
    n: usize,
) -> Result<D::Buffer> {
    let (c, all, kind) = (D::len(class), D::len(position), D::kind(x));
    check::<D>("add_tokens", &[("class", class, c), ("position", position, all)]);
    check_as::<D>("add_tokens", kind, &[("x", x, n * (all - c))]);
    let y = device.take_as(kind, n * all)?;
    launch!(device, add_tokens of kind, flat(n * all), [x, class, position, &y, n, all / c.max(1), int(c)])?;
    Ok(y)
}

/// The places of Q, K, V, the probabilities and the output of one head.
struct Head {
    shape: [usize; 4],
    head: usize,
}

impl Head {
    /// Q, K or V of x `[n, t, 3, heads, d]`.
    fn part(&self, part: usize) -> Matrix {
        let [_, t, heads, d] = self.shape;
        Matrix {
            first: (part * heads + self.head) * d,
            stride: 3 * heads * d,
            next: t * 3 * heads * d,
            transposed: false,
        }
    }

    /// Of `[n, t, heads, d]`.
    fn output(&self) -> Matrix {
        let [_, t, heads, d] = self.shape;
        Matrix { first: self.head * d, stride: heads * d, next: t * heads * d, transposed: false }
    }

    /// Of `[n, heads, t, t]`.
    fn pairs(&self) -> Matrix {
        let [_, t, heads, _] = self.shape;
        Matrix { first: self.head * t * t, stride: t, next: heads * t * t, transposed: false }
    }

    /// `[t, k] [k, n]` of every image.
    fn product(&self, n: usize, k: usize, a: Matrix, b: Matrix, c: Matrix) -> Product {
        Product { m: self.shape[1], n, k, batch: self.shape[0], a, b, c, beta: 0.0 }
    }
}

fn heads(shape: [usize; 4]) -> impl Iterator<Item = Head> {
    (0..shape[2]).map(move |head| Head { shape, head })
}

/// `softmax(Q K^T / sqrt d)`, `[n, heads, t, t]`, and the factor. Softmax is of float32, and its result of the kind of x.
fn probabilities<D: Device>(device: &D, x: &D::Buffer, shape: [usize; 4]) -> Result<(D::Buffer, f32)> {
    let ([n, t, count, d], kind) = (shape, D::kind(x));
    check_as::<D>("attention", kind, &[("x", x, n * t * 3 * count * d)]);
    let scores = device.take(n * count * t * t)?;
    for head in heads(shape) {
        let product = head.product(t, d, head.part(0), head.part(1).transpose(), head.pairs());
        device.product(&product, x, x, &scores)?;
    }
    let factor = 1.0 / (d as f32).sqrt();
    let found = other_form(device, kind, &scores)?;
    let y = found.as_ref().unwrap_or(&scores);
    launch!(device, softmax of kind, rows(n * count * t), [&scores, y, factor, int(t)])?;
    Ok((found.unwrap_or(scores), factor))
}

/// Where a kernel writes, in this kind of numbers, what it makes of `scores`: none where that is in their place.
fn other_form<D: Device>(device: &D, kind: Kind, scores: &D::Buffer) -> Result<Option<D::Buffer>> {
    if kind == Kind::Float32 { Ok(None) } else { device.take_as(kind, D::len(scores)).map(Some) }
}

/// Of `x [n, t, 3, heads, d]` (shape `[n, t, heads, d]`) for each head `softmax(Q K^T / sqrt d) V`, `[n, t, heads, d]`.
pub fn attention<D: Device>(device: &D, x: &D::Buffer, shape: [usize; 4]) -> Result<D::Buffer> {
    let [n, t, count, d] = shape;
    let (scores, _) = probabilities(device, x, shape)?;
    let y = device.take_as(D::kind(x), n * t * count * d)?;
    for head in heads(shape) {
        device.product(&head.product(d, t, head.pairs(), head.part(2), head.output()), &scores, x, &y)?;
    }
    Ok(y)
}

/// The gradient of [`attention`].
pub fn attention_backward<D: Device>(
    device: &D,
    x: &D::Buffer,
    shape: [usize; 4],
    dy: &D::Buffer,
) -> Result<D::Buffer> {
    let ([n, t, count, d], kind) = (shape, D::kind(x));
    check_as::<D>("attention_backward", kind, &[("dy", dy, n * t * count * d)]);
    let (scores, factor) = probabilities(device, x, shape)?;
    let slopes = device.take(n * count * t * t)?;
    let dx = device.take_as(kind, n * t * 3 * count * d)?;
    for head in heads(shape) {
        let product = head.product(d, t, head.pairs().transpose(), head.output(), head.part(2));
        device.product(&product, &scores, dy, &dx)?;
        let product = head.product(t, d, head.output(), head.part(2).transpose(), head.pairs());
        device.product(&product, dy, x, &slopes)?;
    }
    let found = other_form(device, kind, &slopes)?;
    let of_scores = found.as_ref().unwrap_or(&slopes);
    launch!(device, softmax_backward of kind, rows(n * count * t), [&scores, &slopes, of_scores, factor, int(t)])?;
    for head in heads(shape) {
        device.product(&head.product(d, t, head.pairs(), head.part(1), head.part(0)), of_scores, x, &dx)?;
        let product = head.product(d, t, head.pairs().transpose(), head.part(0), head.part(1));
        device.product(&product, of_scores, x, &dx)?;
    }
    Ok(dx)
}
