//! Two-dimensional convolution: forward, gradient of the input, gradient of the weights.
//!
//! ```text
//! y[n, i, j, o] = bias[o] + sum over (p, q, c) of x[n, i s - pad + p d, j s - pad + q d, c] weight[p, q, c, o]
//! ```
//!
//! Shapes: x [n, h, w, c_in], weight [kh, kw, c_in / groups, c_out], y [n, oh, ow, c_out].
//!
//! Every pass is a matrix product whose pixel operand is gathered block by block from the NHWC tensor (`gather`); the
//! big column matrix of textbooks never exists; under a first layer not even blocks of it (`strips`). Forward and input gradient are one routine (`product`): the input
//! gradient of stride s is s x s interleaved convolutions of stride 1, each with the kernel positions that reach its
//! pixels. The weight gradient (`weight`) sums fixed blocks of pixels. 3 x 3 convolutions of stride 1 between enough
//! channels go another way with a quarter of the multiplications (`winograd`), and where the map is so small that most
//! kernel positions see only padding, these are left out (`pairs`). Where every channel is a group of its own, there is
//! no product to take (`depthwise`, and `spans` for the usual kernels).

mod depthwise;
mod gather;
pub mod normalized;
mod pairs;
mod product;
mod spans;
mod strips;
mod weight;
mod winograd;

pub use crate::finish::Finish;
use crate::matrix::panels_length;
use crate::{Isa, Team, check, columns, elementwise, scratch};

/// The geometry of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Images.
    pub n: usize,
    /// Rows of the input.
    pub h: usize,
    /// Columns of the input.
    pub w: usize,
    /// Channels of the input, divisible by `groups`.
    pub c_in: usize,
    /// Channels of the output, divisible by `groups`.
    pub c_out: usize,
    /// Rows and columns of the kernel, >= 1.
    pub kernel: [usize; 2],
    /// Steps down and across, >= 1.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side of the input.
    pub padding: [usize; 2],
    /// Rows below and columns to the right of those: TensorFlow's "same" padding has one where its sum is odd.
    pub extra: [usize; 2],
    /// Distance between kernel positions down and across, >= 1.
    pub dilation: [usize; 2],
    /// Groups of channels that do not mix; `c_in` for a depthwise convolution.
    pub groups: usize,
}

