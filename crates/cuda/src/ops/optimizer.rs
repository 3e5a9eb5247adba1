//! What works on all parameters at once: a table on the device has an entry for each, see `kernels/optimizer.cu`.

use rkd_kernels::optimizer::{AdamStep, SgdStep};

use super::{WIDE, check, check_given, flat, int, launch};
use crate::device::{Device, Kind, Result};

/// Shares of a buffer's sum of squares at most: by the lengths alone, so that the same buffers give the same bits.
const SHARES: usize = 64;
/// Blocks of an entry at most; those of small buffers end at once.
const MOST_BLOCKS: usize = 256;

/// A parameter, its gradient, and Adam's means of the gradient and of its square.
#[derive(Debug)]
pub struct AdamUpdate<'a, B> {
    /// This parameter's step: its rate and its count may be its own, the rest is that of all.
    pub step: AdamStep,
    /// What is changed.
    pub parameter: &'a B,
    /// Of as many values as the parameter, as all that follow.
    pub gradient: &'a B,
    /// Changed too.
    pub mean: &'a B,
    /// Changed too.
    pub square: &'a B,
}

/// A parameter, its gradient and, with a momentum, its velocity.
#[derive(Debug)]
pub struct SgdUpdate<'a, B> {
    /// This parameter's step: its rate may be its own, the rest is that of all.
    pub step: SgdStep,
    /// What is changed.
    pub parameter: &'a B,
    /// Of as many values as the parameter.
    pub gradient: &'a B,
    /// Changed too.
    pub velocity: Option<&'a B>,
}

/// The bytes of a table, as the values of a buffer.
#[derive(Default)]
struct Table {
    values: Vec<f32>,
    entries: usize,
    longest: usize,
}

impl Table {
    fn word(&mut self, word: u64) {
        self.values.extend([word as u32, (word >> 32) as u32].map(f32::from_bits));
    }

    /// Adds an entry: places of buffers, 0 for none, then their length and an even number of constants.
    fn entry<const P: usize, const C: usize>(&mut self, places: [u64; P], n: usize, constants: [f64; C]) {
        const { assert!(C.is_multiple_of(2), "an entry is made of words") };
        places.into_iter().for_each(|place| self.word(place));
        self.word(n as u64);
        self.values.extend(constants.map(|value| value as f32));
        self.entries += 1;
        self.longest = self.longest.max(n);
    }

    /// The blocks of a flat kernel for each entry.
    fn blocks(&self) -> ([u32; 3], [u32; 2]) {
        let blocks = self.longest.div_ceil(1024).clamp(1, MOST_BLOCKS);
        ([blocks as u32, self.entries as u32, 1], [256, 1])
    }

    fn upload<D: Device>(&self, device: &D) -> Result<D::Buffer> {
        device.upload(&self.values)
    }
}

/// A step of Adam or AdamW on parameters and their state, in one launch, and the end of a step of training: the device begins with
/// all it was asked for. Betas, epsilon and decay are those of the first.
pub fn adam_in_place<D: Device>(device: &D, updates: &[AdamUpdate<'_, D::Buffer>]) -> Result<()> {
    let Some(AdamUpdate { step: common, .. }) = updates.first() else { return Ok(()) };
    let mut table = Table::default();
    for AdamUpdate { step, parameter, gradient, mean, square } in updates {
        let n = D::len(parameter);
        check::<D>(
            "adam",
            &[("parameter", parameter, n), ("gradient", gradient, n), ("mean", mean, n), ("square", square, n)],
        );
        let correction = |beta: f64| 1.0 - beta.powf(step.step as f64);
        let shrink = if step.decoupled { 1.0 - step.learning_rate * step.weight_decay } else { 1.0 };
        let (rate, root2) = (step.learning_rate / correction(step.beta1), correction(step.beta2).sqrt());
        let places = [*parameter, *mean, *square, *gradient].map(|buffer| device.address(buffer));
        table.entry(places, n, [shrink, rate, root2, 0.0]);
    }
    let (on_device, decay) = (table.upload(device)?, if common.decoupled { 0.0 } else { common.weight_decay });
    let constants = [decay, common.beta1, 1.0 - common.beta1, common.beta2, 1.0 - common.beta2, common.epsilon];
    let [decay, beta1, rest1, beta2, rest2, epsilon] = constants.map(|value| value as f32);
    launch!(device, adam, table.blocks(), [&on_device, decay, beta1, rest1, beta2, rest2, epsilon])?;
    device.flush()
}

/// A step of stochastic gradient descent on parameters and their velocities, in one launch, and the end of a step of training, as of
/// [`adam_in_place`]. Momentum and decay are those of the first.
pub fn sgd_in_place<D: Device>(device: &D, updates: &[SgdUpdate<'_, D::Buffer>]) -> Result<()> {
    let Some(SgdUpdate { step: common, .. }) = updates.first() else { return Ok(()) };
    let mut table = Table::default();
    for SgdUpdate { step, parameter, gradient, velocity } in updates {
        let n = D::len(parameter);
        check::<D>("sgd", &[("parameter", parameter, n), ("gradient", gradient, n)]);
        check_given::<D>("sgd", Kind::Float32, "velocity", *velocity, n);
        let velocity = velocity.map_or(0, |velocity| device.address(velocity));
        table.entry([device.address(parameter), velocity, device.address(gradient)], n, [step.learning_rate, 0.0]);
    }
    let on_device = table.upload(device)?;
    let [momentum, decay] = [common.momentum, common.weight_decay].map(|value| value as f32);
    launch!(device, sgd, table.blocks(), [&on_device, momentum, decay, i32::from(common.nesterov)])?;
    device.flush()
}

fn listed<D: Device>(device: &D, buffers: &[&D::Buffer]) -> Table {
    let mut table = Table::default();
    for &buffer in buffers {
        check::<D>("a list", &[("buffer", buffer, D::len(buffer))]);
        table.entry([device.address(buffer)], D::len(buffer), []);
    }
    table
}

/// The norm of each buffer, `[k]`.
pub fn norms<D: Device>(device: &D, buffers: &[&D::Buffer]) -> Result<D::Buffer> {
    let (k, norms, table) = (buffers.len(), device.take(buffers.len())?, listed(device, buffers));
    let shares = table.longest.div_ceil(1024).clamp(1, SHARES);
    let (table, partial) = (table.upload(device)?, device.take(k * shares)?);
    launch!(device, listed_squares, ([shares as u32, k as u32, 1], [WIDE, 1]), [&table, &partial])?;
    launch!(device, finish_squares, flat(k), [&partial, &norms, 1.0f32, 1, int(k), int(shares)])?;
    Ok(norms)
}

/// Multiplies buffers by `min(1, largest / (norm + 1e-6))`, where `norm` is that of all `norms` together.
pub fn clip_in_place<D: Device>(device: &D, buffers: &[&D::Buffer], norms: &D::Buffer, largest: f64) -> Result<()> {
    let factor = device.take(1)?;
    launch!(device, clip_factor, flat(1), [norms, &factor, largest as f32, int(D::len(norms))])?;
    let table = listed(device, buffers);
    let on_device = table.upload(device)?;
    launch!(device, scale_listed, table.blocks(), [&on_device, &factor])
}