impl Conv2d {
    /// Rows and columns of the output.
    ///
    /// # Panics
    /// If the geometry is impossible: a zero, channels not divisible by the groups, a kernel beyond the padded input.
    pub fn output(&self) -> [usize; 2] {
        assert!(self.groups > 0, "convolution: groups must be at least 1: {self:?}");
        let divisible = self.c_in.is_multiple_of(self.groups) && self.c_out.is_multiple_of(self.groups);
        assert!(divisible, "convolution: channels must be divisible by groups: {self:?}");
        [0, 1].map(|axis| {
            let (kernel, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
            assert!(kernel > 0 && stride > 0 && dilation > 0, "convolution: sizes must be at least 1: {self:?}");
            let padded = [self.h, self.w][axis] + 2 * self.padding[axis] + self.extra[axis];
            let reach = dilation * (kernel - 1) + 1;
            assert!(padded >= reach, "convolution: the kernel exceeds the padded input: {self:?}");
            (padded - reach) / stride + 1
        })
    }

    /// Elements of x.
    pub fn input_len(&self) -> usize {
        self.n * self.h * self.w * self.c_in
    }

    /// Elements of y.
    pub fn output_len(&self) -> usize {
        let [oh, ow] = self.output();
        self.n * oh * ow * self.c_out
    }

    /// Elements of the weights.
    pub fn weight_len(&self) -> usize {
        self.positions() * self.group_inputs() * self.c_out
    }

    /// Multiplications and additions of one pass, for rates in GFLOP/s.
    pub fn flops(&self) -> f64 {
        2.0 * self.output_len() as f64 * (self.positions() * self.group_inputs()) as f64
    }

    /// Positions of the kernel.
    fn positions(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn group_inputs(&self) -> usize {
        self.c_in / self.groups
    }

    fn group_outputs(&self) -> usize {
        self.c_out / self.groups
    }

    #[track_caller]
    fn check(
        &self,
        operation: &str,
        input: [(&str, usize); 1],
        output: [(&str, usize); 1],
        weight: [(&str, usize); 1],
    ) {
        check::length(operation, input[0].0, input[0].1, self.input_len());
        check::length(operation, output[0].0, output[0].1, self.output_len());
        check::length(operation, weight[0].0, weight[0].1, self.weight_len());
    }
}

/// Which algorithm a convolution's passes take.
enum Way {
    Depthwise,
    Product,
    Winograd,
    Pairs,
}

impl Way {
    /// The way with the fewest multiplications: by the geometry alone, so that a run's bits do not hang on the machine.
    fn of(shape: &Conv2d) -> Way {
        let winograd = winograd::applies(shape);
        let [oh, ow] = shape.output();
        let products = if winograd { winograd::products([oh, ow]) } else { oh * ow * shape.positions() };
        match winograd {
            _ if depthwise::applies(shape) => Way::Depthwise,
            _ if pairs::applies(shape, products) => Way::Pairs,
            true => Way::Winograd,
            false => Way::Product,
        }
    }
}

/// One of a convolution's three passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// [`forward`].
    Forward,
    /// [`backward_input`].
    Input,
    /// [`backward_weight`].
    Weight,
}

/// Floats of working memory that the thread which calls `pass` holds while units of work run: of an outer and an inner
/// buffer. A unit's own are a few MiB on each thread, whatever the shape.
pub fn working_memory(isa: Isa, shape: &Conv2d, pass: Pass) -> [usize; 2] {
    match (Way::of(shape), pass) {
        (Way::Depthwise, Pass::Weight) => [depthwise::working_memory(shape), 0],
        (Way::Depthwise, _) => [0, 0],
        (Way::Pairs, Pass::Input) => [pairs::map_length(shape.n, shape.output(), shape.c_out), 0],
        (Way::Pairs, _) => [pairs::map_length(shape.n, [shape.h, shape.w], shape.c_in), 0],
        (Way::Winograd, Pass::Weight) => winograd::weight_working_memory(isa, shape),
        (Way::Winograd, _) => winograd::working_memory(isa, shape, pass == Pass::Input),
        (Way::Product, Pass::Forward) => [product::prepared_length(isa, shape), 0],
        (Way::Product, Pass::Input) => {
            let reached: usize = [0, 1].map(|axis| shape.kernel[axis].div_ceil(shape.stride[axis])).iter().product();
            [panels_length(isa, reached * shape.group_outputs(), shape.group_inputs()), 0]
        }
        (Way::Product, Pass::Weight) => [weight::working_memory(shape), 0],
    }
}

/// `y = x * weight + bias`. Overwrites `y`.
pub fn forward(team: &Team, shape: &Conv2d, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    forward_finished(team, shape, x, weight, Finish { bias, ..Finish::default() }, y);
}

/// `y = activation?(x * weight + bias + residual)`. Overwrites `y`.
pub fn forward_finished(team: &Team, shape: &Conv2d, x: &[f32], weight: &[f32], finish: Finish<'_>, y: &mut [f32]) {
    match prepared_length(team.isa(), shape) {
        0 => forward_prepared(team, shape, x, [weight, &[]], finish, y),
        length => scratch::with(length, |prepared| {
            prepare(team, shape, weight, prepared);
            forward_prepared(team, shape, x, [weight, prepared], finish, y);
        }),
    }
}

/// Floats of the weights in the form that [`forward_prepared`] reads; 0 where it reads them as they are.
pub fn prepared_length(isa: Isa, shape: &Conv2d) -> usize {
    if let Way::Product = Way::of(shape) { product::prepared_length(isa, shape) } else { 0 }
}

/// Brings the weights into the form that [`forward_prepared`] reads: once, for many passes. Overwrites `prepared`.
pub fn prepare(team: &Team, shape: &Conv2d, weight: &[f32], prepared: &mut [f32]) {
    check::length("convolution forward", "weight", weight.len(), shape.weight_len());
    check::length("convolution forward", "prepared", prepared.len(), prepared_length(team.isa(), shape));
    if !prepared.is_empty() {
        product::prepare(team, shape, weight, prepared);
    }
}

/// As [`forward_finished`] with the weights and what [`prepare`] made of them.
pub fn forward_prepared(
    team: &Team,
    shape: &Conv2d,
    x: &[f32],
    [weight, prepared]: [&[f32]; 2],
    finish: Finish<'_>,
    y: &mut [f32],
) {
    shape.check("convolution forward", [("x", x.len())], [("y", y.len())], [("weight", weight.len())]);
    check::length("convolution forward", "prepared", prepared.len(), prepared_length(team.isa(), shape));
    finish.check("convolution forward", shape.c_out, y.len());
    match Way::of(shape) {
        Way::Depthwise => depthwise::forward(team, shape, x, weight, finish, y),
        Way::Pairs => pairs::forward(team, shape, x, weight, finish, y),
        Way::Winograd => {
            // Its transform of whole tiles knows bounds only.
            let after = finish.activation.filter(|activation| !activation.is_relu());
            let within = finish.activation.filter(|activation| activation.is_relu());
            winograd::forward(team, shape, x, weight, Finish { activation: within, ..finish }, y);
            if let Some(activation) = after {
                elementwise::activate_in_place(team, activation, y);
            }
        }
        Way::Product => product::forward(team, shape, x, prepared, finish, y),
    }
}

/// The gradient of the input, `dx`, from that of the output, `dy`. Overwrites `dx`.
pub fn backward_input(team: &Team, shape: &Conv2d, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    shape.check("convolution backward_input", [("dx", dx.len())], [("dy", dy.len())], [("weight", weight.len())]);
    match Way::of(shape) {
        Way::Depthwise => depthwise::backward_input(team, shape, dy, weight, dx),
        Way::Pairs => pairs::backward_input(team, shape, dy, weight, dx),
        Way::Winograd => winograd::backward_input(team, shape, dy, weight, dx),
        Way::Product => product::backward_input(team, shape, dy, weight, dx),
    }
}

/// The gradients of the weights, `dweight`, and of the bias, `dbias`. Overwrites both.
pub fn backward_weight(
    team: &Team,
    shape: &Conv2d,
    x: &[f32],
    dy: &[f32],
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    shape.check("convolution backward_weight", [("x", x.len())], [("dy", dy.len())], [("dweight", dweight.len())]);
    match Way::of(shape) {
        Way::Depthwise => depthwise::backward_weight(team, shape, x, dy, dweight),
        Way::Pairs => pairs::backward_weight(team, shape, x, dy, dweight),
        Way::Winograd => winograd::backward_weight(team, shape, x, dy, dweight),
        Way::Product => weight::backward(team, shape, x, dy, dweight),
    }
    if let Some(dbias) = dbias {
        check::length("convolution backward_weight", "dbias", dbias.len(), shape.c_out);
        columns::sum_into(team, dy, dbias);
    }
}
